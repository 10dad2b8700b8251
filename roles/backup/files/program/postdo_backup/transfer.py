"""One database out to a file, and in from one: for moving, not for being safe."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

from postdo_host import Failure, attempt, last_words, run, stamp
from postdo_host.database import UNLIMITED, database_settings, psql

from .environment import Environment

# What an extension has made in a schema of its own is found without that schema's name: it is searched last.
_FIND_EXTENSIONS = """
SELECT format('ALTER DATABASE %I SET search_path TO %s, %s', current_database(), current_setting('search_path'),
              string_agg(quote_ident(nspname), ', ' ORDER BY nspname))
FROM (SELECT DISTINCT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace) AS schemas
WHERE nspname !~ '^pg_' AND nspname <> 'public' AND nspname <> ALL (current_schemas(true))
HAVING count(*) > 0 \\gexec
"""

# As a dump's table of contents names them.
_TABLES_OF_EXTENSIONS = """
SELECT nspname || ' ' || relname FROM pg_depend JOIN pg_class c ON c.oid = objid
JOIN pg_namespace n ON n.oid = relnamespace
WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e'
"""


def dump(environment: Environment, path: Path) -> int:
    """Write the application's database to a file that is whole or not there; return its size."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    command = ["docker", "exec", environment.container, "pg_dump", "-U", "postgres"]
    command += ["--format=custom", environment.database["name"]]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, check=False)
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip()
                raise Failure(f"pg_dump failed: {said or done.returncode}. {path} was not written.")
            file.flush()
            os.fsync(file.fileno())
        contents(environment, aside)
        read_through(environment, aside)
        aside.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
    except OSError as error:
        raise Failure(f"{path} could not be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return path.stat().st_size


def contents(environment: Environment, path: Path) -> list[str]:
    """Return the lines of a dump's table of contents; raises Failure if it is no dump."""
    with path.open("rb") as file:
        command = ["docker", "exec", "--interactive", environment.container]
        done = attempt(*command, "sh", "-c", "pg_restore --list && cat > /dev/null", stdin=file)
    if done.returncode:
        raise Failure(f"{path} is not a dump in pg_dump's custom format: {last_words(done)}")
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]


def read_through(environment: Environment, path: Path) -> None:
    """Read a dump to its end; raises Failure if it is cut or damaged."""
    with path.open("rb") as file:
        command = ["docker", "exec", "--interactive", environment.container]
        done = attempt(*command, "pg_restore", "--file=/dev/null", stdin=file)
    if done.returncode:
        raise Failure(f"{path} is not a whole dump: {last_words(done)}")


def _parts(listed: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the lines of a table of contents that make schemas, that make extensions, and the others.

    What is said about an extension (a comment) only its owner may say, and it says so itself.
    """
    schemas, extensions, others = [], [], []
    for line in listed:
        match line.split()[3:6]:
            case ["SCHEMA", "-", *_]:
                schemas.append(line)
            case ["EXTENSION", "-", *_]:
                extensions.append(line)
            case [_, "-", "EXTENSION"]:
                pass
            case _:
                others.append(line)
    return schemas, extensions, others


def _filled(line: str) -> str:
    """Return the table or sequence, with its schema, that a line of a table of contents fills; empty if none."""
    filling = re.fullmatch(r"\d+; \d+ \d+ (?:TABLE DATA|SEQUENCE SET) (.+) \S+", line)
    return filling[1] if filling else ""


def _restore(
    environment: Environment, path: Path, database: str, lines: list[str], *options: str
) -> None:
    """Load what the lines of a dump's table of contents say, all or nothing; raises Failure."""
    if not lines:
        return
    container, listing = environment.container, f"/tmp/{database}.list"
    command = ["docker", "exec", "--interactive", container, "sh", "-c", f"cat > {listing}"]
    run(*command, doing="Writing what is to be loaded", input="\n".join(lines) + "\n")
    # What it does not need of its input is read all the same: nobody shall write to a closed pipe.
    script = 'pg_restore "$@" && cat > /dev/null'
    with path.open("rb") as file:
        done = attempt(
            *("docker", "exec", "--interactive", *UNLIMITED, container, "sh", "-c", script, "sh"),
            *("-U", "postgres", "--dbname", database, "--use-list", listing, "--no-owner"),
            *("--no-privileges", "--exit-on-error", "--single-transaction", *options),
            stdin=file,
        )
    attempt("docker", "exec", container, "rm", "-f", listing)
    if done.returncode:
        reason = last_words(done)
        if re.search('extension ".*" is not available', reason):
            reason += "\nAdd its Debian package to postgres_extra_packages, and run."
        raise Failure(f"{path} could not be loaded, nothing was changed: {reason}")


def load(environment: Environment, path: Path, prepare: str = "") -> str:
    """Load a dump into a new database, run the SQL `prepare` there, and put it in the old one's place.

    Returns the new name of the old database. Raises Failure; up to the exchange nothing is changed.
    """
    if not path.is_file():
        raise Failure(f"load_file is {path}: there is no such file on the database's host.")
    container, database = environment.container, environment.database
    name, role, locale = database["name"], database["user"], database["locale"]
    schemas, extensions, wanted = _parts(contents(environment, path))
    now = stamp().replace("-", "_")
    new, old = f"{name}_loading_{now}", f"{name}_before_{now}"
    _drop_unfinished(container, name)
    psql(
        container,
        f"""
CREATE DATABASE "{new}" OWNER "{role}" TEMPLATE template0 ENCODING 'UTF8'
  LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE '{locale}';
REVOKE ALL ON DATABASE "{new}" FROM PUBLIC;
""",
    )
    try:
        psql(container, psql(container, database_settings(name, new)))
        # A superuser makes the extensions, in the schemas that they were in, and fills their tables; the application's
        # role does everything else.
        _restore(environment, path, new, schemas, f"--role={role}")
        _restore(environment, path, new, extensions)
        psql(container, _FIND_EXTENSIONS, new)
        theirs = set(psql(container, _TABLES_OF_EXTENSIONS, new).splitlines())
        filling = [line for line in wanted if _filled(line) in theirs]
        _restore(environment, path, new, filling)
        wanted = [line for line in wanted if line not in filling]
        _restore(environment, path, new, wanted, f"--role={role}")
        psql(container, f"{prepare};\nANALYZE;", new)
    except BaseException:
        _drop_unfinished(container, name)
        raise
    # One script of the server's container: it ends what it began whoever ends this process.
    try:
        psql(
            container,
            f"""
ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false;
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}';
BEGIN;
ALTER DATABASE "{name}" RENAME TO "{old}";
ALTER DATABASE "{new}" RENAME TO "{name}";
COMMIT;
ALTER DATABASE "{old}" WITH ALLOW_CONNECTIONS true;
""",
        )
    except BaseException:
        with contextlib.suppress(Failure):
            psql(container, f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        _drop_unfinished(container, name)
        raise
    return old


def _drop_unfinished(container: str, name: str) -> None:
    """Drop what loads into a database that failed or were cut off have left; the next one does so where this can't."""
    with contextlib.suppress(Failure):
        begun = f"SELECT datname FROM pg_database WHERE starts_with(datname, '{name}_loading_')"
        for one in psql(container, begun).splitlines():
            psql(container, f'DROP DATABASE IF EXISTS "{one}" WITH (FORCE)')
