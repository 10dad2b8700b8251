"""A rehearsal: what a release's migrations do, found out on a copy of the database with the serving release at work on it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postdo_host import Failure, attempt, room_for_volumes, run, stamp, when
from postdo_host.database import database_settings, psql
from postdo_host.stopwatch import Stopwatch

from .environment import Environment
from .inside import Copy, Inside, Late, Unanswered, ask, stand_ins
from .journal import Journal
from .releases import Release

_KEPT = 20  # reports

# A database's extensions as statements that make them where they are. Only a superuser may make some.
_EXTENSIONS = """
SELECT CASE WHEN nspname !~ '^pg_' AND nspname <> 'public'
            THEN format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I; ', nspname, pg_get_userbyid(nspowner))
            ELSE '' END || format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I CASCADE;', extname, nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace ORDER BY e.oid
"""


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


def look(environment: Environment, release: Release) -> dict:
    """Return what the package sees of the live database, without changing anything; raises Failure."""
    return _ask(environment, release, ["look"])


def unordered(seen: dict) -> bool:
    """Return whether nobody knows in which order to apply what is missing."""
    return bool(seen["problem"] or seen["conflicts"])


class Rehearsal:
    """One rehearsal of a release's migrations; `seen` is what `look` returned."""

    def __init__(
        self,
        environment: Environment,
        release: Release,
        before: Release | None,
        seen: dict,
        journal: Journal,
    ) -> None:
        self._environment = environment
        self._release = release
        self._before = before
        self._journal = journal
        self._watch = Stopwatch()
        steps = self._watch.steps
        self._facts: dict = {"look": seen, "last": journal.last, "steps": steps, "about": {}}

    def rehearse(self, *, rewinding: bool = False, told: bool = False) -> Rehearsed:
        """Rehearse, keep the report, and return what was found; raises Failure where that says stop.

        With `rewinding` the migrations that the release before lacks are taken back on the copy first. With `told` all
        that is found is only told.
        """
        facts, begun = self._facts, time.monotonic()
        facts["told"] = told
        if not unordered(facts["look"]):
            with self._copy() as copy:
                if rewinding:
                    self._rewind(copy)
                self._examine(copy)
        facts["about"] = {
            "environment": self._environment.prefix,
            "release": " ".join(filter(None, (self._release.name, self._release.revision))),
            "serving until now": self._before.name if self._before else "none",
            "rehearsed at": when(time.time()),
        } | facts["about"]
        judged = _ask(self._environment, self._release, ["judge"], told=json.dumps(facts))
        lines = judged["lines"] or [
            "There is nothing to migrate, and the schema is what it should be."
        ]
        took = ", ".join(f"{name} {seconds:.1f}" for name, seconds in facts["steps"].items())
        lines = [
            *lines,
            f"Rehearsed in {time.monotonic() - begun:.1f} s, of them: {took or 'nothing'}",
            f"Report: {self._keep(judged['page'])}",
        ]
        if not judged["go"]:
            # The first line is what the history keeps.
            first = (
                f"The migrations were stopped ({judged['why']}); the live database was not touched."
            )
            raise Failure("\n".join([first, *lines]))
        return Rehearsed(lines, facts.get("point", ""), judged["limits"], facts.get("catalog"))

    @contextmanager
    def _copy(self) -> Iterator[Copy]:
        """Make a copy of the database for a while, and note what it is of."""
        facts, environment = self._facts, self._environment
        try:
            # Each its own: a release's second attempt may begin in the middle of its migrations.
            words = ["rehearsal", f"before-{self._release.name}-{stamp()}"]
            made = json.loads(run(environment.backup, *words, doing="Making a copy to rehearse on"))
            facts["point"] = made["point"]
            facts["steps"] |= made["steps"]
            facts["about"]["copy of"] = made["source"]
            if made["point"]:
                facts["about"]["can be restored to"] = made["point"]
            with stand_ins(environment, made["container"]) as copy:
                yield copy
        finally:
            attempt(environment.backup, "rehearsal-end")

    def _rewind(self, copy: Copy) -> None:
        """Take back on the copy what the release before does not have, so that it can be rehearsed too."""
        base = _ask(self._environment, self._before, ["look"], copy=copy)
        kept = [name for name in base["recorded"] if name not in base["ghosts"]]
        with self._watch.step("rewind"):
            told = json.dumps(kept)
            found = _ask(self._environment, self._release, ["rewind"], copy=copy, told=told)
        if "error" in found:
            raise Failure(
                "What this database has already applied can't be taken back, so it can't be rehearsed here: "
                f"{found['error']}\nRehearse it where the data is production's, or on a fresh database."
            )
        self._facts["look"] = _ask(self._environment, self._release, ["look"], copy=copy)

    def _examine(self, copy: Copy) -> None:
        """Find out whether the schema is what it should be, and what the migrations do."""
        facts = self._facts
        if not self._journal.left(facts["look"]):
            with self._watch.step("replay"):
                facts |= self._replayed(copy)
        if facts["look"]["pending"]:
            facts["free"], _ = room_for_volumes()
            with self._watch.step("rehearsal"):
                self._rehearse_each(copy)

    def _replayed(self, copy: Copy) -> dict:
        """Return the schema that the recorded migrations make in an empty database, or why they can't."""
        made = psql(copy.container, _EXTENSIONS, self._environment.database["name"]).splitlines()
        answer = self._replay(copy, made)
        plain = [line for line in made if not line.startswith("CREATE SCHEMA")]
        # Migrations may themselves make a schema and what is in it.
        if "error" in answer and plain != made:
            other = self._replay(copy, plain)
            answer = answer if "error" in other else other
        if "error" in answer:
            return {"unplayable": f"{answer['migration']}: {answer['error']}"}
        return {"expected": answer["catalog"]}

    def _replay(self, copy: Copy, extensions: list[str]) -> dict:
        """Return what the package says of the recorded migrations in an empty database like the live one."""
        database, shadow = self._environment.database, f"rehearsal_{secrets.token_hex(6)}"
        psql(copy.container, f'CREATE DATABASE {shadow} OWNER "{database["user"]}"')
        psql(copy.container, psql(copy.container, database_settings(database["name"], shadow)))
        psql(copy.container, "\n".join(extensions), shadow)
        words, recorded = ["replay", "--database", shadow], self._facts["look"]["recorded"]
        told = json.dumps(recorded)
        try:
            return _ask(self._environment, self._release, words, copy=copy, told=told)
        finally:
            psql(copy.container, f"DROP DATABASE {shadow} WITH (FORCE)")

    def _rehearse_each(self, copy: Copy) -> None:
        """Apply the migrations one by one, and let the release that serves work on the copy after each."""
        facts, environment = self._facts, self._environment
        facts["migrations"] = told = []
        words = ["rehearse", "--pause"]
        if interrupted := self._journal.interrupted:
            words += ["--interrupted", interrupted]
        with ExitStack() as several:
            web = self._release.web.container
            new = several.enter_context(Inside(environment, web, "rehearsal-new", words, copy))
            # While this one reads what the tables hold, the other is already at work.
            serving = self._serving(copy, several) if self._before else None
            new.say()
            while found := self._answer(new):
                if "catalog" in found:
                    facts["catalog"], facts["new"] = found["catalog"], found["exercise"]
                    break
                told.append(found)
                if serving:
                    serving.say()
                    found["exercise"] = self._exercised(serving)
                    serving = serving if found["exercise"] else None
                new.say()
            if facts.get("unended"):
                return
            if new.end() != 0 and not any("error" in one for one in told):
                raise Failure("The rehearsal ended without a word.")

    def _serving(self, copy: Copy, several: ExitStack) -> Inside | None:
        """Let the release that serves work on the copy as it is; return it, if it can."""
        words = ["exercise", "--requests", json.dumps(self._environment.requests)]
        web = self._before.web.container
        try:
            serving = Inside(self._environment, web, "rehearsal-serving", words, copy)
        except Unanswered as reason:
            self._facts["unexercised"] = str(reason)
            return None
        several.enter_context(serving)
        self._facts["baseline"] = self._exercised(serving)
        return serving if self._facts["baseline"] else None

    def _answer(self, new: Inside) -> dict | None:
        """Return what the new release tells next; None once it has ended, or was ended."""
        try:
            return new.answer()
        except Late as reason:
            self._facts["unended"] = str(reason)
            return None

    def _exercised(self, serving: Inside) -> dict | None:
        """Return what the release that serves could do; None, and why, where that can't be told."""
        try:
            if done := serving.answer():
                return done
            self._facts["unexercised"] = f"it ended with status {serving.end()}"
        except Unanswered as reason:
            self._facts["unexercised"] = str(reason)
        return None

    def _keep(self, page: str) -> Path:
        """Keep a report, the oldest ones going."""
        directory = self._environment.state / "rehearsals"
        directory.mkdir(mode=0o750, exist_ok=True)
        path = directory / f"{stamp()}-{self._release.name}.html"
        path.write_text(page)
        for old in sorted(directory.iterdir())[:-_KEPT]:
            old.unlink()
        return path


def _ask(environment: Environment, release: Release, operation: list[str], **how: object) -> dict:
    """Return one answer of the package in a release; raises Failure in words for the operator."""
    try:
        return ask(environment, release.web.container, operation, **how)
    except Unanswered as reason:
        raise Failure(f"{release.name} can't be examined: {reason}") from None
