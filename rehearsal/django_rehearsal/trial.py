"""The rehearsal itself: one migration after the other on a copy, each measured, taken back and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TypeVar

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.state import ProjectState

from . import catalog, contents, executor, failures, health, leftovers, relations
from .history import name_of
from .locks import BLOCKS, Held, Sampler
from .outside import Outside
from .policy import AFTERWARDS
from .statements import Statements

_GAUGES = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, pg_database_size(current_database())
"""
# The tables in which the present transaction wrote rows.
_WRITTEN = """
SELECT relid::regclass::text FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
"""


@dataclass(frozen=True)
class _Before:
    """What there was before a migration; and the tables, by their names before and after, that it touched."""

    schema: catalog.Catalog
    held: contents.Contents
    touched: set[str]


_State = TypeVar("_State")
_BRIEF = 1.0  # seconds that need no telling


class Stopped(Exception):
    """A migration failed; what is known of it has been told."""


class Trial:
    """A rehearsal of all migrations that the copy lacks.

    `tell` is called with what was found out about each migration. `interrupted` names one that an earlier run
    on the live database was cut off in.
    """

    def __init__(
        self, connection: BaseDatabaseWrapper, tell: Callable[[dict], None], interrupted: str = ""
    ) -> None:
        self._connection = connection
        self._tell = tell
        self._interrupted = interrupted
        self._outside = Outside(connection.settings_dict["HOST"])
        self._schema = catalog.read(connection)
        self._relations: dict[int, relations.Relation] = {}
        self._drops: list[str] = []
        self._held = contents.read(connection)
        self._ailing = self._ailments()
        self._invalid = set(relations.invalid_indexes(connection))

    def run(self) -> catalog.Catalog:
        """Rehearse, and return the schema at the end; raises Stopped at the first migration that fails."""
        self._relations = relations.read(self._connection)
        executor.migrate(self._step, self._afterwards)
        return self._schema

    def _step(
        self,
        migration: Migration,
        apply: Callable[[], ProjectState],
        take_back: Callable[[], ProjectState],
    ) -> ProjectState:
        found: dict = {
            "migration": name_of(migration),
            "atomic": migration.atomic,
            "operations": [operation.describe() for operation in migration.operations],
            "runs_code": executor.runs_code(migration),
            "resumable": migration.atomic or leftovers.can_be_resumed(migration),
        }
        found["leftovers"] = leftovers.clear(
            migration, self._connection, interrupted=found["migration"] == self._interrupted
        )
        state = self._done(apply, found, atomic=migration.atomic)
        before = self._compare(found)
        found["reversal"] = self._reversal(migration, take_back, before, found["seconds"])
        self._finish(found)
        self._tell(found)
        # What was tried and undone since then is counted by the server too, and is not the next migration's.
        self._relations = relations.read(self._connection)
        return state

    def _afterwards(self, send: Callable[[], None]) -> None:
        """Let the signal at the end be sent, and tell what that did if a verdict is about anything of it."""
        found: dict = {
            "migration": AFTERWARDS,
            "atomic": False,
            "operations": [],
            "runs_code": True,
            "resumable": True,
            "leftovers": [],
            "reversal": {"class": "untried", "why": "it is no migration"},
        }
        self._done(send, found, atomic=False)
        before = self._compare(found)
        self._finish(found)
        told = any(found[name] for name in ("changes", "dropped", "ailments", "mails", "calls"))
        if told or before.schema != self._schema or found["seconds"] > _BRIEF:
            self._tell(found)

    def _done(self, apply: Callable[[], _State], found: dict, *, atomic: bool) -> _State:
        """Do something and note what that cost; tell why it fails, and raise Stopped."""
        before = relations.read(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (begun,) = cursor.fetchone()
        try:
            state = self._measured(apply, found, before, atomic=atomic)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            found["error"] = failures.words(error)
            found["culprits"] = failures.culprits(error, self._connection)
            found["left"] = []
            if not atomic:
                after = relations.read(self._connection)
                found["left"] = sorted(relations.differing(before, after))
            self._tell(found)
            raise Stopped from error
        # What it has set in its session (where names are looked for, in which time zone) is not the next one's.
        relations.flush(self._connection)
        self._connection.close()
        relations.end_sessions(self._connection, begun)
        return state

    def _measured(
        self,
        apply: Callable[[], _State],
        found: dict,
        before: dict[int, relations.Relation],
        *,
        atomic: bool,
    ) -> _State:
        """Do something and note what that cost."""
        connection, statements = self._connection, Statements()
        wal, size = self._gauges()
        self._outside.taken()
        sampler = Sampler(connection)
        begun = time.monotonic()
        try:
            with sampler, transaction.atomic() if atomic else nullcontext():
                with connection.execute_wrapper(statements):
                    state = apply()
                if atomic:
                    sampler.see_own(connection)
        finally:
            found["seconds"] = round(time.monotonic() - begun, 3)
            found["statements"] = statements.as_list()
            found["longest_statement"] = round(statements.longest, 3)
            found["longest_pause"] = round(statements.longest_pause, 3)
            self._drops = statements.drops
            found["locks"] = [
                _lock(one, before, found["seconds"])
                for one in sampler.held
                if one.relation in before
            ]
            found["mails"], found["calls"] = self._outside.taken()
        if sampler.problem:
            # Locks that nobody watched may have been there.
            raise Error(f"its locks could not be watched: {sampler.problem}")
        wal_now, size_now = self._gauges()
        found |= {"wal": wal_now - wal, "growth": size_now - size}
        return state

    def _ailments(self) -> dict[tuple[str, str], health.Ailment]:
        """Return what is wrong with the database now, by what and where."""
        return {(one.kind, one.where): one for one in health.examine(self._connection, copy=True)}

    def _gauges(self) -> tuple[int, int]:
        """Return the position of the log and the size of the database, in bytes."""
        with self._connection.cursor() as cursor:
            cursor.execute(_GAUGES)
            return cursor.fetchone()

    def _compare(self, found: dict) -> _Before:
        """Note what became of the tables since this was last called; return what there was then."""
        before, after = self._relations, relations.read(self._connection)
        touched = relations.differing(before, after)
        schema = catalog.read(self._connection)
        held, now = self._held, self._held_now(touched, since=self._held)
        found["rewritten"] = [
            {"table": after[oid].name, "bytes": after[oid].size}
            for oid in before.keys() & after.keys()
            if before[oid].file != after[oid].file
        ]
        found["tables"] = [
            {
                "table": after[oid].name,
                "bytes": [before[oid].size, after[oid].size],
                "rows": [held[before[oid].name].rows, now[after[oid].name].rows],
                "written": after[oid].touched - before[oid].touched,
            }
            for oid in before.keys() & after.keys()
            if {before[oid].name, after[oid].name} & touched
            and before[oid].name in held
            and after[oid].name in now
        ]
        deleted = {
            before[oid].name: after[oid].deleted - before[oid].deleted
            for oid in before.keys() & after.keys()
        }
        names = {before[oid].name: after[oid].name for oid in before.keys() & after.keys()}
        changes = contents.compare(held, now, deleted, names)
        changes += contents.behind_views(self._connection, held, schema)
        changes += [
            contents.Change("unlogged", name, now[name].rows)
            for name in sorted(now)
            if "unlogged" in catalog.new_words(f"table {name}", self._schema, schema)
        ]
        found["changes"] = [asdict(change) for change in changes]
        found["dropped"] = catalog.unnamed(self._schema, schema, self._drops)
        was = _Before(self._schema, self._held, touched)
        self._schema, self._held = schema, now
        return was

    def _held_now(
        self, touched: Iterable[str], since: contents.Contents | None = None
    ) -> contents.Contents:
        """Return what all tables hold, of which only those touched are read; with their rows of before apart."""
        rest = {table: one for table, one in self._held.items() if table not in touched}
        return rest | contents.read(self._connection, touched, since)

    def _finish(self, found: dict) -> None:
        """Note what is wrong with the database now and was not before."""
        ailing = self._ailments()
        found["ailments"] = [
            asdict(one) for place, one in ailing.items() if place not in self._ailing
        ]
        invalid = set(relations.invalid_indexes(self._connection))
        found["invalid_indexes"] = sorted(invalid - self._invalid)
        self._ailing, self._invalid = ailing, invalid

    def _reversal(
        self,
        migration: Migration,
        take_back: Callable[[], ProjectState],
        before: _Before,
        seconds: float,
    ) -> dict:
        """Return what taking a migration back would do: found out by doing it, which is then undone.

        `before` is what there was before it, `seconds` how long it took itself.
        """
        fixed = [one.describe() for one in executor.steps_of(migration) if not one.reversible]
        if fixed:
            return {"class": "irreversible", "why": "; ".join(fixed)}
        if not migration.atomic:
            why = "it is no transaction, so trying it would leave traces"
            return {"class": "untried", "why": why}
        connection = self._connection
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL statement_timeout = '{30 + 5 * seconds:.0f}s'")
                take_back()
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL statement_timeout = 0; SET CONSTRAINTS ALL IMMEDIATE")
                    cursor.execute(_WRITTEN)
                    written = {table for (table,) in cursor.fetchall()}
                changes = contents.compare(before.held, self._held_now(written | before.touched))
                schema = catalog.read(connection)
                transaction.set_rollback(True)
        except Exception as error:  # noqa: BLE001 - a project's reverse may raise anything, and that is the answer
            kind = "irreversible" if isinstance(error, IrreversibleError) else "failed"
            return {"class": kind, "why": failures.words(error)}
        finally:
            self._outside.taken()
        other = sorted(
            key
            for key in schema.keys() | before.schema.keys()
            if schema.get(key) != before.schema.get(key)
        )
        lossy = [
            f"{change.where}: {change.kind} {change.count}"
            for change in changes
            if change.kind != "filled"
        ]
        kind = "lossy" if lossy else "inexact" if other else "lossless"
        return {
            "class": kind,
            "why": "; ".join([*lossy, *(f"{key} is not as it was" for key in other)]),
        }


def _lock(held: Held, before: dict[int, relations.Relation], whole: float) -> dict:
    """Return a lock as it is told: on which table, of what size in bytes, and what it keeps others from.

    It lasts no longer than the migration, whose `whole` seconds are known better than to a twentieth.
    """
    relation = before[held.relation]
    return {
        "table": relation.name,
        "bytes": relation.size,
        "mode": held.mode,
        "blocks": BLOCKS.get(held.mode, ""),
        "since": held.since,
        "seconds": min(held.seconds, whole),
    }
