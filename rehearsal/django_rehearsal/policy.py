"""What a project allows its migrations: the file `migrations.toml` beside `manage.py`.

Without the file everything is as strict as it gets. An override or an adoption says why, in git; an override's
reason is in every report.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

FILE = "migrations.toml"
# What is done once all migrations are applied is told, and allowed, under the name of Django's signal.
AFTERWARDS = "post_migrate"

# What can be found, and whether it stops the deploy unless the file says otherwise.
FINDINGS = {
    "data-loss": "stop",
    "irreversible": "stop",
    "lock": "stop",
    "rewrite": "stop",
    "slow": "stop",
    "old-release": "stop",
    "new-release": "stop",
    "outside": "stop",
    "ghost": "stop",
    "drift": "stop",
    "edited": "warn",
    "sequence": "stop",
    "invalid-index": "stop",
    "lint": "stop",
    "untried": "warn",
    "not-resumable": "warn",
    "overflow": "warn",
    "collation": "warn",
}
# Of these nothing can be allowed: the migration would fail, or nobody knows what it would do.
ALWAYS = ("failure", "history", "disk")
_LIMITS = ("table_mb", "lock_seconds", "small_table_lock_seconds", "migration_seconds")
# These are about the database or the release, or may be, so no migration can be allowed them.
_OF_NONE = ("new-release", "drift", "sequence", "overflow", "collation", "untried")


class Unusable(Exception):
    """A policy that can't be read as one; says where and what to write."""


@dataclass(frozen=True)
class Override:
    """One migration that may do what these findings name, and why."""

    migration: str
    findings: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Adopted:
    """An object that may be other than the migrations make it, as long as it has this definition, and why."""

    object: str
    definition: str
    reason: str


@dataclass(frozen=True)
class Policy:
    """What a project allows.

    Locks and rewrites count once they last longer than `lock_seconds`, on tables smaller than `table_mb` (megabytes,
    with indexes) than `small_table_lock_seconds`; a migration is slow beyond `migration_seconds`. `findings` says of each
    kind whether it is to `stop` a deploy or to `warn`.
    """

    table_mb: float = 50
    lock_seconds: float = 1
    small_table_lock_seconds: float = 5
    migration_seconds: float = 30
    findings: dict[str, str] = field(default_factory=lambda: dict(FINDINGS))
    overrides: tuple[Override, ...] = ()
    adopted: tuple[Adopted, ...] = ()

    def adoption(self, name: str, definition: str) -> str:
        """Return why an object may have a definition that the migrations don't give it; empty if it may not."""
        return "; ".join(
            one.reason for one in self.adopted if (one.object, one.definition) == (name, definition)
        )

    def reasons(self, migration: str, kind: str) -> str:
        """Return why a migration may do what a finding of this kind names; empty if it may not."""
        return "; ".join(
            one.reason
            for one in self.overrides
            if one.migration == migration and kind in one.findings
        )


def read(directory: Path) -> Policy:
    """Return the policy of the project in a directory; raises Unusable."""
    path = directory / FILE
    if not path.exists():
        return Policy()
    try:
        return parse(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Unusable(f"{FILE} is no TOML: {error}") from None


def parse(text: str) -> Policy:
    """Return the policy that a text describes; raises Unusable, or tomllib.TOMLDecodeError."""
    told = tomllib.loads(text)
    _only(told, ("limits", "findings", "override", "adopt"), FILE)
    limits = _table(told, "limits")
    _only(limits, _LIMITS, "[limits]")
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise Unusable(
                f"{FILE}: {name} in [limits] must be a number of 0 or more, not {value!r}."
            )
    findings = _table(told, "findings")
    _only(findings, FINDINGS, "[findings]")
    for name, value in findings.items():
        if value not in ("stop", "warn"):
            raise Unusable(f'{FILE}: {name} in [findings] must be "stop" or "warn", not {value!r}.')
    return Policy(
        **limits,
        findings=FINDINGS | findings,
        overrides=tuple(_override(one) for one in _tables(told, "override")),
        adopted=tuple(_adopted(one) for one in _tables(told, "adopt")),
    )


def _override(told: dict) -> Override:
    where = "[[override]]"
    _only(told, ("migration", "findings", "reason"), where)
    findings = told.get("findings")
    if not isinstance(findings, list) or not findings:
        raise Unusable(f"{FILE}: findings in {where} must be a list of what is allowed.")
    allowed = [one for one in FINDINGS if one not in _OF_NONE]
    for one in findings:
        if one in _OF_NONE:
            raise Unusable(
                f"{FILE}: {one!r} in {where} is about no migration. Write it into [findings], or drift into [[adopt]]."
            )
        if one not in allowed:
            raise Unusable(
                f"{FILE}: {one!r} in {where} can't be allowed. These can: {', '.join(allowed)}."
            )
    return Override(_text(told, "migration", where), tuple(findings), _text(told, "reason", where))


def _adopted(told: dict) -> Adopted:
    where = "[[adopt]]"
    _only(told, ("object", "definition", "reason"), where)
    definition = told.get("definition", "")
    if not isinstance(definition, str):
        raise Unusable(f"{FILE}: definition in {where} must be a text.")
    return Adopted(_text(told, "object", where), definition, _text(told, "reason", where))


def _text(told: dict, name: str, where: str) -> str:
    """Return a text that must be there and not be empty."""
    value = told.get(name)
    # Three points are what a report proposes, for somebody to write over.
    if not isinstance(value, str) or not value.strip().strip(" ."):
        raise Unusable(f"{FILE}: {where} needs {name}, a text that says something.")
    return value.strip()


def _table(told: dict, name: str) -> dict:
    value = told.get(name, {})
    if not isinstance(value, dict):
        raise Unusable(f"{FILE}: write [{name}], once.")
    return value


def _tables(told: dict, name: str) -> list[dict]:
    value = told.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Unusable(f"{FILE}: write [[{name}]], as often as needed.")
    return value


def _only(told: dict, known: object, where: str) -> None:
    """Raise Unusable for a name that means nothing here: it would allow nothing and look as if it did."""
    for name in told:
        if name not in known:
            raise Unusable(
                f"{FILE}: there is no {name!r} in {where}. There are: {', '.join(known)}."
            )
