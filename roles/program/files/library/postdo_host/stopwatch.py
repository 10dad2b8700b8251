"""How long the steps of an operation take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """A stopwatch with named steps, in seconds; a step that comes again goes on."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside, however it ends."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = round(self.steps.get(name, 0) + time.monotonic() - begun, 2)

    def __str__(self) -> str:
        total = f"{sum(self.steps.values()):.1f} s"
        return f"{total} ({', '.join(f'{k} {v:.1f}' for k, v in self.steps.items())})"
