"""The sequence of a deploy: the new release proves itself beside the old one, takes the traffic, the old one drains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from postdo_host import Failure, inspect, running, undisturbed

from . import containers, migrations, releases
from .account import Account, interrupted
from .environment import Environment
from .pages import Pages
from .releases import Process, Release


def deploy(environment: Environment, name: str, account: Account) -> list[str]:
    """Let a release serve, whatever is found; return what there is to say about it.

    Called again it changes nothing, or heals. Raises Failure with the release of before serving.
    """
    said = interrupted(environment)
    release, before = releases.read(environment, name), releases.current(environment)
    account.about(release, before)
    _clear(environment, account)
    known = releases.kept(environment)
    releases.remove(environment, account.begun, release, before, *known)
    said += _migrate(environment, release, before, account)
    # One that has served may be older than what was done to the schema since.
    returns = bool(before and before.name != name and release.served)
    proof = _require_fit if returns else None
    said += _in_service(environment, release, before, account, proof)
    if before and before.name != name and before.served:
        # What served last is what to go back to first, whenever it was made.
        releases.note_served(before)
    releases.note_served(release)
    try:
        releases.remove(environment, account.begun, *_newest(environment, release))
    except (Failure, OSError) as problem:
        said.append(f"Older releases could not be removed, the next deploy tries again: {problem}")
    return said


def roll_back(environment: Environment, name: str, account: Account) -> list[str]:
    """Let an earlier release serve again (empty: the one deployed before the one that serves)."""
    said = interrupted(environment)
    before, known = releases.current(environment), releases.kept(environment)
    release = _earlier(name, before, known)
    account.about(release, before)
    _clear(environment, account)
    return said + _in_service(environment, release, before, account, _require_fit, back=True)


def rehearse(environment: Environment, name: str) -> list[str]:
    """Rehearse a release's migrations, and leave everything as it is; raises Failure where they would be stopped."""
    release, before = releases.read(environment, name), releases.current(environment)
    _clear(environment)
    try:
        return migrations.rehearse(environment, release, before)
    finally:
        if not release.served and not (before and before.name == name):
            with undisturbed():
                releases.discard(environment, release, before, *releases.kept(environment))


def rehearse_tree(environment: Environment, name: str, web: str, before: str) -> list[str]:
    """Rehearse what a working tree in the container `web` adds to the one in `before`, if there is one."""
    _clear(environment)
    tree, base = (
        Release(name, environment.state, [], "", [Process(releases.WEB, container, 0)], 0)
        for container in (web, before)
    )
    return migrations.rehearse(environment, tree, base if before else None, rewinding=bool(before))


def _newest(environment: Environment, release: Release) -> list[Release]:
    """Return the releases to keep: so many that were deployed last, with the one that serves."""
    others = [one for one in releases.kept(environment) if one.name != release.name]
    return [release, *others[::-1][: environment.keep - 1]]


def _earlier(name: str, before: Release | None, known: list[Release]) -> Release:
    """Return the release to go back to; raises Failure, with what there is."""
    listed = "\n".join(f"  {line}" for line in releases.table(known, before)) or "  none"
    if name:
        found = [one for one in known if one.name == name]
        problem = f"There is no release {name} here"
        if before and name == before.name:
            found, problem = [], f"{name} serves already"
    else:
        names = [one.name for one in known]
        # One that serves and is not known was cut off in its deploy.
        place = names.index(before.name) if before and before.name in names else len(names)
        found, problem = known[:place][-1:], "There is no earlier release to go back to"
    if not found:
        raise Failure(
            f"{problem}. Name another one: -e rollback_to=RELEASE. There are:\n{listed}\nNothing was changed."
        )
    return found[0]


def _clear(environment: Environment, account: Account | None = None) -> None:
    """Remove what a run that was cut off has left.

    Migrations that outlived their deploy are waited for: ended in their middle, they could leave anything behind.
    """
    prefix = f"{environment.prefix}-migrate-"
    names = [name for name in releases.containers(environment) if name.startswith(prefix)]
    if still := [name for name in names if running(name)]:
        with account.step("wait") if account else nullcontext():
            containers.await_end(*still)
    migrations.clear(environment)


def _migrate(
    environment: Environment, release: Release, before: Release | None, account: Account
) -> list[str]:
    """Bring the database to where a release needs it; return what there is to say about that."""
    try:
        return migrations.migrate(environment, release, before, account)
    except BaseException:
        with undisturbed():
            _go_back(environment, release, before)
        raise


def _in_service(
    environment: Environment,
    release: Release,
    before: Release | None,
    account: Account,
    proof: Callable[[Release], None] | None = None,
    *,
    back: bool = False,
) -> list[str]:
    """Put a release in the place of what serves; return what there is to say about it.

    Raises Failure once what served does so again. `proof` may raise it while both run. Going back is not kept from
    an older release that lacks a page.
    """
    others = _others(environment, release)
    heals = before is not None and before.name == release.name
    # What serves and is to be healed is no measure.
    pages = Pages(environment, release, None if heals else before, back=back)
    seen = None
    try:
        with pages.visitors() as seen:
            try:
                with account.step("start"):
                    if heals:
                        containers.start_again(release.web)
                    containers.start(release.web)
                    containers.await_health(release.web, environment.start_timeout)
                    if proof:
                        proof(release)
                if not heals:
                    with account.step("pages"):
                        pages.require()
                if before and not heals:
                    with account.step("watch"):
                        containers.watch([release.web], environment.watch_time)
                with account.step("workers"):
                    containers.stop([one for one in others if one.name != releases.WEB])
                    containers.start(*release.workers)
                    if release.workers and not heals:
                        containers.watch(release.workers, environment.watch_time)
                with account.step("switch"), undisturbed():
                    # First: a release that serves comes back by itself, whatever happens next.
                    containers.keep_up(release.processes)
                    releases.serve(environment, release)
                    pages.switched()
                if others and not heals:
                    # Under its first visitors, while what served can still take them back.
                    with account.step("watch"):
                        containers.watch(release.processes, environment.watch_time)
                        pages.require_at_site()
            except BaseException as problem:
                with undisturbed():
                    _go_back(environment, release, before, problem)
                raise
            try:
                with account.step("drain"), undisturbed():
                    containers.stop(others)
            except Failure as problem:
                account.settled = False
                return [f"What served before could not be stopped; run again for it. {problem}"]
    finally:
        account.saw(seen)
    return []


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


def _require_fit(release: Release) -> None:
    """Raise Failure where the database's schema has moved on so far that an older release can't serve."""
    reasons = containers.ask(release.web, "unfit", "python", "/opt/postdo/schema_fit.py")
    if reasons:
        listed = "\n".join(f"  {reason}" for reason in reasons)
        raise Failure(
            f"{release.name} can't serve with the database as it is now, because of later migrations:\n{listed}\n"
            "Go back to a later release, or deploy the mended code."
        )


def _go_back(
    environment: Environment,
    release: Release,
    before: Release | None,
    problem: BaseException | None = None,
) -> None:
    """Leave things as they were: what served serves, with its workers, and what never did is gone.

    Each step is taken even where another one failed; what failed is added to the problem.
    """
    if before and before.name == release.name:
        return

    def link() -> None:
        now = releases.current(environment)
        if before and now and now.name != before.name:
            releases.serve(environment, before)

    def gone() -> None:
        if not release.served:
            releases.discard(environment, release, before, *releases.kept(environment))

    steps = [
        containers.await_engine,
        link,
        lambda: containers.stop(release.processes),
        lambda: containers.start(*(before.processes if before else [])),
        gone,
    ]
    for step in steps:
        try:
            step()
        except (Failure, OSError) as another:
            if problem is not None:
                problem.add_note(f"And while going back: {another}")
