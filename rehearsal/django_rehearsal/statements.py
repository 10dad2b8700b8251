"""The statements that a migration sends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_DIFFERENT = 200  # that are told of one migration
_LENGTH = 4000  # characters of each
_OURS = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")
_DROPS = re.compile(r"\bDROP\b", re.IGNORECASE)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def without_comments(sql: str) -> str:
    """Return SQL without its comments, to see what it begins with."""
    return _COMMENT.sub("", sql).strip()


class Statements:
    """Each statement of a connection, how often it was sent and for how many seconds in all.

    `longest` is how many seconds one took. For Django's `connection.execute_wrapper`.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self.longest = self._paused = 0.0
        # Whole, each that drops something.
        self.drops: list[str] = []
        # Before the first there is no pause.
        self._ended = float("inf")

    def __call__(
        self, execute: Callable, sql: object, params: object, many: bool, context: dict
    ) -> object:
        """Send a statement and note it."""
        begun, text = time.monotonic(), str(sql)
        self._paused = self.longest_pause
        try:
            return execute(sql, params, many, context)
        finally:
            self._ended = time.monotonic()
            self._note(text[:_LENGTH], self._ended - begun)
            if _DROPS.search(text) and text not in self.drops:
                self.drops.append(text)

    def _note(self, sql: str, took: float) -> None:
        if sql.startswith(_OURS):
            return
        self.longest = max(self.longest, took)
        if sql in self._seen or len(self._seen) < _DIFFERENT:
            count, seconds = self._seen.get(sql, (0, 0.0))
            self._seen[sql] = (count + 1, seconds + took)

    @property
    def longest_pause(self) -> float:
        """Return the longest time between two statements, or since the last one."""
        return max(self._paused, time.monotonic() - self._ended)

    def as_list(self) -> list[dict]:
        """Return them in the order of their first use, without the values that they were sent with."""
        return [
            {"sql": sql, "count": count, "seconds": round(seconds, 3)}
            for sql, (count, seconds) in self._seen.items()
        ]
