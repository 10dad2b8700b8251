"""Who holds which locks on tables, looked at again and again from a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

INTERVAL = 0.05  # seconds between two looks

# What a lock of each mode keeps others from; the modes left out keep nobody from reads or writes.
BLOCKS = {
    "AccessExclusiveLock": "reads and writes",
    "ExclusiveLock": "writes",
    "ShareRowExclusiveLock": "writes",
    "ShareLock": "writes",
}

_HELD = """
SELECT c.oid::bigint, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = %s AND l.granted AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm')
"""
_BLOCKERS = """
SELECT a.pid, coalesce(a.usename, 'the server itself'),
       coalesce(nullif(a.application_name, ''), a.backend_type), a.state,
       round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1)::float
FROM unnest(pg_blocking_pids(%s)) AS b(pid) JOIN pg_stat_activity a USING (pid)
"""


@dataclass
class Held:
    """A lock on a table: its mode, when it was first seen and for how long, both in seconds."""

    relation: int
    mode: str
    since: float
    seconds: float


class Sampler:
    """Looks every 50 ms at what a server process holds, and at whom it waits for; use it with `with`.

    A lock that comes and goes between two looks is not seen, so `seconds` is true to a twentieth. Of one that was held
    several times, it is the longest. At each look `also` is called with a cursor of its session and the process looked at.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        also: Callable[[CursorWrapper, int], None] = lambda *_: None,
    ) -> None:
        connection.ensure_connection()
        self._connection = connection
        self._also = also
        self._begins = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._held: dict[tuple[int, str], Held] = {}
        # Those of the last look, with when they were first seen without a break.
        self._seen: dict[tuple[int, str], float] = {}
        self.blockers: list[str] = []
        self.problem = ""

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._thread.start()
        self._begins.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def held(self) -> list[Held]:
        """Return the locks that were seen."""
        return list(self._held.values())

    def see_own(self, connection: BaseDatabaseWrapper) -> None:
        """Look once more, from the connection itself: at its transaction's end it has all its locks."""
        with connection.cursor() as cursor:
            cursor.execute(_HELD, [self._pid()])
            self._see(cursor.fetchall())

    def _pid(self) -> int:
        """Return the server process of the connection, which may have been opened anew; 0 if it is closed."""
        try:
            return self._connection.connection.info.backend_pid
        except Exception:  # noqa: BLE001 - the other thread may close it at this moment, and each driver says so otherwise
            return 0

    def _look(self) -> None:
        # A thread has a connection of its own in Django.
        connection = connections[DEFAULT_DB_ALIAS]
        try:
            with connection.cursor() as cursor:
                while not self._over.is_set():
                    pid = self._pid()
                    cursor.execute(_HELD, [pid])
                    self._see(cursor.fetchall())
                    cursor.execute(_BLOCKERS, [pid])
                    for blocker in cursor.fetchall():
                        self._blocked_by(*blocker)
                    self._also(cursor, pid)
                    self._begins.set()
                    self._over.wait(INTERVAL)
        except Error as error:
            self.problem = " ".join(str(error).split())
        finally:
            self._begins.set()
            connection.close()

    def _see(self, rows: list[tuple[int, str]]) -> None:
        now = time.monotonic() - self._begun
        self._seen = {lock: self._seen.get(lock, now) for lock in rows}
        for lock, since in self._seen.items():
            seconds = round(now - since + INTERVAL, 3)
            if lock not in self._held or seconds > self._held[lock].seconds:
                self._held[lock] = Held(*lock, round(since, 3), seconds)

    def _blocked_by(
        self, pid: int, role: str, program: str, state: str | None, age: float | None
    ) -> None:
        # Of another role's sessions PostgreSQL tells no more than that they are there.
        known = ", ".join(filter(None, (program, state)))
        said = f"process {pid} of {role}" + (f" ({known}" if known else "")
        if not any(one.startswith(said) for one in self.blockers):
            began = f", its transaction begun {age:.0f} s ago" if age is not None else ""
            self.blockers.append(f"{said}{began})" if known else said)
