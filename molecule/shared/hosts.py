"""The test hosts, as their tests see them: machines reached by `docker exec` and nothing else."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[2]
INVENTORIES = PROJECT / "molecule/shared/inventories"
TOOLS = Path(__file__).with_name("tools")
# In the short form one pair of hosts stands for those of every scenario: each for the hosts of its Debian.
SHORT = os.environ.get("MOLECULE_SCENARIO_NAME") == "short"

PAGES = {"dev": "http://127.0.0.1:8000/", "prod": "http://127.0.0.1:8080/"}
SERVICES = {
    "postdo-dev-db": 5432,
    "postdo-dev-web": 8000,
    "postdo-dev-pgadmin": 5050,
    "postdo-prod-db": 5432,
    "postdo-prod-web": 8000,
    "postdo-prod-proxy": 8080,
}
# Of the application, the tests call the container of the release that serves by this name alone.
WEB = "postdo-prod-web"
PRODUCTION = ["postdo-prod-db", WEB, "postdo-prod-proxy"]


class Result(NamedTuple):
    """What a command did: its exit status, and what it printed."""

    code: int
    out: str
    error: str

    @property
    def said(self) -> str:
        """Return both outputs."""
        return self.out + self.error


def call(command: list[str], *, timeout: float = 60, **options) -> Result:
    """Run a command on this machine; raises subprocess.TimeoutExpired after `timeout` seconds."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    return Result(done.returncode, done.stdout.strip(), done.stderr.strip())


def wait_until(condition: Callable[[], object], what: str, timeout: float = 60) -> object:
    """Return the first true value of `condition`; fail the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout} s: {what}")
        time.sleep(0.2)
    return value


class Host:
    """One of the hosts that create.yml started; its name ends in its Debian's version."""

    def __init__(self, name: str) -> None:
        self.name = name = f"short{name[-2:]}" if SHORT else name
        self.machine = f"postdo-test-{name}"
        networks = "{{json .NetworkSettings.Networks}}"
        found = call(["docker", "inspect", "--format", networks, self.machine])
        assert found.code == 0, f"{self.machine} is not there: molecule create\n{found.said}"
        ((self.neighbourhood, network),) = json.loads(found.out).items()
        self.address = network["IPAddress"]
        self.directory = PROJECT / ".cache/molecule" / name
        self.source = self.directory / "app"

    # -- commands ---------------------------------------------------------------------------

    def attempt(self, command: str, *, timeout: float = 120, **options) -> Result:
        """Run a shell command in the host, whatever comes of it."""
        exec_ = ["docker", "exec", *(["-i"] if "input" in options else []), self.machine]
        return call([*exec_, "sh", "-c", command], timeout=timeout, **options)

    def run(self, command: str, **options) -> str:
        """Return what a shell command in the host printed; fail the test if the command failed."""
        result = self.attempt(command, **options)
        assert result.code == 0, f"{self.name}: {command}\n{result.said}"
        return result.out

    def background(self, command: str, script: str) -> subprocess.Popen:
        """Start a shell command in the host with a script on its standard input."""
        exec_ = ["docker", "exec", "-i", self.machine, "sh", "-c", command]
        process = subprocess.Popen(
            exec_,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        process.stdin.write(script)
        process.stdin.close()
        process.stdin = None
        return process

    def ansible(self, environment: str, *arguments: str, book: str = "site.yml") -> Result:
        """Run a playbook for this host alone, as a person would."""
        command = ["ansible-playbook", book, "-i", str(INVENTORIES / environment)]
        settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
        return call(
            [*command, "--limit", self.name, *arguments],
            timeout=600,
            cwd=PROJECT,
            env={k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | settings,
        )

    def converge(self, environment: str, *arguments: str) -> str:
        """Return what a run of site.yml said; fail the test if the run failed."""
        result = self.ansible(environment, *arguments)
        assert result.code == 0, result.said
        return result.out

    # -- containers -------------------------------------------------------------------------

    def containers(self, *names: str) -> dict[str, dict]:
        """Return {name: what docker inspect says}, of all containers where no name is given."""
        serving = self.serving()
        asked = " ".join(serving if name == WEB else name for name in names)
        found = self.attempt(
            f"docker inspect --type container {asked or '$(docker ps --all --quiet)'}"
        )
        items = {item["Name"][1:]: item for item in json.loads(found.out or "[]")}
        return {WEB if name == serving else name: item for name, item in items.items()}

    def serving(self) -> str:
        """Return the name of the container that serves production."""
        release = self.attempt("readlink /var/lib/postdo/prod/releases/current").out
        return f"{WEB}-{release}" if release else WEB

    def healthy(self, *names: str) -> bool:
        """Say whether all these containers run and call themselves healthy."""
        states = [item["State"] for item in self.containers(*names).values()]
        return len(states) == len(names) and all(
            state["Running"] and state["Health"]["Status"] == "healthy" for state in states
        )

    def wait_for(self, *names: str, timeout: float = 90) -> None:
        """Wait until these containers, all if none is named, are healthy."""
        names = names or tuple(SERVICES)
        what = f"{self.name}: healthy {', '.join(names)}"
        wait_until(lambda: self.healthy(*names), what, timeout)

    def kill(self, container: str, signal: str) -> None:
        """Signal the main program of a container past the engine, as a crash would look."""
        # The engine's small init is the container's first process, the program is its child.
        init = self.containers(container)[container]["State"]["Pid"]
        self.run(f"kill -s {signal} $(pgrep --oldest --parent {init})")

    def state(self) -> dict[str, list[str]]:
        """Return what identifies everything on the engine: equal states, nothing happened.

        Containers that remove themselves are left out: the timers of the backups begin some at
        the hour, whatever a test does then.
        """
        self_ = self.attempt
        return {
            "containers": sorted(
                f"{name} {item['Id']} {item['State']['StartedAt']} {item['Image']}"
                for name, item in self.containers().items()
                if not item["HostConfig"]["AutoRemove"]
            ),
            "volumes": sorted(self_("docker volume ls --quiet").out.split()),
            "networks": sorted(self_("docker network ls --quiet --no-trunc").out.split()),
            "images": sorted(self_("docker images --quiet --filter dangling=false").out.split()),
            "secrets": sorted(
                self_("find /etc/postdo -type f -exec sha256sum {} +").out.split("\n")
            ),
        }

    # -- the machine ------------------------------------------------------------------------

    def wait_for_boot(self) -> None:
        """Wait until systemd says that everything was started, and well."""
        system = "systemctl is-system-running --wait"
        wait_until(lambda: self.attempt(system).out == "running", f"{self.name}: booted")

    def restart(self) -> None:
        """Reboot: every process ends, temporary file systems are lost, systemd boots."""
        result = call(["docker", "restart", self.machine], timeout=180)
        assert result.code == 0, result.said
        self.wait_for_boot()

    def network(self) -> str:
        """Return the path of the host's network namespace on this machine."""
        pid = call(["docker", "inspect", "--format", "{{.State.Pid}}", self.machine]).out
        return f"/proc/{pid}/ns/net"

    # -- neighbours -------------------------------------------------------------------------

    def targets(self) -> list[str]:
        """Return all that another machine could try: ADDRESS:PORT of each container and port."""
        found = []
        for name, item in self.containers(*SERVICES).items():
            settings = item["NetworkSettings"]
            addresses = [network["IPAddress"] for network in settings["Networks"].values()]
            found += [f"{address}:{SERVICES[name]}" for address in addresses if address]
            bindings = [binding for some in settings["Ports"].values() for binding in some or []]
            found += [f"{self.address}:{binding['HostPort']}" for binding in bindings]
        return found

    def seen_by_neighbour(self, *targets: str) -> list[str]:
        """Return those of ADDRESS:PORT that a second machine reaches, with this host as router."""
        script = (
            f"ip route replace default via {self.address} && exec python3 - {' '.join(targets)}"
        )
        image = call(["docker", "inspect", "--format", "{{.Image}}", self.machine]).out
        neighbour = ["docker", "run", "--rm", "--interactive", "--network", self.neighbourhood]
        result = call(
            [*neighbour, "--cap-add", "NET_ADMIN", image, "sh", "-c", script],
            input=(TOOLS / "neighbour.py").read_text(),
        )
        assert result.code == 0, result.said
        return result.out.split()

    # -- visitors ---------------------------------------------------------------------------

    def visit(self, url: str, entry: str = "") -> Result:
        """Get a page as a visitor on the host, who first leaves an entry if one is given."""
        script = (TOOLS / "visitor.py").read_text()
        command = f"python3 - {url} {shlex.quote(entry)}"
        return self.attempt(command, input=script)

    def page(self, url: str, entry: str = "") -> str:
        """Return the page; fail the test if it is anything but a 200."""
        result = self.visit(url, entry)
        assert result.code == 0, f"{self.name}: {url}\n{result.said}"
        return result.out

    def answers(self, url: str) -> bool:
        """Say whether the page is a 200 now."""
        return self.visit(url).code == 0

    def wait_for_page(self, environment: str, timeout: float = 90) -> None:
        """Wait until the environment's page is there."""
        url = PAGES[environment]
        wait_until(lambda: self.answers(url), f"{self.name}: {url}", timeout)
