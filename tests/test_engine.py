"""The start of the engine without systemd, beside what a killed one left; the engine itself is a stand-in."""

import os
import shutil
import subprocess
import time

import pytest

PID_FILES = {"dockerd": "docker.pid", "containerd": "docker/containerd/containerd.pid"}

# In a mount namespace of its own, so that this machine's own engine sees nothing of it.
SCRIPT = """
set -e
mount --bind "$1/run" /run
mount --bind "$1/log" /var/log
exec "$2" "$1/dockerd"
"""


@pytest.fixture
def place(tmp_path):
    """Make what stands for /run and /var/log, and an engine that writes down its arguments; end it afterwards."""
    for name in ("run/docker/containerd", "log"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dockerd").write_text('#!/bin/sh\necho "started $*"\nexec sleep 60\n')
    (tmp_path / "dockerd").chmod(0o755)
    yield tmp_path
    if (pid := tmp_path / "run/docker-ssd.pid").exists():
        os.kill(int(pid.read_text()), 9)


@pytest.fixture
def process(tmp_path):
    """Return a function that starts a process of a name and returns its number."""
    started = []

    def start(name):
        program = shutil.copy("/bin/sleep", tmp_path / "programs" / name)
        started.append(subprocess.Popen([program, "60"]))
        return started[-1].pid

    (tmp_path / "programs").mkdir()
    yield start
    for each in started:
        each.kill()
        each.wait()


def started(run, repository, place):
    """Start the stand-in, wait until it has written its arguments, and return them."""
    script = repository / "roles/docker/files/start-engine"
    result = run("unshare", "--mount", "sh", "-c", SCRIPT, "sh", place, script)
    assert result.returncode == 0, result.stdout + result.stderr
    log = place / "log/docker.log"
    deadline = time.monotonic() + 10
    while not log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    return log.read_text()


def test_the_engine_starts_where_nothing_was_left(run, repository, place):
    assert started(run, repository, place) == "started --pidfile /run/docker.pid\n"
    assert (place / "run/docker-ssd.pid").exists()


@pytest.mark.parametrize("program", PID_FILES)
def test_a_pid_file_whose_number_belongs_to_another_process_is_removed(
    run, repository, place, process, program
):
    file = place / "run" / PID_FILES[program]
    file.write_text(str(process("another")))
    assert started(run, repository, place)
    assert not file.exists()


@pytest.mark.parametrize("program", PID_FILES)
@pytest.mark.parametrize("text", ["4194305", ""])
def test_a_pid_file_of_no_process_is_removed(run, repository, place, program, text):
    file = place / "run" / PID_FILES[program]
    file.write_text(text)
    assert started(run, repository, place)
    assert not file.exists()


@pytest.mark.parametrize("program", PID_FILES)
def test_the_pid_file_of_one_that_runs_stays(run, repository, place, process, program):
    file = place / "run" / PID_FILES[program]
    file.write_text(str(process(program)))
    assert started(run, repository, place)
    assert file.exists()
