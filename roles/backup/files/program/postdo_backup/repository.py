"""The repository of pgBackRest: what is in it, and what is added and removed."""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from postdo_host import Failure, attempt, last_words, run, running, size, when
from postdo_host.containers import contained
from postdo_host.database import psql

from .environment import Environment

_NOTE = "postdo"
LABEL = re.compile(r"\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?")


@dataclass(frozen=True)
class Backup:
    """One backup that the repository holds; moments in seconds since the epoch, sizes in bytes."""

    label: str
    type: str
    start: float
    stop: float
    size: int
    stored: int
    damaged: bool
    # The segment of the log with which recovery from it begins, and where the repository has it.
    segment: str
    archive: str
    # What tells the database that it is of from one that was there before.
    system: int

    @property
    def branch(self) -> int:
        """The branch of the log on which it was made."""
        return int(self.segment[:8], 16)

    def __str__(self) -> str:
        return f"{self.label} ({self.type}, {when(self.stop)})"


@dataclass(frozen=True)
class Contents:
    """What the repository holds: its backups, oldest first, and the last segment of the log."""

    backups: list[Backup]
    archived: str
    system: int | None
    # What the record said when the newest backup was made, for a host that has no record.
    noted: dict

    def newest(self, *types: str) -> Backup | None:
        """Return the newest backup, of some types only if they are given."""
        return next((b for b in reversed(self.backups) if not types or b.type in types), None)


def pgbackrest(environment: Environment, *arguments: str) -> list[str]:
    """Return the command that runs pgBackRest in the database's container."""
    return ["docker", "exec", environment.container, "pgbackrest", "--stanza=main", *arguments]


def aside(environment: Environment, *arguments: str, writable: bool = False) -> list[str]:
    """Return the command that runs pgBackRest without the database, the repository read-only or not."""
    return [
        *contained("run", "--rm", "--log-driver", "none", memory=environment.copy_memory),
        *("--network", environment.repository_network),
        *environment.repository_mount(writable=writable),
        *("--entrypoint", "pgbackrest", environment.image, "--stanza=main", *arguments),
    ]


def system(environment: Environment) -> int | None:
    """Return what tells the database that runs from every other; None where none runs."""
    if not running(environment.container):
        return None
    query = "SELECT system_identifier FROM pg_control_system()"
    return int(psql(environment.container, query))


def contents(environment: Environment, *, live: bool = True) -> Contents:
    """Return what the repository holds; raises Failure if it can't be read.

    Asked of the database's container, or without `live` of one made for the question.
    """
    command = (pgbackrest if live else aside)(
        environment, "info", "--output=json", "--io-timeout=5"
    )
    # Where the repository is damaged, pgBackRest quotes what it found there.
    stanzas = json.loads(run(*command, doing="Reading the backup repository"), strict=False)
    status = stanzas[0]["status"] if stanzas else {"code": 1}
    # 1 to 3: nothing there yet, and other first steps; what is more is a repository that is ill.
    if status["code"] > 3:
        messages = [item["status"]["message"] for item in stanzas[0].get("repo", [])]
        told = [message.splitlines()[0] for message in messages if message]
        raise Failure(f"The backup repository can't be read: {' '.join(told) or status['message']}")
    # After a new beginning there are several; the last is the one that runs.
    databases = {item["id"]: item["system-id"] for stanza in stanzas for item in stanza["db"]}
    listed = [item for stanza in stanzas for item in stanza["archive"]]
    archives = {item["database"]["id"]: f"archive/main/{item['id']}" for item in listed}
    backups = [
        Backup(
            label=item["label"],
            type=item["type"],
            start=item["timestamp"]["start"],
            stop=item["timestamp"]["stop"],
            size=item["info"]["size"],
            stored=item["info"]["repository"]["delta"],
            damaged=item["error"],
            segment=item["archive"]["start"],
            archive=archives.get(item["database"]["id"], ""),
            system=databases[item["database"]["id"]],
        )
        for stanza in stanzas
        for item in stanza["backup"]
    ]
    system = next(reversed(databases.values()), None)
    return Contents(
        backups=backups,
        archived=(listed[-1]["max"] or "") if listed else "",
        system=system,
        noted=_noted([item for stanza in stanzas for item in stanza["backup"]]),
    )


def _noted(listed: list[dict]) -> dict:
    """Return the note that the newest backup bears; an operator's own backup bears none."""
    notes = [item["annotation"][_NOTE] for item in listed if _NOTE in item.get("annotation", {})]
    with contextlib.suppress(ValueError):
        found = json.loads(notes[-1]) if notes else {}
        return found if isinstance(found, dict) else {}
    return {}


def last_segment(environment: Environment, base: Backup, branch: int) -> str:
    """Return the name of the last segment that the repository has of a branch of a backup's database."""
    listing = ["repo-ls", "--recurse", f"--filter=/{branch:08X}[0-9A-F]{{16}}-", base.archive]
    names = run(*aside(environment, *listing), doing="Listing the archived log").splitlines()
    return max((_segment(name.rpartition("/")[2]) for name in names), default="")


def gap(environment: Environment, held: Contents, archived: str) -> str:
    """Return the first file of the log that the repository lacks since the newest backup; or nothing.

    `archived` is what the server says it has sent last. Where a restore or a new beginning came after that
    backup there is nothing to compare.
    """
    newest = held.newest()
    begin = newest.segment
    # What was sent last may also be a backup's file or a history: those are longer or shorter.
    segments = [one for one in (archived, held.archived) if len(one) == len(begin)]
    last = max((one for one in segments if one[:8] == begin[:8]), default="")
    if newest.system != held.system or not last:
        return ""
    numbers = range(int(begin[8:16] + begin[22:], 16), int(last[8:16] + last[22:], 16) + 1)
    wanted = [f"{begin[:8]}{number >> 8:08X}{number & 255:08X}" for number in numbers]
    found = set()
    for directory in sorted({segment[:16] for segment in wanted}):
        found |= {_segment(name) for name in _files(environment, f"{newest.archive}/{directory}")}
    # By its history a branch is found.
    if newest.branch > 1:
        wanted.insert(0, f"{begin[:8]}.history")
        found |= set(_files(environment, newest.archive))
    return next((name for name in wanted if name not in found), "")


def _files(environment: Environment, directory: str) -> list[str]:
    """Return the names in a directory of the repository."""
    command = pgbackrest(environment, "repo-ls", directory)
    return run(*command, doing="Listing the archived log").split()


def _segment(name: str) -> str:
    """Return the segment that a file of the archive holds; nothing if it is another, or not whole."""
    return name[:24] if name[24:25] == "-" and not name.endswith(".tmp") else ""


def note(environment: Environment, held: Contents, text: dict) -> None:
    """Let the newest backup bear a note; a repository that can't be written keeps the one it has."""
    if newest := held.newest():
        words = [f"--set={newest.label}", _annotation(text)]
        attempt(*aside(environment, "annotate", *words, writable=True))


def _annotation(text: dict) -> str:
    """Return pgBackRest's option for a note."""
    return f"--annotation={_NOTE}={json.dumps(text)}"


def due(environment: Environment, held: Contents, now: float) -> str:
    """Return the type of backup that the schedule wants at a moment.

    By state: what was missed is made up for by the next one.
    """
    moment = datetime.fromtimestamp(now, UTC)
    night = moment.replace(hour=environment.hour, minute=0, second=0, microsecond=0)
    if night > moment:
        night -= timedelta(days=1)
    week = night - timedelta(days=(night.weekday() - environment.weekday) % 7)
    full, diff = held.newest("full"), held.newest("full", "diff")
    if full is None or full.start < week.timestamp():
        return "full"
    return "diff" if diff.start < night.timestamp() else "incr"


def back_up(environment: Environment, type_: str, text: dict) -> Backup:
    """Make a backup that bears a text as its note, and return it; raises Failure, also where it found damaged pages."""
    command = pgbackrest(environment, f"--type={type_}", _annotation(text), "backup")
    run(*command, doing=f"The {type_} backup")
    made = contents(environment).newest()
    if made.damaged:
        raise Failure(
            f"The backup {made.label} was made, but it found damaged pages in the database. Restore "
            "to the moment before the damage, or look at it: docker exec "
            f"{environment.container} pgbackrest --stanza=main info --set={made.label}"
        )
    if made.stop > time.time() + 300:
        raise Failure(
            f"The backup {made.label} is from the future: this machine's clock was set back. Until "
            "the clock has passed it, pgBackRest makes no other. Set the clock right."
        )
    return made


def reach(environment: Environment, held: Contents) -> str:
    """Return in words how far back recovery reaches."""
    if not held.backups:
        return "There is no backup: nothing could be recovered."
    begin = when(held.backups[0].stop)
    return f"Recovery reaches from {begin} to at most {environment.recovery_point} s ago."


def describe(backup: Backup) -> str:
    """Return in words what a backup is and cost."""
    return (
        f"{backup.type} backup {backup.label}: {size(backup.size)} of data, {size(backup.stored)} "
        f"stored, {backup.stop - backup.start:.0f} s"
    )


def mark(environment: Environment, name: str) -> float:
    """Name this moment in the log, wait until the repository has it, and return the moment.

    Raises Failure if the log does not arrive.
    """
    segment = psql(
        environment.container,
        f"SELECT pg_walfile_name(pg_create_restore_point('{name}'));\n"
        "SELECT 1 FROM pg_switch_wal();",
    ).splitlines()[0]
    moment = time.time()
    deadline = time.monotonic() + 60
    # Asked of the server: by name alone, a segment of another branch could pass for a later one.
    query = f"SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name = '{segment}.ready'"
    while psql(environment.container, query) != "0":
        if time.monotonic() > deadline:
            raise Failure(
                f"The database's log does not reach the repository ({segment} did not within 60 s). "
                f"Read why: docker logs {environment.container}"
            )
        time.sleep(0.2)
    # What had to wait for too long is dropped, and waits no longer either.
    if contents(environment).archived < segment:
        raise Failure(
            f"The repository lacks {segment} of the database's log: it was away for longer than backup_queue_max_mib "
            "lets the log wait. Make a backup, which leads past the gap, and run again."
        )
    return moment


def verify(environment: Environment) -> list[str]:
    """Read every file of the repository and return the lines that name a damaged one."""
    done = attempt(*aside(environment, "verify", "--output=text", "--verbose"))
    if done.returncode:
        raise Failure(f"Reading the whole repository failed: {last_words(done)}")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    if "status: ok" in lines:
        return []
    # Each line of counts follows the line that says of what.
    counted = re.compile(r"(missing|checksum invalid|size invalid|other): [1-9]")
    damaged = [f"{of}: {line}" for of, line in pairwise(lines) if counted.search(line)]
    return damaged or [last_words(done)]


def expire(environment: Environment) -> list[str]:
    """Remove what neither count nor age keeps; return the labels of what went.

    Called only after the newest backup has been restored and verified.
    """
    before = contents(environment)
    full = [backup for backup in reversed(before.backups) if backup.type == "full"]
    # By the newest backup where the clock has run ahead of it.
    horizon = min(time.time(), before.backups[-1].stop) - environment.keep_days * 24 * 3600
    # To reach back to the horizon, the last one before it is needed too.
    young = sum(backup.stop > horizon for backup in full) + 1
    keep = max(environment.keep_full, young)
    if len(full) <= keep:
        return []
    options = ["--repo1-retention-full-type=count", f"--repo1-retention-full={keep}"]
    run(*pgbackrest(environment, *options, "expire"), doing="Removing old backups")
    kept = {backup.label for backup in contents(environment).backups}
    return [backup.label for backup in before.backups if backup.label not in kept]
