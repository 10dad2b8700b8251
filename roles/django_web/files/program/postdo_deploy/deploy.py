"""The sequence of a deploy: the new release proves itself beside the old one, takes the traffic, the old one drains."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from postdo_host import Failure, inspect

from . import containers, front, releases
from .account import Account, interrupted
from .environment import Environment
from .releases import Process, Release


def deploy(environment: Environment, name: str, account: Account) -> list[str]:
    """Let a release serve, whatever is found; return what there is to say about it.

    Called again it changes nothing, or heals. Raises Failure with the release of before serving.
    """
    said = _take_up(environment)
    release, before = releases.read(environment, name), releases.current(environment)
    account.about(release, before)
    releases.remove(environment, release, before, *releases.kept(environment))
    _in_service(environment, release, before, account, migrate=True)
    releases.remove(environment, *_newest(environment, release))
    return said


def roll_back(environment: Environment, name: str, account: Account) -> list[str]:
    """Let an earlier release serve again (empty: the one deployed before the one that serves)."""
    said = _take_up(environment)
    before, known = releases.current(environment), releases.kept(environment)
    release = _earlier(environment, name, before, known)
    account.about(release, before)
    _in_service(environment, release, before, account, migrate=False)
    return said


def _take_up(environment: Environment) -> list[str]:
    """Return what is to be said of an operation that was cut off."""
    note = interrupted(environment)
    return [note] if note else []


def _newest(environment: Environment, release: Release) -> list[Release]:
    """Return the releases to keep: so many that were deployed last, with the one that serves."""
    others = [one for one in releases.kept(environment) if one.name != release.name]
    return [release, *others[::-1][: environment.keep - 1]]


def _earlier(
    environment: Environment, name: str, before: Release | None, known: list[Release]
) -> Release:
    """Return the release to go back to; raises Failure, with what there is."""
    listed = "\n".join(f"  {line}" for line in releases.table(known, before)) or "  none"
    if name:
        found = [one for one in known if one.name == name]
        problem = f"There is no release {name} here"
        if before and name == before.name:
            found, problem = [], f"{name} serves already"
    else:
        names = [one.name for one in known]
        place = names.index(before.name) if before and before.name in names else 0
        found, problem = known[:place][-1:], "There is no earlier release to go back to"
    if not found:
        raise Failure(
            f"{problem}. Name another one: -e rollback_to=RELEASE. There are:\n{listed}\nNothing was changed."
        )
    return found[0]


def _in_service(
    environment: Environment,
    release: Release,
    before: Release | None,
    account: Account,
    *,
    migrate: bool,
) -> None:
    """Put a release in the place of what serves; raises Failure once that serves again."""
    others = _others(environment, release)
    heals = before is not None and before.name == release.name
    visitor = _visitor(environment)
    stopped: list[Process] = []
    seen = None
    try:
        with visitor as seen:
            try:
                if migrate:
                    _migrate(environment, release, account)
                with account.step("start"):
                    containers.start(release.web)
                    containers.await_health(release.web, environment.start_timeout)
                    if not migrate:
                        _require_fit(release)
                if before and not heals:
                    with account.step("watch"):
                        containers.watch([release.web], environment.watch_time)
                with account.step("workers"):
                    stopped += containers.stop([one for one in others if one.name != releases.WEB])
                    for worker in release.workers:
                        containers.start(worker)
                    if release.workers:
                        containers.watch(release.workers, environment.watch_time)
                with account.step("switch"), _undisturbed():
                    releases.serve(environment, release)
                with account.step("drain"):
                    _see_off(
                        environment, release, [one for one in others if one.name == releases.WEB]
                    )
            except BaseException:
                with _undisturbed():
                    _go_back(environment, release, before, stopped)
                raise
            with account.step("stop"), _undisturbed():
                containers.keep_up(release.processes)
                containers.stop(others)
                releases.note_served(release)
    finally:
        account.saw(seen)


def _visitor(environment: Environment) -> front.Visitor | nullcontext[None]:
    """Return somebody who visits the site meanwhile, where there is a site to visit."""
    asked = environment.front
    if asked is None or environment.maintenance.exists() or not front.answers(asked):
        return nullcontext()
    return front.Visitor(asked)


def _others(environment: Environment, release: Release) -> list[Process]:
    """Return the containers of the application that are not this release's."""
    own = {one.container for one in release.processes}
    found = []
    for name in releases.containers(environment):
        known = inspect("container", name) if name not in own else None
        if known:
            kind = known["Config"]["Labels"].get("postdo.process", releases.WEB)
            timeout = known["Config"].get("StopTimeout") or 10
            found.append(Process(kind, name, timeout))
    return found


def _migrate(environment: Environment, release: Release, account: Account) -> None:
    """Apply the migrations, if the run before this made a container for it."""
    container = f"{environment.prefix}-migrate-{release.name}"
    if inspect("container", container):
        with account.step("migrate"):
            containers.run_once(container)
        account.entry["migrations"] = release.migrations


def _require_fit(release: Release) -> None:
    """Raise Failure where the database's schema has moved on so far that an older release can't serve."""
    reasons = containers.ask(release.web, "python", "/opt/postdo/schema_fit.py")
    if reasons:
        listed = "\n".join(f"  {reason}" for reason in reasons)
        raise Failure(
            f"{release.name} can't serve with the database as it is now, because of later migrations:\n{listed}\n"
            "Go back to a later release, or deploy the mended code."
        )


def _see_off(environment: Environment, release: Release, old: list[Process]) -> None:
    """Let old web processes end what they have in hand, while the new release is looked at under its first visitors."""
    if old:
        containers.watch([release.web], environment.watch_time)
    for process in old:
        containers.drain(process, environment.drain_timeout, release.web)


def _go_back(
    environment: Environment, release: Release, before: Release | None, stopped: list[Process]
) -> None:
    """Leave things as they were: the release of before serves, and a new one that never did is gone."""
    if before and before.name == release.name:
        return
    now = releases.current(environment)
    if before and now and now.name != before.name:
        releases.serve(environment, before)
    if release.served:
        containers.stop(release.processes)
    else:
        releases.discard(environment, release)
    for process in stopped:
        containers.start(process)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no signal come between the steps of what takes only moments."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {kind: signal.signal(kind, signal.SIG_IGN) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
