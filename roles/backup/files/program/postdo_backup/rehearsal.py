"""A copy to rehearse migrations on: restored from the backups, as a restore after a bad migration would be."""

from __future__ import annotations

import shlex
import time

from postdo_host import Failure, attempt, last_words, running, when
from postdo_host.database import psql
from postdo_host.stopwatch import Stopwatch

from . import copies, repository, timelines
from .copies import PGDATA, Copy, Target
from .environment import Environment

_NAME = "rehearsal"
_SIZE = "SELECT sum(pg_database_size(oid)) FROM pg_database"


def make(environment: Environment, point: str) -> dict:
    """Make a copy of the database as it is now and leave it running, cut off from everything else.

    `point` names the moment, and is what a restore may go back to. Where there is no backup to begin with, the
    copy is the running server's. Returns where the copy is and what it is of. Raises Failure with nothing left.
    """
    if not running(environment.container):
        raise Failure(f"{environment.container} does not run; start it: {environment.call}")
    copy, watch = Copy(environment, _NAME), Stopwatch()
    copy.destroy()
    try:
        source, moment = _fill(environment, copy, point, watch)
    except BaseException:
        copy.destroy()
        raise
    return {
        "container": copy.container,
        "source": source,
        "point": moment,
        "steps": watch.steps,
    }


def end(environment: Environment) -> None:
    """Remove the copy."""
    Copy(environment, _NAME).destroy()


def _fill(environment: Environment, copy: Copy, point: str, watch: Stopwatch) -> tuple[str, str]:
    """Bring the copy up; return what it is of, and the name of the moment that can be restored."""
    held = repository.contents(environment) if environment.enabled else None
    if held:
        timelines.reconcile(environment, held)
    usable = timelines.usable(environment, held, time.time() + 1) if held else []
    if not held or not usable:
        copies.room(environment, int(psql(environment.container, _SIZE)))
        with watch.step("copy"):
            copies.make_volume(environment, copy.volume)
            _from_server(environment, copy)
            copy.start()
        return "the running server (there is no backup)", ""
    newest = usable[-1]
    copies.room(environment, newest.size)
    with watch.step("point"):
        own, _ = timelines.mark(environment, point)
    with watch.step("restore"):
        branch = timelines.newest(environment, held, newest)
        copy.restore(Target("name", newest.label, own, branch))
    with watch.step("log"):
        copy.start()
    return f"the backup {newest.label} and the log until {when(time.time())}", point


def _from_server(environment: Environment, copy: Copy) -> None:
    """Fill the volume with what the running server has, as PostgreSQL itself copies a cluster."""
    send = ["docker", "exec", environment.container, "pg_basebackup", "--pgdata=-", "--format=tar"]
    send += ["--wal-method=fetch", "--checkpoint=fast"]
    take = copy.shell(f"mkdir -m 0700 {PGDATA} && tar -xf - -C {PGDATA}")
    done = attempt("sh", "-c", f"{shlex.join(send)} | {shlex.join(take)}")
    # A pipe says how its end ended: what was sent must be a whole cluster.
    whole = attempt(*copy.shell(f"test -f {PGDATA}/global/pg_control"))
    if done.returncode or whole.returncode:
        raise Failure(f"Copying the running server failed: {last_words(done)}")
