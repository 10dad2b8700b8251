"""A copy of the database: restored from the repository into a volume of its own, run aside, examined."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from postdo_host import (
    Failure,
    attempt,
    inspect,
    last_words,
    room_for_volumes,
    run,
    running,
    size,
    when,
)
from postdo_host.containers import contained
from postdo_host.database import UNLIMITED, psql

from .environment import Environment

PGDATA = "/var/lib/postgresql/data/pgdata"

# Rows of each table that a backup holds: not of temporary and unlogged tables, which are not in the log, nor of
# foreign ones. A transaction for each, so that nobody waits for the whole; one that goes meanwhile is left out (its
# name is a number then), and so is one that somebody holds locked.
_COUNTS = """
SET lock_timeout = '5s';
DO $$
DECLARE
    one regclass;
    figures bigint[];
    lines text[];
BEGIN
    FOR one IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
        WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.relispopulated AND a.amname = 'heap'
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    LOOP
        BEGIN
            IF pg_table_size(one) < {limit} THEN
                EXECUTE format('SELECT ARRAY[count(*), {old}] FROM ONLY %s', one) INTO figures;
                lines := lines || json_build_array(one::oid::bigint, one::text, figures[1], figures[2])::text;
            END IF;
        EXCEPTION WHEN undefined_table OR syntax_error OR lock_not_available THEN NULL;
        END;
        COMMIT;
    END LOOP;
    PERFORM set_config('postdo.counted', coalesce(array_to_string(lines, E'\\n'), ''), false);
END $$;
SELECT current_setting('postdo.counted');
"""

# Larger ones are not counted in a server that serves: reading them would push its cache out.
LIVE_LIMIT = 10**9

# Settings of the live server that a copy has not: its files and addresses, its log, who waits for whom. All others it
# shares, so that it understands the same and takes as long. Those of memory it shares only where it has as much of it.
_OWN = re.compile(
    "(archive|ssl|krb|log|logging|syslog|synchronous|primary|recovery|hot_standby|summarize_wal)_.*"
    "|ssl|port|listen_addresses|unix_socket_.*|.*_(file|directory)|autovacuum|fsync|max_prepared_transactions"
)
_OF_MEMORY = re.compile(
    "(shared_buffers|effective_cache_size|.*work_mem|wal_buffers|temp_buffers|max_connections|huge_pages)"
)

# How prepare-database ends then; it prints the commands that help.
_OUTDATED_COLLATIONS = 3

# What pgBackRest wrote for the recovery has had its day.
_RECOVERY_SETTINGS = (
    "restore_command",
    *(f"recovery_target{end}" for end in ("", "_name", "_time", "_action", "_timeline")),
)


@dataclass(frozen=True)
class Rows:
    """How many rows a table has, and how many of them are `old`: unchanged since a moment that was asked about."""

    table: str
    all: int
    old: int


class Ended(Failure):
    """The log ended before the moment that recovery was to reach."""


@dataclass(frozen=True)
class Target:
    """Where recovery ends: `latest`, or the name, time or backup that `value` gives."""

    kind: str
    # The backup that recovery begins with.
    backup: str
    value: str = ""
    # The branch of the log that recovery follows.
    timeline: str = "latest"

    def options(self) -> list[str]:
        """Return pgBackRest's options for it."""
        chosen = [f"--set={self.backup}"]
        branch = [f"--target-timeline={self.timeline}"]
        match self.kind:
            case "latest":
                return [*chosen, *branch, "--type=default"]
            case "backup":
                # pgBackRest itself takes no branch here; PostgreSQL does, and needs the backup's own.
                own = ["--recovery-option=recovery_target_timeline=current"]
                return [*chosen, *own, "--type=immediate", "--target-action=promote"]
            case _:
                end = [f"--type={self.kind}", f"--target={self.value}", "--target-action=promote"]
                return [*chosen, *branch, *end]


class Copy:
    """One copy, by the name of its container and its volume; use it with `with`."""

    def __init__(
        self,
        environment: Environment,
        name: str,
        *,
        archiving: bool = False,
        source: Environment | None = None,
    ) -> None:
        """Name it. With `archiving` its new log is kept for the archive: it will be in production.

        `source` is the environment whose repository it comes from, where that is another one.
        """
        self.environment = environment
        self.source = source or environment
        self.container = f"{environment.prefix}-{name}"
        self.volume = f"{environment.volume}-{name}"
        self.network = f"{self.container}-only"
        # What works on the volume while the server does not; named, to be removed with the rest.
        self.worker = f"{self.container}-work"
        # With no command nothing is sent, and all is kept until the switch.
        self.archiving = "on" if archiving else "off"

    def __enter__(self) -> Self:
        self.destroy()
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def destroy(self) -> None:
        """Remove whatever there is of it, the volume too."""
        attempt("docker", "rm", "--force", "--volumes", self.container, self.worker)
        attempt("docker", "network", "rm", self.network)
        attempt("docker", "volume", "rm", self.volume)

    # -- restoring ----------------------------------------------------------------------------

    def _container(self, *options: str) -> list[str]:
        """Return the arguments of docker run that are common to all its containers."""
        environment = self.environment
        return [
            *contained("run", *options, memory=environment.copy_memory),
            *("--label", f"postdo.stack={environment.prefix}"),
            *("--volume", f"{self.volume}:/var/lib/postgresql/data"),
        ]

    def shell(self, script: str) -> list[str]:
        """Return the command that runs a shell script on the volume, with the command's input."""
        return [
            *self._container("--rm", "--interactive", "--name", self.worker, "--network", "none"),
            *("--entrypoint", "sh", self.environment.image, "-c", script),
        ]

    def restore(self, target: Target) -> None:
        """Fill the volume from the repository; raises Failure if any file is not as it was."""
        environment = self.environment
        make_volume(environment, self.volume)
        run(
            *self._container("--rm", "--name", self.worker),
            *("--network", self.source.repository_network),
            *self.source.repository_mount(writable=False),
            *("--entrypoint", "pgbackrest", environment.image, "--stanza=main", *target.options()),
            "--recovery-option=restore_command=wal-get %f %p",
            "restore",
            doing="Restoring from the repository",
        )

    def start(self, *, port: int = 0) -> None:
        """Run the server on the volume and wait until it serves, on a port of the host if one is given.

        Raises Failure with the server's reason for not serving. Without a port it has no network at all: whoever is to
        reach it shares its loopback, where the live server's name is its own.
        """
        environment, owner = self.environment, self.environment.uids["database"]
        # A repository elsewhere is needed until the log is in.
        remote = not self.source.repository and not port
        if port:
            self._make_network()
            options = ["--network", self.network, "--publish", f"127.0.0.1:{port}:5432"]
        else:
            options = ["--network", self.source.edge if remote else "none"]
        run(
            *self._container("--detach", "--init", "--name", self.container, *options),
            *("--tmpfs", f"/run/postgresql:uid={owner},gid={owner},mode=0700,size=1m"),
            *("--shm-size", str(environment.copy_memory), "--stop-timeout", "300"),
            *("--volume", f"{environment.secrets}/db:/run/secrets:ro"),
            *self.source.repository_mount(writable=False),
            environment.image,
            *("-c", f"archive_mode={self.archiving}", "-c", "archive_command="),
            *("-c", "hot_standby=off", "-c", "max_prepared_transactions=100"),
            # Its transactions would let VACUUM keep rows that were deleted before.
            *("-c", "autovacuum=off"),
            *self._settings(),
            doing="Starting the restored database",
        )
        # A long recovery is no failure: only the server's own end is.
        while attempt("docker", "exec", self.container, "healthcheck").returncode:
            if not running(self.container):
                reason = self._reason()
                if "before configured recovery target" in reason:
                    raise Ended(
                        f"The archived log is not whole, a segment is missing or damaged: {reason}\nA new backup leads "
                        "past it. A restore can go to a time before it."
                    )
                raise Failure(f"The restored database did not start: {reason}")
            time.sleep(0.2)
        if remote:
            words = ["docker", "network", "disconnect", self.source.edge, self.container]
            run(*words, doing="Closing the copy's way out")
            # The engine's name server would still answer it, and ask others.
            Path(inspect("container", self.container)["ResolvConfPath"]).write_text("")
        # By --add-host it would be gone again: a network that is left takes the names of all that are in it.
        with Path(inspect("container", self.container)["HostsPath"]).open("a") as hosts:
            hosts.write(f"127.0.0.1\t{environment.container}\n")

    def _make_network(self) -> None:
        """Make the network of a copy with a port."""
        if not inspect("network", self.network):
            name = f"pd-{hashlib.sha256(self.network.encode()).hexdigest()[:12]}"
            options = ["--opt", f"com.docker.network.bridge.name={name}"]
            run("docker", "network", "create", *options, self.network, doing="Making a network")

    def _settings(self) -> list[str]:
        """Return the live server's own settings that are the copy's too, as options."""
        live = inspect("container", self.environment.container)
        if live is None:
            return []
        small = self.environment.copy_memory < live["HostConfig"]["Memory"]
        found = []
        for word in live["Config"]["Cmd"] or []:
            name, is_setting, _ = word.partition("=")
            if is_setting and not (_OWN.fullmatch(name) or (small and _OF_MEMORY.fullmatch(name))):
                found += ["-c", word]
        return found

    def _reason(self) -> str:
        """Return the server's own words for its end."""
        done = attempt("docker", "logs", "--tail", "200", self.container)
        lines = (done.stdout + done.stderr).splitlines()
        # That it was not ready for whoever knocked is no reason.
        knocks = re.compile("database system is (starting up|not (yet )?accepting)")
        told = [line for line in lines if re.search("FATAL|PANIC|ERROR|wal-get:", line)]
        told = [line for line in told if not knocks.search(line)]
        return "\n".join(re.sub(r"^.*?(FATAL|PANIC|ERROR)", r"\1", line) for line in told[-4:])

    def stop(self) -> None:
        """Shut the server down cleanly and remove its container."""
        run("docker", "stop", self.container, doing="Stopping the restored database")
        state = inspect("container", self.container)["State"]
        if state["ExitCode"] != 0:
            raise Failure(f"The restored database did not shut down cleanly: {self._reason()}")
        run("docker", "rm", self.container, doing="Removing the restored database's container")

    def forget_log(self) -> None:
        """Remove the log, which has what was replaced since; the server must have been stopped."""
        run(
            *self._container("--rm", "--name", self.worker, "--network", "none"),
            *("--entrypoint", "pg_resetwal", self.environment.image, "-D", PGDATA),
            doing="Removing the copy's log",
        )

    # -- examining ----------------------------------------------------------------------------

    def fork(self) -> tuple[int, str]:
        """Return where its branch of the log begins: the branch that it left, and the segment there.

        The segment's name is without the number of the branch.
        """
        history = psql(self.container, f"SELECT pg_read_file('pg_wal/{self._branch()}.history')")
        left, position, *_ = history.splitlines()[-1].split("\t")
        segment = psql(self.container, f"SELECT substr(pg_walfile_name('{position}'), 9)")
        return int(left), segment

    def _branch(self) -> str:
        """Return its branch of the log as files' names have it, eight hexadecimal digits."""
        query = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
        return psql(self.container, query)

    def timeline(self) -> int:
        """Return the number of its branch of the log."""
        return int(self._branch(), 16)

    def prepare(self) -> None:
        """Make role, database and password what the environment's are."""
        environment, database = self.environment, self.environment.database
        query = f"SELECT rolcreatedb FROM pg_roles WHERE rolname = '{database['user']}'"
        live = attempt(*("docker", "exec", environment.container, "psql", "-XqAt"), "-c", query)
        command = [
            *("docker", "exec", self.container, "prepare-database"),
            *("--container", self.container, "--database", database["name"]),
            *("--role", database["user"], "--locale", database["locale"]),
            *(["--createdb"] if live.stdout.strip() == "t" else []),
        ]
        done = attempt(*command)
        if done.returncode == _OUTDATED_COLLATIONS:
            # It comes from an older image. Nobody uses the copy yet, so its indexes are built again at once.
            for line in done.stderr.splitlines():
                if line.startswith("docker exec "):
                    run(
                        *shlex.split(line),
                        doing="Building the indexes of the restored database again",
                    )
        run(*command, doing="Preparing the restored database")
        settings = "".join(f"ALTER SYSTEM RESET {name};\n" for name in _RECOVERY_SETTINGS)
        psql(self.container, settings)

    def examine_structure(self) -> None:
        """Read all tables and indexes with pg_amcheck; raises Failure with what it found."""
        query = "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'"
        # One whose removal was cut off can't be connected to.
        usable = "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2"
        names = psql(self.container, usable)
        ours = [name for name in names.splitlines() if not psql(self.container, query, name)]
        done = attempt(
            *("docker", "exec", *UNLIMITED, self.container, "pg_amcheck", "--username=postgres"),
            *("--all", "--install-missing", "--heapallindexed", "--jobs=2"),
        )
        if done.returncode:
            raise Failure(f"pg_amcheck found damage: {last_words(done, 10)}")
        for name in ours:
            psql(self.container, "DROP EXTENSION amcheck", name)

    def counts(self, since: str = "") -> dict[int, Rows]:
        """Return the rows of each table, by its number."""
        return counts(self.environment, self.container, since)

    def unapplied(self) -> list[str] | None:
        """Return the serving release's migrations that the copy lacks; None where there is no release.

        The release's own container tells how it is run; where it runs, the copy has the live server's name.
        """
        environment = self.environment
        web = inspect("container", environment.web)
        if web is None:
            return None
        mounts = [
            f"{m['Source']}:{m['Destination']}:ro"
            for m in web["Mounts"]
            if m["Type"] == "bind" and m["Destination"] != "/tmp"
        ]
        done = attempt(
            *contained("run", "--rm", memory=web["HostConfig"]["Memory"], tmp_mib=256),
            *("--name", self.worker, "--network", f"container:{self.container}"),
            *("--user", web["Config"]["User"], "--label", f"postdo.stack={environment.prefix}"),
            *(word for setting in web["Config"]["Env"] for word in ("--env", setting)),
            *(word for mount in mounts for word in ("--volume", mount)),
            *(web["Image"], "python", "manage.py", "showmigrations", "--plan"),
        )
        if done.returncode:
            raise Failure(f"Django can't use the restored database: {last_words(done)}")
        return [line[4:].strip() for line in done.stdout.splitlines() if line.startswith("[ ]")]

    def examine_pages(self) -> None:
        """Verify the checksum of every page; the server must have been stopped."""
        done = attempt(
            *self._container("--rm", "--name", self.worker, "--network", "none"),
            *("--entrypoint", "pg_checksums", self.environment.image, "--check", "-D", PGDATA),
        )
        if done.returncode:
            raise Failure(f"Pages of the restored database are damaged: {last_words(done)}")


def horizon(environment: Environment) -> str:
    """Return the transaction of the live server before which all have ended."""
    return psql(environment.container, "SELECT pg_snapshot_xmin(pg_current_snapshot())::xid")


def counts(
    environment: Environment, container: str, since: str = "", limit: int = 10**18
) -> dict[int, Rows]:
    """Return the rows of each of the application's tables of less than `limit` bytes, by the table's number.

    Those are old that no transaction from `since` on, as `horizon` returned it, has written; without it all are.
    """
    old = f"count(*) FILTER (WHERE age(xmin) > age(''{since}''::xid))" if since else "count(*)"
    query = _COUNTS.format(limit=limit, old=old)
    lines = psql(container, query, environment.database["name"]).splitlines()
    return {number: Rows(*figures) for number, *figures in map(json.loads, lines)}


def make_volume(environment: Environment, name: str, *further: str) -> None:
    """Make a volume for a cluster, if it is not there, with further labels."""
    labels = [f"postdo.stack={environment.prefix}", *further]
    labels += [f"postdo.locale={environment.database['locale']}"]
    words = [word for label in labels for word in ("--label", label)]
    run("docker", "volume", "create", *words, name, doing=f"Making the volume {name}")


def place(volume: str) -> Path:
    """Return where the engine keeps a volume; raises Failure if it is not a plain one."""
    found = inspect("volume", volume)
    if found is None:
        raise Failure(f"There is no volume {volume}.")
    if found["Driver"] != "local" or found["Options"]:
        raise Failure(
            f"The volume {volume} has a driver or options of its own, so a restored one can't take "
            "its place in one step. Move its data into a plain volume of that name first."
        )
    return Path(found["Mountpoint"])


def exchange(one: str, other: str) -> None:
    """Exchange what two volumes hold, in one step of the file system: it is done, or it is not."""
    paths = [place(volume) for volume in (one, other)]
    libc = ctypes.CDLL(None, use_errno=True)
    here, exchanging = -100, 2  # AT_FDCWD and RENAME_EXCHANGE, see renameat2(2)
    words = [os.fsencode(path) for path in paths]
    if libc.renameat2(here, words[0], here, words[1], exchanging):
        reason = os.strerror(ctypes.get_errno())
        raise Failure(f"The volumes {one} and {other} could not be exchanged: {reason}.")
    # Done is done, whatever the disk says to being flushed.
    for path in paths:
        with contextlib.suppress(OSError):
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def room(environment: Environment, needed: int) -> None:
    """Raise Failure unless the engine has room for a copy of `needed` bytes."""
    free, place = room_for_volumes()
    if free < needed * 1.1 + 64 * 1024**2:
        raise Failure(
            f"A copy needs {size(needed)}, and {size(free)} are free in {place}. Free some room. "
            f"Nothing was changed, at {when(time.time())}."
        )
