"""The environment that bench/recovery measures, and a second server beside it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from floors import healthy, inspect, start_second
from leftovers import objects, remove_objects
from own import Own
from tools import docker, run

OWN = Own("recovery", 8380)
PREFIX, DIRECTORY = OWN.prefix, OWN.directory
LIVE, SCRATCH = f"{PREFIX}-db", f"{PREFIX}-scratch"
FACTS = Path("/etc/postdo/recovery/backup.json")


def clean() -> None:
    """Remove everything that this program made."""
    remove_objects(SCRATCH)
    OWN.clean()


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
    files = f"{SCRATCH}-files:/bench"
    image = inspect(LIVE)["Config"]["Image"]
    docker(
        *("run", "--rm", "--user=0:0", "--entrypoint=chown", f"--volume={files}", image),
        *("15432:15432", "/bench"),
    )
    start_second(LIVE, SCRATCH, files)
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
