"""An environment of a benchmark's own: production as the inventory says it, with other names, beside whatever else runs."""

from __future__ import annotations

import json
import re
import shutil

from leftovers import end_processes, objects, remove_objects
from tools import PROJECT, run, say


class Own:
    """One environment, postdo-NAME, described in .cache/bench-NAME."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.prefix = f"postdo-{name}"
        self.directory = PROJECT / f".cache/bench-{name}"
        self.inventory = self.directory / f"inventories/{name}"

    def write(self) -> None:
        """Make the inventory: no timers, and an address of its own."""
        changes = {
            "stack_name": "postdo",
            "stack_environment": self.name,
            "proxy_domain": '""',
            "proxy_http_port": self.port,
            "boot_enabled": "false",
            "backup_enabled": "true",
            "backup_repository": "volume",
            "backup_alert_command": '""',
            "backup_calendar": "yearly",
            "backup_drill_calendar": "yearly",
        }
        shutil.rmtree(self.directory, ignore_errors=True)
        ignored = shutil.ignore_patterns("secrets", "vault.yml")
        shutil.copytree(PROJECT / "inventories/prod", self.inventory, ignore=ignored)
        path = self.inventory / "group_vars/all/main.yml"
        text = path.read_text(encoding="utf-8")
        for key, value in changes.items():
            text = re.sub(rf"^{key}:.*\n", "", text, flags=re.MULTILINE) + f"{key}: {value}\n"
        path.write_text(text, encoding="utf-8")

    def playbook(self, book: str, *words: str, **variables: object) -> str:
        """Run one of the project's playbooks for the environment; return what it said."""
        command = (PROJECT / ".venv/bin/ansible-playbook", book, "-i", self.inventory, *words)
        return run(*command, "-e", json.dumps(variables))

    def clean(self) -> None:
        """Remove everything that was made."""
        say("removing everything again")
        end_processes()
        self.write()
        sure = {"teardown_data": True, "teardown_backups": True, "teardown_confirm": self.prefix}
        try:
            self.playbook("playbooks/teardown.yml", **sure)
        except RuntimeError as problem:
            say(str(problem))
        remove_objects(f"{self.prefix}-")
        shutil.rmtree(self.directory)
        if left := self.leftovers():
            say(f"not removed: {' '.join(left)}")

    def leftovers(self) -> list[str]:
        """Return the names of what bears our name."""
        return [name for names in objects(f"{self.prefix}-").values() for name in names]
