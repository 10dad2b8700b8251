"""What a release could do before the migrations, and can't do after them."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Facts, Finding, override
from .wording import counted

# No such column, no such table, a value wanting in a column: the code and the schema don't belong together.
_UNFIT = ("42703", "42P01", "23502")
# And a text too long or a number too large for its column: what is there may fit, and the code write more.
_REFUSED = (*_UNFIT, "22001", "22003")
# And a type, a comparison or a uniqueness that the table has not: what a release says of its own schema.
_MISFIT = (*_REFUSED, "42804", "42883", "42P10")
_NAMED = 5  # models that are named where there are more


def unexercised(facts: Facts) -> Iterator[Finding]:
    """Yield where the release that serves could not show what it needs."""
    baseline = facts.baseline or {"models": {}}
    why = facts.unexercised
    reads = {model: tried["read"] for model, tried in baseline["models"].items()}
    if not why and reads and all(reads.values()):
        model, first = next(iter(reads.items()))
        why = f"it can read none of its {counted(len(reads), 'model')} there ({model}: {first})"
    if why:
        yield Finding(
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
        yield Finding(
            "untried",
            "",
            f"with the release that serves, not tried: {'; '.join(told[:_NAMED])}{more}",
            "What fails there before the migrations says nothing after them. List the requests that matter in "
            "django_web_rehearsal_requests, and mend those that fail.",
        )
    elif facts.baseline and not reads and facts.migrations:
        yield Finding(
            "untried", "", "the release that serves has no models; only its start was tried", ""
        )


def not_tried(done: dict) -> list[tuple[str, str, str]]:
    """Return what a release could not do before any migration, so that it says nothing after: what, action, why."""
    refused = done.get("untried", {})
    requests = [
        ("the requests", request, f"answered {status}")
        for request, status in done["requests"].items()
        if status >= 400
    ]
    return requests + [
        (model, action, why)
        for model, tried in done["models"].items()
        for action, why in (tried | refused.get(model, {})).items()
        # Of what is done with all columns at once, each is tried alone as well.
        if why and not any(other.startswith(f"{action} of ") for other in tried)
    ]


def old_release(migration: str, before: dict, after: dict) -> Iterator[Finding]:
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
        yield Finding(
            "old-release",
            migration,
            f"the release that serves can't go on after it: {'; '.join(broken)}",
            "Split it: first a release that no longer needs what goes, or can do without what comes (a column that "
            "comes may be null or have a db_default), then the migration in the next. What save() or a view fills in is not "
            f"seen here, only what the fields do. {override(migration, 'old-release')}",
        )


def new_release(facts: Facts) -> Iterator[Finding]:
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
        # What a made-up row could not do before either says nothing; a row that can't be read is nobody's invention.
        if why
        and (action == "read" or why.startswith(_MISFIT))
        and not before.get(model, {}).get(action)
    ]
    told += [one for one in _unusable(unusable) if one not in told]
    if told:
        yield Finding(
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
