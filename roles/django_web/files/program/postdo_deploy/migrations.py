"""Migrations without fear: what a release would do to the database is done to a copy of it first.

The order is: look at the live database (which changes nothing), name a moment to go back to, restore a copy from the
backups, apply the migrations to it one by one while the release that serves works on it, judge what was
found; and only then apply them to the live database, within limits taken from the rehearsal.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postdo_host import Failure, attempt, run, stamp, when

from .account import Account
from .environment import Environment
from .inside import SECRETS, Copy, Inside, Unanswered, ask, psql, stand_ins
from .releases import Release

_SHADOW = "rehearsal_shadow"
_KEPT = 20  # reports


def migrate(
    environment: Environment, release: Release, before: Release | None, account: Account
) -> list[str]:
    """Bring the database to where a release needs it; return what there is to say about that.

    Raises Failure with the live database untouched, or, where it fails while it is applied, with a part of
    the migrations applied that the release that serves was seen to work with.
    """
    journal = Journal(environment)
    with account.step("look"):
        look = _ask(environment, release.web.container, ["look"])
    settled = journal.left(look) and not look["ghosts"]
    # One that serves or has served may find the schema ahead of it: whether it can live with that is asked of it.
    known = bool(release.served) or (before is not None and before.name == release.name)
    if (settled or known or _is_empty(look)) and not look["pending"] and not _unordered(look):
        return []
    if _is_empty(look):
        rehearsed = Rehearsed(["The database was empty, so there was nothing to rehearse on."])
    else:
        with account.step("rehearse"):
            rehearsed = _rehearsed(environment, release, before, look, journal)
    if look["pending"]:
        with account.step("migrate"):
            _apply(environment, release, look, rehearsed, journal, account)
    with account.step("verify"):
        now = _ask(environment, release.web.container, ["look"])
        _require_same(rehearsed.catalog, now["catalog"])
        journal.record(release, now)
    return rehearsed.said


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
    look = _ask(environment, release.web.container, ["look"])
    if _is_empty(look):
        return ["The database is empty; there is nothing to rehearse on."]
    journal = Journal(environment)
    return _rehearsed(environment, release, before, look, journal, rewinding=rewinding).said


def clear(environment: Environment) -> None:
    """Remove what a rehearsal or a migration that was cut off has left; none of them works any more."""
    names = f"name=^{environment.prefix}-(rehearsal|migrate-)"
    words = ["docker", "ps", "--all", "--quiet", "--filter", names]
    left = run(*words, doing="Asking for the containers")
    if left:
        attempt("docker", "rm", "--force", *left.split())
        attempt(environment.backup, "rehearsal-end")
        shutil.rmtree(environment.state / SECRETS, ignore_errors=True)


def _unordered(look: dict) -> bool:
    """Return whether nobody knows what to apply."""
    return bool(look["problem"] or look["conflicts"])


def _is_empty(look: dict) -> bool:
    """Return whether a database has never been used."""
    return not look["recorded"] and not any(key.startswith("table ") for key in look["catalog"])


def _ask(environment: Environment, like: str, operation: list[str], **how: object) -> dict:
    """Return one answer of the package; raises Failure in words for the operator."""
    try:
        return ask(environment, like, operation, **how)
    except Unanswered as reason:
        raise Failure(f"The release can't be examined: {reason}") from None


@dataclass(frozen=True)
class Rehearsed:
    """What there is to say of a rehearsal that may be followed by the real thing.

    `point` names the moment to go back to, `limits` has the seconds that each migration's statements may take,
    `catalog` is the schema that they are to end in.
    """

    said: list[str]
    point: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    catalog: dict | None = None


class Journal:
    """What is known of this database's migrations: how the last deploy left it, and which one is under way."""

    def __init__(self, environment: Environment) -> None:
        self._recorded = environment.state / "migrations.json"
        self._underway = environment.state / "migrating.json"
        self.last: dict = self._read(self._recorded)

    @property
    def interrupted(self) -> str:
        """Return the migration that a run was cut off in; empty if there is none."""
        return self._read(self._underway).get("begun", "")

    def left(self, look: dict) -> bool:
        """Return whether schema, record and files are as the last deploy left them."""
        return all(self.last.get(name) == look[name] for name in ("catalog", "files"))

    def note(self, begun: str) -> None:
        """Remember which migration is begun now; none if the text is empty."""
        if begun:
            self._write(self._underway, {"begun": begun})
        else:
            self._underway.unlink(missing_ok=True)

    def record(self, release: Release, look: dict) -> None:
        """Remember how the database is now."""
        known = {"release": release.name, "at": time.time()}
        self._write(self._recorded, known | {name: look[name] for name in ("files", "catalog")})
        self.last = self._read(self._recorded)
        self.note("")

    @staticmethod
    def _read(path: Path) -> dict:
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            # None yet, or one that a full disk cut off: what it said is found out again.
            return {}

    @staticmethod
    def _write(path: Path, content: dict) -> None:
        aside = path.with_suffix(".new")
        with aside.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)


def _rehearsed(
    environment: Environment,
    release: Release,
    before: Release | None,
    look: dict,
    journal: Journal,
    *,
    rewinding: bool = False,
) -> Rehearsed:
    """Rehearse and return what that says; raises Failure where it says stop."""
    facts: dict = {"look": look, "last": journal.last, "steps": {}, "about": {}}
    if not _unordered(look):
        with _copy(environment, f"before-{release.name}", facts) as copy:
            if rewinding and before:
                _rewind(environment, release, before, copy, facts)
            _examine(environment, release, before, copy, facts, journal)
    facts["about"] = {
        "environment": environment.prefix,
        "release": " ".join(filter(None, (release.name, release.revision))),
        "serving until now": before.name if before else "none",
        "rehearsed at": when(time.time()),
    } | facts["about"]
    judged = _ask(environment, release.web.container, ["judge"], told=json.dumps(facts))
    report = _keep(environment, release, judged["page"])
    lines = judged["lines"] or ["There is nothing to migrate, and the schema is what it should be."]
    lines = [*lines, f"Report: {report}"]
    if not judged["go"]:
        lines = ["The migrations were stopped; the live database was not touched.", *lines]
        raise Failure("\n".join(lines))
    return Rehearsed(lines, facts.get("point", ""), judged["limits"], facts.get("catalog"))


def _rewind(
    environment: Environment, release: Release, before: Release, copy: Copy, facts: dict
) -> None:
    """Take back on a copy what the release before does not have, so that it can be rehearsed too."""
    base = _ask(environment, before.web.container, ["look"], copy=copy)
    kept = [name for name in base["recorded"] if name not in base["ghosts"]]
    with _step(facts, "rewind"):
        told = json.dumps(kept)
        found = _ask(environment, release.web.container, ["rewind"], copy=copy, told=told)
    if "error" in found:
        raise Failure(
            f"What this database has already applied can't be taken back, so it can't be rehearsed here: {found['error']}\n"
            "Rehearse it in production's inventory (./run.sh -0 rehearse), or on a fresh database."
        )
    facts["look"] = _ask(environment, release.web.container, ["look"], copy=copy)


@contextmanager
def _copy(environment: Environment, point: str, facts: dict) -> Iterator[Copy]:
    """Make a copy of the database for a while, and note in the facts what it is of."""
    try:
        doing = "Making a copy to rehearse on"
        made = json.loads(run(environment.backup, "rehearsal", point, doing=doing))
        facts["point"] = made["point"]
        facts["steps"] |= made["steps"]
        facts["about"]["copy of"] = made["source"]
        if made["point"]:
            facts["about"]["can be restored to"] = made["point"]
        with stand_ins(environment, made["container"], made["network"]) as copy:
            yield copy
    finally:
        attempt(environment.backup, "rehearsal-end")


def _examine(
    environment: Environment,
    release: Release,
    before: Release | None,
    copy: Copy,
    facts: dict,
    journal: Journal,
) -> None:
    """Find out on a copy whether the schema is what it should be, and what the migrations do."""
    look = facts["look"]
    if not journal.left(look):
        with _step(facts, "replay"):
            facts |= _replayed(environment, release, copy, look)
    if not look["pending"]:
        return
    facts["free"] = shutil.disk_usage(environment.engine_root()).free
    with _step(facts, "rehearsal"):
        _rehearse_each(environment, release, before, copy, facts, journal)


@contextmanager
def _step(facts: dict, name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    facts["steps"][name] = round(time.monotonic() - begun, 2)


def _replayed(environment: Environment, release: Release, copy: Copy, look: dict) -> dict:
    """Return the schema that the recorded migrations make in an empty database, or why they can't."""
    user = environment.database["user"]
    psql(copy.container, f'CREATE DATABASE {_SHADOW} OWNER "{user}"')
    extensions = [key.split(" ", 1)[1] for key in look["catalog"] if key.startswith("extension ")]
    made = [f"CREATE EXTENSION IF NOT EXISTS {name} CASCADE;" for name in extensions]
    psql(copy.container, "\n".join([f"\\connect {_SHADOW}", *made]))
    words = ["replay", "--database", _SHADOW]
    recorded = json.dumps(look["recorded"])
    answer = _ask(environment, release.web.container, words, copy=copy, told=recorded)
    psql(copy.container, f"DROP DATABASE {_SHADOW}")
    if "error" in answer:
        return {"unplayable": f"{answer['migration']}: {answer['error']}"}
    return {"expected": answer["catalog"]}


def _rehearse_each(
    environment: Environment,
    release: Release,
    before: Release | None,
    copy: Copy,
    facts: dict,
    journal: Journal,
) -> None:
    """Apply the migrations to a copy one by one, and let the release that serves work on it after each."""
    facts["migrations"] = told = []
    with ExitStack() as several:
        at_work = None
        if before:
            words = ["exercise", "--requests", json.dumps(environment.requests)]
            at_work = Inside(environment, before.web.container, "rehearsal-serving", words, copy)
            facts["baseline"] = several.enter_context(at_work).answer()
            if facts["baseline"] is None:
                facts["unexercised"] = _why(at_work)
                at_work = None
        words = ["rehearse", "--pause"]
        words += ["--interrupted", journal.interrupted] if journal.interrupted else []
        new = Inside(environment, release.web.container, "rehearsal-new", words, copy)
        several.enter_context(new)
        while found := new.answer():
            if "catalog" in found:
                facts["catalog"] = found["catalog"]
                break
            told.append(found)
            if at_work:
                at_work.say()
                found["exercise"] = at_work.answer()
                if found["exercise"] is None:
                    facts["unexercised"], at_work = _why(at_work), None
            new.say()
        if new.end() != 0 and not any("error" in one for one in told):
            raise Failure("The rehearsal ended without a word.")
    if "catalog" in facts:
        facts["new"] = _ask(environment, release.web.container, ["exercise"], copy=copy)


def _why(inside: Inside) -> str:
    """Return why a run of the package ended without an answer."""
    try:
        return f"it ended with status {inside.end()}"
    except Unanswered as reason:
        return str(reason)


def _apply(
    environment: Environment,
    release: Release,
    look: dict,
    rehearsed: Rehearsed,
    journal: Journal,
    account: Account,
) -> None:
    """Apply the migrations to the live database."""
    applied: list[str] = account.entry.setdefault("migrations", [])
    asked = {"limits": {"statements": rehearsed.limits}, "interrupted": journal.interrupted}
    failed: dict = {}
    labels = ("postdo.process=migrate", f"postdo.release={release.name}")
    name = f"migrate-{release.name}"
    with Inside(environment, release.web.container, name, ["apply"], labels=labels) as inside:
        inside.say(json.dumps(asked))
        inside.close()
        while told := inside.answer():
            journal.note(told.get("begin", ""))
            if "applied" in told:
                applied.append(told["applied"])
            failed = told if "failed" in told else failed
        try:
            status = inside.end()
        except Unanswered as reason:
            raise Failure(f"The migrations could not be applied: {reason}") from None
    if status == 75:
        raise Failure(
            "Somebody else migrates this database at this moment. Run again once that has ended."
        )
    if status:
        raise Failure(_failure(failed, applied, rehearsed.point, environment))
    if missing := [name for name in look["pending"] if name not in applied]:
        raise Failure(
            f"These migrations were not applied, and nobody says why: {', '.join(missing)}"
        )


def _failure(failed: dict, applied: list[str], point: str, environment: Environment) -> str:
    """Return in words what became of a migration that failed on the live database."""
    parts = [failed["why"].rstrip("."), *failed["culprits"]]
    if failed["blockers"]:
        parts.append(
            f"after {failed['attempts']} attempts; in the way: {'; '.join(failed['blockers'])}"
        )
    lines = [
        f"{failed['failed']} passed on the copy and failed on the live database: {'; '.join(parts)}",
        f"Applied before it, and rehearsed with the release that serves: {', '.join(applied) or 'none'}.",
        "Run again once the reason is gone.",
    ]
    if point and applied:
        lines.append(
            f"Only if you want back to before all of it, losing what was written since: {environment.call} restore "
            f"-e restore_to={point}"
        )
    return "\n".join(lines)


def _keep(environment: Environment, release: Release, page: str) -> Path:
    """Keep a report, the oldest ones going."""
    directory = environment.state / "rehearsals"
    directory.mkdir(mode=0o750, exist_ok=True)
    path = directory / f"{stamp()}-{release.name}.html"
    path.write_text(page)
    for old in sorted(directory.iterdir())[:-_KEPT]:
        old.unlink()
    return path
