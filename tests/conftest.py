"""What several test files need: the repository, its toolchain, and a way to run a command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from server import Server, docker, until

REPOSITORY = Path(__file__).resolve().parent.parent

# What Ansible does with a module: it has the project's module_utils beside Ansible's own.
TRANSPORT = """
import runpy, sys
import ansible.module_utils
plugins, module = sys.argv.pop(1), sys.argv.pop(1)
ansible.module_utils.__path__.append(plugins + "/module_utils")
runpy.run_path(f"{plugins}/modules/{module}.py", run_name="__main__")
"""


@pytest.fixture(scope="session")
def repository():
    """Return the path of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def images(repository):
    """Return the names of development's images, as `./run.sh test` has just built them."""
    report = repository / ".cache/dev-images.json"
    if not report.exists():
        pytest.fail("there are no images yet: ./run.sh test builds them")
    return json.loads(report.read_text())


@pytest.fixture(scope="session")
def image(images):
    """Return the name of the PostgreSQL image."""
    return images["postgres"]


@pytest.fixture(scope="session")
def run():
    """Return a function that runs a command with the toolchain first on PATH, its output as text.

    It has no input, changes nothing in this process's environment, and is killed after a minute.
    """

    def call(*command, env=None, cwd=REPOSITORY, **options):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        options = {"stdin": subprocess.DEVNULL, "timeout": 60, **options}
        return subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    return call


@pytest.fixture(scope="session")
def python(run, repository, tmp_path_factory):
    """Yield a Python that has what the application's lock says, and nothing else; beside it serves a starter."""
    place = tmp_path_factory.mktemp("django") / "venv"
    lock = repository / "app/requirements.txt"
    env = {"UV_SYSTEM_CERTS": "1"}
    for command in (
        ["uv", "venv", "--quiet", place],
        ["uv", "pip", "install", "--quiet", "--python", place, "--require-hashes", "-r", lock],
    ):
        answer = run(*command, env=env)
        assert answer.returncode == 0, answer.stderr
    python, starter = place / "bin/python", place / "bin/starter"
    words = [python, REPOSITORY / "tests/starter.py", "serve", starter]
    # Where programs find what is compiled already.
    env = {"PATH": "/usr/bin:/bin", "PYTHONPYCACHEPREFIX": str(place / "cache")}
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=env) as serving:
        until(starter.exists)
        yield python
        serving.stdin.close()


@pytest.fixture(scope="session")
def postgres(image):
    """Yield a server that is published on a port of the loopback, and prepared."""
    server = Server(image)
    try:
        server.start(options=["--publish=127.0.0.1::5432"])
        server.prepare("--createdb")
        server.port = docker("port", server.name, "5432").stdout.strip().rsplit(":", 1)[1]
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def configure(run, repository):
    """Return a function that writes the proxy's configuration into a file, as the role does with these variables."""
    role = repository / "roles/proxy"

    def write(path, **variables):
        variables |= {"stack_prefix": "proxytest", "stack_public_url": "http://127.0.0.1"}
        made = run(
            *("ansible", "localhost", "-m", "ansible.builtin.template"),
            *("-a", f"src={role}/templates/Caddyfile.j2 dest={path} mode=0644"),
            *("-e", f"@{role}/defaults/main.yml", "-e", f"@{role}/vars/main.yml"),
            *("-e", json.dumps(variables)),
        )
        assert made.returncode == 0, made.stdout + made.stderr

    return write


@pytest.fixture(scope="session")
def module(repository):
    """Return a function that runs one of the project's modules as Ansible's transport would."""

    def call(module, *, env=None, check=False, **arguments):
        arguments["_ansible_check_mode"] = check
        process = subprocess.run(
            [sys.executable, "-c", TRANSPORT, repository / "plugins", module],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert process.stdout.strip(), process.stderr
        return json.loads(process.stdout)

    return call
