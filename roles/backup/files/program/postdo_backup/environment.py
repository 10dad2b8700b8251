"""What this environment is: its names, its repository, its rules; and how its database is asked."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from postdo_host import Failure, lock


class Environment:
    """One environment, as the role `backup` described it in a JSON file (see its template)."""

    def __init__(self, path: Path) -> None:
        try:
            self._take(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failure(
                f"{path} can't be read ({error!r}). Run ./run.sh, which writes it."
            ) from None

    def _take(self, facts: dict) -> None:
        """Take over what the file says."""
        self.prefix: str = facts["prefix"]
        self.call: str = f"./run.sh {facts['inventory']}"
        self.enabled: bool = facts["enabled"]
        self.image: str = facts["image"]
        self.database: dict[str, str] = facts["database"]
        self.media_volume: str = facts["media_volume"]
        # A volume, a directory of the host, or empty: elsewhere.
        self.repository: str = facts["repository"]
        self.media_repository: list[str] = facts["media_repository"]
        self.edge: str = facts["edge"]
        self.secrets = Path(facts["secrets"])
        self.state = Path(facts["state"])
        # Of the users in the image, whose groups have the same numbers: database, and application, whose the uploads are.
        # A file of an earlier day, which pull may read, does not say them.
        self.uids: dict[str, int] = facts.get("uids", {"database": 15432, "application": 18000})
        self.application = f"{self.uids['application']}:{self.uids['application']}"
        self.copy_memory: int = facts["copy_memory_mib"] * 1024**2
        self.inspect_port: int = facts["inspect_port"]
        self.recovery_point: int = facts["recovery_point"]
        self.weekday: int = facts["weekday"]
        self.hour: int = facts["hour"]
        self.keep_full: int = facts["keep_full"]
        self.keep_days: int = facts["keep_days"]
        self.alert_command: str = facts["alert_command"]
        self.overdue: float = facts["overdue_hours"] * 3600
        self.drill_overdue: float = facts["drill_overdue_days"] * 24 * 3600
        self.timers: list[str] = facts["timers"]
        self.container = f"{self.prefix}-db"
        self.volume = f"{self.prefix}-db-data"

    def repository_mount(self, *, writable: bool) -> list[str]:
        """Return docker's arguments that show a container the repository and its configuration, if there is one."""
        if not self.enabled:
            return []
        mounts = ["--volume", f"{self.secrets}/backup:/etc/pgbackrest:ro"]
        if self.repository:
            mounts += ["--volume", f"{self.repository}:/srv/backup{'' if writable else ':ro'}"]
        return mounts

    @property
    def repository_network(self) -> str:
        """Return the network from which a container reaches the repository."""
        return "none" if self.repository else self.edge

    @property
    def web(self) -> str:
        """Return the container that serves: the present release's, where there are releases."""
        current = self.state / "releases/current"
        return f"{self.prefix}-web{f'-{current.readlink()}' if current.is_symlink() else ''}"

    def lock(
        self, name: str, wait: float = 0, by: str = ""
    ) -> contextlib.AbstractContextManager[str]:
        """Hold one of the environment's locks; raises Busy after `wait` seconds, saying who has it."""
        return lock(self.state, name, wait, by)
