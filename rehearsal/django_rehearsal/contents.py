"""What tables hold, in one figure for each column: enough to see that a value was lost or changed.

A column's figure is the sum of its values' hashes, so neither the rows' order nor where they lie matters.
Values are hashed as text, numbers without idle zeros: another type for the same values leaves the figure as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

# Tables with rows of their own, those of extensions and of other roles left out: name, columns, how each is read as
# a text, and how its values that are neither NULL nor empty are counted.
_TABLES = """
SELECT c.oid::regclass::text, array_agg(quote_ident(a.attname)::text ORDER BY a.attname),
       array_agg(CASE a.atttypid WHEN 'numeric'::regtype THEN format('trim_scale(%I)::text', a.attname)
                 ELSE format('%I::text', a.attname) END ORDER BY a.attname),
       array_agg(CASE t.typcategory WHEN 'S' THEN format('count(*) FILTER (WHERE %I <> $$$$)', a.attname)
                 ELSE format('count(%I)', a.attname) END ORDER BY a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_table_privilege(c.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY c.oid
"""
# Django's own record of migrations changes with each of them.
_RECORD = "django_migrations"


@dataclass(frozen=True)
class Column:
    """What a column holds: the number of values neither NULL nor empty, and the sum of all values' hashes."""

    filled: int
    hash: str


@dataclass(frozen=True)
class Table:
    """What a table holds."""

    rows: int
    columns: dict[str, Column]


Contents = dict[str, Table]


def _tables(connection: BaseDatabaseWrapper) -> dict[str, dict[str, str]]:
    """Return the columns of each table, each with the SQL of its figures: values that are filled, sum of hashes."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        return {
            table: {
                # The sum of 64-bit numbers is kept in 128 bits, which is far quicker than with any more digits.
                column: f"{filled}, coalesce(sum(hashtextextended({text}, 0)), 0)::text"
                for column, text, filled in zip(columns, texts, counts, strict=True)
            }
            for table, columns, texts, counts in cursor.fetchall()
            if table != _RECORD
        }


def read(connection: BaseDatabaseWrapper, only: Iterable[str] | None = None) -> Contents:
    """Return what all tables hold, or those named `only` that exist."""
    known = _tables(connection)
    chosen = known if only is None else {table: known[table] for table in only if table in known}
    return {table: _read(connection, table, columns) for table, columns in chosen.items()}


def _read(connection: BaseDatabaseWrapper, table: str, columns: dict[str, str]) -> Table:
    """Read a table once, all its columns together."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*), {', '.join(columns.values())} FROM ONLY {table}")
        rows, *found = cursor.fetchone()
    values = dict(zip(columns, zip(found[::2], found[1::2], strict=True), strict=True))
    return Table(rows, {name: Column(*pair) for name, pair in values.items()})


@dataclass(frozen=True)
class Change:
    """A difference between what a table or a column held before and after.

    `kind` is `rows` (fewer than before), `emptied` (fewer values in a column), `gone` (a column or table with
    values is no longer there) or `changed` (other values, none missing). `count` is the number of rows or values
    that are gone; of changed ones it is the number of values in the column.
    """

    kind: str
    where: str
    count: int


def compare(before: Contents, after: Contents) -> list[Change]:
    """Return what is not as it was in the tables that both were read for, or that `after` lacks.

    What is found whole under another name was renamed and is no change.
    """
    found: list[Change] = []
    arrived = {table: after[table] for table in after.keys() - before.keys()}
    for table, old in sorted(before.items()):
        new = after.get(table) or _renamed(old, arrived)
        if new is None:
            if old.rows:
                found.append(Change("gone", table, old.rows))
        else:
            found += _columns(table, old, new)
    return found


def _renamed(old: Table, arrived: Contents) -> Table | None:
    """Return the new table that holds all that an old one held."""
    for table in arrived.values():
        if table.rows == old.rows and old.columns.items() <= table.columns.items():
            return table
    return None


def _columns(table: str, old: Table, new: Table) -> list[Change]:
    """Return what is not as it was in one table's columns."""
    lost = max(0, old.rows - new.rows)
    found = [Change("rows", table, lost)] if lost else []
    arrived = [column for name, column in new.columns.items() if name not in old.columns]
    for name, column in sorted(old.columns.items()):
        there = new.columns.get(name)
        where = f"{table}.{name}"
        if there is None:
            if column.filled and column not in arrived:
                found.append(Change("gone", where, column.filled))
        elif there != column and new.rows == old.rows:
            missing = column.filled - there.filled
            kind = "emptied" if missing > 0 else "changed"
            found.append(Change(kind, where, missing if missing > 0 else there.filled))
        elif there.filled < column.filled - lost:
            found.append(Change("emptied", where, column.filled - there.filled))
    return found
