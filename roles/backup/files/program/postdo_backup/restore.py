"""Restoring: aside first, examined, and only then in the place of what is there."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from postdo_host import Failure, inspect, stamp
from postdo_host.stopwatch import Stopwatch

from . import copies, media, repository, timelines
from .copies import Copy, Target
from .drill import examine
from .environment import Environment
from .repository import Backup, Contents
from .switch import switch
from .targets import choose, moment_of


def restore(environment: Environment, to: str, *, uploads: bool, unapplied_accepted: bool) -> str:
    """Restore the database, and the uploads if asked; return what was done, for a person.

    Raises Failure; until the last step the running database is not touched.
    """
    held = _read(environment)
    target, base, moment = choose(environment, held, to)
    snapshots = _snapshots(environment, moment) if uploads else []
    copies.room(environment, base.size + sum(media.size_of(environment, one) for one in snapshots))
    places = {environment.volume: f"{environment.volume}-restoring"}
    if uploads:
        places[environment.media_volume] = media.copy_of(environment)
    for volume in places:
        copies.make_volume(environment, volume)
        copies.place(volume)
    target = _hasten(environment, held, target)
    watch = Stopwatch()
    with Copy(environment, "restoring", archiving=True) as copy:
        _recover(environment, copy, base, target, watch)
        (left, _), begun = copy.fork(), copy.timeline()
        counted = examine(copy, watch)
        with watch.step("Django"):
            unapplied = _unapplied(copy, unapplied_accepted)
        if unapplied and not unapplied_accepted:
            raise Failure(
                "The release that serves needs migrations which the database did not have then: "
                f"{', '.join(unapplied)}. Bring back the release of that time first, or accept it with "
                "-e restore_unapplied=accept; the next deploy applies them again. Nothing was changed."
            )
        with watch.step("pages"):
            copy.stop()
            copy.examine_pages()
        try:
            if uploads:
                with watch.step("uploads"):
                    _fill(environment, snapshots)
            timelines.begin(environment, held, to=moment, left=left, timeline=begun)
            try:
                with watch.step("switch"):
                    kept = switch(environment, places, to, lambda: timelines.left_now(environment))
            except BaseException:
                timelines.withdraw(environment, held)
                raise
            if uploads:
                media.known_good(environment, snapshots[-1].moment)
        finally:
            media.remove(media.copy_of(environment))
    numbers = sorted((rows.table, rows.all) for rows in counted.values())
    rows = "\n".join(f"  {table:40} {number:>12} rows" for table, number in numbers)
    return (
        f"{environment.prefix} was restored to {to} from {base.label}: {watch}\n{rows}\n"
        f"  Checksums and pg_amcheck: no damage. Django: {_words(unapplied)}.\n"
        f"The data of before is kept in {', '.join(kept)}. When you are sure: docker volume rm "
        f"{' '.join(kept)}"
    )


def _unapplied(copy: Copy, accepted: bool) -> list[str] | None:
    """Return the serving release's migrations that the copy lacks; None where nobody can tell and that is accepted."""
    try:
        return copy.unapplied()
    except Failure as failure:
        if accepted:
            return None
        raise Failure(
            f"{failure}\nGo on without asking it: -e restore_unapplied=accept. Nothing was changed."
        ) from None


def restore_uploads(environment: Environment, to: str) -> str:
    """Restore the uploads alone; return what was done, for a person. The database goes on as it is."""
    moment = time.time() if to == "latest" else moment_of(to)
    if moment is None:
        # A name is known with the database's backups.
        _, _, moment = choose(environment, _read(environment), to)
    snapshots = _snapshots(environment, moment)
    copies.room(environment, sum(media.size_of(environment, one) for one in snapshots))
    volume = environment.media_volume
    copies.make_volume(environment, volume)
    copies.place(volume)
    try:
        _fill(environment, snapshots)
        (kept,) = switch(environment, {volume: media.copy_of(environment)}, to)
    finally:
        media.remove(media.copy_of(environment))
    media.known_good(environment, snapshots[-1].moment)
    return (
        f"The uploads of {environment.prefix} were restored to {to}: {media.count(volume)} files. Those of "
        f"before are kept in {kept}. When you are sure: docker volume rm {kept}"
    )


def _fill(environment: Environment, snapshots: list[media.Snapshot]) -> None:
    """Restore snapshots, one over the other, into the volume that will take the uploads' place."""
    volume = media.copy_of(environment)
    media.scratch(environment, volume)
    for snapshot in snapshots:
        media.restore(environment, snapshot, volume)


def _read(environment: Environment) -> Contents:
    """Return what the repository holds, and let the record be true to it."""
    held = repository.contents(environment, live=False)
    # A database that can't be asked has nothing to say.
    with contextlib.suppress(Failure):
        timelines.reconcile(environment, held)
    return held


def _words(unapplied: list[str] | None) -> str:
    """Return in words what Django said of a copy."""
    if unapplied is None:
        return "not asked"
    return f"it lacks {', '.join(unapplied)}" if unapplied else "all migrations are applied"


def _snapshots(environment: Environment, moment: float) -> list[media.Snapshot]:
    """Return the uploads' snapshots around a moment, in the order to restore them.

    The first after it has what was uploaded until then, the last before it what was deleted since: one
    over the other, nothing is missing.
    """
    if not environment.media_volume:
        raise Failure("No uploads are kept here. Nothing was changed.")
    found = media.snapshots(environment)
    if not found:
        raise Failure("The media repository holds no backup. Nothing was changed.")
    after = [snapshot for snapshot in found if snapshot.moment > moment][:1]
    before = [snapshot for snapshot in found if snapshot.moment <= moment][-1:]
    return after + before


def _hasten(environment: Environment, held: Contents, target: Target) -> Target:
    """Let all of the log that is wanted be in the repository; return what to restore to now.

    A database that does not run, or is another than the repository's, has nothing to add.
    """
    try:
        if target.kind == "backup" or repository.system(environment) != held.system:
            return target
    except Failure:
        # It runs and can't even be asked: that may be why it is to be replaced.
        return target
    name = f"restore-{stamp()}"
    try:
        repository.mark(environment, name)
    except Failure:
        # An earlier moment may be in the repository already; if it is not, recovery will say so.
        if target.kind == "latest":
            raise
        return target
    # To this moment and no earlier one: recovery fails where the log is not whole.
    return replace(target, kind="name", value=name) if target.kind == "latest" else target


def _recover(
    environment: Environment, copy: Copy, base: Backup, target: Target, watch: Stopwatch, **how: int
) -> None:
    """Fill a copy and start it where the target is; raises Failure where the log is not whole."""
    with watch.step("files"):
        copy.restore(target)
    try:
        with watch.step("log"):
            copy.start(**how)
    except copies.Ended:
        if target.kind != "time":
            raise
        # Nothing was committed there after that moment, so the end of the log is what is wanted.
        copy.destroy()
        latest = Target("latest", target.backup, timeline=target.timeline)
        _recover(environment, copy, base, latest, watch, **how)
    if target.kind == "latest":
        _require_whole_log(environment, copy, base, target.timeline)


def _require_whole_log(environment: Environment, copy: Copy, base: Backup, branch: str) -> None:
    """Raise Failure unless recovery came to a branch's end: a gap ends it early and silently."""
    last = repository.last_segment(environment, base, int(branch))
    _, ended = copy.fork()
    if ended < last[8:]:
        raise Failure(
            f"The archived log is not whole: it should reach to {last}, but recovery ended in {ended}. "
            "A segment is missing or damaged. Restore to a time before it. Nothing was changed."
        )


def look(environment: Environment, to: str) -> str:
    """Restore beside the database, to look inside by a port on loopback; return how."""
    held = _read(environment)
    target, base, _ = choose(environment, held, to)
    copies.room(environment, base.size)
    copy = Copy(environment, "inspect")
    copy.destroy()
    try:
        target = _hasten(environment, held, target)
        _recover(environment, copy, base, target, Stopwatch(), port=environment.inspect_port)
        copy.prepare()
    except Failure:
        copy.destroy()
        raise
    database = environment.database
    return (
        f"A copy of {environment.prefix}, restored to {to} from {base.label}, runs beside it.\n"
        f"  docker exec -it {copy.container} psql -U postgres {database['name']}\n"
        f"  psql -h 127.0.0.1 -p {environment.inspect_port} -U {database['user']} {database['name']}\n"
        f"It stays until you end it: {environment.call} restore -e restore_only=end"
    )


def end_look(environment: Environment) -> str:
    """Remove what `look` made."""
    copy = Copy(environment, "inspect")
    there = inspect("container", copy.container) is not None
    copy.destroy()
    return "The copy was removed." if there else "There was no copy to remove."
