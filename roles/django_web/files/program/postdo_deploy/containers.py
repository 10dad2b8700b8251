"""What is done to the containers of a release: start, watch, drain, stop."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from subprocess import PIPE, STDOUT

from postdo_host import Failure, attempt, inspect, last_words, run, status

from .releases import WEB, Process


class Unfit(Failure):
    """A container that does not do its work; says so together with its last lines."""

    def __init__(self, reason: str, container: str) -> None:
        # In the order they came, and so many that the cause stands before gunicorn's own tracebacks.
        together = {"capture_output": False, "stdout": PIPE, "stderr": STDOUT}
        done = attempt("docker", "logs", "--tail", "100", container, **together)
        lines = "\n".join(f"  {line}" for line in done.stdout.splitlines())
        super().__init__(f"{reason}\nIts last lines:\n{lines or '  (none)'}")


def start(*processes: Process) -> None:
    """Start containers that do not run; raises Failure if the engine can't."""
    for process in processes:
        run("docker", "start", process.container, doing=f"Starting {process.container}")


def start_again(process: Process) -> None:
    """Restart a web process that runs and can't serve."""
    if (
        status(process.container) == "running"
        and attempt("docker", "exec", process.container, "healthcheck").returncode
    ):
        words = ["--time", str(process.stop_timeout), process.container]
        run("docker", "restart", *words, doing=f"Restarting {process.container}")


def await_engine(seconds: int = 60) -> None:
    """Wait for an engine that starts again; one that does not come back is told by whoever asks it next."""
    deadline = time.monotonic() + seconds
    while attempt("docker", "version").returncode and time.monotonic() < deadline:
        time.sleep(0.5)


def await_end(*containers: str) -> None:
    """Wait until these have ended."""
    run("docker", "wait", *containers, doing=f"Waiting for {' and '.join(containers)}")


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
    begun = {process.container: _require_running(process) for process in processes}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.5)
        for process in processes:
            if process.name == WEB:
                _require_health(process)
            if _require_running(process) != begun[process.container]:
                reason = f"{process.container} ended, and was started again."
                raise Unfit(reason, process.container)


def _require_health(process: Process) -> None:
    """Raise Unfit if a web process says that it can't serve."""
    asked = attempt("docker", "exec", process.container, "healthcheck")
    if asked.returncode:
        # A container that ends just now can't be asked either, and that is the better reason.
        _require_running(process)
        raise Unfit(f"{process.container} fell ill: {last_words(asked, 1)}", process.container)


def _require_running(process: Process) -> str:
    """Return when a container was started; raises Unfit if it has ended."""
    found = inspect("container", process.container)
    if found is None:
        raise Failure(f"{process.container} is gone; somebody removed it. Run again.")
    state = found["State"]
    if not state["Running"] or state["Restarting"]:
        killed = ", killed because its memory was full" if state["OOMKilled"] else ""
        reason = f"{process.container} ended with status {state['ExitCode']}{killed}."
        raise Unfit(reason, process.container)
    return state["StartedAt"]


def stop(processes: list[Process]) -> None:
    """Let containers end their work in hand and stop, side by side."""
    running = [one for one in processes if status(one.container) in ("running", "restarting")]
    with ThreadPoolExecutor(max_workers=8) as several:
        list(several.map(_stop, running))


def _stop(process: Process) -> None:
    words = ["--time", str(process.stop_timeout), process.container]
    run("docker", "stop", *words, doing=f"Stopping {process.container}")


def keep_up(processes: list[Process]) -> None:
    """Let the engine restart these containers from now on, after a crash and after its own restart."""
    names = [one.container for one in processes]
    words = ["--restart", "unless-stopped", *names]
    run("docker", "update", *words, doing="Letting the engine keep the release up")


def ask(process: Process, name: str, *command: str) -> list[str]:
    """Return the list that a program in a container says under a name, as a line of JSON; raises Failure."""
    told = run("docker", "exec", process.container, *command, doing=f"Asking {process.container}")
    # A project may print as well, before that and after it.
    lines = [line for line in told.splitlines() if line.startswith(f'{{"{name}": ')]
    if lines:
        return json.loads(lines[-1])[name]
    # A release that was made before this program gave its answers a name says the list alone.
    for line in reversed(told.splitlines()):
        with suppress(ValueError):
            if isinstance(said := json.loads(line), list):
                return said
    raise Failure(f"{process.container} was asked for {name} and did not say it: {told[-500:]}")
