"""How a database's schema differs from what its migrations make, in words, with the SQL that would mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .catalog import PART, Catalog

# Kinds of objects that hang on a table, and go and come with it.
_PARTS = ("column", "constraint", "index", "trigger", "policy", "rule", "comment")
# Kinds of objects that are somebody else's where no migration makes them, and do no harm by themselves.
_FOREIGN = (
    "table",
    "view",
    "materialized view",
    "sequence",
    "function",
    "type",
    "collation",
    "schema",
)
_PART = r'(?:"(?:[^"]|"")*"|[^\s."]+)'
_INDEX_OF = re.compile(rf" ON (?:ONLY )?(?P<schema>{_PART}\.)?(?P<table>{_PART}) USING ")


@dataclass(frozen=True)
class Difference:
    """One object that is not as the migrations make it.

    `kind` is `missing`, `surplus` or `different`; `object` is its kind and name ("column shop_item.price").
    `expected` and `found` are its definitions, empty where there is none; `repair` is SQL, empty where none is
    safe to propose. `foreign` says that the object is none that the migrations know of.
    """

    kind: str
    object: str
    expected: str
    found: str
    repair: str
    foreign: bool

    def __str__(self) -> str:
        """Return it in a sentence."""
        if self.kind == "missing":
            return f"{self.object} is missing; by the migrations it is: {self.expected or 'there'}"
        if self.kind == "surplus":
            return f"{self.object} is in no migration: {self.found or 'there'}"
        return f"{self.object} is: {self.found}; by the migrations it is: {self.expected}"


def differences(expected: Catalog, found: Catalog) -> list[Difference]:
    """Return what would have to change in `found` to be as `expected`; parts of whole tables are left out."""
    told = []
    for key in sorted(expected.keys() | found.keys()):
        old, new = expected.get(key), found.get(key)
        if old == new:
            continue
        whole = {
            f"{kind} {name}"
            for name in _tables_of(key, (new or old or ""))
            for kind in ("table", "view", "materialized view")
        }
        if whole & (expected.keys() ^ found.keys()):
            continue
        kind = "missing" if new is None else "surplus" if old is None else "different"
        foreign = kind == "surplus" and key.startswith(_FOREIGN)
        repair = _repair(key, old, new)
        told.append(Difference(kind, key, old or "", new or "", repair, foreign))
    return told


def _tables_of(key: str, definition: str) -> list[str]:
    """Return the names that the table which an object is a part of can have here; none if it is part of none."""
    kind, name = _split(key)
    if kind == "index":
        # Its definition always names the schema, and a table's name only one that is not searched first.
        of = _INDEX_OF.search(definition)
        return [of["table"], f"{of['schema']}{of['table']}"] if of else []
    if kind == "sequence":
        owner = re.search(r"owned by (.+)$", definition)
        return [PART.fullmatch(owner[1])["table"]] if owner else []
    if kind == "comment":
        return [name]
    return [PART.fullmatch(name)["table"]] if kind in _PARTS else []


def _split(key: str) -> tuple[str, str]:
    """Return the kind and the name of an object."""
    kind = next(
        (kind for kind in (*_PARTS, *_FOREIGN, "extension") if key.startswith(f"{kind} ")), ""
    )
    return kind, key.removeprefix(f"{kind} ")


def _repair(key: str, old: str | None, new: str | None) -> str:
    """Return the SQL that makes of `new` (None: nothing) what `old` (None: nothing) describes."""
    kind, name = _split(key)
    if kind == "index":
        gone = f"DROP INDEX CONCURRENTLY {name};" if new is not None else ""
        made = f"{old.replace(' INDEX ', ' INDEX CONCURRENTLY ', 1)};" if old else ""
        return " ".join(filter(None, (gone, made)))
    if kind == "comment":
        return f"COMMENT ON TABLE {name} IS {old or 'NULL'};"
    if kind not in ("column", "constraint", "trigger", "rule"):
        return ""
    parts = PART.fullmatch(name)
    table, own = parts["table"], parts["own"]
    if kind in ("trigger", "rule"):
        gone = f"DROP {kind.upper()} {own} ON {table};" if new is not None else ""
        return " ".join(filter(None, (gone, f"{old.rstrip(';')};" if old else "")))
    if kind == "constraint":
        gone = f"ALTER TABLE {table} DROP CONSTRAINT {own};" if new is not None else ""
        made = f"ALTER TABLE {table} ADD CONSTRAINT {own} {old};" if old else ""
        if old and old.startswith(("CHECK", "FOREIGN KEY")) and not old.endswith(" NOT VALID"):
            # In two steps nobody waits while the rows are read.
            made = f"{made[:-1]} NOT VALID; ALTER TABLE {table} VALIDATE CONSTRAINT {own};"
        return " ".join(filter(None, (gone, made)))
    if old is None:
        return f"ALTER TABLE {table} DROP COLUMN {own};"
    if new is None:
        return f"ALTER TABLE {table} ADD COLUMN {own} {old};"
    return _column(table, own, old, new)


def _column(table: str, own: str, old: str, new: str) -> str:
    """Return the SQL for a column whose type, default or rule is another."""
    wanted, there = _definition(old), _definition(new)
    if wanted["rest"] != there["rest"]:
        return ""
    alter, found = f"ALTER TABLE {table} ALTER COLUMN {own}", []
    if wanted["type"] != there["type"]:
        found.append(f"{alter} TYPE {wanted['type']};")
    if wanted["default"] != there["default"]:
        default = wanted["default"]
        found.append(f"{alter} SET DEFAULT {default};" if default else f"{alter} DROP DEFAULT;")
    if wanted["null"] != there["null"]:
        found.append(f"{alter} {'SET' if wanted['null'] else 'DROP'} NOT NULL;")
    return " ".join(found)


def _definition(words: str) -> dict[str, str]:
    """Take a column's definition apart."""
    parts = re.fullmatch(
        r"(?P<type>.+?)(?: DEFAULT (?P<default>.+?))?(?P<rest> GENERATED .+?)?(?P<null> NOT NULL)?",
        words,
    )
    return {name: value or "" for name, value in parts.groupdict().items()}
