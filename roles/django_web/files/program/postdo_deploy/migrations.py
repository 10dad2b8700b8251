"""Migrations without fear: what a release would do to the database is done to a copy of it first.

The order is: look at the live database (which changes nothing), name a moment to go back to, restore a copy from the
backups, apply the migrations to it one by one while the release that serves works on it, judge what was
found; and only then apply them to the live database, within limits taken from the rehearsal.
"""

from __future__ import annotations

import json
import shutil

from postdo_host import Failure, attempt, run

from .account import Account
from .environment import Environment
from .inside import SECRETS, Inside, Unanswered
from .journal import Journal
from .rehearsal import Rehearsal, Rehearsed, look, unordered
from .releases import Release


def migrate(
    environment: Environment, release: Release, before: Release | None, account: Account
) -> list[str]:
    """Bring the database to where a release needs it; return what there is to say about that.

    Raises Failure with the live database untouched, or, where it fails while it is applied, with a part of
    the migrations applied that the release that serves was seen to work with.
    """
    journal = Journal(environment)
    with account.step("look"):
        seen = look(environment, release)
    settled = _settled(journal, seen)
    if _goes_unjudged(settled, release, before, seen):
        return []
    if _is_empty(seen):
        rehearsed = Rehearsed(["The database was empty, so there was nothing to rehearse on."])
    else:
        with account.step("rehearse"):
            rehearsed = Rehearsal(environment, release, before, seen, journal).rehearse()
    # Without any Django still says that it has migrated, and makes what it then makes: an earlier run, which applied
    # the last of them, may have been cut off in that.
    if seen["pending"] or not settled:
        with account.step("migrate"):
            rehearsed.said.extend(
                _apply(environment, release, seen["pending"], rehearsed, journal, account)
            )
    with account.step("verify"):
        now = look(environment, release)
        _require_same(rehearsed.catalog, now["catalog"])
        journal.record(release, now)
    return rehearsed.said


def _settled(journal: Journal, seen: dict) -> bool:
    """Return whether a database is as the last deploy left it, and has what the release needs."""
    return journal.left(seen) and not any(seen[name] for name in ("ghosts", "lost", "unfit"))


def _goes_unjudged(settled: bool, release: Release, before: Release | None, seen: dict) -> bool:
    """Return whether a release is deployed without a verdict, because it has nothing to migrate."""
    # One that serves or has served may find the schema ahead of it: whether it can live with that is asked of it.
    known = bool(release.served) or (before is not None and before.name == release.name)
    may = settled or known or _is_empty(seen)
    return may and not seen["pending"] and not unordered(seen)


def _require_same(rehearsed: dict | None, now: dict) -> None:
    """Raise Failure where the live schema is not the one that the rehearsal ended in."""
    if rehearsed is None:
        return
    other = sorted(key for key in rehearsed.keys() | now if rehearsed.get(key) != now.get(key))
    if other:
        raise Failure(
            "All migrations are applied, but the schema is not the one that they made of the copy, so nobody has tried "
            f"the releases on it: {', '.join(other)}. Somebody may have changed it meanwhile. Run again."
        )


def rehearse(
    environment: Environment, release: Release, before: Release | None, *, rewinding: bool = False
) -> list[str]:
    """Rehearse a release's migrations and leave the live database alone; raises Failure where that says stop.

    With `rewinding` those that the database has already and the release before lacks are among them.
    """
    seen = look(environment, release)
    if _is_empty(seen):
        return ["The database is empty; there is nothing to rehearse on."]
    journal, rewinding = Journal(environment), rewinding and before is not None
    one = Rehearsal(environment, release, before, seen, journal)
    # What a deploy would not even look at stops no deploy.
    told = not rewinding and _goes_unjudged(_settled(journal, seen), release, before, seen)
    return one.rehearse(rewinding=rewinding, told=told).said


def clear(environment: Environment) -> None:
    """Remove what a rehearsal or a migration that was cut off has left; none of them works any more."""
    names = f"name=^{environment.prefix}-(rehearsal|migrate)(-|$)"
    words = ["docker", "ps", "--all", "--format", "{{.Names}}", "--filter", names]
    left = run(*words, doing="Asking for the containers").split()
    if left:
        attempt("docker", "rm", "--force", *left)
    # The engine itself may have removed what worked on the copy, and has left its volume.
    whose = f"label=postdo.stack={environment.prefix}"
    words = ["docker", "volume", "ls", "--quiet", "--filter", whose]
    left += run(*words, doing="Asking for the volumes").split()
    if any("-rehearsal" in name for name in left):
        attempt(environment.backup, "rehearsal-end")
        shutil.rmtree(environment.state / SECRETS, ignore_errors=True)


def _is_empty(seen: dict) -> bool:
    """Return whether a database has never been used."""
    return not seen["recorded"] and not any(key.startswith("table ") for key in seen["catalog"])


def _apply(
    environment: Environment,
    release: Release,
    pending: list[str],
    rehearsed: Rehearsed,
    journal: Journal,
    account: Account,
) -> list[str]:
    """Apply the migrations to the live database; return what there is to say about that."""
    waited: list[str] = []
    applied: list[str] = account.entry.setdefault("migrations", [])
    asked = {"limits": {"statements": rehearsed.limits}, "interrupted": journal.interrupted}
    failed: dict = {}
    labels = ("postdo.process=migrate", f"postdo.release={release.name}")
    name = f"migrate-{release.name}"
    with Inside(environment, release.web.container, name, ["apply"], labels=labels) as inside:
        inside.say(json.dumps(asked))
        inside.close()
        try:
            while told := inside.answer():
                match told:
                    case {"begin": name}:
                        journal.begun(name)
                    case {"applied": name}:
                        applied.append(name)
                        journal.applied()
                        if (attempts := told["attempts"]) > 1:
                            waited.append(
                                f"{name} got its lock after {told['waited']:.0f} s, at attempt {attempts}."
                            )
                    case {"failed": _}:
                        failed = told
            status = inside.end()
        except Unanswered as reason:
            raise Failure(
                f"Applying the migrations failed: {reason}\nApplied: {', '.join(applied) or 'none'}. Run again once the "
                "reason is gone."
            ) from None
    if status == 75:
        raise Failure(
            "Somebody else migrates this database at this moment. Run again once that has ended."
        )
    if status:
        raise Failure(_failure(failed, applied, rehearsed, environment))
    if missing := [name for name in pending if name not in applied]:
        raise Failure(
            f"These migrations were not applied, and nobody says why: {', '.join(missing)}"
        )
    return waited


def _failure(
    failed: dict, applied: list[str], rehearsed: Rehearsed, environment: Environment
) -> str:
    """Return in words what became of a migration that failed on the live database."""
    parts = [failed["why"].rstrip("."), *failed["culprits"]]
    if failed["blockers"]:
        attempts = failed["attempts"]
        tried = f"after {attempts} attempts; " if attempts > 1 else ""
        parts.append(f"{tried}in the way: {'; '.join(failed['blockers'])}")
    # An empty database had no copy.
    passed = "passed on the copy and " if rehearsed.catalog else ""
    lines = [
        f"{failed['failed']} {passed}failed on the live database: {'; '.join(parts)}",
        f"Applied before it: {', '.join(applied) or 'none'}.",
        "Run again once the reason is gone.",
    ]
    if rehearsed.point and applied:
        lines.append(
            f"Only if you want back to before all of it, losing what was written since: {environment.call} restore "
            f"-e restore_to={rehearsed.point} -e restore_confirm={environment.prefix}"
        )
    return "\n".join(lines)
