"""Whether this environment could be recovered now, and what is wrong if it could not."""

from __future__ import annotations

import time
from pathlib import Path

from postdo_host import Failure, attempt, when
from postdo_host.database import psql

from . import record, repository
from .copies import PGDATA
from .environment import Environment

# A full backup is due each week; so many seconds later it is overdue.
_FULL_OVERDUE = 8 * 24 * 3600
# Seconds that a full segment of the log may wait, and may wait while sending fails.
_LAG = 180
_FAILING = 30

_ARCHIVER = """
SELECT coalesce(extract(epoch FROM last_failed_time) > coalesce(extract(epoch FROM last_archived_time), 0),
                false),
       coalesce(last_archived_wal, ''),
       coalesce((SELECT extract(epoch FROM now() - min(modification))
                 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'), 0)
FROM pg_stat_archiver
"""


def examine(environment: Environment) -> dict:
    """Return the state of the backups, for people and machines; `problems` is empty if all is well."""
    now = time.time()
    problems: list[str] = []
    state: dict = {"enabled": environment.enabled, "problems": problems}
    if not environment.enabled:
        return state
    try:
        problems += _idle(environment)
        late, archived = _waiting(environment)
        problems += late
        held = repository.contents(environment)
        problems += [] if late else _gap(environment, held, archived)
        state["reach"] = repository.reach(environment, held)
        state["backups"] = [vars(backup) for backup in held.backups]
        newest, full = held.newest(), held.newest("full")
        problems += _age(environment, "backup", newest and newest.stop, now, environment.overdue)
        if newest:
            late = max(_FULL_OVERDUE, environment.overdue)
            problems += _age(environment, "full backup", full and full.stop, now, late)
            drilled = _drilled(environment, held)
            problems += _age(environment, "drill", drilled, now, environment.drill_overdue)
            damaged = [str(backup) for backup in held.backups[-1:] if backup.damaged]
            problems += [f"the backup {backup} found damaged pages" for backup in damaged]
    except Failure as failure:
        problems.append(str(failure))
    for kind in ("backup", "drill"):
        last = record.last(environment, kind)
        state[f"last_{kind}"] = last
        if last and last["problem"]:
            problems.append(f"the last {kind} failed: {last['problem']}")
    return state


def stream(environment: Environment) -> list[str]:
    """Return what is wrong with the stream of the log into the repository."""
    late, archived = _waiting(environment)
    return late or _gap(environment, repository.contents(environment), archived)


def _waiting(environment: Environment) -> tuple[list[str], str]:
    """Return whether the log is late, in words, and what the server says that it has sent last."""
    failing, archived, waiting = psql(environment.container, _ARCHIVER).split("|")
    log = f"docker logs {environment.container}"
    late = float(waiting) > (_FAILING if failing == "t" else _LAG)
    words = f"the log does not reach the repository; is it full, read-only or away? {log}"
    return [words] if late else [], archived


def _gap(environment: Environment, held: repository.Contents, archived: str) -> list[str]:
    """Return in words what the repository lacks of the log; the server must have been asked before it."""
    first = repository.gap(environment, held, archived) if held.backups else ""
    if first.endswith(".history"):
        push = f"docker exec {environment.container} pgbackrest --stanza=main archive-push {PGDATA}/pg_wal/{first}"
        return [
            f"the log lacks {first}, without which nothing after the last restore is found: {push}"
        ]
    lead = f"the log has a gap from {first} on, dropped while it waited, and no backup since"
    return [f"{lead}: {environment.call} backup"] if first else []


def _idle(environment: Environment) -> list[str]:
    """Return which timers do not run; where systemd does not, another scheduler is its operator's choice."""
    if not Path("/run/systemd/system").is_dir():
        return []
    states = attempt("systemctl", "is-active", *environment.timers).stdout.split()
    idle = [
        timer for timer, state in zip(environment.timers, states, strict=False) if state != "active"
    ]
    words = f"nothing is done by itself: systemctl start {' '.join(idle)}"
    return [f"timers do not run, so {words}"] if idle else []


def _drilled(environment: Environment, held: repository.Contents) -> float:
    """Return when the last drill succeeded, or when it could first have been held."""
    drills = record.read(environment).get("drill", [])
    good = [drill["at"] for drill in drills if not drill["problem"]]
    return max(good, default=held.backups[0].stop)


def _age(
    environment: Environment, what: str, moment: float | None, now: float, limit: float
) -> list[str]:
    """Return what is wrong with the moment of the last one."""
    if not moment:
        return [f"there is no {what}. Make one: {environment.call} backup"]
    if moment > now + 300:
        return [f"the last {what} is from the future ({when(moment)}): the clock was set back"]
    if now - moment > limit:
        operation = "drill" if what == "drill" else "backup"
        return [
            f"the last {what} is overdue, it was at {when(moment)}: {environment.call} {operation}"
        ]
    return []
