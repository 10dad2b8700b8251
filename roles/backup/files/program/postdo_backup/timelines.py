"""Which branch of the log was live when: each restore leaves one and begins another.

A moment that a restore has undone is still in the log, on the branch that was left. Recovery must be
told to follow that one, or it would stop where the branches part, and say nothing.
"""

from __future__ import annotations

import time

from . import record
from .environment import Environment
from .repository import Backup


def begun(environment: Environment, *, to: float, left: int, timeline: int) -> None:
    """Record that a restore to a moment left one branch and began another just now."""
    restores = record.read(environment).get("restores", [])
    entry = {"at": time.time(), "to": to, "left": left, "timeline": timeline}
    record.write(environment, restores=[*restores, entry])


def live_at(environment: Environment, moment: float) -> str:
    """Return the branch that was live at a moment, as recovery_target_timeline wants it.

    Where no restore is on record it is the newest.
    """
    restores = record.read(environment).get("restores", [])
    if not restores:
        return "latest"
    before = [entry for entry in restores if entry["at"] <= moment]
    return str(before[-1]["timeline"] if before else restores[0]["left"])


def usable(environment: Environment, backups: list[Backup], moment: float) -> list[Backup]:
    """Return the backups from which a moment can be reached, oldest first.

    They had ended by then, and no restore until then has undone them.
    """
    restores = record.read(environment).get("restores", [])
    undone = [(entry["to"], entry["at"]) for entry in restores if entry["at"] <= moment]
    # A backup's moments are whole seconds: it may have ended at any time within its last one.
    return [
        backup
        for backup in backups
        if backup.stop + 1 <= moment
        and not any(to < backup.stop + 1 and backup.start < at for to, at in undone)
    ]
