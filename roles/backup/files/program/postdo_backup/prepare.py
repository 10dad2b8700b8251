"""Making the repositories ready for the database that runs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from postdo_host import Failure, run

from . import media, record, repository
from .environment import Environment


def prepare(environment: Environment, *, anew: bool) -> dict:
    """Make what is lacking; return whether anything was, what, and whether a first backup is wanted.

    A repository that was made ready for this database before and can't be used now stops no deploy:
    the log waits for it, and `check` says so. Raises Failure for anything else.
    """
    system = repository.system(environment)
    if system is None:
        raise Failure(f"{environment.container} does not run: docker logs {environment.container}")
    known = record.read(environment).get("ready") == identity(environment, system)
    key = _fingerprint(environment)
    if known and not anew and record.read(environment).get("key", key) != key:
        raise Failure(
            "backup_key is another than the one that the backups were made with, and no other can read them. "
            f"Put it back. If it is lost for good, begin anew in another place, with -e backup_begin_anew=true: "
            f"{environment.call}"
        )
    try:
        _own_directories(environment)
        done = _prepare_database(environment, system, anew=anew, known=known)
        if environment.media_volume and (anew or not known):
            done += media.prepare(environment)
    except Failure as failure:
        if not known:
            raise
        return {"changed": False, "actions": [], "first": False, "problem": str(failure)}
    record.write(environment, ready=identity(environment, system), key=key)
    if done:
        # What was there before is no longer compared with.
        record.write(environment, begun=None, uploads=None)
    begun = record.read(environment).get("begun") == identity(environment, system)
    return {"changed": bool(done), "actions": done, "first": not begun, "problem": ""}


def _fingerprint(environment: Environment) -> str:
    """Return what tells one key of the backups from another, and not what it is."""
    text = (environment.secrets / "backup/pgbackrest.conf").read_text()
    key = next(line for line in text.splitlines() if line.startswith("repo1-cipher-pass="))
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def identity(environment: Environment, system: int) -> list:
    """Return what tells one pair of database and repository from every other."""
    return [system, environment.repository, *environment.media_repository]


def _own_directories(environment: Environment) -> None:
    """Give a repository in a directory of the host its two owners; a volume has them from the image."""
    if not environment.repository.startswith("/"):
        return
    owners = {"database": environment.uids["database"], "media": environment.uids["application"]}
    for name, uid in owners.items():
        path = Path(environment.repository) / name
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.stat().st_uid != uid:
                os.chown(path, uid, uid)
        except OSError as error:
            raise Failure(f"backup_directory: {path} can't be made: {error.strerror}.") from None


def _prepare_database(
    environment: Environment, system: int, *, anew: bool, known: bool
) -> list[str]:
    """Make the database's repository; return what had to be done.

    Raises Failure where it holds another database's backups: an empty database in the place of a
    lost one must not push its backups out. And where it had some and is empty now: its disk may not
    be mounted.
    """
    held = repository.contents(environment)
    if held.system == system:
        return []
    if held.system is None and known and not anew:
        raise Failure(
            "The backup repository is empty, and was not before. Is its disk mounted? If the backups are "
            f"gone for good, begin anew: {environment.call} -e backup_begin_anew=true"
        )
    if held.system is None:
        command = repository.pgbackrest(environment, "stanza-create")
        run(*command, doing="Making the backup repository")
        return ["repository made"]
    if not anew:
        raise Failure(
            "The backup repository belongs to another database than the one that runs now, which "
            "may be a new and empty one. If its volume was lost, restore it: "
            f"{environment.call} restore -e restore_to=latest -e "
            f"restore_confirm={environment.prefix}\nIf you mean to begin anew, say so: "
            f"{environment.call} -e backup_begin_anew=true (the old backups stay until they expire)."
        )
    command = repository.pgbackrest(environment, "stanza-upgrade")
    run(*command, doing="Beginning anew in the repository")
    return ["repository begun anew"]
