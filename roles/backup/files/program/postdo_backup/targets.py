"""Where a restore is to end: what a person says, and the backup and the branch of the log that lead there."""

from __future__ import annotations

import re
import time
from datetime import datetime

from postdo_host import Failure, when

from . import timelines
from .copies import Target
from .environment import Environment
from .repository import LABEL, Backup, Contents

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,46}")


def require_name(name: str) -> None:
    """Raise Failure unless a name is usable for a moment."""
    if not _NAME.fullmatch(name) or LABEL.fullmatch(name) or name == "latest":
        raise Failure(
            f"{name} is no name for a moment: use letters, digits, dots, dashes and underscores, 47 at "
            "most, and no backup's name."
        )


def moment_of(text: str) -> float | None:
    """Return the moment that a text names, None if it names none; raises Failure without an offset."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        raise Failure(
            f"restore_to is {text}, which is another moment in every time zone. Write date, time and "
            'offset: -e restore_to="2026-11-22 10:00:00+00"'
        )
    return moment.timestamp()


def choose(environment: Environment, held: Contents, to: str) -> tuple[Target, Backup, float]:
    """Return where to restore to, the backup it needs, and the moment it stands for.

    Raises Failure, with what there is.
    """
    if not held.backups:
        raise Failure("The repository holds no backup. Nothing was changed.")
    now = time.time()
    points = timelines.known(environment, held)["points"]
    labels = {backup.label: backup for backup in held.backups}
    if to in labels:
        # A backup is restored on its own branch, wherever that is.
        return Target("backup", to, timeline="current"), labels[to], labels[to].stop
    newest = "\n".join(f"  {backup}" for backup in held.backups[-10:])
    listing = (
        f"{len(held.backups)} backups, the oldest {held.backups[0]}, and the newest:\n{newest}"
    )
    moment = now if to == "latest" else points[to][0] if to in points else moment_of(to)
    if moment is None:
        raise Failure(
            f"restore_to is {to}: neither latest, nor a backup, nor a named moment, nor a time such as "
            f'"2026-11-22 10:00:00+00". Named moments: {", ".join(points) or "none"}. Nothing was changed. '
            f"There are {listing}"
        )
    # Now includes the whole of this second.
    reached = moment + 1 if to == "latest" else moment
    usable = timelines.usable(environment, held, reached)
    if not usable or moment > now:
        raise Failure(
            f"restore_to is {to}, and no backup leads there. Nothing was changed. There are {listing}\n"
            "and the log since the oldest."
        )
    base = usable[-1]
    if to == "latest":
        branch = timelines.newest(environment, held, base)
        return Target("latest", base.label, timeline=branch), base, moment
    branch = timelines.live_at(environment, held, moment, base)
    kind, value = ("name", points[to][1]) if to in points else ("time", when_exactly(moment))
    return Target(kind, base.label, value, branch), base, moment


def when_exactly(moment: float) -> str:
    """Return a moment with its microseconds."""
    return f"{when(moment)[:-3]}.{round(moment % 1 * 1e6):06d}+00"
