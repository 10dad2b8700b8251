"""Commands, pages and tables for the benchmarks, and what the events of a run tell."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PORTS = {
    "dev": {"django_web_port": 18000, "postgres_port": 15433, "pgadmin_port": 15050},
    "prod": {"proxy_http_port": 18080},
}
# Where their pages are.
PAGES = {"dev": 18000, "prod": 18080}
ROUNDS = 3
CONTEXTS = PROJECT / ".cache/contexts"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# Every process started here carries this, and so do those that ansible sends into the background.
MARK = f"POSTDO_BENCH={uuid.uuid4()}"
ENVIRONMENT = os.environ | dict([MARK.split("=")]) | {"LC_ALL": "C.UTF-8", "DOCKER_BUILDKIT": "0"}


def say(text: str) -> None:
    """Tell on stderr what is being done now; stdout holds the tables alone."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, check: bool = True) -> str:
    """Run a command and return its output; raise RuntimeError with its last lines if it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd=PROJECT,
        env=ENVIRONMENT,
        start_new_session=True,
        text=True,
    )
    if check and done.returncode:
        said = "\n".join(failures(done.stdout + done.stderr)[-15:])
        raise RuntimeError(f"{' '.join(map(str, command))[:100]} failed:\n{said}")
    return done.stdout


def failures(output: str) -> list[str]:
    """Return the lines of a failed command; of Ansible's events only what failed."""
    found = []
    for line in output.splitlines():
        if not line.startswith("{"):
            found.append(line)
        elif '"_event":"v2_runner_on_failed"' in line:
            event = json.loads(line)
            for one in event["hosts"].values():
                said = one.get("stderr") or one.get("msg") or str(one)
                found += [event["task"]["name"], *said.splitlines()]
    return found


def docker(*arguments: str | Path, check: bool = True) -> str:
    """Run a docker command and return its output."""
    return run("docker", *arguments, check=check)


def lines(*arguments: str) -> list[str]:
    """Return what a docker command lists; nothing where no engine answers."""
    return docker(*arguments, check=False).split() if shutil.which("docker") else []


class Page:
    """Polls a page in a thread; `at` is when it was first served with the wanted content."""

    def __init__(self, environment: str, wanted: str = "") -> None:
        self.url = f"http://127.0.0.1:{PAGES[environment]}/"
        self.wanted = wanted.encode()
        self.at = 0.0
        self.seen = threading.Event()
        self.given_up = threading.Event()
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        while not self.given_up.wait(0.05):
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    served = answer.status == 200 and self.wanted in answer.read()
            except (OSError, http.client.HTTPException):
                continue
            if served:
                self.at = time.time()
                self.seen.set()
                return

    def wait(self, seconds: float = 120) -> float:
        """Return the time (seconds since the epoch); raise RuntimeError if it does not come."""
        came = self.seen.wait(seconds)
        self.given_up.set()
        if not came:
            raise RuntimeError(f"{self.url} did not serve what was awaited within {seconds:g} s.")
        return self.at


class Table:
    """Rows of a figure, its floor, their ratio and the aim; printed in columns."""

    def __init__(self, title: str, unit: str = "seconds", digits: int = 1) -> None:
        self.digits = digits
        print(f"\n{title}\n  {unit:<34}{'here':>8}{'floor':>9}{'ratio':>8}   aim")

    def row(self, name: str, here: float, floor: float | None = None, aim: str = "") -> None:
        """Print one row; a floor of None is left open."""
        digits = self.digits
        beside = f"{floor:9.{digits}f}{here / floor:8.2f}" if floor else f"{'-':>9}{'-':>8}"
        print(f"  {name:<34}{here:8.{digits}f}{beside}   {aim}".rstrip(), flush=True)

    def note(self, text: str) -> None:
        """Print a sentence below the rows."""
        print(f"  {text}", flush=True)


# -- what the events of a run tell ------------------------------------------------------------


def results(events: list[dict]) -> list[dict]:
    """Return each result, a loop's items one by one."""
    found = [one for event in events for one in event.get("hosts", {}).values()]
    return [item for one in found for item in one.get("results") or [one]]


def executed(events: list[dict]) -> int:
    """Return how many modules were executed on the hosts: results with an invocation."""
    return sum("invocation" in one for one in results(events))


def image_names(events: list[dict]) -> dict[str, str]:
    """Return the names that the roles gave to the images, by what they are for."""
    facts = [one["ansible_facts"] for one in results(events) if "ansible_facts" in one]
    named = [fact["stack_images"] for fact in facts if "stack_images" in fact]
    return {key: image["reference"] for key, image in named[-1].items()}


def began(events: list[dict], part: str) -> float:
    """Return when the first task of a file began, in seconds since the epoch."""
    for event in events:
        if event["_event"].endswith("task_start") and part in (event["task"]["path"] or ""):
            return datetime.datetime.fromisoformat(event["_timestamp"]).timestamp()
    raise RuntimeError(
        f"The run has no task of {part}; the phases of bench/provision are outdated."
    )


def longest(events: list[dict], until: float) -> list[str]:
    """Return the five tasks that took longest before a time, with their seconds."""
    took = []
    for event in events:
        if event.get("hosts"):
            begin, end = (
                datetime.datetime.fromisoformat(event["task"]["duration"][edge]).timestamp()
                for edge in ("start", "end")
            )
            if begin < until:
                took.append((end - begin, event["task"]["name"]))
    return [f"{seconds:8.1f}  {name}" for seconds, name in sorted(took, reverse=True)[:5]]
