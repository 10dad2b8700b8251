"""Releases on the host: a directory and some containers each; a link says which one serves.

The proxy asks `current/run/http.sock`, and every request opens it anew. To point the link at another
release is therefore the whole switch: one rename, which neither a crash nor a reboot can cut in two.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from postdo_host import Failure, attempt, run, when

from .environment import Environment

WEB = "web"


@dataclass(frozen=True)
class Process:
    """One container of a release; `stop_timeout` in seconds is what its work in hand may take."""

    name: str
    container: str
    stop_timeout: int


@dataclass(frozen=True)
class Release:
    """One release as its manifest tells it.

    `migrations` are those that were to be applied for it; `served` is when it first did serve (seconds
    since the epoch), 0 if never.
    """

    name: str
    directory: Path
    images: list[str]
    revision: str
    migrations: list[str]
    processes: list[Process]
    served: float

    @property
    def web(self) -> Process:
        """Return the process that answers visitors."""
        return next(one for one in self.processes if one.name == WEB)

    @property
    def workers(self) -> list[Process]:
        """Return the processes beside it."""
        return [one for one in self.processes if one.name != WEB]


def read(environment: Environment, name: str) -> Release:
    """Return a release by its name; raises Failure where there is none."""
    directory = environment.releases / name
    try:
        facts = json.loads((directory / "release.json").read_text())
        processes = [
            Process(one["name"], f"{environment.prefix}-{one['name']}-{name}", one["stop_timeout"])
            for one in facts["processes"]
        ]
        served = directory / "served"
        since = float(served.read_text()) if served.exists() else 0
        said = (facts["images"], facts["revision"], facts["migrations"])
        return Release(name, directory, *said, processes, since)
    except (OSError, ValueError, KeyError, TypeError):
        raise Failure(f"There is no release {name} here.") from None


def current(environment: Environment) -> Release | None:
    """Return the release that serves; None before the first."""
    link = environment.releases / "current"
    return read(environment, str(link.readlink())) if link.is_dir() else None


def kept(environment: Environment) -> list[Release]:
    """Return the releases that have served and are still here, in the order they were deployed in."""
    found = []
    for directory in environment.releases.glob("*/served"):
        try:
            found.append(read(environment, directory.parent.name))
        except Failure:
            # Half removed: it goes with the next cleaning.
            continue
    return sorted(found, key=lambda one: one.served)


def serve(environment: Environment, release: Release) -> None:
    """Let every request that begins from now on be this release's."""
    aside = environment.releases / "next"
    aside.unlink(missing_ok=True)
    aside.symlink_to(release.name)
    aside.rename(environment.releases / "current")
    descriptor = os.open(environment.releases, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def note_served(release: Release) -> None:
    """Remember that a release has served, and when it was deployed."""
    if not release.served:
        (release.directory / "served").write_text(f"{time.time()}\n")


def table(known: list[Release], now: Release | None) -> list[str]:
    """Return a line for each release, the newest last."""
    return [
        f"{one.name}  deployed {when(one.served)}  {one.revision or '-'}"
        f"{'  serves now' if now and one.name == now.name else ''}"
        for one in known
    ]


def containers(environment: Environment) -> dict[str, str]:
    """Return the release of each of the application's containers, by the container's name.

    A container from before there were releases has an empty one.
    """
    told = run(
        *("docker", "ps", "--all", "--filter", f"label=postdo.stack={environment.prefix}"),
        *("--filter", "label=postdo.process"),
        *("--format", '{{.Names}}\t{{.Label "postdo.release"}}'),
        doing="Asking for the containers",
    )
    found = dict(line.split("\t") for line in told.splitlines())
    older = f"{environment.prefix}-{WEB}"
    if attempt("docker", "inspect", "--type", "container", older).returncode == 0:
        found.setdefault(older, "")
    return found


def remove(environment: Environment, *keep: Release | None) -> None:
    """Remove every release but these, with its containers, and the images that only it was made of."""
    names = {release.name for release in keep if release}
    gone = [name for name, release in containers(environment).items() if release not in names]
    if gone:
        run("docker", "rm", "--force", *gone, doing="Removing containers that no release needs")
    images = {image for release in keep if release for image in release.images}
    for directory in environment.releases.iterdir():
        if directory.is_dir() and not directory.is_symlink() and directory.name not in names:
            _remove_directory(environment, directory, images)


def discard(environment: Environment, release: Release) -> None:
    """Remove a release that did not come to serve; raises Failure."""
    names = [name for name, its in containers(environment).items() if its == release.name]
    if names:
        run("docker", "rm", "--force", *names, doing=f"Removing {release.name}")
    _remove_directory(environment, release.directory, set())


def _remove_directory(environment: Environment, directory: Path, images: set[str]) -> None:
    """Remove what is left of a release once its containers are gone."""
    try:
        old = read(environment, directory.name).images
    except Failure:
        old = []
    for image in set(old) - images:
        # The engine refuses where another release or environment uses it.
        attempt("docker", "image", "rm", image)
    shutil.rmtree(directory)
