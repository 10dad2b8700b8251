"""The drill: the newest backup and the log since then, restored, examined, measured and destroyed."""

from __future__ import annotations

import time

from postdo_host import Failure, running, stamp, when
from postdo_host.stopwatch import Stopwatch

from . import copies, media, repository, timelines
from .copies import Copy, Rows, Target
from .environment import Environment


def examine(copy: Copy, watch: Stopwatch, since: str = "") -> dict[int, Rows]:
    """Examine a copy that runs, by everything but its pages, and return the rows of its tables."""
    with watch.step("preparing"):
        copy.prepare()
    with watch.step("structure"):
        copy.examine_structure()
    with watch.step("rows"):
        return copy.counts(since)


def compare(counted: dict[int, Rows], before: dict[int, Rows], after: dict[int, Rows]) -> list[str]:
    """Return what speaks against a copy, given the live rows before and after its moment.

    Rows that are old before can only become fewer: the copy has at most these, and at least those that are old
    after, however many others came and went meanwhile.
    """
    problems = []
    for table in sorted(before.keys() & after.keys(), key=lambda table: after[table].table):
        name, least, most = after[table].table, after[table].old, before[table].old
        if table not in counted:
            problems.append(f"the table {name} is missing")
        elif not least <= counted[table].old <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            problems.append(f"{name} has {counted[table].old} rows in place of {wanted}")
    return problems


def drill(environment: Environment) -> dict:
    """Restore to this moment, examine, measure and destroy; then remove what is too old.

    Returns what is recorded. Raises Failure where anything is not as it was.
    """
    if not running(environment.container):
        raise Failure(f"{environment.container} does not run; start it: {environment.call}")
    held = repository.contents(environment)
    timelines.reconcile(environment, held)
    usable = timelines.usable(environment, held, time.time() + 1)
    if not usable:
        raise Failure(f"There is no backup to restore. Make one: {environment.call} backup")
    newest = usable[-1]
    copies.room(environment, newest.size)
    watch = Stopwatch()
    since = copies.horizon(environment)
    before = copies.counts(environment, environment.container, since, copies.LIVE_LIMIT)
    name = f"drill-{stamp()}"
    repository.mark(environment, name)
    after = copies.counts(environment, environment.container, since, copies.LIVE_LIMIT)
    problems = []
    with Copy(environment, "drill") as copy:
        with watch.step("files"):
            branch = timelines.newest(environment, held, newest)
            copy.restore(Target("name", newest.label, name, branch))
        with watch.step("log"):
            copy.start()
        counted = examine(copy, watch, since)
        problems += compare(counted, before, after)
        with watch.step("Django"):
            unapplied = copy.unapplied()
        serving = running(environment.web)
        if unapplied and serving:
            problems.append(f"the release that serves lacks migrations: {', '.join(unapplied)}")
        with watch.step("pages"):
            copy.stop()
            copy.examine_pages()
    files, uploads = None, media.kept(environment)
    if uploads:
        with watch.step("uploads"):
            files = _drill_media(environment)
    # This much is proven now, so what is older than the rules may go, damaged or not.
    removed = []
    if not problems:
        with environment.lock("backup", wait=3600):
            removed = repository.expire(environment)
            if uploads:
                media.expire(environment)
    with watch.step("whole repository"):
        problems += [f"in the repository: {line}" for line in repository.verify(environment)]
        if uploads:
            problems += [f"in the media repository: {line}" for line in media.verify(environment)]
    if problems:
        raise Failure("\n".join(problems))
    return {
        "backup": newest.label,
        "restored_to": when(time.time()),
        "steps": watch.steps,
        "seconds": round(sum(watch.steps.values()), 2),
        "rows": sum(rows.all for rows in counted.values()),
        "tables": len(counted),
        "size": newest.size,
        "uploads": files,
        "django": "not checked: there is no release here" if unapplied is None else "checked",
        "removed": removed,
    }


def _drill_media(environment: Environment) -> int:
    """Restore the newest uploads to scratch, and return the number of files."""
    found = media.snapshots(environment)
    if not found:
        raise Failure(f"There is no backup of the uploads. Make one: {environment.call} backup")
    copies.room(environment, media.size_of(environment, found[-1]))
    volume = f"{environment.media_volume}-drill"
    media.scratch(environment, volume)
    try:
        media.restore(environment, found[-1], volume)
        return media.count(volume)
    finally:
        media.remove(volume)
