"""Making the repositories ready for the database that runs."""

from __future__ import annotations

import os
from pathlib import Path

from . import media, record, repository
from .environment import Environment, Failure, run


def prepare(environment: Environment, *, anew: bool) -> dict:
    """Make what is lacking; return whether anything was, what, and how many backups there are.

    A repository that was made ready for this database before and can't be reached now stops no
    deploy: the log waits for it, and `check` says so. Raises Failure for anything else.
    """
    system = repository.system(environment)
    if system is None:
        raise Failure(
            f"{environment.container} does not run; read: docker logs {environment.container}"
        )
    ready = [system, environment.repository, *environment.media_repository]
    known = record.read(environment).get("ready") == ready
    try:
        _own_directories(environment)
        done = _prepare_database(environment, system, anew=anew)
        if environment.media_volume and not known:
            done += media.prepare(environment)
        backups = len(repository.contents(environment).backups)
    except Failure as failure:
        if not known:
            raise
        return {"changed": False, "actions": [], "backups": None, "problem": str(failure)}
    if not known:
        record.write(environment, ready=ready)
    return {"changed": bool(done), "actions": done, "backups": backups, "problem": ""}


def _own_directories(environment: Environment) -> None:
    """Give a repository in a directory of the host its two owners; a volume has them from the image."""
    if not environment.repository.startswith("/"):
        return
    for name, uid in (("database", 15432), ("media", 18000)):
        path = Path(environment.repository) / name
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.stat().st_uid != uid:
                os.chown(path, uid, uid)
        except OSError as error:
            raise Failure(f"backup_directory: {path} can't be made: {error.strerror}.") from None


def _prepare_database(environment: Environment, system: int, *, anew: bool) -> list[str]:
    """Make the database's repository; return what had to be done.

    Raises Failure where it holds another database's backups: an empty database in the place of a
    lost one must not push its backups out.
    """
    held = repository.contents(environment)
    if held.system == system:
        return []
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
