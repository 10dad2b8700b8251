"""What every program on a host needs: to run commands, to hold a lock, to fail in words."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

# A moment's weakness of runc as a rule; the command itself has not run.
_NOT_BEGUN = "OCI runtime exec failed"

# How a line begins that says why: the server's, whoever repeats it, and anybody's.
_SERVERS_REASON = re.compile(r"\b(ERROR|FATAL|PANIC):  ")
_REASON = re.compile(r"(?i:\b(error|fatal|panic)\b.*:)|^[\w.]*(Error|Exception)(:|$)")


class Failure(Exception):
    """What went wrong and what to do, for a person to read."""


class Busy(Failure):
    """Somebody else is at work."""


@contextlib.contextmanager
def lock(directory: Path, name: str, wait: float = 0, by: str = "") -> Iterator[str]:
    """Hold a lock of an environment; raises Busy after `wait` seconds, saying who has it and since when.

    The kernel lets go of it when the process ends, however it ends. Yields what a holder that was killed
    had written of itself; after an orderly end that is empty.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{name}.lock").open("a+") as file:
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
        file.seek(0)
        dead = file.read().strip()
        file.truncate(0)
        own = f"process {os.getpid()}{by and f' of {by}'}, since {when(time.time())}"
        file.write(f"{own}\n")
        file.flush()
        try:
            yield dead
        finally:
            file.truncate(0)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal come between the steps of what takes only moments."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {kind: signal.signal(kind, signal.SIG_IGN) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def exit_status(operation: Callable[[], None]) -> int:
    """Return the exit status of an operation: 0, 1 for a failure, or 75 where somebody is at work.

    A failure is told on the standard error in words.
    """
    try:
        operation()
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 75 if isinstance(failure, Busy) else 1
    except OSError as error:
        print(f"{error.filename or 'The operation'}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


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
    """Run a command, its output as text, whatever comes of it.

    What the engine failed to begin in a container is begun again, three times in all.
    """
    options = {"capture_output": True, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        del options["stdin"]
    words = [str(word) for word in command]
    for pause in (0.2, 1, 0):
        done = subprocess.run(words, text=True, errors="replace", check=False, **options)
        said = done.stderr or done.stdout or ""
        if not said.startswith(_NOT_BEGUN):
            break
        time.sleep(pause)
    return done


def run(*command: object, doing: str, **options) -> str:
    """Return what a command printed.

    Raises Failure, which says what was being done and the command's last words.
    """
    done = attempt(*command, **options)
    if done.returncode:
        raise Failure(f"{doing} failed: {last_words(done)}")
    return done.stdout.strip()


def last_words(done: subprocess.CompletedProcess[str], count: int = 4) -> str:
    """Return what a failed command said, preferably on its standard error: its reason, or else the end."""
    said = done.stderr or done.stdout or ""
    # restic asked for JSON says its errors in JSON too.
    with contextlib.suppress(ValueError, AttributeError):
        said = json.loads(said).get("message", said)
    lines = [line for line in map(str.strip, said.splitlines()) if line]
    return "\n".join(lines[_reason(lines, count) :][:count]) or f"status {done.returncode}"


def _reason(lines: list[str], count: int) -> int:
    """Return at which line to begin, to have a command's reason within `count` lines."""
    end = max(len(lines) - count, 0)
    # PostgreSQL's comes first, and what it was about, however long, after it.
    servers = [number for number, line in enumerate(lines) if _SERVERS_REASON.search(line)]
    if servers:
        return end if servers[-1] >= end else servers[0]
    # Of others the last one counts, unless the end has it anyway.
    others = [number for number, line in enumerate(lines) if _REASON.search(line)]
    return min(others[-1], end) if others else end


def inspect(kind: str, name: str) -> dict | None:
    """Return what the engine knows of a container, volume or network; None if it knows none.

    Raises Failure where the engine does not answer: that says nothing about what is there.
    """
    done = attempt("docker", "inspect", "--type", kind, name)
    if done.returncode == 0:
        return json.loads(done.stdout)[0]
    if "no such" in done.stderr.lower() or "not found" in done.stderr.lower():
        return None
    raise Failure(f"The engine does not say what {name} is: {last_words(done)}")


def room_for_volumes() -> tuple[int, Path]:
    """Return the bytes that are free for the engine's volumes, and where they lie; raises Failure."""
    root = run("docker", "info", "--format", "{{.DockerRootDir}}", doing="Asking the engine")
    # They may be on a file system of their own.
    place = Path(root) / "volumes"
    return shutil.disk_usage(place).free, place


def status(container: str) -> str:
    """Return the engine's word for a container's state; empty where there is none."""
    found = inspect("container", container)
    return found["State"]["Status"] if found else ""


def running(container: str) -> bool:
    """Say whether a container runs now."""
    return status(container) == "running"
