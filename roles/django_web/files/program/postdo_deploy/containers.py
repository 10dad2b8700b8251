"""What is done to the containers of a release: start, watch, drain, stop."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from postdo_host import Failure, attempt, inspect, last_words, run, status

from .releases import Process

_SOCKET = "/run/web/http.sock"


class Unfit(Failure):
    """A container that does not do its work; says so together with its last lines."""

    def __init__(self, reason: str, container: str) -> None:
        done = attempt("docker", "logs", "--tail", "15", container)
        lines = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).splitlines())
        super().__init__(f"{reason}\nIts last lines:\n{lines or '  (none)'}")


def start(process: Process) -> None:
    """Start a container; raises Failure if the engine can't."""
    run("docker", "start", process.container, doing=f"Starting {process.container}")


def run_once(container: str) -> None:
    """Run a container to its end and remove it; raises Unfit with its last lines if it failed."""
    done = attempt("docker", "start", "--attach", container)
    try:
        if done.returncode:
            raise Unfit(f"{container} failed with status {done.returncode}.", container)
    finally:
        attempt("docker", "rm", "--force", container)


def await_health(process: Process, timeout: int) -> None:
    """Wait until a web process says that it can serve; raises Unfit after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        _require_running(process)
        # Asked directly: the engine itself looks only every few seconds.
        asked = attempt("docker", "exec", process.container, "healthcheck")
        if asked.returncode == 0:
            return
        if time.monotonic() > deadline:
            reason = f"{process.container} did not become healthy within {timeout} s: {last_words(asked, 1)}"
            raise Unfit(f"{reason} (django_web_start_timeout)", process.container)
        time.sleep(0.2)


def watch(processes: list[Process], seconds: float) -> None:
    """Look at running containers for a while; raises Unfit if one ends, or a web process falls ill."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.5)
        for process in processes:
            look(process)


def look(process: Process) -> None:
    """Raise Unfit if a container has ended, or is a web process that no longer can serve."""
    _require_running(process)
    if process.name == "web":
        asked = attempt("docker", "exec", process.container, "healthcheck")
        if asked.returncode:
            # A container that ends just now can't be asked either, and that is the better reason.
            _require_running(process)
            raise Unfit(f"{process.container} fell ill: {last_words(asked, 1)}", process.container)


def _require_running(process: Process) -> None:
    found = inspect("container", process.container)
    if found is None:
        raise Failure(f"{process.container} is gone; somebody removed it. Run again.")
    state = found["State"]
    if not state["Running"] or state["Restarting"]:
        killed = ", killed because its memory was full" if state["OOMKilled"] else ""
        reason = f"{process.container} ended with status {state['ExitCode']}{killed}."
        raise Unfit(reason, process.container)


def drain(process: Process, timeout: float, then_watch: Process) -> None:
    """Wait until a web process has no request in hand, for `timeout` seconds at most, looking at its successor."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and in_hand(process):
        time.sleep(0.2)
        _require_running(then_watch)


def in_hand(process: Process) -> int:
    """Return how many connections a web process has on its socket; its own health check's count too."""
    found = inspect("container", process.container)
    pid = found["State"]["Pid"] if found else 0
    try:
        table = Path(f"/proc/{pid}/net/unix").read_text()
    except OSError:
        return 0
    # Connected (03), or connected and waiting to be accepted (02); the socket that listens is 01.
    rows = [line.split() for line in table.splitlines() if line.endswith(_SOCKET)]
    return sum(row[5] in ("02", "03") for row in rows)


def stop(processes: list[Process]) -> list[Process]:
    """Let containers end their work in hand and stop, side by side; return those that ran."""
    running = [one for one in processes if status(one.container) in ("running", "restarting")]
    with ThreadPoolExecutor(max_workers=8) as several:
        list(several.map(_stop, running))
    return running


def _stop(process: Process) -> None:
    words = ["--time", str(process.stop_timeout), process.container]
    run("docker", "stop", *words, doing=f"Stopping {process.container}")


def keep_up(processes: list[Process]) -> None:
    """Let the engine restart these containers from now on, after a crash and after its own restart."""
    names = [one.container for one in processes]
    words = ["--restart", "unless-stopped", *names]
    run("docker", "update", *words, doing="Letting the engine keep the release up")


def ask(process: Process, *command: str) -> list[str]:
    """Return the list that a program in a container prints as JSON; raises Failure."""
    told = run("docker", "exec", process.container, *command, doing=f"Asking {process.container}")
    return json.loads(told)
