"""Which branch of the log was live when: each restore leaves one and begins another.

A moment that a restore has undone is still in the log, on the branch that was left. Recovery must be
told to follow that one, or it would stop where the branches part, and say nothing.

The record is the host's; each backup bears what it said, for a host that has lost it or is new.
"""

from __future__ import annotations

import time

from postdo_host import stamp
from postdo_host.database import psql

from . import record, repository
from .environment import Environment
from .repository import Backup, Contents

_NOTED_POINTS = 20


def begin(environment: Environment, held: Contents, *, to: float, left: int, timeline: int) -> None:
    """Record that a restore to a moment leaves one branch and begins another just now.

    Recorded before the database of that branch runs: what it writes may reach the repository at once.
    """
    entry = {"system": held.system, "at": time.time(), "to": to, "left": left, "timeline": timeline}
    record.write(environment, restores=[*known(environment, held)["restores"], entry])
    repository.note(environment, held, to_note(environment, held))


def left_now(environment: Environment) -> None:
    """Record that the branch of before has only now taken its last commit."""
    *before, last = record.read(environment)["restores"]
    record.write(environment, restores=[*before, {**last, "at": time.time()}])


def withdraw(environment: Environment, held: Contents) -> None:
    """Take the last entry back: that restore was undone before anybody used it."""
    _forget_last(environment)
    repository.note(environment, held, to_note(environment, held))


def _forget_last(environment: Environment) -> None:
    """Remove the last entry of the host's record."""
    record.write(environment, restores=record.read(environment).get("restores", [])[:-1])


def to_note(environment: Environment, held: Contents) -> dict:
    """Return what a backup is to bear: it is kept with each, so of the named moments only the newest."""
    found = known(environment, held)
    points = sorted(found["points"].items(), key=lambda item: item[1][0])
    return {**found, "points": dict(points[-_NOTED_POINTS:])}


def known(environment: Environment, held: Contents) -> dict:
    """Return the record's restores and named moments, or those that the newest backup bears."""
    own, noted = record.read(environment), held.noted
    points = {**noted.get("points", {}), **own.get("points", {})}
    oldest = held.backups[0].stop if held.backups else 0
    return {
        "restores": own.get("restores", noted.get("restores", [])),
        # Those that a backup still leads to.
        "points": {name: point for name, point in points.items() if point[0] > oldest},
    }


def reconcile(environment: Environment, held: Contents) -> None:
    """Withdraw the last entry if the database that runs is on an older branch than it says was begun.

    So it is after a restore that was killed between the entry and the exchange.
    """
    restores = (
        _restores(environment, held, held.system) if "restores" in record.read(environment) else []
    )
    if restores and repository.system(environment) == held.system:
        query = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
        if int(psql(environment.container, query), 16) < restores[-1]["timeline"]:
            # The next backup bears it; the repository is written to only by who has its lock.
            _forget_last(environment)


def live_at(environment: Environment, held: Contents, moment: float, base: Backup) -> str:
    """Return the branch that was live at a moment, as recovery_target_timeline wants it.

    Where no restore is on record it is that of the backup from which recovery begins.
    """
    restores = _restores(environment, held, base.system)
    if not restores:
        return str(base.branch)
    before = [entry for entry in restores if entry["at"] <= moment]
    return str(before[-1]["timeline"] if before else restores[0]["left"])


def newest(environment: Environment, held: Contents, base: Backup) -> str:
    """Return the branch that is live now, whatever the clock says."""
    restores = _restores(environment, held, base.system)
    return str(restores[-1]["timeline"] if restores else base.branch)


def _restores(environment: Environment, held: Contents, system: int) -> list[dict]:
    """Return the restores of a database, in their order."""
    restores = known(environment, held)["restores"]
    return [entry for entry in restores if entry.get("system") == system]


def usable(environment: Environment, held: Contents, moment: float) -> list[Backup]:
    """Return the backups from which a moment can be reached, oldest first.

    They had ended by then, and no restore until then has undone them.
    """
    undone = [one for one in known(environment, held)["restores"] if one["at"] <= moment]
    # A backup's moments are whole seconds: it may have ended at any time within its last one.
    return [
        backup
        for backup in held.backups
        if backup.stop + 1 <= moment
        and not any(
            one.get("system") == backup.system
            and one["to"] < backup.stop + 1
            and backup.start < one["at"]
            for one in undone
        )
    ]


def mark(environment: Environment, name: str) -> tuple[str, float]:
    """Name this moment, so that it can be restored by name; return its name in the log, and the moment."""
    # Recovery ends at the first moment of a name, so in the log each has one of its own.
    own = f"{name}-{stamp()}"
    with environment.lock("mark", wait=120):
        moment = repository.mark(environment, own)
        points = known(environment, repository.contents(environment))["points"]
        record.write(environment, points={**points, name: [moment, own]})
    return own, moment
