"""Which branch of the log was live when: each restore leaves one and begins another.

A moment that a restore has undone is still in the log, on the branch that was left. Recovery must be
told to follow that one, or it would stop where the branches part, and say nothing.
"""

from __future__ import annotations

import time

from . import record, repository
from .environment import Environment, psql
from .repository import Backup


def begin(environment: Environment, *, to: float, left: int, timeline: int) -> None:
    """Record that a restore to a moment leaves one branch and begins another just now.

    Recorded before the database of that branch runs: what it writes may reach the repository at once.
    """
    entry = {"at": time.time(), "to": to, "left": left, "timeline": timeline}
    entry["system"] = _system(environment)
    restores = record.read(environment).get("restores", [])
    record.write(environment, restores=[*restores, entry])


def withdraw(environment: Environment) -> None:
    """Take the last entry back: that restore was undone before anybody used it."""
    record.write(environment, restores=record.read(environment).get("restores", [])[:-1])


def reconcile(environment: Environment) -> None:
    """Withdraw the last entry if the database that runs is still on the branch it says was left.

    So it is after a restore that was killed between the entry and the exchange.
    """
    restores = _restores(environment)
    running = repository.system(environment)
    if restores and running is not None and running == _system(environment):
        query = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
        live = int(psql(environment.container, query), 16)
        if live == restores[-1]["left"] != restores[-1]["timeline"]:
            withdraw(environment)


def live_at(environment: Environment, moment: float, base: Backup) -> str:
    """Return the branch that was live at a moment, as recovery_target_timeline wants it.

    Where no restore is on record it is that of the backup from which recovery begins.
    """
    restores = _restores(environment)
    if not restores:
        return str(base.branch)
    before = [entry for entry in restores if entry["at"] <= moment]
    return str(before[-1]["timeline"] if before else restores[0]["left"])


def newest(environment: Environment, base: Backup) -> str:
    """Return the branch that is live now, whatever the clock says."""
    restores = _restores(environment)
    return str(restores[-1]["timeline"] if restores else base.branch)


def _system(environment: Environment) -> int | None:
    """Return what tells the environment's database from one that was there before."""
    return (record.read(environment).get("ready") or [None])[0]


def _restores(environment: Environment) -> list[dict]:
    """Return the restores of this database, in their order."""
    restores = record.read(environment).get("restores", [])
    return [entry for entry in restores if entry.get("system") == _system(environment)]


def usable(environment: Environment, backups: list[Backup], moment: float) -> list[Backup]:
    """Return the backups from which a moment can be reached, oldest first.

    They had ended by then, and no restore until then has undone them.
    """
    undone = [(one["to"], one["at"]) for one in _restores(environment) if one["at"] <= moment]
    # A backup's moments are whole seconds: it may have ended at any time within its last one.
    return [
        backup
        for backup in backups
        if backup.stop + 1 <= moment
        and not any(to < backup.stop + 1 and backup.start < at for to, at in undone)
    ]
