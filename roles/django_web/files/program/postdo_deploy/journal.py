"""What is known of a database's migrations from one deploy to the next."""

from __future__ import annotations

import json
import time
from pathlib import Path

from postdo_host.files import write_whole

from .environment import Environment
from .releases import Release


class Journal:
    """How the last deploy left this database, and which migration is under way."""

    def __init__(self, environment: Environment) -> None:
        self._recorded = environment.state / "migrations.json"
        self._underway = environment.state / "migrating.json"
        self.last: dict = self._read(self._recorded)

    @property
    def interrupted(self) -> str:
        """Return the migration that a run was cut off in; empty if there is none."""
        return self._read(self._underway).get("begun", "")

    def left(self, look: dict) -> bool:
        """Return whether schema, record and files are as the last deploy left them."""
        return all(self.last.get(name) == look[name] for name in ("catalog", "files"))

    def begun(self, migration: str) -> None:
        """Remember that a migration is begun: cut off or failed, it may leave what the next run must know of."""
        write_whole(self._underway, json.dumps({"begun": migration}))

    def applied(self) -> None:
        """Remember that it was applied."""
        self._underway.unlink(missing_ok=True)

    def record(self, release: Release, look: dict) -> None:
        """Remember how the database is now."""
        known = {"release": release.name, "at": time.time()}
        known |= {name: look[name] for name in ("files", "catalog")}
        write_whole(self._recorded, json.dumps(known))
        self.last = self._read(self._recorded)
        self.applied()

    @staticmethod
    def _read(path: Path) -> dict:
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            # None yet, or one that a full disk cut off: what it said is found out again.
            return {}
