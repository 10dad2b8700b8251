"""What tables hold, in one figure for each column: enough to see that a value was lost or changed.

A column's figure is the sum of its values' hashes, so neither the rows' order nor where they lie matters.
Values are hashed as text, numbers without idle zeros, whatever they are sorted by: another type for the same values
leaves the figure as it was. An empty text counts as no value, as NULL does. What the database derives is left out.
A table with partitions holds what these hold. Rows that row security hides are read too, where its owner asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .relations import secured, unsecured

# Tables that this role may read, without those of extensions: name, its parents, columns, how each is read as a text,
# whether a value of it may be an empty text, its type, and the integer column that is the primary key, if one is.
_TABLES = """
SELECT c.oid::regclass::text,
       ARRAY(SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = c.oid ORDER BY h.inhseqno),
       array_agg(quote_ident(a.attname)::text ORDER BY a.attname),
       array_agg(CASE a.atttypid WHEN 'numeric'::regtype THEN format('trim_scale(%I)::text', a.attname)
                 ELSE format('%I::text', a.attname) END ORDER BY a.attname),
       array_agg(t.typcategory = 'S' ORDER BY a.attname),
       array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attname),
       (SELECT quote_ident(k.attname) FROM pg_index i JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1
          AND k.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY c.oid
"""
# Django's own record of migrations changes with each of them.
_RECORD = "django_migrations"
_AT_ONCE = 500  # columns: PostgreSQL answers with 1664 figures at most


@dataclass(frozen=True)
class Column:
    """What a column holds: the number of values neither NULL nor empty, and the sum of all values' hashes.

    Its type says nothing about whether two columns hold the same.
    """

    filled: int
    hash: str
    type: str = field(default="", compare=False)


@dataclass(frozen=True)
class Table:
    """What a table holds itself, and the tables that are read with its rows.

    `visible` is the number of rows that this role's own queries find in it, where row security is active. `last` is the
    highest integer key. `old` is what the rows with keys up to the `last` of before hold, where there are more rows now.
    """

    rows: int
    columns: dict[str, Column]
    parents: tuple[str, ...] = ()
    visible: int | None = None
    last: int | None = None
    old: Table | None = field(default=None, compare=False)

    @property
    def hidden(self) -> int:
        """Return how many rows row security keeps from this role's own queries."""
        return 0 if self.visible is None else self.rows - self.visible


Contents = dict[str, Table]
# Of each column the SQL of its figures (values that are filled, sum of hashes), and its type.
_Columns = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class _Known:
    """A table before it is read: its parents, its columns, and the integer column that is its key, if one is."""

    parents: tuple[str, ...]
    columns: _Columns
    number: str | None


def _tables(connection: BaseDatabaseWrapper) -> dict[str, _Known]:
    """Return the tables that can be read."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        return {
            table: _Known(
                tuple(parents),
                {
                    column: (_figures(column, text, may_be_empty), type_)
                    for column, text, may_be_empty, type_ in zip(*told, strict=True)
                },
                number,
            )
            for table, parents, *told, number in cursor.fetchall()
            if table != _RECORD
        }


def _figures(column: str, text: str, may_be_empty: bool) -> str:
    """Return the SQL of a column's two figures, given that of a value and of a value as text."""
    # The sum of 64-bit numbers is kept in 128 bits, which is far quicker than with any more digits.
    hashes = f'sum(hashtextextended({text} COLLATE "C", 0))'
    if may_be_empty:
        filled = f"FILTER (WHERE {text} COLLATE \"C\" <> '')"
        return f"count(*) {filled}, coalesce({hashes} {filled}, 0)::text"
    return f"count({column}), coalesce({hashes}, 0)::text"


def read(
    connection: BaseDatabaseWrapper,
    only: Iterable[str] | None = None,
    since: Contents | None = None,
) -> Contents:
    """Return what all tables hold, or those named `only` that exist; not those that hide rows and are another role's.

    Of one that has more rows than it had `since`, what the rows of that time hold is read as well.
    """
    known, hiding = _tables(connection), secured(connection)
    chosen = known if only is None else {table: known[table] for table in only if table in known}
    found = {}
    for table, one in chosen.items():
        if hiding.get(table, True):
            with unsecured(connection, table) if table in hiding else nullcontext():
                held = _read(connection, table, one)
                was = (since or {}).get(table)
                if was and one.number and was.last is not None and held.rows > was.rows:
                    held = replace(held, old=_read(connection, table, one, was.last))
            visible = _visible(connection, table) if table in hiding else None
            found[table] = replace(held, parents=one.parents, visible=visible)
    return found


def behind_views(
    connection: BaseDatabaseWrapper, held: Contents, schema: Iterable[str]
) -> list[Change]:
    """Return the tables that have become views, and how many of their rows are not seen through these."""
    found = []
    for table, one in sorted(whole(held).items()):
        if f"view {table}" in schema and (hidden := one.rows - _visible(connection, table)) > 0:
            found.append(Change("hidden", table, hidden))
    return found


def unseen(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the tables whose rows are hidden from this role, and which `read` therefore leaves out."""
    return sorted(table for table, liftable in secured(connection).items() if not liftable)


def _visible(connection: BaseDatabaseWrapper, table: str) -> int:
    """Return how many rows this role's queries find; none where they fail, for want of a setting."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            return cursor.fetchone()[0]
    except Error:
        return 0


def _read(
    connection: BaseDatabaseWrapper, table: str, known: _Known, until: int | None = None
) -> Table:
    """Read a table once, all its columns together, if there are not very many; its rows `until` a number, if given."""
    rows, last, found, named = 0, None, {}, list(known.columns.items())
    highest = f"max({known.number})" if known.number else "NULL"
    some_rows = "" if until is None else f"WHERE {known.number} <= {until}"
    for first in range(0, len(named), _AT_ONCE):
        some = named[first : first + _AT_ONCE]
        asked = ", ".join(sql for _, (sql, _) in some)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*), {highest}, {asked} FROM ONLY {table} {some_rows}")
            rows, last, *told = cursor.fetchone()
        for (name, (_, type_)), *figures in zip(some, told[::2], told[1::2], strict=True):
            found[name] = Column(*figures, type_)
    return Table(rows, found, last=last)


def whole(held: Contents) -> Contents:
    """Return what tables hold with the rows that are read with theirs, as those of partitions are."""
    members = _members(held)
    return {name: _with(table, members.get(name, set()), held) for name, table in held.items()}


def _members(held: Contents) -> dict[str, set[str]]:
    """Return the tables whose rows are read with those of another, by that one's name."""
    found: dict[str, set[str]] = {}
    for name in held:
        above = [name]
        for one in above:
            above += [parent for parent in held[one].parents if parent in held]
        for one in above[1:]:
            found.setdefault(one, set()).add(name)
    return found


def _with(table: Table, members: set[str], held: Contents) -> Table:
    """Return a table with the rows of its members."""
    if not members:
        return table
    rows, columns = table.rows, dict(table.columns)
    for member in (held[one] for one in members):
        rows += member.rows
        for name in columns.keys() & member.columns.keys():
            one, other = columns[name], member.columns[name]
            total = str(int(one.hash) + int(other.hash))
            columns[name] = Column(one.filled + other.filled, total, one.type)
    return replace(table, rows=rows, columns=columns, old=None)


@dataclass(frozen=True)
class Change:
    """A difference between what a table or a column held before and after.

    `kind` is `rows` (some were deleted), `left` (some are no longer in it, with a partition), `hidden` (row security keeps
    more of them from the application, or a view in the table's place does), `unlogged` (a crash leaves it empty),
    `emptied` (fewer values in a column), `gone` (a column with values is no longer there), `table` (one with rows is not),
    `filled` (where there was none is now a value, the same for all), `changed` (other values, none missing) or `converted`
    (other values in a column of another type). `count` is the number of rows or values; of changed and converted ones that
    of the column's values.
    """

    kind: str
    where: str
    count: int


def compare(
    before: Contents,
    after: Contents,
    deleted: dict[str, int] | None = None,
    names: dict[str, str] | None = None,
) -> list[Change]:
    """Return what is not as it was in the tables that both were read for, or that `after` lacks.

    `deleted` has the number of rows that were deleted of each table, whatever came in their place, and `names` what the
    same tables are called after it. What is found whole under another name was renamed and is no change.
    """
    found: list[Change] = []
    old_whole, new_whole = whole(before), whole(after)
    old_members, new_members = _members(before), _members(after)
    arrived = {table: new_whole[table] for table in after.keys() - before.keys()}
    for table, old in sorted(old_whole.items()):
        new = (
            new_whole.get(table)
            or arrived.get((names or {}).get(table, ""))
            or _renamed(old, arrived)
        )
        if new is None:
            if old.rows:
                found.append(Change("table", table, old.rows))
            continue
        # What happened to the rows of its partitions is told of these, as long as they are the same ones.
        members, others = old_members.get(table), new_members.get(table)
        if any(_is_whole(above, old_whole, new_whole) for above in before[table].parents):
            # Its rows have gone to another partition.
            continue
        if not members or members != others:
            told = _columns(table, old, new, (deleted or {}).get(table, 0))
            left = [replace(one, kind="left") for one in told if one.kind == "rows"]
            found += (
                told if members == others else [one for one in told if one.kind != "rows"] + left
            )
        if (hidden := new.hidden - old.hidden) > 0:
            found.append(Change("hidden", table, hidden))
    return found


def _is_whole(table: str, before: Contents, after: Contents) -> bool:
    """Return whether a table holds all that it held, whichever partitions its rows are in."""
    old, new = before.get(table), after.get(table)
    return bool(old and new and old.rows == new.rows and old.columns == new.columns)


def _renamed(old: Table, arrived: Contents) -> Table | None:
    """Return the new table that holds all that an old one held."""
    for table in arrived.values():
        if table.rows == old.rows and old.columns.items() <= table.columns.items():
            return table
    return None


def _columns(table: str, old: Table, new: Table, deleted: int) -> list[Change]:
    """Return what is not as it was in one table's columns."""
    # What came and went in between is no loss.
    lost = max(deleted, old.rows - new.rows) if new != old else 0
    if new.old and new.old.rows == old.rows:
        # What else is there now hides nothing of what was there.
        new = new.old
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
            if missing > 0:
                found.append(Change("emptied", where, missing))
            elif _only_filled(column, there):
                found.append(Change("filled", where, -missing))
            else:
                kind = "changed" if there.type == column.type else "converted"
                found.append(Change(kind, where, there.filled))
        elif there.filled < column.filled - lost:
            found.append(Change("emptied", where, column.filled - there.filled))
    return found


def _only_filled(old: Column, new: Column) -> bool:
    """Return whether a column's new figure is the old one with one value's hash added as often as values were added.

    With any other change it is that by chance alone, the less likely the more values were added.
    """
    count, more = new.filled - old.filled, int(new.hash) - int(old.hash)
    return count > 0 and more % count == 0 and abs(more // count) <= 2**63
