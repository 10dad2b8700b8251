"""What the facts of a rehearsal mean: go, or stop with the reason and the remedy for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .drift import Difference, differences
from .policy import AFTERWARDS, ALWAYS, Policy

# No such column, no such table, a value wanting in a column: the code and the schema don't belong together.
_UNFIT = ("42703", "42P01", "23502")
# And a text too long or a number too large for its column: what is there may fit, and the code write more.
_REFUSED = (*_UNFIT, "22001", "22003")
_NAMED = 5  # models that are named where there are more


@dataclass
class Facts:
    """What was found out; all but the first may be absent where it did not come to that.

    `about` says in a few words each what was rehearsed, by name ("release": "1f3a…"), and `steps` how many seconds each
    step took. `look` is what `look` answered of the live database, and `last` what it answered after the last
    deploy (`files` and `catalog`). `expected` is the schema that the recorded migrations make, `unplayable` why they
    could not be replayed. `baseline` is what the serving release could do before, `unexercised` why that can't be told.
    `migrations` is what `rehearse` told of each, with what that release could do after it as its `exercise`, `unended`
    that the one after the last of them did not end, and why it was ended, `new` what the new release can do after all of
    them. With `told` nothing is to be migrated, so that all that is found is only told. `point` names the moment to go
    back to, `catalog` is the schema at the rehearsal's end. `free` is the room on the database's
    disk in bytes.
    """

    look: dict
    last: dict = field(default_factory=dict)
    expected: dict | None = None
    unplayable: str = ""
    baseline: dict | None = None
    unexercised: str = ""
    unended: str = ""
    told: bool = False
    new: dict | None = None
    migrations: list[dict] = field(default_factory=list)
    free: int | None = None
    point: str = ""
    catalog: dict | None = None
    about: dict[str, str] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its kind, the migration it is about (or none), what it is and what to do.

    `level` is `stop` or `warn`; `allowed` is the reason for which the project lets it pass.
    """

    kind: str
    migration: str
    text: str
    remedy: str
    level: str
    allowed: str = ""

    @property
    def stops(self) -> bool:
        """Say whether this alone stops a deploy."""
        return self.level == "stop" and not self.allowed

    @property
    def advice(self) -> str:
        """Return the remedy's sentences."""
        return self.remedy.partition("\n[")[0]

    @property
    def paste(self) -> str:
        """Return the remedy's lines for migrations.toml, if any."""
        return self.remedy.removeprefix(self.advice).lstrip()


def judge(facts: Facts, policy: Policy) -> list[Finding]:
    """Return all that was found, in the order of the migrations, what is about none of them first."""
    found = [*_history(facts), *_health(facts), *_unseen(facts)]
    # Of what nothing makes any more, the replay knows nothing either.
    drift = [] if facts.look["lost"] else list(_drift(facts, policy))
    found += [*drift, *_edited(facts, known=bool(drift))]
    found += [*_unexercised(facts)]
    able = facts.baseline
    for one in facts.migrations:
        found += [*_lost(one), *_cost(one, policy), *_outside(one)]
        if able and one.get("exercise"):
            # What an earlier one has broken is that one's, and its override covers what follows.
            found += _old_release(one["migration"], able, one["exercise"])
            able = one["exercise"]
    found += [*_unended(facts), *_new_release(facts), *_disk(facts)]
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


def _finding(kind: str, migration: str, text: str, remedy: str) -> Finding:
    return Finding(kind, migration, text, remedy, "stop")


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
        yield _finding(
            "history", "", look["problem"], "Mend the migration files; nobody knows what to apply."
        )
    for app, names in look["conflicts"].items():
        yield _finding(
            "history",
            "",
            f"{app} has several last migrations: {', '.join(names)}",
            "Merge them in development (makemigrations --merge) and commit the file.",
        )
    for squashed, names in look["lost"].items():
        yield _finding(
            "history",
            "",
            f"{squashed} replaces {', '.join(names)}, never applied to this database and in no file any more: what they do "
            "would be missing for good",
            "Bring these files back and deploy; remove them in a later release.",
        )
    for name in look["ghosts"]:
        app, _, own = name.partition(".")
        yield _finding(
            "ghost",
            name,
            f"{name} was applied to this database, and the release has no file for it",
            "Deploy the code that has the file, or bring the file back. If it was squashed into one that is applied, or given up "
            f"and its work undone by hand: DELETE FROM django_migrations WHERE app = '{app}' AND name = '{own}';",
        )


def _health(facts: Facts) -> Iterator[Finding]:
    """Yield what was wrong with the database before."""
    for one in facts.look["ailments"]:
        yield _finding(one["kind"], "", one["text"], one["repair"])
    for name in facts.look["invalid_indexes"]:
        if name in _cleared(facts):
            continue
        yield _finding(
            "invalid-index",
            "",
            f"the index {name} is a concurrent build that was never finished; it slows writes and serves no query",
            f"REINDEX INDEX CONCURRENTLY {name}; or DROP INDEX CONCURRENTLY {name};",
        )


def _unseen(facts: Facts) -> Iterator[Finding]:
    """Yield what the role that migrates is not let see."""
    if hidden := facts.look["unseen"]:
        yield _finding(
            "untried",
            "",
            f"row security hides rows of {', '.join(hidden)} from the role that migrates; what becomes of these is not seen",
            "Let that role own the table, or give it BYPASSRLS.",
        )


def _drift(facts: Facts, policy: Policy) -> Iterator[Finding]:
    """Yield where the database is not what its migrations make."""
    if facts.unplayable and not policy.adoption("replay", ""):
        yield _finding(
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
            yield _finding("drift", "", text, f"Repair: {one.repair or 'by hand'}\n{_adopt(one)}")


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
            yield _finding(
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
        yield _finding("failure", name, text, "Mend the migration, or the rows that it fails at.")
        return
    for change in one["changes"]:
        kind = change["kind"]
        meant = kind == "filled" or (kind == "changed" and one["runs_code"])
        # Other words for the same, if they can be turned back.
        back = one["reversal"]["class"] in ("lossless", "inexact")
        meant = meant or (kind == "converted" and back)
        if not meant:
            yield _finding("data-loss", name, describe_change(change), _override(name, "data-loss"))
    for key in one["dropped"]:
        text = f"the {key} goes with what it needs, and no statement names it"
        yield _finding("data-loss", name, text, _override(name, "data-loss"))
    if one["reversal"]["class"] in ("irreversible", "failed"):
        yield _finding(
            "irreversible",
            name,
            f"it can't be taken back: {one['reversal']['why']}",
            "Give it a reverse (reverse_code=migrations.RunPython.noop, or reverse_sql=...). "
            f"{_override(name, 'irreversible')}",
        )
    if not one["resumable"]:
        yield _finding(
            "not-resumable",
            name,
            "it is no transaction and runs code of its own: cut off midway, it begins again from its start",
            "Make sure that it can run twice.",
        )
    for ailment in one["ailments"]:
        yield _finding(
            ailment["kind"],
            name,
            f"after it, {ailment['text']}",
            f"Let it end with that put right: {ailment['repair']}",
        )
    for index in one["invalid_indexes"]:
        yield _finding(
            "invalid-index", name, f"it leaves the index {index} unfinished", "Mend the migration."
        )


def _unended(facts: Facts) -> Iterator[Finding]:
    """Yield the migration that did not end on the copy."""
    if facts.unended:
        known = {one["migration"] for one in facts.migrations}
        name = next((name for name in facts.look["pending"] if name not in known), "")
        yield _finding(
            "failure",
            name,
            f"it, or taking it back: {facts.unended}"
            if name
            else f"after all of them: {facts.unended}",
            "Mend the migration, or let a step take longer.",
        )


def describe_change(change: dict) -> str:
    """Return in words what became of a column's or table's contents."""
    where, count = change["where"], change["count"]
    return {
        "rows": f"{counted(count, 'row')} of {where} {'is' if count == 1 else 'are'} deleted",
        "left": f"{counted(count, 'row')} of {where} {'is' if count == 1 else 'are'} no longer in it",
        "unlogged": f"{where} is no longer in the log: a crash leaves it empty, and so does a backup",
        "hidden": f"{counted(count, 'row')} of {where} {'is' if count == 1 else 'are'} hidden from the application",
        "gone": f"{where} goes, with {counted(count, 'value')} in it",
        "table": f"{where} goes, with {counted(count, 'row')} in it",
        "emptied": f"{counted(count, 'value')} of {where} {'becomes' if count == 1 else 'become'} empty",
        "filled": f"{counted(count, 'empty value')} of {where} {'is' if count == 1 else 'are'} filled",
        "changed": f"values of {where} become others",
        "converted": f"values of {where} become others with its new type",
    }[change["kind"]]


def counted(number: int, word: str) -> str:
    """Return so many of a thing in words."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def describe_reversal(reversal: dict) -> str:
    """Return in words what taking a migration back does."""
    word = reversal["class"]
    return word if word == "irreversible" else f"reversal {word}"


def _override(migration: str, kind: str) -> str:
    return (
        "If that is meant, say so in migrations.toml:\n[[override]]\n"
        f'migration = "{migration}"\nfindings = ["{kind}"]\nreason = "..."'
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
        yield _finding(
            kind,
            name,
            f"it {kind}s {table} ({size(locks[0]['bytes'])}): {_waits(locks)}",
            f"Do it in steps that lock briefly (see docs/migrations.md). {_override(name, kind)}",
        )
    if one["seconds"] > policy.migration_seconds:
        yield _finding(
            "slow",
            name,
            f"it takes {one['seconds']:.0f} s",
            f"Do the work in batches outside of migrations. {_override(name, 'slow')}",
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


def _unexercised(facts: Facts) -> Iterator[Finding]:
    """Yield where the release that serves could not show what it needs."""
    baseline = facts.baseline or {"models": {}}
    why = facts.unexercised
    reads = {model: tried["read"] for model, tried in baseline["models"].items()}
    if not why and reads and all(reads.values()):
        model, first = next(iter(reads.items()))
        why = f"it can read none of its {counted(len(reads), 'model')} there ({model}: {first})"
    if why:
        yield _finding(
            "old-release",
            "",
            f"the release that serves can't be tried on a copy: {why}",
            'Mend that, or say in migrations.toml that you go without:\n[findings]\nold-release = "warn"',
        )
        return
    if facts.baseline and (untried := not_tried(facts.baseline)):
        actions: dict[str, list[str]] = {}
        for model, action, _ in untried:
            actions.setdefault(model, []).append(action)
        told = [f"{', '.join(its)} of {model}" for model, its in actions.items()]
        more = f" and {len(told) - _NAMED} more models" if len(told) > _NAMED else ""
        yield _finding(
            "untried",
            "",
            f"with the release that serves, not tried: {'; '.join(told[:_NAMED])}{more}",
            "A made-up row is refused there before the migrations as well. List the requests that matter in "
            "django_web_rehearsal_requests.",
        )
    elif facts.baseline and not reads and facts.migrations:
        yield _finding(
            "untried", "", "the release that serves has no models; only its start was tried", ""
        )


def not_tried(done: dict) -> list[tuple[str, str, str]]:
    """Return what a release could not do before any migration, so that it says nothing after: model, action, why."""
    refused = done.get("untried", {})
    return [
        (model, action, why)
        for model, tried in done["models"].items()
        for action, why in (tried | refused.get(model, {})).items()
        # Of what is done with all columns at once, each is tried alone as well.
        if why and not any(other.startswith(f"{action} of ") for other in tried)
    ]


def _outside(one: dict) -> Iterator[Finding]:
    """Yield what a migration does that no rehearsal can try and nobody can take back."""
    done = [f"sends {counted(one['mails'], 'mail')}"] if one["mails"] else []
    done += [f"calls {', '.join(one['calls'])}"] if one["calls"] else []
    if done:
        yield _finding(
            "outside",
            one["migration"],
            f"it {' and '.join(done)}; here it could not",
            f"Do that in a command of its own. {_override(one['migration'], 'outside')}",
        )


def _old_release(migration: str, before: dict, after: dict) -> Iterator[Finding]:
    """Yield what the release that serves could do before a migration and can't after it."""
    unusable, broken = [], []
    for model, tried in before["models"].items():
        for action, why in tried.items():
            now = after["models"].get(model, {}).get(action, "")
            # What a made-up row could not do before says nothing, until the table itself is what refuses it.
            worse = not why or (now.startswith(_REFUSED) and not why.startswith(_REFUSED))
            if now and worse:
                unusable.append((model, action, now))
    if after["checks"] and not before["checks"]:
        broken.append(f"manage.py check says: {after['checks']}")
    broken += _unusable(unusable)
    for request, status in before["requests"].items():
        now = after["requests"].get(request, 0)
        if now // 100 > status // 100:
            broken.append(f"{request} answers {now} in place of {status}")
    if broken:
        yield _finding(
            "old-release",
            migration,
            f"the release that serves can't go on after it: {'; '.join(broken)}",
            "Split it: first a release that no longer needs what goes, or can do without what comes (a column that "
            "comes may be null or have a db_default), then the migration in the next. What save() or a view fills in is not "
            f"seen here, only what the fields do. {_override(migration, 'old-release')}",
        )


def _new_release(facts: Facts) -> Iterator[Finding]:
    """Yield what the new release can't do with its own schema, tried after its migrations, or else looked at."""
    told = [] if facts.look["pending"] else list(facts.look["unfit"])
    models = facts.new["models"].items() if facts.new else ()
    before = facts.baseline["models"] if facts.baseline else {}
    unusable = [
        (model, action, why)
        for model, tried in models
        # What Django does not manage may have no table at all.
        if "insert" in tried
        for action, why in tried.items()
        # What a made-up row could not do before either says nothing.
        if why.startswith(_UNFIT) and not before.get(model, {}).get(action)
    ]
    told += [one for one in _unusable(unusable) if one not in told]
    if told:
        yield _finding(
            "new-release",
            "",
            f"the release itself can't work with the schema: {'; '.join(told)}",
            "Bring models and migrations together: a column that the models no longer have must be able to be null, or have "
            "a default in the database.",
        )


def _unusable(found: list[tuple[str, str, str]]) -> list[str]:
    """Return in words what can't be done (model, action, why), once for each reason."""
    actions: dict[tuple[str, str], list[str]] = {}
    for model, action, why in found:
        actions.setdefault((model, why.rstrip(".")), []).append(action)
    return [f"{_named(tried)} of {model}: {why}" for (model, why), tried in actions.items()]


def _named(actions: list[str]) -> str:
    """Return actions in words, those that only look closer left out where a plain one says the same."""
    plain = [one for one in actions if not one.startswith(("changing update", "filter", "unique "))]
    return ", ".join(plain or actions)


def _disk(facts: Facts) -> Iterator[Finding]:
    """Yield a want of room: twice what the migrations wrote on the copy must be free."""
    written = sum(max(0, one.get("growth", 0)) + one.get("wal", 0) for one in facts.migrations)
    if facts.free is not None and 2 * written > facts.free:
        yield _finding(
            "disk",
            "",
            f"the migrations write {size(written)}, and {size(facts.free)} are free on the database's disk; twice "
            "as much must be",
            "Free some room there.",
        )


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def limits(facts: Facts) -> dict[str, float]:
    """Return how many seconds each migration's single statements may take on the live database.

    So much more than on the copy that only another reality than the rehearsed one comes to it.
    """
    return {one["migration"]: 30 + 5 * one["longest_statement"] for one in facts.migrations}


def describe(facts: Facts, found: list[Finding]) -> list[str]:
    """Return the verdict for a terminal: a line for each migration, and below it what was found."""
    lines, names = [], told_of(facts)
    if facts.told and found:
        lines.append(
            "There is nothing to migrate, so a deploy would not be stopped by any of this:"
        )
    for name in ["", *names]:
        its = [one for one in found if (one.migration if one.migration in names else "") == name]
        rehearsed = next((one for one in facts.migrations if one["migration"] == name), None)
        if name:
            word = "STOP" if any(one.stops for one in its) else "go" if rehearsed else "?"
            lines.append(f"{word:<5} {name}{_costs(rehearsed)}")
        lines += [line for one in told_once(its) for line in _lines(one)]
    return lines


def told_of(facts: Facts) -> list[str]:
    """Return what a verdict has a line for: each migration, and what was done afterwards if anything was."""
    pending = facts.look["pending"]
    return [
        *pending,
        *(one["migration"] for one in facts.migrations if one["migration"] not in pending),
    ]


def brief(found: list[Finding]) -> str:
    """Return what stops a deploy in a few words, empty if nothing does: each migration with its kinds of findings."""
    kinds: dict[str, list[str]] = {}
    for one in found:
        if one.stops:
            kinds.setdefault(one.migration or "the database", []).append(one.kind)
    return "; ".join(f"{where}: {', '.join(dict.fromkeys(its))}" for where, its in kinds.items())


def told_once(found: list[Finding]) -> list[Finding]:
    """Return findings with a remedy that several have at the last of them only."""
    last = {one.remedy: one for one in found}
    return [one if last[one.remedy] is one else replace(one, remedy="") for one in found]


def _costs(one: dict | None) -> str:
    if one is None:
        return ": not rehearsed"
    if one.get("error"):
        return f": failed after {one['seconds']:.2f} s"
    parts = [f"{one['seconds']:.2f} s"]
    held = [lock for lock in one["locks"] if lock["blocks"]]
    if held:
        # Of those that last alike, the one that keeps most away.
        everybody = "reads and writes"
        longest = max(held, key=lambda one: (round(one["seconds"], 1), one["blocks"] == everybody))
        parts.append(f"{longest['blocks']} of {longest['table']} wait {longest['seconds']:.2f} s")
    parts += [f"rewrites {table['table']}" for table in one["rewritten"]]
    written = sum(table["written"] for table in one["tables"])
    if written:
        parts.append(f"{counted(written, 'row')} written")
    return f": {', '.join([*parts, describe_reversal(one['reversal'])])}"


def _lines(one: Finding) -> list[str]:
    if one.allowed:
        return [f"      allowed {one.kind}: {one.text} ({one.allowed})"]
    word = "stop" if one.stops else "warning"
    lines = [f"      {word} {one.kind}: {one.text}"]
    return lines + [f"          {line}" for line in one.remedy.splitlines() if line.strip()]
