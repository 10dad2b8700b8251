"""The environment that bench/recovery measures, and a second server beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

from floors import arguments, healthy, inspect
from leftovers import end_processes, objects, remove_objects
from tools import PROJECT, docker, run, say

PREFIX = "postdo-recovery"
LIVE, SCRATCH = f"{PREFIX}-db", f"{PREFIX}-scratch"
DIRECTORY = PROJECT / ".cache/bench-recovery"
INVENTORY = DIRECTORY / "inventories/recovery"
FACTS = Path("/etc/postdo/recovery/backup.json")
# What production's inventory says is changed so far: other names, another port, and no timers.
CHANGES = {
    "stack.yml": {"stack_name": "postdo", "stack_environment": "recovery"},
    "proxy.yml": {"proxy_http_port": 8380},
    "boot.yml": {"boot_enabled": "false"},
    "backup.yml": {
        "backup_enabled": "true",
        "backup_repository": "volume",
        "backup_alert_command": '""',
        "backup_calendar": "yearly",
        "backup_drill_calendar": "yearly",
    },
}


def write_inventory() -> None:
    """Make the inventory: production's, with other names."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    ignored = shutil.ignore_patterns("secrets", "vault.yml")
    shutil.copytree(PROJECT / "inventories/prod", INVENTORY, ignore=ignored)
    for name, changes in CHANGES.items():
        path = INVENTORY / "group_vars/all" / name
        text = path.read_text(encoding="utf-8")
        for key, value in changes.items():
            text = re.sub(rf"^{key}:.*\n", "", text, flags=re.MULTILINE) + f"{key}: {value}\n"
        path.write_text(text, encoding="utf-8")


def playbook(book: str, **variables: object) -> None:
    """Run one of the project's playbooks for the environment."""
    run(
        *(PROJECT / ".venv/bin/ansible-playbook", book, "-i", INVENTORY),
        *("-e", json.dumps(variables)),
    )


def clean() -> None:
    """Remove everything that this program made."""
    say("removing everything again")
    end_processes()
    write_inventory()
    remove_objects(SCRATCH)
    sure = {"teardown_data": True, "teardown_backups": True, "teardown_confirm": PREFIX}
    try:
        playbook("playbooks/teardown.yml", **sure)
    except RuntimeError as problem:
        say(str(problem))
    remove_objects(f"{PREFIX}-")
    shutil.rmtree(DIRECTORY)
    if left := leftovers():
        say(f"not removed: {' '.join(left)}")


def leftovers() -> list[str]:
    """Return the names of what bears our name."""
    return [name for names in objects(f"{PREFIX}-").values() for name in names]


def program(*words: str) -> str:
    """Call the environment's program of the backups."""
    return run(f"/usr/local/sbin/{PREFIX}-backup", *words)


def psql(container: str, query: str, database: str = "postgres", role: str = "none") -> str:
    """Return what a query gives."""
    words = ("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database)
    return docker(
        "exec", "--env", f"PGOPTIONS=-c role={role}", container, *words, "-c", query
    ).strip()


def start_scratch() -> None:
    """Run a second server like the first, but without archiving, and with a volume for dumps."""
    if SCRATCH in objects(SCRATCH)["container"]:
        return
    server = inspect(LIVE, (LIVE, SCRATCH))
    network = inspect(LIVE)["HostConfig"]["NetworkMode"]
    server["HostConfig"]["NetworkMode"] = network
    binds = [bind for bind in server["HostConfig"]["Binds"] if "backup" not in bind.split(":")[0]]
    server["HostConfig"]["Binds"] = [*binds, f"{SCRATCH}-files:/bench"]
    options = [word for word in server["Config"]["Cmd"] if word != "-c"]
    options = [word for option in options if "archive" not in option for word in ("-c", option)]
    image = server["Config"]["Image"]
    own = ("--user=0:0", "--entrypoint=chown", f"--volume={SCRATCH}-files:/bench", image)
    docker("run", "--rm", *own, "15432:15432", "/bench")
    docker("run", "--detach", f"--name={SCRATCH}", *arguments(server), image, *options)
    healthy(SCRATCH)
    names = ("--database=app", "--role=app", f"--container={SCRATCH}")
    docker("exec", SCRATCH, "prepare-database", *names)


def settle(container: str = LIVE) -> None:
    """Wait until nothing is left of earlier work: dirty pages, and log that waits."""
    psql(container, "CHECKPOINT")
    waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    deadline = time.time() + 600
    while psql(container, waiting) != "0":
        if time.time() > deadline:
            raise RuntimeError(f"The log of {container} does not reach the repository.")
        time.sleep(0.2)
    os.sync()
