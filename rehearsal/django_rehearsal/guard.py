"""Limits that a migration can't lift: they are kept from another session, which ends what goes beyond them."""

from __future__ import annotations

from django.db.backends.utils import CursorWrapper

_GRACE = 1.0  # seconds that the server's own limits have to act before

# What a server process does and for how long, whether it waits for a lock itself, and how long somebody has already
# waited for one behind it. Vacuums that nobody asked for are nobody.
_STATE = """
SELECT a.state, extract(epoch FROM clock_timestamp() - a.query_start)::float,
       extract(epoch FROM clock_timestamp() - a.state_change)::float,
       EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted),
       (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float
        FROM pg_locks l JOIN pg_stat_activity o USING (pid)
        WHERE NOT l.granted AND o.backend_type IS DISTINCT FROM 'autovacuum worker'
          AND a.pid = ANY (pg_blocking_pids(l.pid)))
FROM pg_stat_activity a WHERE a.pid = %s
"""


class Guard:
    """Ends what a session does that keeps others waiting while it waits itself, or that takes too long.

    `behind` is how many seconds others may wait behind it, `statement` how many a statement, or a pause within a
    transaction, may take; 0 is for ever. `ended` says why something was ended, empty if nothing was; `gave_way` that it
    was for others and can be tried again.
    """

    def __init__(self) -> None:
        self.behind = self.statement = 0.0
        self.begin()

    def begin(self) -> None:
        """Forget what was ended, for another attempt."""
        self.ended, self.gave_way = "", False

    def look(self, cursor: CursorWrapper, pid: int) -> None:
        """Look once at the server process of the session, from another one."""
        cursor.execute(_STATE, [pid])
        for state, taken, paused, waits, behind in cursor.fetchall():
            limit = self.statement + _GRACE if self.statement else float("inf")
            if waits and self.behind and behind > self.behind:
                self.gave_way = True
                self._end(
                    cursor, "cancel", pid, f"others waited {behind:.1f} s behind it for a lock"
                )
            elif state == "active" and taken > limit:
                self._end(
                    cursor, "cancel", pid, f"a statement took longer than {self.statement:.0f} s"
                )
            elif (state or "").startswith("idle in transaction") and paused > limit:
                said = f"it did nothing for {self.statement:.0f} s and kept its locks"
                self._end(cursor, "terminate", pid, said)

    def _end(self, cursor: CursorWrapper, how: str, pid: int, why: str) -> None:
        self.ended = why
        cursor.execute(f"SELECT pg_{how}_backend(%s)", [pid])
