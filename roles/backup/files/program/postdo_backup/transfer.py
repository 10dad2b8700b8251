"""One database out to a file, and in from one: for moving, not for being safe."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from .environment import Environment, Failure, attempt, last_words, psql, run, stamp


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


def load(environment: Environment, path: Path, prepare: str = "") -> str:
    """Load a dump into a new database, run the SQL `prepare` there, and put it in the old one's place.

    Returns the new name of the old database. Raises Failure; up to the exchange nothing is changed.
    """
    if not path.is_file():
        raise Failure(f"load_file is {path}: there is no such file on the database's host.")
    container, database = environment.container, environment.database
    name, role, locale = database["name"], database["user"], database["locale"]
    listed = contents(environment, path)
    extensions = [line.split()[5] for line in listed if line.split()[3:5] == ["EXTENSION", "-"]]
    wanted = [line for line in listed if " EXTENSION " not in line]
    now = stamp().replace("-", "_")
    new, old = f"{name}_loading_{now}", f"{name}_before_{now}"
    psql(
        container,
        f"""
CREATE DATABASE "{new}" OWNER "{role}" TEMPLATE template0 ENCODING 'UTF8'
  LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE '{locale}';
REVOKE ALL ON DATABASE "{new}" FROM PUBLIC;
""",
    )
    try:
        # A superuser makes the extensions, the application's role everything else.
        for extension in extensions:
            psql(container, f'CREATE EXTENSION IF NOT EXISTS "{extension}" CASCADE', new)
        listing = f"/tmp/{new}.list"
        command = ["docker", "exec", "--interactive", container, "sh", "-c", f"cat > {listing}"]
        run(*command, doing="Writing what is to be loaded", input="\n".join(wanted) + "\n")
        with path.open("rb") as file:
            done = attempt(
                *("docker", "exec", "--interactive", container, "pg_restore", "-U", "postgres"),
                *("--dbname", new, "--use-list", listing, f"--role={role}", "--no-owner"),
                *("--no-privileges", "--exit-on-error", "--single-transaction"),
                stdin=file,
            )
        attempt("docker", "exec", container, "rm", "-f", listing)
        if done.returncode:
            raise Failure(f"{path} could not be loaded, nothing was changed: {last_words(done)}")
        psql(container, f"{prepare};\nANALYZE;", new)
    except Failure:
        psql(container, f'DROP DATABASE IF EXISTS "{new}" WITH (FORCE)')
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
    except Failure:
        psql(container, f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        psql(container, f'DROP DATABASE IF EXISTS "{new}" WITH (FORCE)')
        raise
    return old
