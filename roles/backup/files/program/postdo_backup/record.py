"""What happened: the last backup and drill, kept in a file, and told to the operator if it is bad."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

from postdo_host import Failure
from postdo_host.files import write_whole

from .environment import Environment

_ALERT_AGAIN_SECONDS = 24 * 3600
_KEPT_RESULTS = 50


def read(environment: Environment) -> dict:
    """Return the record; an unreadable one is an empty one, which `check` calls overdue."""
    # Bad JSON and bad UTF-8 are both of this kind.
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = json.loads((environment.state / "record.json").read_text())
        if isinstance(found, dict):
            return found
    return {}


def write(environment: Environment, **changes: object) -> None:
    """Change entries of the record, in one step."""
    environment.state.mkdir(parents=True, exist_ok=True)
    with environment.lock("record", wait=30):
        text = json.dumps({**read(environment), **changes}, indent=1)
        write_whole(environment.state / "record.json", text, 0o600)


def result(environment: Environment, kind: str, problem: str, **details: object) -> None:
    """Record how a backup or a drill (`kind`) ended; `problem` is empty where it ended well."""
    entry = {"at": time.time(), "problem": problem, **details}
    earlier = read(environment).get(kind, [])
    write(environment, **{kind: [*earlier, entry][-_KEPT_RESULTS:]})
    if not problem:
        well(environment, kind)


def last(environment: Environment, kind: str) -> dict | None:
    """Return how the last backup or drill ended, or None."""
    return (read(environment).get(kind) or [None])[-1]


def alert(environment: Environment, kind: str, text: str) -> None:
    """Give a text to the operator's command on its standard input; of a kind, the same once a day.

    A command that fails says so here and stops nothing else.
    """
    if not environment.alert_command:
        return
    earlier = read(environment).get("alerted", {})
    told = earlier.get(kind, {})
    if told.get("text") == text and time.time() - told["at"] < _ALERT_AGAIN_SECONDS:
        return
    message = f"{environment.prefix}: {text}\n"
    try:
        done = subprocess.run(
            ["sh", "-c", environment.alert_command],
            input=message,
            text=True,
            timeout=60,
            check=False,
        )
        problem = f"ended with {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        print(f"backup_alert_command {problem}: nobody was told.", file=sys.stderr)
        return
    with contextlib.suppress(OSError):
        write(environment, alerted={**earlier, kind: {"text": text, "at": time.time()}})


def well(environment: Environment, kind: str) -> None:
    """Record that all is well again, so that the next failure is told at once."""
    alerted = read(environment).get("alerted", {})
    if alerted.pop(kind, None):
        write(environment, alerted=alerted)


@contextlib.contextmanager
def told(environment: Environment, kind: str):
    """Record and tell a failure of what happens inside; success is recorded by who knows more."""
    try:
        yield
    except BaseException as failure:
        # An end by a signal (the host goes down) is recorded, and told by the next check.
        problem = str(failure) if isinstance(failure, Exception) else "it was interrupted"
        # Told even where it can't be recorded, and whatever it is: silence would be the worst.
        with contextlib.suppress(OSError, Failure):
            result(environment, kind, problem)
        if isinstance(failure, Exception):
            alert(environment, kind, f"the {kind} failed. {problem}")
        raise
