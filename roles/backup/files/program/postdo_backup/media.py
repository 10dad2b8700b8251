"""The uploaded files, in a repository of restic beside the database's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime

from postdo_host import Failure, attempt, inspect, last_words, run, when
from postdo_host.containers import contained

from . import record
from .copies import place
from .environment import Environment

_ROOT = "/srv/media"
# Seconds in which a repository answers, and the status of the command timeout where it did not.
_ANSWER, _LATE = 60, 124


@dataclass(frozen=True)
class Snapshot:
    """One state of the uploads; its moment in seconds since the epoch."""

    name: str
    moment: float


def _container(
    environment: Environment, program: str, *arguments: str, media: str = "", changes: str = ""
) -> list:
    """Return the command that runs a program as the uploads' owner beside the repository, with `media` as their volume.

    `changes` says what it may write: nothing, the `repository`, or the `media`.
    """

    def mount(what: str, where: str) -> list[str]:
        return ["--volume", f"{where}{'' if changes == what else ':ro'}"]

    volume = mount("media", f"{media}:{_ROOT}") if media else []
    repository = mount("repository", f"{environment.repository}:/srv/backup")
    return [
        *contained("run", "--rm", "--log-driver", "none", memory=environment.copy_memory),
        *("--user", environment.application, "--network", environment.repository_network),
        *("--volume", f"{environment.secrets}/media-backup:/run/secrets:ro"),
        # Of the credentials only the place is told.
        *("--env", "AWS_SHARED_CREDENTIALS_FILE=/run/secrets/s3_credentials"),
        *(repository if environment.repository else []),
        *volume,
        *("--entrypoint", program, environment.image),
        *arguments,
    ]


def _restic(environment: Environment, *arguments: str, **options: str) -> list:
    """Return the command that runs restic on the repository; the options are those of `_container`."""
    return _container(environment, "restic", *_at(environment), *arguments, **options)


def _at(environment: Environment) -> list[str]:
    """Return restic's arguments that say which repository."""
    password = ["--password-file", "/run/secrets/restic_password"]
    return ["--no-cache", *password, *environment.media_repository]


def snapshots(environment: Environment) -> list[Snapshot]:
    """Return what the repository holds, oldest first; raises Failure if it can't be read."""
    words = _restic(environment, "snapshots", "--no-lock", "--json")
    found = json.loads(run(*words, doing="Reading the media repository") or "[]")
    return sorted(
        (Snapshot(item["short_id"], _moment(item["time"])) for item in found),
        key=lambda snapshot: snapshot.moment,
    )


def _moment(text: str) -> float:
    """Return the seconds since the epoch of restic's time, which has nanoseconds."""
    head, _, tail = text.partition(".")
    zone = tail.lstrip("0123456789") if tail else ""
    return datetime.fromisoformat(head + zone.replace("Z", "+00:00")).timestamp()


def kept(environment: Environment) -> bool:
    """Say whether there are uploads to keep: not in development, and not before the first release.

    Raises Failure where there were some and their volume is gone.
    """
    volume = environment.media_volume
    there = bool(volume) and inspect("volume", volume) is not None
    if volume and not there and record.read(environment).get("uploads"):
        raise Failure(
            f"The volume of the uploads, {volume}, is gone. Restore it: {environment.call} restore "
            f"-e restore_only=uploads -e restore_to=latest -e restore_confirm={environment.prefix}"
        )
    return there


def prepare(environment: Environment) -> list[str]:
    """Make the repository if there is none; return what had to be done."""
    found = attempt(*_restic(environment, "cat", "config", "--no-lock"))
    if found.returncode == 0:
        return []
    # 10: there is no repository. Anything else is a repository that must not be made again.
    if found.returncode != 10:
        raise Failure(f"Reading the media repository failed: {last_words(found)}")
    run(*_restic(environment, "init", changes="repository"), doing="Making the media repository")
    return ["media repository made"]


def back_up(environment: Environment) -> dict:
    """Take a snapshot of the uploads; return how many files and bytes it has, and what was added.

    Raises Failure, once, where there were some and now there is none: the volume may have been lost and made again.
    """
    _begin_change(environment)
    arguments = ["backup", "--json", "--quiet", "--host", environment.prefix, _ROOT]
    words = _restic(environment, *arguments, media=environment.media_volume, changes="repository")
    told = run(*words, doing="The backup of the uploads").splitlines()
    summary = next(
        (line for line in map(json.loads, told) if line.get("message_type") == "summary"), None
    )
    if summary is None:
        raise Failure("The backup of the uploads ended without a summary.")
    before = record.read(environment).get("uploads")
    files = summary["total_files_processed"]
    record.write(environment, uploads={"files": files, "at": time.time()})
    if isinstance(before, dict) and before["files"] and not files:
        raise Failure(
            f"The backup before had {before['files']} uploads, and now there is none. If they were not meant "
            f'to go: {environment.call} restore -e restore_only=uploads -e restore_to="{when(before["at"])}" '
            f"-e restore_confirm={environment.prefix}"
        )
    return {
        "files": files,
        "size": summary["total_bytes_processed"],
        "added": summary["data_added"],
    }


def known_good(environment: Environment, moment: float) -> None:
    """Record that the uploads are those of a moment now: that there may be fewer is what was asked for."""
    files = count(environment.media_volume)
    record.write(environment, uploads={"files": files, "at": moment})


def restore(environment: Environment, snapshot: Snapshot, volume: str) -> None:
    """Restore a snapshot into a volume, and verify every file there."""
    arguments = ["restore", "--no-lock", f"{snapshot.name}:{_ROOT}", "--target", _ROOT]
    arguments += ["--verify", "--quiet"]
    words = _restic(environment, *arguments, media=volume, changes="media")
    words[2:2] = ["--name", _worker(volume)]
    run(*words, doing="Restoring the uploads")


def count(volume: str) -> int:
    """Return how many files a volume has."""
    return sum(path.is_file() for path in place(volume).rglob("*"))


def verify(environment: Environment) -> list[str]:
    """Read the whole repository and return the lines that name damage."""
    done = attempt(*_restic(environment, "check", "--no-lock", "--read-data", "--quiet"))
    return [last_words(done)] if done.returncode else []


def expire(environment: Environment) -> None:
    """Remove snapshots that neither count nor age keeps."""
    rules = [
        "--keep-within",
        f"{environment.keep_days}d",
        "--keep-last",
        str(environment.keep_full),
    ]
    _begin_change(environment)
    words = _restic(environment, "forget", "--quiet", *rules, "--prune", changes="repository")
    run(*words, doing="Removing old snapshots of the uploads")


def _begin_change(environment: Environment) -> None:
    """Let go of what a killed restic has left locked, which restic itself does after half an hour.

    Raises Failure where a repository of this host can't be written, or one elsewhere does not answer: restic would try
    for a quarter of an hour, in which nobody else has the lock of the backups.
    """
    if environment.repository:
        probe = f"{environment.media_repository[-1]}/probe"
        write = ("sh", "-c", ': > "$0" && rm "$0"', probe)
        words = _container(environment, *write, changes="repository")
        run(*words, doing="Writing to the media repository")
    unlock = ("timeout", str(_ANSWER), "restic", *_at(environment), "unlock")
    words = _container(environment, *unlock, changes="repository")
    if attempt(*words).returncode == _LATE:
        raise Failure(f"The media repository does not answer within {_ANSWER} s.")


def size_of(environment: Environment, snapshot: Snapshot) -> int:
    """Return how many bytes a snapshot takes when it is restored."""
    arguments = ["stats", "--no-lock", "--mode", "restore-size", "--json", snapshot.name]
    told = run(*_restic(environment, *arguments), doing="Measuring the uploads")
    return json.loads(told)["total_size"]


def scratch(environment: Environment, volume: str) -> None:
    """Make an empty volume that the uploads' owner may write; what was there before goes."""
    remove(volume)
    if inspect("volume", volume) is not None:
        raise Failure(
            f"The volume {volume} of an earlier restore can't be removed: docker volume rm {volume}"
        )
    label = f"postdo.stack={environment.prefix}"
    run("docker", "volume", "create", "--label", label, volume, doing=f"Making the volume {volume}")
    words = ["--rm", "--volume", f"{volume}:{_ROOT}", "--user", "0:0", "--cap-add", "CHOWN"]
    words += ["--network", "none", "--entrypoint", "chown", environment.image]
    command = [*contained("run", *words, memory=environment.copy_memory)]
    run(*command, environment.application, _ROOT, doing=f"Preparing the volume {volume}")


def remove(volume: str) -> None:
    """Remove a volume and what works on it, if they are there."""
    attempt("docker", "rm", "--force", _worker(volume))
    attempt("docker", "volume", "rm", volume)


def _worker(volume: str) -> str:
    """Return the name of the container that restores into a volume."""
    return f"{volume}-work"


def copy_of(environment: Environment) -> str:
    """Return the name of the volume that uploads are restored into before they take their place."""
    return f"{environment.media_volume}-restoring"
