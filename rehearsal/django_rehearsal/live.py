"""The live database: the same migrations, with little patience for locks and a limit for each statement.

The server is told these limits, and a second session keeps them where a migration has told it others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState

from . import executor, failures, leftovers
from .guard import Guard
from .history import name_of
from .locks import Sampler
from .policy import AFTERWARDS
from .statements import without_comments
from .trial import Stopped

# Any number: whoever migrates this database holds a lock of it.
_ADVISORY = 7_022_431_950
_AGAIN = (failures.LOCK_NOT_AVAILABLE, failures.DEADLOCK)
# Waits for older transactions by design, and keeps nobody else waiting.
_CONCURRENT = re.compile(
    r"\s*(CREATE|DROP|REINDEX|REFRESH|ALTER)\b[^;]*\bCONCURRENTLY\b", re.IGNORECASE
)
# One statement that waits for no more than rows, where only those queue who want the same rows; unless it calls a
# function that does more.
_HARMLESS = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|SET|RESET|SAVEPOINT|RELEASE|ROLLBACK)\b[^;]*;?\s*",
    re.IGNORECASE,
)


_Result = TypeVar("_Result")


class Busy(Exception):
    """Somebody else migrates this database at this moment."""


@dataclass
class Limits:
    """How long a migration may keep others waiting, all in seconds.

    `lock` is how long one attempt to lock a table may queue, for whoever comes behind waits with it; `patience`
    how long attempts are repeated. `statements` has a limit for each migration's single statements.
    """

    lock: float = 0.5
    patience: float = 30.0
    statements: dict[str, float] = field(default_factory=dict)


class Live:
    """Applies all migrations that the database lacks; `tell` is called before and after each."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        tell: Callable[[dict], None],
        limits: Limits,
        interrupted: str = "",
    ) -> None:
        self._connection = connection
        self._tell = tell
        self._limits = limits
        self._interrupted = interrupted
        # How many seconds a lock and a statement may take at the moment; what is sent before the first migration is no
        # migration, and has no second try.
        self._lock, self._statement = limits.lock, 0.0
        self._guard = Guard()

    def run(self) -> None:
        """Migrate; raises Busy where somebody else does, and Stopped at the first migration that fails."""
        # In a session of its own: that of the migrations is closed after each.
        with closing(self._connection.copy()) as guard:
            with guard.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [_ADVISORY])
                if not cursor.fetchone()[0]:
                    raise Busy
            connection_created.connect(self._limit, weak=False)
            executor.migrate(self._step, self._afterwards)

    def _limit(self, connection: BaseDatabaseWrapper, **_: object) -> None:
        """Tell the server how long a lock and a statement may take."""
        if connection.alias == DEFAULT_DB_ALIAS:
            with connection.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = {round(self._statement * 1000)}")
            self._set_lock(connection, self._lock)

    def _set_lock(self, connection: BaseDatabaseWrapper, seconds: float) -> None:
        """Tell the server how long a lock may take; 0 is for ever."""
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {round(seconds * 1000)}")

    def _step(
        self,
        migration: Migration,
        apply: Callable[[], ProjectState],
        take_back: Callable[[], ProjectState],
    ) -> ProjectState:
        name = name_of(migration)
        self._tell({"begin": name})

        def act() -> tuple[ProjectState, list[str]]:
            # Such an index is dropped as it is built: that waits for others, and keeps nobody waiting.
            self._allow(0.0, self._limits.patience)
            dropped = leftovers.clear(
                migration, self._connection, interrupted=name == self._interrupted
            )
            self._allow(
                self._limits.lock if migration.atomic else self._limits.patience,
                self._limits.statements.get(name, 0.0),
            )
            with transaction.atomic() if migration.atomic else self._patiently():
                return apply(), dropped

        (state, dropped), cost = self._attempt(name, act, again=migration.atomic)
        # What it has set in its session is not the next one's.
        self._connection.close()
        self._tell({"applied": name, **cost, "leftovers": dropped})
        return state

    def _afterwards(self, send: Callable[[], None]) -> None:
        """Let the signal at the end be sent, again where that fails for want of a lock: receivers know it more than once."""

        def act() -> None:
            self._allow(self._limits.lock, self._limits.statements.get(AFTERWARDS, 0.0))
            send()

        self._attempt(AFTERWARDS, act, again=True)

    def _attempt(
        self, name: str, act: Callable[[], _Result], *, again: bool
    ) -> tuple[_Result, dict[str, float]]:
        """Do something, watched by the second session, and with `again` repeat it as long as it does not get its lock.

        Return what it returned, and what it took; raises Stopped where it fails.
        """
        begun, attempts = time.monotonic(), 0
        while True:
            attempts += 1
            self._guard.begin()
            sampler, began = Sampler(self._connection, self._guard.look), time.monotonic()
            try:
                with sampler:
                    if sampler.problem:
                        raise Error(f"it could not be watched: {sampler.problem}")
                    done = act()
                cost = {
                    "seconds": round(time.monotonic() - began, 3),
                    "attempts": attempts,
                    "waited": round(began - begun, 1),
                }
                return done, cost
            except Exception as error:
                late = time.monotonic() - begun + self._pause(attempts) > self._limits.patience
                if late or not again or not self._may_pass(error):
                    self._tell(
                        {
                            "failed": name,
                            "why": self._guard.ended or failures.words(error),
                            "culprits": failures.culprits(error, self._connection),
                            "attempts": attempts,
                            "blockers": sampler.blockers,
                        }
                    )
                    raise Stopped from error
            time.sleep(self._pause(attempts))

    def _allow(self, lock: float, statement: float) -> None:
        """Let a lock and a statement take so many seconds from now on; 0 is for ever."""
        self._lock, self._statement = lock, statement
        # What is built concurrently, for which there is no limit here, keeps nobody waiting.
        self._guard.behind, self._guard.statement = self._limits.lock if lock else 0.0, statement
        self._limit(self._connection)

    def _may_pass(self, error: Exception) -> bool:
        """Return whether another attempt may succeed: the lock was not to be had at this moment."""
        return self._guard.gave_way or failures.sqlstate(error) in _AGAIN

    def _pause(self, attempts: int) -> float:
        """Return how many seconds others have the table to themselves before the next attempt."""
        return min(0.5 * attempts, 3.0)

    @contextmanager
    def _lock_for(self, seconds: float) -> Iterator[None]:
        """Let a lock take so long for a while."""
        self._set_lock(self._connection, seconds)
        self._guard.behind = self._limits.lock if seconds else 0.0
        try:
            yield
        except DatabaseError:
            # A transaction that fails takes back what was set in it, and nothing else can be said in it. Why it failed is
            # what matters.
            if not self._connection.in_atomic_block:
                with suppress(Error):
                    self._set_lock(self._connection, self._lock)
            raise
        finally:
            self._guard.behind = self._limits.lock
        self._set_lock(self._connection, self._lock)

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        """Repeat a statement that did not get its lock, where a migration is no transaction as a whole."""

        def attempt(
            execute: Callable, sql: object, params: object, many: bool, context: dict
        ) -> object:
            text = without_comments(str(sql))
            lock = 0.0 if _CONCURRENT.match(text) else self._limits.lock
            harmless = _HARMLESS.fullmatch(text)
            attempts, deadline = 0, time.monotonic() + self._limits.patience
            while True:
                attempts += 1
                try:
                    with nullcontext() if harmless else self._lock_for(lock):
                        return execute(sql, params, many, context)
                except DatabaseError as error:
                    late = time.monotonic() + self._pause(attempts) > deadline
                    inside = self._connection.in_atomic_block
                    if late or inside or not self._may_pass(error):
                        raise
                self._guard.begin()
                time.sleep(self._pause(attempts))

        with self._connection.execute_wrapper(attempt):
            yield
