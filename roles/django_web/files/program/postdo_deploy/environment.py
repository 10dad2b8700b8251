"""What this environment is, and how its rules for a deploy read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

from postdo_host import Failure, lock


class Front(NamedTuple):
    """Where a visitor on this host finds the site: an address, a port, whether it speaks TLS, the site's name, a path."""

    address: str
    port: int
    tls: bool
    name: str
    path: str


class Environment:
    """One environment, as the role `django_web` described it in a JSON file."""

    def __init__(self, path: Path) -> None:
        try:
            facts = json.loads(path.read_text())
            self.prefix: str = facts["prefix"]
            self.call: str = f"./run.sh {facts['inventory']}"
            self.state = Path(facts["state"])
            self.start_timeout: int = facts["start_timeout"]
            self.watch_time: int = facts["watch_time"]
            self.keep: int = facts["keep_releases"]
            self.front = Front(**facts["front"]) if facts["front"] else None
            self.secrets = Path(facts["secrets"])
            self.database: dict[str, str] = facts["database"]
            self.requests: list[dict] = facts["requests"]
            self.step_timeout: int = facts["step_timeout"]
            # The address visitors use, and what they are known to ask for.
            self.url: str = facts["url"]
            self.watch_paths: list[str] = facts["watch_paths"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failure(
                f"{path} can't be read ({error!r}). Run ./run.sh, which writes it."
            ) from None
        # The program that keeps the backups makes the copies too.
        self.backup = f"/usr/local/sbin/{self.prefix}-backup"
        self.releases = self.state / "releases"
        self.history = self.state / "deploys.jsonl"
        self.underway = self.releases / "underway.json"
        self.maintenance = self.releases / "maintenance"

    def lock(self, by: str) -> contextlib.AbstractContextManager[str]:
        """Let one deploy or rollback at a time work here; raises Busy, saying whose it is and since when."""
        return lock(self.state, "deploy", by=by)
