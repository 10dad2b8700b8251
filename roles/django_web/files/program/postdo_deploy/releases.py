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

from postdo_host import Failure, attempt, run, running, when
from postdo_host.files import write_whole

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

    `served` is when it was last deployed (seconds since the epoch), 0 if it never came to serve; `static` the path
    of one of its static files, empty where it has none.
    """

    name: str
    directory: Path
    images: list[str]
    revision: str
    processes: list[Process]
    served: float
    static: str = ""

    @property
    def socket(self) -> Path:
        """Return where its web process listens."""
        return self.directory / "run/http.sock"

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
        said = (facts["images"], facts["revision"])
        return Release(
            name, directory, *said, processes, _served(directory), facts.get("static", "")
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise Failure(f"There is no release {name} here.") from None


def _served(directory: Path) -> float:
    """Return when a release was last deployed; 0 if it never was, or a full disk took the note of it."""
    try:
        return float((directory / "served").read_text())
    except (OSError, ValueError):
        return 0


def current(environment: Environment) -> Release | None:
    """Return the release that serves; None before the first."""
    link = environment.releases / "current"
    if not link.is_dir():
        return None
    name = str(link.readlink())
    try:
        return read(environment, name)
    except Failure:
        # A power failure took what it was made of. It serves all the same, and another can take its place.
        web = Process(WEB, f"{environment.prefix}-{WEB}-{name}", 10)
        return Release(name, environment.releases / name, [], "", [web], 0)


def kept(environment: Environment) -> list[Release]:
    """Return the releases that have served and still can, in the order they were deployed in."""
    there = set(containers(environment))
    found = []
    for directory in environment.releases.iterdir():
        if directory.is_symlink() or not _served(directory):
            continue
        try:
            release = read(environment, directory.name)
        except Failure:
            # Half removed: it goes with the next cleaning.
            continue
        # The engine may have been told to remove all containers that do not run.
        if all(process.container in there for process in release.processes):
            found.append(release)
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


def note_served(*releases: Release) -> None:
    """Remember that these were deployed now, one after the other."""
    for number, release in enumerate(releases):
        write_whole(release.directory / "served", f"{time.time() + number / 1000}\n")


def table(known: list[Release], now: Release | None) -> list[str]:
    """Return a line for each release, the newest last."""
    return [
        f"{one.name}  served at {when(one.served)}  {one.revision or '-'}"
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
    # What ends an empty last one is no longer there.
    found = {
        name: release for name, _, release in (line.partition("\t") for line in told.splitlines())
    }
    older = f"{environment.prefix}-{WEB}"
    if attempt("docker", "inspect", "--type", "container", older).returncode == 0:
        found.setdefault(older, "")
    return found


def remove(environment: Environment, since: float, *keep: Release | None) -> None:
    """Remove every release but these, with its containers, and the images that only it was made of; and looks that failed.

    What was made after `since` (seconds since the epoch) is another run's, which waits for its turn. A
    container of before there were releases goes once it no longer serves.
    """
    looked = f"label=postdo.look={environment.prefix}"
    attempt(
        *("docker", "container", "prune", "--force"),
        *("--filter", looked, "--filter", f"until={since:.0f}"),
    )
    names = {release.name for release in keep if release}
    names |= {
        directory.name
        for directory in environment.releases.iterdir()
        if not _served(directory) and directory.lstat().st_mtime > since
    }
    gone = [
        name
        for name, release in containers(environment).items()
        if release not in names and (release or not running(name))
    ]
    if gone:
        run("docker", "rm", "--force", *gone, doing="Removing containers that no release needs")
    images = {image for release in keep if release for image in release.images}
    for directory in environment.releases.iterdir():
        if directory.is_dir() and not directory.is_symlink() and directory.name not in names:
            _remove_directory(environment, directory, images)


def discard(environment: Environment, release: Release, *keep: Release | None) -> None:
    """Remove a release that did not come to serve; the images of these others stay. Raises Failure."""
    names = [name for name, its in containers(environment).items() if its == release.name]
    if names:
        run("docker", "rm", "--force", *names, doing=f"Removing {release.name}")
    images = {image for one in keep if one for image in one.images}
    _remove_directory(environment, release.directory, images)


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
