"""Restoring: aside first, examined, and only then in the place of what is there."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from . import copies, media, record, repository, timelines
from .copies import Copy, Target
from .drill import Watch, examine
from .environment import (
    Environment,
    Failure,
    attempt,
    inspect,
    psql,
    run,
    stamp,
    status,
    when,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def require_name(name: str) -> None:
    """Raise Failure unless a name is usable for a moment."""
    if not _NAME.fullmatch(name) or repository.LABEL.fullmatch(name) or name == "latest":
        raise Failure(
            f"{name} is no name for a moment: use letters, digits, dots, dashes and underscores, 63 at "
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


def choose(environment: Environment, to: str) -> tuple[Target, repository.Backup, float]:
    """Return where to restore to, the backup it needs, and the moment it stands for.

    Raises Failure, with what there is.
    """
    held = repository.contents(environment, live=False)
    if not held.backups:
        raise Failure("The repository holds no backup. Nothing was changed.")
    now = time.time()
    points = record.read(environment).get("points", {})
    labels = {backup.label: backup for backup in held.backups}
    if to in labels:
        # A backup is restored on its own branch, wherever that is.
        return Target("backup", to, timeline="current"), labels[to], labels[to].stop
    newest = "\n".join(f"  {backup}" for backup in held.backups[-10:])
    listing = (
        f"{len(held.backups)} backups, the oldest {held.backups[0]}, and the newest:\n{newest}"
    )
    moment = now if to == "latest" else points[to] if to in points else moment_of(to)
    if moment is None:
        raise Failure(
            f"restore_to is {to}: neither latest, nor a backup, nor a named moment, nor a time such as "
            f'"2026-11-22 10:00:00+00". Named moments: {", ".join(points) or "none"}. Nothing was changed. '
            f"There are {listing}"
        )
    # Now includes the whole of this second.
    reached = moment + 1 if to == "latest" else moment
    usable = timelines.usable(environment, held.backups, reached)
    if not usable or moment > now:
        raise Failure(
            f"restore_to is {to}, and no backup leads there. Nothing was changed. There are {listing}\n"
            "and the log since the oldest."
        )
    base = usable[-1]
    branch = timelines.live_at(environment, moment)
    if to == "latest":
        return Target("latest", base.label, timeline=branch), base, moment
    kind, value = ("name", to) if to in points else ("time", when_exactly(moment))
    return Target(kind, base.label, value, branch), base, moment


def when_exactly(moment: float) -> str:
    """Return a moment with its microseconds."""
    return f"{when(moment)[:-3]}.{round(moment % 1 * 1e6):06d}+00"


def restore(environment: Environment, to: str, *, uploads: bool, unapplied_accepted: bool) -> str:
    """Restore the database, and the uploads if asked; return what was done, for a person.

    Raises Failure; until the last step the running database is not touched.
    """
    target, base, moment = choose(environment, to)
    snapshot = _snapshot(environment, to) if uploads else None
    copies.room(environment, base.size)
    for volume in (environment.volume, *([environment.media_volume] if uploads else [])):
        copies.make_volume(environment, volume)
        copies.place(volume)
    target = _hasten(environment, target)
    watch = Watch()
    with Copy(environment, "restoring", archiving=True) as copy:
        _recover(environment, copy, target, watch)
        (left, _), begun = copy.fork(), copy.timeline()
        counted = examine(copy, watch)
        with watch.step("Django"):
            unapplied = copy.unapplied()
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
            if snapshot:
                with watch.step("uploads"):
                    media.scratch(environment, _media_copy(environment))
                    media.restore(environment, snapshot, _media_copy(environment))
            with watch.step("switch"):
                kept = _switch(environment, copy, to, uploads)
        finally:
            media.remove(_media_copy(environment))
        timelines.begun(environment, to=moment, left=left, timeline=begun)
    rows = "\n".join(f"  {table:40} {number:>12} rows" for table, number in sorted(counted.items()))
    return (
        f"{environment.prefix} was restored to {to} from {base.label}: {watch}\n{rows}\n"
        f"  Checksums and pg_amcheck: no damage. Django: {_words(unapplied)}.\n"
        f"The data of before is kept in {', '.join(kept)}. When you are sure: docker volume rm "
        f"{' '.join(kept)}"
    )


def _media_copy(environment: Environment) -> str:
    """Return the name of the volume that the uploads are restored into."""
    return f"{environment.media_volume}-restoring"


def _words(unapplied: list[str] | None) -> str:
    """Return in words what Django said of a copy."""
    if unapplied is None:
        return "not checked, there is no release here"
    return f"it lacks {', '.join(unapplied)}" if unapplied else "all migrations are applied"


def _snapshot(environment: Environment, to: str) -> media.Snapshot:
    """Return the uploads' snapshot for a moment: the first after it, else the newest."""
    if not environment.media_volume:
        raise Failure("restore_uploads is true, but no uploads are kept here. Nothing was changed.")
    found = media.snapshots(environment)
    if not found:
        raise Failure("The media repository holds no backup. Nothing was changed.")
    points = record.read(environment).get("points", {})
    moment = None if to == "latest" else points.get(to) or moment_of(to)
    return next((item for item in found if moment and item.moment >= moment), found[-1])


def _hasten(environment: Environment, target: Target) -> Target:
    """Let all of the log that is wanted be in the repository; return what to restore to now.

    A database that does not run, or is another than the repository's, has nothing to add.
    """
    held = repository.contents(environment, live=False)
    if target.kind == "backup" or repository.system(environment) != held.system:
        return target
    name = f"restore-{stamp()}"
    repository.mark(environment, name)
    # To this moment and no earlier one: recovery fails where the log is not whole.
    return replace(target, kind="name", value=name) if target.kind == "latest" else target


def _recover(
    environment: Environment, copy: Copy, target: Target, watch: Watch, **how: int
) -> None:
    """Fill a copy and start it where the target is; raises Failure where the log is not whole."""
    with watch.step("files"):
        copy.restore(target)
    try:
        with watch.step("log"):
            copy.start(**how)
    except copies.Ended:
        if target.kind != "time" or target.timeline != _newest_branch(environment):
            raise
        # Nothing was committed after that moment, so the end of the log is what is wanted.
        copy.destroy()
        latest = Target("latest", target.backup, timeline=target.timeline)
        _recover(environment, copy, latest, watch, **how)
    if target.kind == "latest":
        _require_whole_log(environment, copy)


def _newest_branch(environment: Environment) -> str:
    """Return the branch of the log that is live now."""
    return timelines.live_at(environment, time.time())


def _require_whole_log(environment: Environment, copy: Copy) -> None:
    """Raise Failure unless recovery came to the archive's end: a gap ends it early and silently."""
    archived = repository.contents(environment, live=False).archived
    _, ended = copy.fork()
    if ended < archived[8:]:
        raise Failure(
            f"The archived log is not whole: it should reach to {archived}, but recovery ended in "
            f"{ended}. A segment is missing or damaged. Restore to a time before it. Nothing was changed."
        )


def _switch(environment: Environment, copy: Copy, to: str, uploads: bool) -> list[str]:
    """Put the copy in the place of the database; return the volumes that keep what was there."""
    now = stamp()
    reason = f"postdo.kept=replaced by a restore to {to}"
    exchanges = [(copy.volume, environment.volume, f"{environment.volume}-before-{now}")]
    if uploads:
        name = environment.media_volume
        exchanges.append((_media_copy(environment), name, f"{name}-before-{now}"))
    consumers = [environment.container, *([environment.web] if uploads else [])]
    up = [name for name in consumers if status(name) in ("running", "restarting", "paused")]
    exchanged = []
    try:
        for restored, _, kept in exchanges:
            copies.make_volume(environment, kept, reason)
            # First to its dated name, where no clean-up looks: the next exchange leaves the old data there.
            copies.exchange(restored, kept)
        for name in reversed(up):
            run("docker", "stop", name, doing=f"Stopping {name}")
        for _, live, kept in exchanges:
            copies.exchange(kept, live)
            exchanged.append((live, kept))
        _start(up)
    except BaseException:
        # Whatever ended it, a signal too: what was there before serves again, and only the copy goes.
        if exchanged:
            attempt("docker", "stop", *up)
        for live, kept in exchanged:
            copies.exchange(live, kept)
        attempt("docker", "start", *up)
        attempt("docker", "volume", "rm", *(kept for _, _, kept in exchanges))
        raise
    return [kept for _, _, kept in exchanges]


def _start(containers: list[str]) -> None:
    """Start containers in their order and wait until each is healthy."""
    for container in containers:
        run("docker", "start", container, doing=f"Starting {container}")
        deadline = time.monotonic() + 120
        while inspect("container", container)["State"]["Health"]["Status"] != "healthy":
            if time.monotonic() > deadline:
                raise Failure(f"{container} did not come up on the restored data.")
            time.sleep(0.2)


def look(environment: Environment, to: str) -> str:
    """Restore beside the database, to look inside by a port on loopback; return how."""
    target, base, _ = choose(environment, to)
    copies.room(environment, base.size)
    copy = Copy(environment, "inspect")
    copy.destroy()
    try:
        target = _hasten(environment, target)
        _recover(environment, copy, target, Watch(), port=environment.inspect_port)
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


def pull(environment: Environment, source: Environment, sql: str) -> str:
    """Put a copy of another environment's newest backup in the place of this one's data.

    The copy runs without a way in or out until the SQL has been applied. Returns what was done.
    """
    target, base, _ = choose(source, "latest")
    copies.room(environment, base.size)
    copies.make_volume(environment, environment.volume)
    copies.place(environment.volume)
    with Copy(environment, "pulling", source=source) as copy:
        copy.restore(target)
        copy.start()
        theirs, ours = source.database, environment.database
        for kind, key in (("DATABASE", "name"), ("ROLE", "user")):
            if theirs[key] != ours[key]:
                psql(copy.container, f'ALTER {kind} "{theirs[key]}" RENAME TO "{ours[key]}"')
        copy.prepare()
        if sql:
            script = f"BEGIN;\n{sql}\nCOMMIT;\nVACUUM FULL;\n"
            psql(copy.container, script, ours["name"])
        counted = copy.counts()
        copy.stop()
        (kept,) = _switch(environment, copy, f"the data of {source.prefix}", uploads=False)
    return (
        f"{environment.prefix} has the data of {source.prefix}: {sum(counted.values())} rows in "
        f"{len(counted)} tables{', anonymised' if sql else ', NOT anonymised'}. The data of before is kept "
        f"in {kept}."
    )


def read_sql(path: Path) -> str:
    """Return the text of an SQL file; raises Failure if it is not there or empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"pull_sql is {path}, which can't be read: {error.strerror}.") from None
    if not text.strip():
        raise Failure(f"pull_sql is {path}, which is empty: nothing would be anonymised.")
    return text
