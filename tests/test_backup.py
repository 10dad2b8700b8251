"""The program that backs up, without a database; and wal-get, with a real repository.

Needs Docker and the images of `./run.sh test`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from server import PASSWORD, Server, docker, until

ROLE = Path(__file__).resolve().parent.parent / "roles/backup"
PROGRAM = ROLE / "files/program"
LIBRARY = ROLE.parent / "program/files/library"
sys.path[:0] = [str(PROGRAM), str(LIBRARY)]

import postdo_host
from postdo_backup import __main__ as command_line
from postdo_backup import (
    copies,
    drill,
    health,
    media,
    record,
    repository,
    restore,
    switch,
    targets,
    timelines,
    transfer,
)
from postdo_backup.environment import Environment
from postdo_host import Busy, Failure, size, when

WITH_LIBRARY = {**os.environ, "PYTHONPATH": str(LIBRARY)}
FACTS = json.loads("""{
    "prefix": "backuptest", "inventory": "none", "enabled": true, "image": "backuptest/none:1",
    "database": {"name": "app", "user": "app", "locale": "und"}, "media_volume": "",
    "repository": "backuptest-backup", "media_repository": ["--repo", "/srv/backup/media"], "edge": "backuptest-edge",
    "uids": {"database": 15432, "application": 18000}, "copy_memory_mib": 512, "inspect_port": 5439, "recovery_point": 60, "alert_command": "",
    "overdue_hours": 3,
    "drill_overdue_days": 8, "timers": ["backuptest-backup.timer"], "weekday": 6, "hour": 2, "keep_full": 4, "keep_days": 28
}""")
SUNDAY = datetime(2026, 11, 22, 2, tzinfo=UTC)  # the schedule's weekday and hour
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND, NONE = timedelta(seconds=1), timedelta()
FULL, DIFF, INCR = "full", "diff", "incr"


@pytest.fixture
def facts(tmp_path):
    """Return a function that writes the description of an environment that is nowhere."""

    def write(**changes):
        path = tmp_path / "backup.json"
        places = {"secrets": str(tmp_path / "secrets"), "state": str(tmp_path / "state")}
        path.write_text(json.dumps(FACTS | places | changes))
        return path

    return write


@pytest.fixture
def environment(facts):
    return Environment(facts())


def backup(type_, start, minutes=1):
    """Return a backup as the repository would list it."""
    times = [moment.timestamp() for moment in (start, start + timedelta(minutes=minutes))]
    label = f"{start:%Y%m%d-%H%M%S}{type_[0].upper()}"
    where = {"segment": "0" * 24, "archive": "archive/main/17-1", "system": 1}
    return repository.Backup(label, type_, *times, size=10, stored=5, damaged=False, **where)


def contents(*backups, **noted):
    return repository.Contents(list(backups), "0" * 24, system=1, noted=noted)


@pytest.mark.parametrize(
    ("now", "held", "wanted"),
    [
        (SUNDAY + 3 * DAY, {}, FULL),
        # The hour itself begins a week, and a day; a second earlier nothing begins.
        (SUNDAY - SECOND, {FULL: -7 * DAY, DIFF: -DAY}, INCR),
        (SUNDAY, {FULL: -7 * DAY, DIFF: -DAY}, FULL),
        (SUNDAY + DAY - SECOND, {FULL: NONE}, INCR),
        (SUNDAY + DAY, {FULL: NONE}, DIFF),
        (SUNDAY + HOUR, {FULL: NONE}, INCR),
        (SUNDAY + HOUR, {FULL: -SECOND}, FULL),
        (SUNDAY + 2 * DAY + HOUR, {FULL: HOUR, DIFF: DAY, INCR: 2 * DAY}, DIFF),
        (SUNDAY + 2 * DAY + HOUR, {FULL: HOUR, DIFF: 2 * DAY}, INCR),
        # Its begin counts: what is written while it is made may be missing.
        (SUNDAY + DAY + HOUR, {FULL: HOUR, DIFF: DAY - SECOND}, DIFF),
        # A full one is as good as a differential one.
        (SUNDAY + HOUR, {DIFF: -DAY, FULL: NONE}, INCR),
        # Made by hand, a full one counts for its week and its day.
        (SUNDAY + 3 * DAY + HOUR, {FULL: 3 * DAY}, INCR),
        (SUNDAY + 7 * DAY, {FULL: 6 * DAY}, FULL),
        # What the machine slept through is made up for by the next one.
        (SUNDAY + 2 * DAY, {FULL: -14 * DAY, DIFF: -8 * DAY, INCR: -7 * DAY}, FULL),
        (SUNDAY + 5 * DAY, {FULL: NONE, DIFF: DAY}, DIFF),
        # The clock was set back.
        (SUNDAY + HOUR, {FULL: 3 * HOUR}, INCR),
    ],
)
def test_due(environment, now, held, wanted):
    backups = contents(*(backup(type_, SUNDAY + after) for type_, after in held.items()))
    assert repository.due(environment, backups, now.timestamp()) == wanted


def test_due_on_another_day_at_another_hour(facts):
    environment = Environment(facts(weekday=0, hour=23))
    monday = SUNDAY.replace(day=23, hour=23)
    for now, wanted in ((monday - SECOND, DIFF), (monday, FULL)):
        assert (
            repository.due(environment, contents(backup(FULL, SUNDAY)), now.timestamp()) == wanted
        )


def rows(**old):
    """Return the rows of tables, by number; `old` has each table's rows that are."""
    return {ord(name): copies.Rows(name, number + 1000, number) for name, number in old.items()}


@pytest.mark.parametrize(
    ("counted", "before", "after", "problems"),
    [
        ({}, {}, {}, []),
        ({"a": 5, "b": 0}, {"a": 5, "b": 0}, {"a": 5, "b": 0}, []),
        ({"a": 4}, {"a": 5}, {"a": 5}, ["a has 4 rows in place of 5"]),
        ({"a": 6}, {"a": 5}, {"a": 5}, ["a has 6 rows in place of 5"]),
        ({"b": 1}, {"a": 0, "b": 1}, {"a": 0, "b": 1}, ["the table a is missing"]),
        # Deleted in between: anything from the one to the other.
        ({"a": 10}, {"a": 12}, {"a": 10}, []),
        ({"a": 12}, {"a": 12}, {"a": 10}, []),
        ({"a": 9}, {"a": 12}, {"a": 10}, ["a has 9 rows in place of 10 to 12"]),
        ({"a": 13}, {"a": 12}, {"a": 10}, ["a has 13 rows in place of 10 to 12"]),
        # Made or dropped in between: either is right.
        ({"n": 3}, {}, {"n": 3}, []),
        ({}, {"o": 3}, {}, []),
    ],
)
def test_compare(counted, before, after, problems):
    assert drill.compare(rows(**counted), rows(**before), rows(**after)) == problems


@pytest.fixture
def live(postgres, facts):
    """Return a server, a database of its own there, and its environment."""
    name = f"live_{uuid.uuid4().hex[:8]}"
    postgres.sql(f"CREATE DATABASE {name}")
    environment = Environment(facts(database={"name": name}))
    environment.container = postgres.name
    yield postgres, name, environment
    for database in (name, f"{name}_copy"):
        postgres.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


@contextmanager
def session(server, database):
    """Yield a function that lets a session run a script, and waits for its end if it shall."""
    command = ["docker", "exec", "-i", server.name, "psql", "-XqAtU", "postgres", "-d", database]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:

        def say(script, *, wait=True):
            process.stdin.write(f"SET statement_timeout = 0;\n{script};\n\\echo done\n")
            process.stdin.flush()
            assert not wait or process.stdout.readline() == "done\n"

        yield say
        process.stdin.close()


# Tables of every kind; of those whose names say so, a backup holds the rows.
TABLES = """
CREATE TABLE held_plain AS SELECT generate_series(1, 100) n;
CREATE TABLE held_empty (n int);
CREATE TABLE parted (n int) PARTITION BY LIST (n);
CREATE TABLE held_part PARTITION OF parted FOR VALUES IN (1);
INSERT INTO parted VALUES (1), (1);
CREATE TABLE held_parent (n int);
CREATE TABLE held_child () INHERITS (held_parent);
INSERT INTO held_child VALUES (1), (2), (3);
CREATE MATERIALIZED VIEW held_view AS SELECT * FROM held_plain;
CREATE MATERIALIZED VIEW unpopulated AS SELECT * FROM held_plain WITH NO DATA;
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS n;
CREATE EXTENSION file_fdw;
CREATE SERVER away FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE afar (n int) SERVER away OPTIONS (filename '/nonexistent');
CREATE FOREIGN TABLE part_afar PARTITION OF parted FOR VALUES IN (2) SERVER away OPTIONS (filename '/nonexistent');
CREATE FOREIGN TABLE child_afar () INHERITS (held_parent) SERVER away OPTIONS (filename '/nonexistent');
CREATE SCHEMA "Held" CREATE TABLE "of ours" (n int);
INSERT INTO "Held"."of ours" VALUES (1);
ALTER TABLE "Held"."of ours" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE going AS SELECT 1 AS n;
CREATE TABLE locked AS SELECT 1 AS n;
"""
HELD = {"plain": 100, "empty": 0, "part": 2, "parent": 0, "child": 3, "view": 100}


def test_what_a_backup_holds_is_counted(live):
    """No temporary, unlogged or foreign table, none twice, none that goes or is locked; whatever limits queries have."""
    server, name, environment = live
    server.sql(TABLES, name)
    server.sql(f"ALTER DATABASE {name} SET statement_timeout = 1")
    with session(server, name) as one, session(server, name) as other:
        one("CREATE TEMP TABLE passing AS SELECT 1 AS n; BEGIN; LOCK TABLE locked")
        # It is still listed, and gone once it can be read.
        other("BEGIN; DROP TABLE going")
        other("DO 'BEGIN PERFORM pg_sleep(3); END'; COMMIT", wait=False)
        counted = copies.counts(environment, server.name)
    found = {table.table: table.all for table in counted.values()}
    assert found == {f"held_{kind}": number for kind, number in HELD.items()} | {
        '"Held"."of ours"': 1
    }


# What happens to a table of 100 rows before the copy's moment, to the copy, and after the moment; and what is said.
MEANWHILE = {
    "still": ("", "", "", ""),
    "queue": (
        "INSERT INTO queue SELECT -1 FROM generate_series(1, 500)",
        "",
        "DELETE FROM queue WHERE n < 0",
        "",
    ),
    "refilled": (
        "DELETE FROM refilled WHERE n > 50",
        "",
        "INSERT INTO refilled SELECT generate_series(51, 100)",
        "",
    ),
    "updated": ("UPDATE updated SET n = n", "", "UPDATE updated SET n = n + 1", ""),
    "emptied": ("TRUNCATE emptied", "", "INSERT INTO emptied VALUES (1)", ""),
    "altered": ("ALTER TABLE altered ALTER n TYPE bigint", "", "", ""),
    "vacuumed": ("VACUUM FULL vacuumed", "", "VACUUM FREEZE vacuumed", ""),
    "frozen": (
        "VACUUM FREEZE frozen",
        "DELETE FROM frozen WHERE n = 7",
        "",
        "99 rows in place of 100",
    ),
    "exchanged": (
        "ALTER TABLE exchanged RENAME TO old; CREATE TABLE exchanged (n int)",
        "",
        "",
        "",
    ),
    "made_again": ("DROP TABLE made_again", "", "CREATE TABLE made_again (n int)", ""),
    "short": ("", "DELETE FROM short WHERE n = 7", "", "99 rows in place of 100"),
    "empty": ("", "TRUNCATE empty", "", "0 rows in place of 100"),
    "gone": ("", "DROP TABLE gone", "", "missing"),
    # One row is lost among many that come and go.
    "short_queue": (
        "INSERT INTO short_queue SELECT -1 FROM generate_series(1, 500)",
        "DELETE FROM short_queue WHERE n = 7",
        "DELETE FROM short_queue WHERE n < 0",
        "99 rows in place of 100",
    ),
    "shrinking": (
        "DELETE FROM shrinking WHERE n > 90",
        "DELETE FROM shrinking WHERE n < 20",
        "DELETE FROM shrinking WHERE n > 80",
        "71 rows in place of 80 to 100",
    ),
}


def test_a_copy_lacks_no_row_whatever_is_written_meanwhile(live):
    """The copy is of a moment between two counts."""
    server, name, environment = live
    for table in MEANWHILE:
        server.sql(f"CREATE TABLE {table} AS SELECT generate_series(1, 100) n", name)
    before, harm, after, said = zip(*MEANWHILE.values(), strict=True)
    since = copies.horizon(environment)
    first = copies.counts(environment, server.name, since, copies.LIVE_LIMIT)
    for script in filter(None, before):
        server.sql(script, name)
    # It keeps tables' numbers and rows' transactions, as a backup does.
    server.sql(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    for script in filter(None, harm):
        server.sql(script, f"{name}_copy")
    for script in filter(None, after):
        server.sql(script, name)
    last = copies.counts(environment, server.name, since, copies.LIVE_LIMIT)
    environment.database["name"] = f"{name}_copy"
    found = drill.compare(copies.counts(environment, server.name, since), first, last)
    wanted = {table: text for table, text in zip(MEANWHILE, said, strict=True) if text}
    assert found == [
        f"the table {table} is missing" if text == "missing" else f"{table} has {text}"
        for table, text in sorted(wanted.items())
    ]


def test_a_transaction_that_ends_meanwhile_is_no_loss(live):
    """What it had written before the first count, and commits after it, is nothing old."""
    server, name, environment = live
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 100) n", name)
    with session(server, name) as open_:
        open_("BEGIN; INSERT INTO t VALUES (-1); SAVEPOINT s; INSERT INTO t VALUES (-2)")
        open_("DELETE FROM t WHERE n > 90")
        # Others begin and end meanwhile.
        server.sql("INSERT INTO t VALUES (-3)", name)
        since = copies.horizon(environment)
        first = copies.counts(environment, server.name, since)
        open_("COMMIT")
        counted = copies.counts(environment, server.name, since)
    last = copies.counts(environment, server.name, since)
    assert [table.all for (table,) in (first.values(), counted.values())] == [101, 93]
    assert drill.compare(counted, first, last) == []


@pytest.mark.parametrize(
    ("ages", "keep"),
    [
        # Weekly: those of 28 days, and the one before them, from which their first hour is reached.
        ([0, 7, 14, 21, 28.1], None),
        ([0, 7, 14, 21, 28.1, 35], 5),
        ([0, 7, 14, 21, 27.9, 35, 42], 6),
        ([*range(40)], 29),
        # None for months, or a clock that ran ahead: reckoned from the newest one.
        ([90, 97, 104, 111], None),
        ([90, 97, 104, 111, 118, 125], 5),
    ],
)
def test_expire_keeps_by_count_and_by_age(environment, monkeypatch, ages, keep):
    full = [backup(FULL, datetime.now(UTC) - age * DAY, minutes=0) for age in reversed(ages)]
    ran, left = [], [contents(*full), contents(*full[-(keep or 0) :])]
    monkeypatch.setattr(repository, "contents", lambda _: left.pop(0))
    monkeypatch.setattr(repository, "run", lambda *command, **_: ran.append(command))
    gone = repository.expire(environment)
    assert gone == ([item.label for item in full[:-keep]] if keep else [])
    options = [word for command in ran for word in command if "retention-full=" in word]
    assert options == ([f"--repo1-retention-full={keep}"] if keep else [])


@pytest.fixture
def held(environment, monkeypatch):
    """Give the environment three backups and a named moment, two days ago; return what is held."""
    made = [backup(FULL, SUNDAY), backup(DIFF, SUNDAY + DAY), backup(INCR, SUNDAY + DAY + HOUR)]
    monkeypatch.setattr(time, "time", lambda: (SUNDAY + 2 * DAY).timestamp())
    monkeypatch.setattr(repository, "note", lambda *_: None)
    record.write(environment, points={"before-1.2": [(SUNDAY + DAY).timestamp() + 90, "own"]})
    return contents(*made)


@pytest.mark.parametrize(
    ("to", "kind", "value", "base"),
    [
        ("latest", "latest", "", 2),
        ("20261123-020000D", "backup", "", 1),
        ("before-1.2", "name", "own", 1),
        ("2026-11-23 02:30:00+00", "time", "2026-11-23 02:30:00.000000+00", 1),
        ("2026-11-23T00:30:00.25-03:00", "time", "2026-11-23 03:30:00.250000+00", 2),
        # A backup ends within a second that is not known better; after it the backup will do.
        ("2026-11-23 02:01:01Z", "time", "2026-11-23 02:01:01.000000+00", 1),
        ("2026-11-23 02:01:00.999999Z", "time", "2026-11-23 02:01:00.999999+00", 0),
        ("2026-11-24 02:00:00+00", "time", "2026-11-24 02:00:00.000000+00", 2),
    ],
)
def test_choose(environment, held, to, kind, value, base):
    target, backup, _ = targets.choose(environment, held, to)
    assert (target.kind, target.value, target.backup) == (kind, value, held.backups[base].label)
    assert backup == held.backups[base]


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("2026-11-22 02:00:59+00", "no backup leads there"),
        ("2026-11-24 02:00:01+00", "no backup leads there"),
        ("2026-11-23 02:30:00", "another moment in every time zone"),
        ("2026-11-23", "another moment in every time zone"),
        ("yesterday", "the newest:\n  20261122-020000F"),
        ("before-1.3", "Named moments: before-1.2"),
    ],
)
def test_choose_refuses(environment, held, to, said):
    with pytest.raises(Failure) as failure:
        targets.choose(environment, held, to)
    assert said in str(failure.value)
    held.backups.clear()
    with pytest.raises(Failure, match="holds no backup"):
        targets.choose(environment, held, to)


@pytest.mark.parametrize(
    ("moment", "branch", "base"),
    [
        (DAY, "1", 0),
        (DAY + 90 * SECOND, "1", 1),  # what the restore undid is still there, on the branch it left
        (DAY + 3 * HOUR, "2", 0),  # and after it nothing leads on from there
        (4 * DAY, "2", 3),
    ],
)
def test_a_restore_begins_a_branch(environment, held, monkeypatch, moment, branch, base):
    """The second day's backups were undone two hours later, by a restore to before them."""
    held.backups.append(backup(FULL, SUNDAY + 3 * DAY))
    monkeypatch.setattr(time, "time", lambda: (SUNDAY + DAY + 2 * HOUR).timestamp())
    to = (SUNDAY + HOUR).timestamp()
    timelines.begin(environment, held, to=to, left=1, timeline=2)
    wanted = (SUNDAY + moment).timestamp()
    assert timelines.live_at(environment, held, wanted, held.backups[0]) == branch
    assert timelines.usable(environment, held, wanted)[-1] == held.backups[base]
    # A host that has lost the record, or a new one, learns the same from the newest backup.
    noted = timelines.known(environment, held)
    (environment.state / "record.json").unlink()
    held = contents(*held.backups, **json.loads(json.dumps(noted)))
    assert timelines.live_at(environment, held, wanted, held.backups[0]) == branch
    assert timelines.usable(environment, held, wanted)[-1] == held.backups[base]


def test_a_restore_that_was_killed_before_its_exchange_is_forgotten(environment, monkeypatch):
    """The database is still on the branch that the record says was left."""
    held = contents()
    monkeypatch.setattr(repository, "system", lambda _: held.system)
    monkeypatch.setattr(repository, "note", lambda *_: None)
    for live, entries in (("00000004", 1), ("00000003", 0), ("00000001", 0)):
        record.write(environment, restores=[])
        timelines.begin(environment, held, to=1, left=1, timeline=4)
        monkeypatch.setattr(timelines, "psql", lambda *_, live=live: live)
        timelines.reconcile(environment, held)
        assert len(record.read(environment)["restores"]) == entries


def listed(label, **further):
    """Return a backup as pgBackRest lists it."""
    return {
        "label": label,
        "type": "full",
        "error": False,
        "timestamp": {"start": 1, "stop": 2},
        "info": {"size": 1, "repository": {"delta": 1}},
        "archive": {"start": "0" * 24},
        "database": {"id": 1},
        **further,
    }


@pytest.mark.parametrize(
    ("newest", "noted"),
    [
        ({"annotation": {"postdo": '{"points": {}}'}}, {"points": {}}),
        # A backup that was made by hand bears no note, or another's.
        ({}, {"restores": []}),
        ({"annotation": {"by": "hand"}}, {"restores": []}),
        ({"annotation": {"postdo": "{"}}, {}),
        ({"annotation": {"postdo": "7"}}, {}),
    ],
)
def test_what_the_newest_backup_bears(environment, monkeypatch, newest, noted):
    backups = [listed("1", annotation={"postdo": '{"restores": []}'}), listed("2", **newest)]
    status = {"code": 0, "message": "ok"}
    stanza = {"status": status, "backup": backups, "db": [{"id": 1, "system-id": 1}], "archive": []}
    monkeypatch.setattr(repository, "run", lambda *_, **__: json.dumps([stanza]))
    assert repository.contents(environment).noted == noted


def name(number):
    """Return the name of a segment of the second branch."""
    return f"{2:08X}{number >> 8:08X}{number & 255:08X}"


@pytest.mark.parametrize(
    ("dropped", "gap"),
    [
        ([], ""),
        ([name(0xFE)], name(0xFE)),
        (
            [name(0x101), name(0x102)],
            name(0x101),
        ),  # the last ones: the server thinks they are there
        ([name(0xFC)], ""),  # the backup begins with the next one
        (["00000002.history"], "00000002.history"),
    ],
)
def test_a_gap_in_the_log(environment, monkeypatch, dropped, gap):
    """The newest backup begins with segment FD of the second branch; the log goes on in another directory."""
    there = {name(n): f"{name(n)}-{'a' * 40}.lz4" for n in range(0xF0, 0x103)}
    there["00000002.history"] = "00000002.history"
    for one in dropped:
        # A backup's own file, and what is not whole, are none of the log.
        there[one] = f"{one}.00000028.backup\n{there[one]}.pgbackrest.tmp"
    monkeypatch.setattr(repository, "run", lambda *words, **_: "\n".join(there.values()))
    held = contents(replace(backup(FULL, SUNDAY), segment=name(0xFD)))
    assert repository.gap(environment, held, name(0x102)) == gap
    # What an undone restore left on another branch changes nothing, nor does a file that is no segment.
    sent = replace(held, archived=name(0x102))
    assert repository.gap(environment, sent, f"{name(0x102)}.00000028.backup") == gap
    later = replace(held, archived=f"{3:08X}{0:016X}")
    assert repository.gap(environment, later, name(0x102)) == gap
    assert repository.gap(environment, held, "00000003.history") == ""
    # Of a database that was there before, nothing is wanted.
    assert repository.gap(environment, replace(held, system=2), name(0x102)) == ""


@pytest.mark.parametrize("name", ["", "it's", "a b", "-a", "latest", "20261122-020000F", "a" * 64])
def test_unusable_names_of_moments(name):
    with pytest.raises(Failure, match="no name for a moment"):
        targets.require_name(name)
    targets.require_name("before-1.2")


def test_moments_and_sizes():
    for fraction in ("000000", "000001", "499999", "999999"):
        moment = targets.moment_of(f"2026-11-23 02:30:59.{fraction}+00:00")
        assert targets.when_exactly(moment) == f"2026-11-23 02:30:59.{fraction}+00"
    assert when(SUNDAY.timestamp() + 0.7) == "2026-11-22 02:00:00+00"
    for text in ("02:00:00.123456789Z", "02:00:00Z", "07:30:00.98765+05:30"):  # restic's
        assert media._moment(f"2026-11-22T{text}") == SUNDAY.timestamp()
    said = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 2.5e6: "2.5 MB", 4e15: "4000.0 TB"}
    assert {count: size(count) for count in said} == said


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (None, "there is no drill. Make one: ./run.sh none backup"),
        (HOUR, ""),
        (4 * HOUR, "drill is overdue, it was at 2026-11-21 22:00:00+00: ./run.sh none drill"),
        (-299 * SECOND, ""),
        (-HOUR, "the last drill is from the future (2026-11-22 03:00:00+00)"),
    ],
)
def test_age(environment, ago, said):
    moment = ago if ago is None else (SUNDAY - ago).timestamp()
    problems = health._age(environment, "drill", moment, SUNDAY.timestamp(), 3 * 3600)
    assert len(problems) == bool(said)
    assert said in "".join(problems)


HOLDER = """
import pathlib, sys, time
from postdo_backup.environment import Environment
with Environment(pathlib.Path(sys.argv[1])).lock("backup"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(facts):
    """Yield another process that holds the lock `backup`."""
    command = [sys.executable, "-c", HOLDER, facts()]
    with subprocess.Popen(
        command, cwd=PROGRAM, env=WITH_LIBRARY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_lock_says_who_has_it_and_ends_with_its_process(environment, holder):
    for wait in (0, 1):
        begun = time.monotonic()
        with pytest.raises(Busy) as busy, environment.lock("backup", wait=wait):
            pytest.fail("it was given twice")
        assert f"Another backup is at work: process {holder.pid}, since 20" in str(busy.value)
        assert wait <= time.monotonic() - begun < wait + 1
    with environment.lock("copy"):  # another one
        holder.send_signal(signal.SIGKILL)
    with environment.lock("backup", wait=5):
        said = (environment.state / "backup.lock").read_text()
        assert said.startswith(f"process {os.getpid()}, since 20")
        assert said.count("process") == 1


@pytest.mark.parametrize(
    ("weak", "status", "calls"), [(0, 0, 1), (1, 0, 2), (2, 0, 3), (9, 126, 3)]
)
def test_what_the_engine_did_not_begin_is_begun_again(tmp_path, weak, status, calls):
    """Three times in all; what has run is not run again."""
    called, script = tmp_path / "called", tmp_path / "docker"
    called.touch()
    script.write_text(f"""#!/bin/sh
echo >> {called}
[ "$(wc -l < {called})" -gt {weak} ] && exec cat
echo 'OCI runtime exec failed: exec failed: unable to start container process: read init-p'
exit 126
""")
    script.chmod(0o755)
    done = postdo_host.attempt(script, "exec", input="a query")
    assert done.returncode == status
    assert (done.stdout == "a query") is (status == 0)
    assert called.read_text().count("\n") == calls


def test_record_keeps_the_last_results(environment):
    assert record.last(environment, "backup") is None
    for number in range(60):
        record.result(environment, "backup", "", label=number)
    record.result(environment, "drill", "no")
    assert [item["label"] for item in record.read(environment)["backup"]] == [*range(10, 60)]
    assert record.last(environment, "drill")["problem"] == "no"
    assert {path.name for path in environment.state.iterdir()} == {"record.json", "record.lock"}


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 99, b"\xff\xfe", b"null"])
def test_an_unreadable_record_is_an_empty_one(environment, content):
    environment.state.mkdir()
    (environment.state / "record.json").write_bytes(content)
    assert record.last(environment, "backup") is None
    record.result(environment, "backup", "", label="new")
    assert record.last(environment, "backup")["label"] == "new"


@pytest.fixture
def told(facts, tmp_path):
    """Return an environment that writes its alerts to a file, and a function that reads them."""
    (tmp_path / "told").touch()
    environment = Environment(facts(alert_command=f"cat >> {tmp_path}/told"))
    return environment, lambda: (tmp_path / "told").read_text()


def test_alert_once_for_a_text_and_a_day(told, monkeypatch):
    environment, read = told
    now = time.time()
    for hours, text in ((0, "a"), (1, "a"), (2, "b"), (25.9, "b"), (26.1, "b")):
        monkeypatch.setattr(time, "time", lambda hours=hours: now + hours * 3600)
        record.alert(environment, "check", text)
    record.alert(environment, "drill", "b")  # another kind
    record.well(environment, "check")
    record.alert(environment, "check", "b")  # all had been well in between
    assert read() == "".join(f"backuptest: {text}\n" for text in "abbbb")


def test_an_alert_that_fails_says_so_and_is_tried_again(facts, tmp_path, capfd):
    environment = Environment(facts(alert_command=f"echo >> {tmp_path}/tried; exit 3"))
    for _ in range(2):
        record.alert(environment, "check", "a" * 200_000)
    assert capfd.readouterr().err == "backup_alert_command ended with 3: nobody was told.\n" * 2
    assert (tmp_path / "tried").read_text() == "\n\n"


def test_a_failure_is_recorded_told_and_not_swallowed(told):
    environment, read = told
    with pytest.raises(Failure, match="no room"), record.told(environment, "drill"):
        raise Failure("no room")
    assert record.last(environment, "drill")["problem"] == "no room"
    assert read() == "backuptest: the drill failed. no room\n"


@pytest.mark.parametrize("archived", ["5", "4"])
def test_a_moment_whose_log_was_dropped_is_not_named(environment, monkeypatch, archived):
    """It waits in the server no longer, and has not arrived."""
    segment = "0" * 23
    answers = iter([f"{segment}5\n1", "0"])
    monkeypatch.setattr(repository, "psql", lambda *_: next(answers))
    held = replace(contents(), archived=segment + archived)
    monkeypatch.setattr(repository, "contents", lambda _: held)
    if archived == "5":
        assert repository.mark(environment, "here") <= time.time()
    else:
        with pytest.raises(Failure, match="backup_queue_max_mib"):
            repository.mark(environment, "here")


@pytest.fixture
def making(environment, monkeypatch):
    """Return a function that makes a backup, whose parts for database and uploads are these; and their calls."""
    called = []

    def make(database, uploads):
        def part(name, does):
            def act(*_):
                called.append(name)
                return does()

            return act

        monkeypatch.setattr(command_line, "_require", lambda _: None)
        monkeypatch.setattr(command_line, "running", lambda _: True)
        for name in ("contents", "back_up", "reach", "due"):
            monkeypatch.setattr(repository, name, lambda *_: contents(backup(FULL, SUNDAY)))
        monkeypatch.setattr(timelines, "reconcile", lambda *_: None)
        monkeypatch.setattr(repository, "reach", lambda *_: "far")
        monkeypatch.setattr(repository, "back_up", part("database", database))
        monkeypatch.setattr(health, "stream", lambda _: [])
        monkeypatch.setattr(media, "kept", lambda _: True)
        monkeypatch.setattr(media, "back_up", part("uploads", uploads))
        return command_line._make(environment, INCR)

    return make, called


def fails(why):
    """Return what fails for a reason."""

    def fail():
        raise Failure(why)

    return fail


UPLOADS = {"files": 2, "size": 10, "added": 5}


@pytest.mark.parametrize("database", [fails("a page is damaged"), lambda: backup(INCR, SUNDAY)])
@pytest.mark.parametrize("uploads", [fails("no room"), lambda: UPLOADS])
def test_uploads_are_backed_up_whatever_becomes_of_the_database(
    environment, making, database, uploads
):
    make, called = making
    wrong = [one for one in (database, uploads) if one.__name__ == "fail"]
    if wrong:
        with pytest.raises(Failure) as failure:
            make(database, uploads)
        assert ("a page is damaged" in str(failure.value)) == (database in wrong)
        assert ("no room" in str(failure.value)) == (uploads in wrong)
        assert record.last(environment, "backup")["problem"]
    else:
        assert "uploads: 2 files" in make(database, uploads)
        assert record.last(environment, "backup")["problem"] == ""
    assert called == ["database", "uploads"]


def test_a_lock_that_a_killed_one_left_is_let_go_of_before_uploads_are_backed_up(
    environment, monkeypatch
):
    called = []

    def restic(*words, **_):
        called.append(next(word for word in words if word in ("sh", "unlock", "backup")))
        summary = {"total_files_processed": 1, "total_bytes_processed": 2, "data_added": 3}
        return json.dumps({"message_type": "summary", **summary})

    def unlock(*words):
        return subprocess.CompletedProcess(words, 0, restic(*words), "")

    monkeypatch.setattr(media, "run", restic)
    monkeypatch.setattr(media, "attempt", unlock)
    assert media.back_up(environment)["files"] == 1
    assert called == ["sh", "unlock", "backup"]


def test_a_repository_elsewhere_that_does_not_answer_is_told(environment, monkeypatch):
    """restic asks it again and again; here a command takes its place that does nothing else."""
    environment.repository = ""

    def late(*words):
        assert words[words.index("timeout") + 2 :][:2] == ("60", "restic")
        return subprocess.run(["timeout", "0.1", "sleep", "9"], capture_output=True, check=False)

    monkeypatch.setattr(media, "attempt", late)
    with pytest.raises(Failure, match="The media repository does not answer within 60 s"):
        media.back_up(environment)


@pytest.fixture
def uploads(image, facts, tmp_path):
    """Yield an environment with uploads in a volume, and a repository of them in a directory."""
    name = f"backuptest-{uuid.uuid4().hex[:8]}"
    (tmp_path / "secrets/media-backup").mkdir(parents=True)
    password = tmp_path / "secrets/media-backup/restic_password"
    password.write_text("correct horse")
    for path in (tmp_path / "backup/media", tmp_path / "state"):
        path.mkdir(parents=True)
    os.chown(tmp_path / "backup/media", 18000, 18000)
    docker("volume", "create", name)
    place = tmp_path / "backup"
    environment = Environment(facts(image=image, media_volume=name, repository=str(place)))
    try:
        mounted = docker("volume", "inspect", "-f", "{{.Mountpoint}}", name).stdout.strip()
        Path(mounted, "a").touch()
        media.prepare(environment)
        yield environment
    finally:
        docker("volume", "rm", "--force", name)


def test_a_repository_of_the_uploads_that_takes_no_files_is_told_at_once(uploads):
    """restic would try for a quarter of an hour, in backups and in the drill that removes old ones."""
    assert media.back_up(uploads)["files"] == 1
    repository = Path(uploads.repository) / "media"
    assert "probe" not in os.listdir(repository)
    held = [path for path in (repository, *repository.rglob("*")) if path.is_dir()]
    try:
        for path in held:
            os.chown(path, 0, 0)
        for change in (media.back_up, media.expire):
            with pytest.raises(Failure) as failure:
                change(uploads)
            assert "Writing to the media repository failed" in str(failure.value)
            assert "Permission denied" in str(failure.value)
    finally:
        for path in held:
            os.chown(path, 18000, 18000)
    assert media.back_up(uploads)["files"] == 1


@pytest.mark.parametrize("memory", [512, 4096])
def test_a_copy_has_the_live_servers_settings_and_none_that_are_its_own(
    environment, monkeypatch, memory
):
    shared = ["search_path=shop, public", "max_locks_per_transaction=512", "jit=off"]
    large = ["shared_buffers=1GB", "maintenance_work_mem=64MB", "max_connections=400"]
    own = [
        "archive_mode=on",
        "ssl=on",
        "ssl_cert_file=/run/x",
        "log_statement=all",
        "autovacuum=on",
    ]
    own += ["synchronous_standby_names=other", "listen_addresses=*", "archive_command=cp %p /a=b"]
    command = [part for setting in (*shared, *large, *own) for part in ("-c", setting)]
    live = {"Config": {"Cmd": command}, "HostConfig": {"Memory": memory * 1024**2}}
    monkeypatch.setattr(copies, "inspect", lambda *_: live)
    given = copies.Copy(environment, "drill")._settings()
    assert given[::2] == ["-c"] * (len(given) // 2)
    assert given[1::2] == [*shared, *(large if memory == 512 else [])]


@pytest.mark.parametrize("accepted", [False, True])
def test_a_restore_to_what_django_can_not_use_can_be_accepted(accepted):
    copy = SimpleNamespace(unapplied=fails("Django can't use it"))
    if accepted:
        assert restore._unapplied(copy, accepted) is None
    else:
        with pytest.raises(Failure, match="restore_unapplied=accept"):
            restore._unapplied(copy, accepted)


def test_a_log_that_stays_away_is_told_once(told, monkeypatch):
    environment, read = told
    held = contents(backup(FULL, datetime.now(UTC) - HOUR))
    monkeypatch.setattr(repository, "contents", lambda _: held)
    for waited in (400, 700, 1000):  # each look finds it waiting for longer
        monkeypatch.setattr(health, "psql", lambda *_, waited=waited: f"t|{'0' * 24}|{waited}")
        problems = health.examine(environment)["problems"]
        record.alert(environment, "check", "\n".join(problems))
    assert read().count("the log does not reach the repository") == 1


@pytest.mark.parametrize("broken", range(9))
def test_a_switch_that_fails_leaves_everything_in_its_place(environment, monkeypatch, broken):
    """Whichever of its steps fails: what was there before is there again, and only the copy is gone."""
    before = {environment.volume: "data", environment.media_volume: "uploads"}
    volumes = {**before, "copy": "new data", media.copy_of(environment): "new uploads"}
    up, steps = {environment.container, environment.web}, []

    def step(_):
        steps.append(_)
        if len(steps) == broken + 1:
            raise Failure("no")

    def exchange(one, other):
        step("exchange")
        volumes[one], volumes[other] = volumes[other], volumes[one]

    def docker(*words, **_):
        if words[1] in ("stop", "start"):
            step(words[1])
            (up.difference_update if words[1] == "stop" else up.update)(words[2:])
        elif words[1:3] == ("volume", "rm"):
            for name in words[3:]:
                volumes.pop(name, None)
        return SimpleNamespace(returncode=0)

    users = {
        environment.volume: [environment.container],
        environment.media_volume: [environment.web],
    }
    monkeypatch.setattr(switch, "users", lambda _, volume: users[volume])
    monkeypatch.setattr(copies, "exchange", exchange)
    monkeypatch.setattr(copies, "make_volume", lambda _, name, *__: volumes.setdefault(name, ""))
    monkeypatch.setattr(switch, "run", docker)
    monkeypatch.setattr(switch, "attempt", docker)
    monkeypatch.setattr(switch, "status", lambda name: "running" if name in up else "exited")
    everything = {environment.container, environment.web}
    places = {environment.volume: "copy", environment.media_volume: media.copy_of(environment)}
    if broken == 8:  # none of the eight steps
        stopped = []
        kept = switch.switch(
            environment, places, "latest", lambda: stopped.append(({*up}, len(steps)))
        )
        assert stopped == [(set(), 4)]
        assert [volumes[name] for name in kept] == ["data", "uploads"]
        assert [volumes[name] for name in before] == ["new data", "new uploads"]
        assert len(steps) == 8
    else:
        with pytest.raises(Failure, match="no"):
            switch.switch(environment, places, "latest")
        assert {name: volumes[name] for name in before} == before
    assert up == everything


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, Failure])
def test_a_load_that_is_cut_off_leaves_no_database_nor_does_an_earlier_one(
    environment, tmp_path, monkeypatch, ending
):
    databases = {"app", "app_loading_20260101_000000", "other"}

    def psql(_container, query, *_):
        if made := re.search('CREATE DATABASE "(.+?)"', query):
            databases.add(made[1])
        if gone := re.search('DROP DATABASE IF EXISTS "(.+?)"', query):
            databases.remove(gone[1])
        return "\n".join(one for one in sorted(databases) if one.startswith("app_loading_"))

    def end(*_):
        assert len([one for one in databases if one.startswith("app_loading_")]) == 1
        raise ending

    (tmp_path / "dump").touch()
    monkeypatch.setattr(transfer, "psql", psql)
    monkeypatch.setattr(transfer, "contents", lambda *_: "")
    monkeypatch.setattr(transfer, "_restore", end)
    with pytest.raises(ending):
        transfer.load(environment, tmp_path / "dump")
    assert databases == {"app", "other"}


# What `docker exec` would do with programs of which one goes wrong.
FAKE_DOCKER = """#!/bin/sh
fail() { [ "$WRONG" != "$1" ] || { echo "$1: no" >&2; exit 1; }; }
case "$* " in
    *" pg_dump "*) printf PGDMP; fail dump ;;
    *" pg_restore --list "*) cat > /dev/null; fail list ;;
    *" pg_restore --file=/dev/null "*) fail data ;;
    *) exit 99 ;;
esac
"""


@pytest.mark.parametrize("wrong", ["", "dump", "list", "data"])
@pytest.mark.parametrize("old", [{}, {"app.dump": "yesterday"}])
def test_a_dump_is_whole_or_not_there(environment, tmp_path, monkeypatch, wrong, old):
    for name in ("bin", "dumps"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/docker").write_text(FAKE_DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    monkeypatch.setenv("WRONG", wrong)
    path = tmp_path / "dumps/app.dump"
    for name, content in old.items():
        path.with_name(name).write_text(content)
    if wrong:
        with pytest.raises(Failure, match=f"{wrong}: no"):
            transfer.dump(environment, path)
    else:
        assert transfer.dump(environment, path) == len("PGDMP")
        assert path.stat().st_mode & 0o777 == 0o600
    there = {item.name: item.read_text() for item in path.parent.iterdir()}
    assert there == (old if wrong else {"app.dump": "PGDMP"})


# An extension that only a superuser makes, in a schema of its own, with rows that a dump has.
EXTENSION = {
    "atlas.control": "default_version = '1.0'\nschema = atlas_ext\nrelocatable = false\n",
    "atlas--1.0.sql": """
CREATE TABLE places (id serial PRIMARY KEY, name text);
INSERT INTO places (name) VALUES ('here');
SELECT pg_extension_config_dump('places', 'WHERE id > 1');
SELECT pg_extension_config_dump('places_id_seq', '');
""",
}

# As another provider's database may be.
SOURCE = """
CREATE SCHEMA other_ext AUTHORIZATION app;
CREATE EXTENSION citext SCHEMA other_ext;
CREATE EXTENSION earthdistance SCHEMA other_ext CASCADE;
CREATE SCHEMA "Odd ext";
GRANT ALL ON SCHEMA "Odd ext" TO app;
CREATE EXTENSION hstore SCHEMA "Odd ext";
COMMENT ON EXTENSION hstore IS 'ours';
CREATE EXTENSION pg_trgm;
CREATE EXTENSION atlas;
INSERT INTO atlas_ext.places (name) VALUES ('there');
SET ROLE app;
CREATE TABLE account (
    id bigserial PRIMARY KEY, email other_ext.citext UNIQUE, name text, more "Odd ext".hstore, at other_ext.earth
);
CREATE INDEX ON account USING gin (name gin_trgm_ops);
INSERT INTO account (email) VALUES ('Anna@example.com');
CREATE TABLE "an EXTENSION of ours" AS SELECT 1 AS n;
"""


@pytest.fixture(scope="module")
def loading(image, tmp_path_factory):
    """Yield a server that knows the extension, with a database to load and one to be replaced."""
    place = tmp_path_factory.mktemp("extension")
    for name, text in EXTENSION.items():
        (place / name).write_text(text)
        (place / name).chmod(0o644)
    mounts = [
        f"--volume={place / name}:/usr/share/postgresql/17/extension/{name}:ro"
        for name in EXTENSION
    ]
    server = Server(image)
    try:
        server.start(options=mounts)
        server.prepare()
        server.sql("CREATE DATABASE source OWNER app")
        server.run("psql", "-XqAtv", "ON_ERROR_STOP=1", "-d", "source", "-c", SOURCE)
        yield server
    finally:
        server.remove()


def dumped(server, path, *options):
    """Dump the database to load, and return where."""
    command = ["docker", "exec", server.name, "pg_dump", "--format=custom", *options, "source"]
    with path.open("wb") as file:
        subprocess.run(command, stdout=file, check=True)
    return path


def test_a_dump_brings_its_extensions_where_they_were(loading, environment, tmp_path):
    """With their tables' rows; the application finds what they made, and what the database was set to stays."""
    environment.container = loading.name
    loading.sql("ALTER DATABASE app SET search_path = public, pg_temp")
    loading.sql("ALTER ROLE app IN DATABASE app SET app.motto = 'it''s'")
    transfer.load(environment, dumped(loading, tmp_path / "dump"))

    def asked(query):
        done = loading.client(PASSWORD, query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    where = "SELECT string_agg(extname || ' ' || extnamespace::regnamespace, ', ' ORDER BY extname) FROM pg_extension"
    assert asked(where) == (
        'atlas atlas_ext, citext other_ext, cube other_ext, earthdistance other_ext, hstore "Odd ext", '
        "pg_trgm public, plpgsql pg_catalog"
    )
    # By the operator of an extension: it would be another letter by letter.
    assert asked("SELECT count(*) FROM account WHERE email = 'anna@EXAMPLE.com'") == "1"
    assert asked("SHOW search_path") == 'public, pg_temp, "Odd ext", atlas_ext, other_ext'
    assert asked("SHOW app.motto") == "it's"
    assert asked('SELECT n FROM "an EXTENSION of ours"') == "1"
    places = "SELECT string_agg(name, ' ' ORDER BY id) || nextval('atlas_ext.places_id_seq') FROM atlas_ext.places"
    assert loading.sql(places, "app") == "here there3"


@pytest.mark.parametrize(
    ("options", "renamed", "says"),
    [
        (
            ["--exclude-extension=citext"],
            b"atlas",
            'ERROR:  type "other_ext.citext" does not exist',
        ),
        # An extension of a name as long, which is not there.
        ([], b"atlax", "Add its Debian package to postgres_extra_packages"),
    ],
)
def test_a_dump_that_cannot_be_loaded_is_told_with_the_servers_reason(
    loading, environment, tmp_path, options, renamed, says
):
    """And nothing has changed."""
    environment.container = loading.name
    path = dumped(loading, tmp_path / "dump", *options)
    path.write_bytes(path.read_bytes().replace(b"NOT EXISTS atlas", b"NOT EXISTS " + renamed))
    there = "SELECT string_agg(datname || oid, ' ' ORDER BY oid) FROM pg_database"
    before = loading.sql(there)
    with pytest.raises(Failure, match="could not be loaded, nothing was changed") as failure:
        transfer.load(environment, path)
    assert says in str(failure.value)
    assert loading.sql(there) == before


COMMAND = "Command was: CREATE TABLE t (\n    a text,\n    b text,\n    c text\n);"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "status 3"),
        ("one\ntwo\n\nthree\nfour\nfive\n", "two\nthree\nfour\nfive"),
        # The reason first, and what it was about after it.
        (
            f"pg_restore: while PROCESSING TOC:\npg_restore: error: could not execute query: ERROR:  no type\n{COMMAND}",
            "pg_restore: error: could not execute query: ERROR:  no type\nCommand was: CREATE TABLE t (\na text,\nb text,",
        ),
        (
            f"psql:1: NOTICE:  done\npsql:2: ERROR:  no\nDETAIL:  why\nCONTEXT:  a\nb\nc\nd\nSTATEMENT: {COMMAND}",
            "psql:2: ERROR:  no\nDETAIL:  why\nCONTEXT:  a\nb",
        ),
        # What was tried may speak of errors too.
        (
            "ERROR:  no\nCommand was: CREATE FUNCTION f() AS '\nraise error: one;\ntwo\nthree\nfour\nfive'",
            "ERROR:  no\nCommand was: CREATE FUNCTION f() AS '\nraise error: one;\ntwo",
        ),
        (
            "P00   WARN: old\nP00  ERROR: [082]: no archive\nHINT: 1\nHINT: 2\nHINT: 3\nHINT: 4",
            "P00  ERROR: [082]: no archive\nHINT: 1\nHINT: 2\nHINT: 3",
        ),
        # The reason last.
        (
            "Traceback:\n  a\nKeyError: 1\n\nDuring another exception occurred:\n\n  b\n  c\n  d\nAssertionError",
            "b\nc\nd\nAssertionError",
        ),
        (
            "a\nb\nc\ndjango.db.utils.ProgrammingError: relation\nLINE 1: SELECT\n  ^",
            "c\ndjango.db.utils.ProgrammingError: relation\nLINE 1: SELECT\n^",
        ),
        ('{"message_type": "exit_error", "message": "Fatal: no"}', "Fatal: no"),
    ],
)
def test_the_last_words_have_the_reason(said, told):
    done = subprocess.CompletedProcess([], 3, "on the standard output", said)
    assert postdo_host.last_words(done) == (told if said else "on the standard output")


# -- the command --------------------------------------------------------------------------------


@pytest.fixture
def program(run):
    """Return a function that calls the program as its command does."""

    def call(path, *words):
        command = [sys.executable, "-m", "postdo_backup", "--environment", path]
        return run(*command, *words, cwd=PROGRAM, env=WITH_LIBRARY)

    return call


@pytest.mark.parametrize(
    ("words", "enabled", "said"),
    [
        (["backup"], False, "backup_enabled is false here."),
        (["drill"], False, "backup_enabled is false here."),
        (["backup"], True, "backuptest-db does not run; start it: ./run.sh none"),
        (["drill"], True, "backuptest-db does not run; start it: ./run.sh none"),
        (["check"], True, "A query in backuptest-db failed:"),
        (["mark", "it's"], True, "it's is no name for a moment:"),
        (["load", "/nonexistent"], True, "load_file is /nonexistent: there is no such file"),
        (["dump", "/etc/hosts/a.dump"], True, "/etc/hosts/a.dump could not be written"),
        (["pull", "--source", "/nonexistent"], True, "pull_from names an environment"),
    ],
)
def test_a_failure_is_told_in_words(program, facts, words, enabled, said):
    answer = program(facts(enabled=enabled), *words)
    assert answer.stderr.startswith(said)
    assert (answer.returncode, answer.stdout) == (1, "")


def test_a_second_backup_is_told_who_is_at_work(program, facts, holder):
    said = f"Another backup is at work: process {holder.pid}, since 20"
    answer = program(facts(), "backup")
    assert (answer.returncode, answer.stdout) == (75, "")
    assert answer.stderr.startswith(said)
    # The timer is content with the other one.
    answer = program(facts(), "scheduled")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(said)


@pytest.mark.parametrize("content", [None, "", "{}", "[]"])
def test_an_environment_that_cannot_be_read_is_named(program, tmp_path, content):
    path = tmp_path / "there.json"
    if content is not None:
        path.write_text(content)
    answer = program(path, "status")
    assert answer.returncode == 1
    assert str(path) in answer.stderr
    assert "Traceback" not in answer.stderr


# -- wal-get ------------------------------------------------------------------------------------

ARCHIVE = "/srv/backup/database/archive/main"


@pytest.fixture(scope="module")
def archive(image, tmp_path_factory):
    """Yield a server whose log goes to a repository by the role's own configuration."""
    place = tmp_path_factory.mktemp("pgbackrest")
    place.chmod(0o755)
    given = {"__backup_database_path": "/srv/backup/database", "__backup_key": "a key of tests"}
    given |= {"backup_repository": "volume", "backup_processes": 1, "backup_queue_max_mib": 256}
    template = jinja2.Template(
        (ROLE / "templates/pgbackrest.conf.j2").read_text(), trim_blocks=True
    )
    (place / "pgbackrest.conf").write_text(template.render(given))
    server = Server(image)
    volume = f"{server.name}-repository"
    try:
        server.start(
            *("-c", "archive_mode=on"),
            *("-c", "archive_command=pgbackrest --stanza=main archive-push %p"),
            options=[f"--volume={volume}:/srv/backup", f"--volume={place}:/etc/pgbackrest:ro"],
        )
        server.prepare()
        server.run("pgbackrest", "--stanza=main", "stanza-create")
        yield server
    finally:
        server.remove()
        docker("volume", "rm", "--force", volume)


def segment(server):
    """Write a segment of the log; return its name and its file in the repository."""
    name = server.sql("SELECT pg_walfile_name(pg_create_restore_point('here'))")
    server.sql("SELECT pg_switch_wal()")
    return name, until(lambda: server.run("find", ARCHIVE, "-name", f"{name}-*.lz4").stdout.strip())


def wal_get(server, name):
    """Ask for a segment as a recovering server would; return the finished process."""
    return server.run("wal-get", name, "/tmp/got", check=False)


def test_wal_get_gives_what_was_archived_and_says_when_there_is_no_more(archive):
    name, stored = segment(archive)
    assert archive.run("head", "--bytes=8", stored).stdout == "Salted__"  # it is encrypted
    assert wal_get(archive, name).returncode == 0
    archive.run("cmp", f"/var/lib/postgresql/data/pgdata/pg_wal/{name}", "/tmp/got")
    for name in ("0000000100000000000000EE", "00000009.history"):
        assert wal_get(archive, name).returncode == 1


FLIP = r"""flip() {
    byte=$(od -An -tu1 -j"$1" -N1 "$0")
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$0" bs=1 seek="$1" conv=notrunc status=none
}
size=$(stat -c %s "$0")
"""


@pytest.mark.parametrize(
    "damage",
    [
        *("flip 3", "flip 20", "flip $((size / 2))", "flip $((size - 1))"),
        *("truncate -s -1 $0", "truncate -s $((size / 2)) $0", "truncate -s 0 $0", "chmod 0 $0"),
    ],
)
def test_wal_get_stops_the_server_at_a_damaged_segment(archive, damage):
    name, stored = segment(archive)
    archive.run("sh", "-euc", FLIP + damage, stored)
    answer = wal_get(archive, name)
    assert answer.returncode == 200
    assert f"wal-get: {name} could not be read from the archive" in answer.stderr


@pytest.mark.parametrize(
    ("spoil", "mend"), [("chmod 0 $0", "chmod 700 $0"), ("mv $0 $0.away", "mv $0.away $0")]
)
def test_wal_get_stops_the_server_at_an_unreadable_repository(archive, spoil, mend):
    name, _ = segment(archive)
    archive.run("sh", "-euc", spoil, ARCHIVE)
    codes = [wal_get(archive, name).returncode]
    archive.run("sh", "-euc", mend, ARCHIVE)
    assert [*codes, wal_get(archive, name).returncode] == [200, 0]
