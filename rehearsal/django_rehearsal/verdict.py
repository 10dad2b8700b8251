"""What the facts of a rehearsal mean: go, or stop with the reason and the remedy for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from . import releases
from .drift import Difference, differences
from .findings import Facts, Finding, override
from .policy import AFTERWARDS, ALWAYS, Policy
from .wording import counted, describe_change, size


def judge(facts: Facts, policy: Policy) -> list[Finding]:
    """Return all that was found, in the order of the migrations, what is about none of them first."""
    found = [*_history(facts), *_health(facts), *_unseen(facts)]
    # Where the files of replaced migrations are gone (`lost`), the replay lacks what they made, and all of it would be drift.
    drift = [] if facts.look["lost"] else list(_drift(facts, policy))
    found += [*drift, *_edited(facts, known=bool(drift))]
    found += [*releases.unexercised(facts)]
    able = facts.baseline
    for one in facts.migrations:
        found += [*_lost(one), *_cost(one, policy), *_outside(one)]
        if able and one.get("exercise"):
            # What an earlier one has broken is that one's, and its override covers what follows.
            found += releases.old_release(one["migration"], able, one["exercise"])
            able = one["exercise"]
    found += [*_unended(facts), *releases.new_release(facts), *_disk(facts)]
    ruled = [_ruled(one, policy) for one in found]
    return [replace(one, level="warn") for one in ruled] if facts.told else ruled


def unused(facts: Facts, policy: Policy, found: list[Finding]) -> list[str]:
    """Return what the policy allows to migrations that are not there, or that did not come to it in this rehearsal."""
    rehearsed = {one["migration"] for one in facts.migrations}
    happened = {(one.migration, one.kind) for one in found}
    # Where files and record contradict each other, nobody knows what is to come.
    unread = facts.look["problem"] or facts.look["conflicts"]
    known = {*facts.look["pending"], *facts.look["recorded"], AFTERWARDS}
    strange = [
        f"migrations.toml allows {override.migration} something, and there is no such migration"
        for override in policy.overrides
        if override.migration not in known and not unread
    ]
    return strange + [
        f"migrations.toml allows {override.migration} {kind}, which it does not do"
        for override in policy.overrides
        if override.migration in rehearsed
        for kind in override.findings
        # Linters are asked elsewhere, before anything is rehearsed.
        if kind != "lint" and (override.migration, kind) not in happened
    ]


def _ruled(one: Finding, policy: Policy) -> Finding:
    """Return a finding as the policy has it."""
    if one.kind in ALWAYS:
        return one
    level = policy.findings[one.kind]
    reasons = policy.reasons(one.migration, one.kind)
    return Finding(one.kind, one.migration, one.text, one.remedy, level, reasons)


def _history(facts: Facts) -> Iterator[Finding]:
    """Yield where files and record contradict each other."""
    look = facts.look
    if look["problem"]:
        yield Finding(
            "history", "", look["problem"], "Mend the migration files; nobody knows what to apply."
        )
    for app, names in look["conflicts"].items():
        yield Finding(
            "history",
            "",
            f"{app} has several last migrations: {', '.join(names)}",
            "Merge them in development (makemigrations --merge) and commit the file.",
        )
    for squashed, names in look["lost"].items():
        yield Finding(
            "history",
            "",
            f"{squashed} replaces {', '.join(names)}, never applied to this database and in no file any more: what they do "
            "would be missing for good",
            "Bring these files back and deploy; remove them in a later release.",
        )
    for name in look["ghosts"]:
        app, _, own = name.partition(".")
        yield Finding(
            "ghost",
            name,
            f"{name} was applied to this database, and the release has no file for it",
            "Deploy the code that has the file, or bring the file back. If it was squashed into one that is applied, or given up "
            f"and its work undone by hand: DELETE FROM django_migrations WHERE app = '{app}' AND name = '{own}';",
        )


def _health(facts: Facts) -> Iterator[Finding]:
    """Yield what was wrong with the database before."""
    for one in facts.look["ailments"]:
        yield Finding(one["kind"], "", one["text"], one["repair"])
    for name in facts.look["invalid_indexes"]:
        if name in _cleared(facts):
            continue
        yield Finding(
            "invalid-index",
            "",
            f"the index {name} is a concurrent build that was never finished; it slows writes and serves no query",
            f"REINDEX INDEX CONCURRENTLY {name}; or DROP INDEX CONCURRENTLY {name};",
        )


def _unseen(facts: Facts) -> Iterator[Finding]:
    """Yield what the role that migrates is not let see."""
    if hidden := facts.look["unseen"]:
        yield Finding(
            "untried",
            "",
            f"row security hides rows of {', '.join(hidden)} from the role that migrates; what becomes of these is not seen",
            "Let that role own the table, or give it BYPASSRLS.",
        )


def _drift(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """Yield where the database is not what its migrations make."""
    if facts.unplayable and not policy.adoption("replay", ""):
        yield Finding(
            "drift",
            "",
            "whether the database is what its migrations make can't be told, because they fail on an empty one: "
            f"{facts.unplayable}",
            "Mend the migration so that it passes without rows (tests need that too), or write that you accept this:"
            + _adoption("replay", ""),
        )
    for one in surprises(facts):
        if not one.foreign and not policy.adoption(one.object, one.found):
            was = [it.definition for it in policy.adopted if it.object == one.object]
            text = f"{one}; it was adopted as: {was[-1]}" if was else str(one)
            yield Finding("drift", "", text, f"Repair: {one.repair or 'by hand'}\n{_adopt(one)}")


def surprises(facts: Facts) -> list[Difference]:
    """Return where the live database is not what its recorded migrations make, adopted or not.

    What an unfinished migration left, and clears away itself before it begins again, is none.
    """
    if facts.expected is None:
        return []
    cleared = {f"index {name}" for name in _cleared(facts)}
    own = {f"table {name}" for name in facts.look["tables"]}
    return [
        replace(one, foreign=False) if one.object in own else one
        for one in differences(facts.expected, facts.look["catalog"])
        if one.object not in cleared
    ]


def _cleared(facts: Facts) -> set[str]:
    """Return the indexes that earlier, unfinished runs of these migrations left and these cleared away."""
    return {name for one in facts.migrations for name in one.get("leftovers", ())}


def _adopt(one: Difference) -> str:
    return f"Or adopt it, in migrations.toml:{_adoption(one.object, one.found)}"


def _adoption(name: str, definition: str) -> str:
    """Return the lines of the policy that adopt an object as it is."""
    # As TOML has it where the plain quotes would not do.
    quoted = [
        json.dumps(text, ensure_ascii=False) if "'" in text or "\n" in text else f"'{text}'"
        for text in (name, definition)
    ]
    return f'\n[[adopt]]\nobject = {quoted[0]}\ndefinition = {quoted[1]}\nreason = "..."'


def _edited(facts: Facts, *, known: bool) -> Iterator[Finding]:
    """Yield applied migrations whose files are not those that were applied."""
    last = facts.last.get("files", {})
    for name, file in facts.look["files"].items():
        if last.get(name, file) != file:
            effect = "the drift above may come from that" if known else "the schema is the same"
            yield Finding(
                "edited",
                name,
                f"the file of {name} was edited after it had been applied; {effect}",
                "Undo the edit, and write a new migration for what it was to change.",
            )


def _lost(one: dict) -> Iterator[Finding]:
    """Yield what a migration fails at, loses, or can't take back."""
    name = one["migration"]
    if one.get("error"):
        text = "; ".join([one["error"].rstrip("."), *one["culprits"]])
        if one["left"]:
            text += f"; it leaves traces in {', '.join(one['left'])}, being no transaction"
        yield Finding("failure", name, text, "Mend the migration, or the rows that it fails at.")
        return
    for change in one["changes"]:
        kind = change["kind"]
        meant = kind == "filled" or (kind == "changed" and one["runs_code"])
        # Other words for the same, if they can be turned back.
        back = one["reversal"]["class"] in ("lossless", "inexact")
        meant = meant or (kind == "converted" and back)
        if not meant:
            yield Finding("data-loss", name, describe_change(change), override(name, "data-loss"))
    for key in one["dropped"]:
        text = f"the {key} goes with what it needs, and no statement names it"
        yield Finding("data-loss", name, text, override(name, "data-loss"))
    if one["reversal"]["class"] in ("irreversible", "failed"):
        yield Finding(
            "irreversible",
            name,
            f"it can't be taken back: {one['reversal']['why']}",
            "Give it a reverse (reverse_code=migrations.RunPython.noop, or reverse_sql=...). "
            f"{override(name, 'irreversible')}",
        )
    if not one["resumable"]:
        yield Finding(
            "not-resumable",
            name,
            "it is no transaction and runs code of its own: cut off midway, it begins again from its start",
            "Make sure that it can run twice.",
        )
    for ailment in one["ailments"]:
        yield Finding(
            ailment["kind"],
            name,
            f"after it, {ailment['text']}",
            f"Let it end with that put right: {ailment['repair']}",
        )
    for index in one["invalid_indexes"]:
        yield Finding(
            "invalid-index", name, f"it leaves the index {index} unfinished", "Mend the migration."
        )


def _unended(facts: Facts) -> Iterator[Finding]:
    """Yield the migration that did not end on the copy."""
    if facts.unended:
        known = {one["migration"] for one in facts.migrations}
        name = next((name for name in facts.look["pending"] if name not in known), "")
        yield Finding(
            "failure",
            name,
            f"it, or taking it back: {facts.unended}"
            if name
            else f"after all of them: {facts.unended}",
            "Mend the migration, or let a step take longer.",
        )


def _cost(one: dict, policy: Policy) -> Iterator[Finding]:
    """Yield whom a migration keeps waiting."""
    name = one["migration"]
    rewritten = {table["table"] for table in one.get("rewritten", ())}
    long: dict[str, list[dict]] = {}
    for lock in one["locks"]:
        large = lock["bytes"] >= policy.table_mb * 1e6
        limit = policy.lock_seconds if large else policy.small_table_lock_seconds
        if lock["blocks"] and lock["seconds"] > limit:
            long.setdefault(lock["table"], []).append(lock)
    for table, locks in long.items():
        kind = "rewrite" if table in rewritten else "lock"
        yield Finding(
            kind,
            name,
            f"it {kind}s {table} ({size(locks[0]['bytes'])}): {_waits(locks)}",
            f"Do it in steps that lock briefly (see docs/migrations.md). {override(name, kind)}",
        )
    if one["seconds"] > policy.migration_seconds:
        yield Finding(
            "slow",
            name,
            f"it takes {one['seconds']:.0f} s",
            f"Do the work in batches outside of migrations. {override(name, 'slow')}",
        )


def _waits(locks: list[dict]) -> str:
    """Return in words who waits for how long; who can't read can't write either."""
    told, longest = [], 0.0
    for blocks in ("reads and writes", "writes"):
        seconds = max((one["seconds"] for one in locks if one["blocks"] == blocks), default=0.0)
        if seconds > longest:
            told.append(f"{blocks} wait {seconds:.1f} s")
            longest = seconds
    return ", ".join(told)


def _outside(one: dict) -> Iterator[Finding]:
    """Yield what a migration does that no rehearsal can try and nobody can take back."""
    done = [f"sends {counted(one['mails'], 'mail')}"] if one["mails"] else []
    done += [f"calls {', '.join(one['calls'])}"] if one["calls"] else []
    if done:
        yield Finding(
            "outside",
            one["migration"],
            f"it {' and '.join(done)}; here it could not",
            f"Do that in a command of its own. {override(one['migration'], 'outside')}",
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    """Yield a want of room: twice what the migrations wrote on the copy must be free."""
    written = sum(max(0, one.get("growth", 0)) + one.get("wal", 0) for one in facts.migrations)
    if facts.free is not None and 2 * written > facts.free:
        yield Finding(
            "disk",
            "",
            f"the migrations write {size(written)}, and {size(facts.free)} are free on the database's disk; twice "
            "as much must be",
            "Free some room there.",
        )


def limits(facts: Facts) -> dict[str, float]:
    """Return how many seconds a statement of each migration, or a pause in it, may take on the live database.

    For the receivers at the end there is a limit too.

    So much more than on the copy that only another reality than the rehearsed one comes to it.
    """
    longest = {AFTERWARDS: 0.0}
    longest |= {
        one["migration"]: max(one["longest_statement"], one["longest_pause"])
        for one in facts.migrations
    }
    return {name: 30 + 5 * seconds for name, seconds in longest.items()}
