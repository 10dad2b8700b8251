"""What this environment is: its names, its repository, its rules; and how commands are run in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path


class Failure(Exception):
    """What went wrong and what to do, for a person to read."""


class Busy(Failure):
    """Somebody else is at work."""


class Environment:
    """One environment, as the role `backup` described it in a JSON file (see its template)."""

    def __init__(self, path: Path) -> None:
        try:
            self._take(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failure(
                f"{path} can't be read ({error!r}). Run ./run.sh, which writes it."
            ) from None

    def _take(self, facts: dict) -> None:
        """Take over what the file says."""
        self.prefix: str = facts["prefix"]
        self.call: str = f"./run.sh {facts['inventory']}"
        self.enabled: bool = facts["enabled"]
        self.image: str = facts["image"]
        self.database: dict[str, str] = facts["database"]
        self.media_volume: str = facts["media_volume"]
        # A volume, a directory of the host, or empty: elsewhere.
        self.repository: str = facts["repository"]
        self.media_repository: list[str] = facts["media_repository"]
        self.edge: str = facts["edge"]
        self.secrets = Path(facts["secrets"])
        self.state = Path(facts["state"])
        self.copy_memory: str = f"{facts['copy_memory_mib']}m"
        self.inspect_port: int = facts["inspect_port"]
        self.recovery_point: int = facts["recovery_point"]
        self.weekday: int = facts["weekday"]
        self.hour: int = facts["hour"]
        self.keep_full: int = facts["keep_full"]
        self.keep_days: int = facts["keep_days"]
        self.alert_command: str = facts["alert_command"]
        self.overdue: float = facts["overdue_hours"] * 3600
        self.drill_overdue: float = facts["drill_overdue_days"] * 24 * 3600
        self.timers: list[str] = facts["timers"]
        self.container = f"{self.prefix}-db"
        self.web = f"{self.prefix}-web"
        self.volume = f"{self.prefix}-db-data"

    def repository_mount(self, *, writable: bool) -> list[str]:
        """Return docker's arguments that show a container the repository and its configuration."""
        mounts = ["--volume", f"{self.secrets}/backup:/etc/pgbackrest:ro"]
        if self.repository:
            mounts += ["--volume", f"{self.repository}:/srv/backup{'' if writable else ':ro'}"]
        return mounts

    @property
    def repository_network(self) -> str:
        """Return the network from which a container reaches the repository."""
        return "none" if self.repository else self.edge

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 0) -> Iterator[None]:
        """Hold one of the environment's locks; raises Busy after `wait` seconds, saying who has it.

        The kernel lets go of it when the process ends, however it ends.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / f"{name}.lock").open("a+") as file:
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        # Whoever has just got it may not have written who it is.
                        time.sleep(0.2)
                        file.seek(0)
                        raise Busy(
                            f"Another {name} is at work: {file.read().strip() or 'just begun'}. "
                            "Wait until it has ended. Nothing was changed."
                        ) from None
                    time.sleep(0.5)
            file.truncate(0)
            file.write(f"process {os.getpid()}, since {when(time.time())}\n")
            file.flush()
            yield


def when(moment: float) -> str:
    """Return a moment (seconds since the epoch) as people and PostgreSQL read it, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S+00")


def stamp() -> str:
    """Return the present moment as a part of names."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.95:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def attempt(*command: object, **options) -> subprocess.CompletedProcess[str]:
    """Run a command, its output as text, whatever comes of it."""
    options = {"capture_output": True, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        del options["stdin"]
    return subprocess.run(
        [str(word) for word in command], text=True, errors="replace", check=False, **options
    )


def run(*command: object, doing: str, **options) -> str:
    """Return what a command printed.

    Raises Failure, which says what was being done and the command's last words.
    """
    done = attempt(*command, **options)
    if done.returncode:
        raise Failure(f"{doing} failed: {last_words(done)}")
    return done.stdout.strip()


def last_words(done: subprocess.CompletedProcess[str], count: int = 4) -> str:
    """Return the end of what a failed command said, preferably on its standard error."""
    said = done.stderr or done.stdout or ""
    # restic asked for JSON says its errors in JSON too.
    with contextlib.suppress(ValueError, AttributeError):
        said = json.loads(said).get("message", said)
    lines = [line.strip() for line in said.splitlines()]
    return "\n".join([line for line in lines if line][-count:]) or f"status {done.returncode}"


def inspect(kind: str, name: str) -> dict | None:
    """Return what the engine knows of a container, volume or network; None if it knows none."""
    done = attempt("docker", "inspect", "--type", kind, name)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def status(container: str) -> str:
    """Return the engine's word for a container's state; empty where there is none."""
    found = inspect("container", container)
    return found["State"]["Status"] if found else ""


def running(container: str) -> bool:
    """Say whether a container runs now."""
    return status(container) == "running"


def psql(container: str, query: str, database: str = "postgres") -> str:
    """Return what a query gives the superuser, without alignment; raises Failure."""
    return run(
        *("docker", "exec", "--interactive", container, "psql", "-XqAt"),
        *("-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database),
        doing=f"A query in {container}",
        input=query,
    )
