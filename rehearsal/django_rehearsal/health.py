"""What is wrong with a database before anything is migrated."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from .relations import secured, unsecured

_NEARLY = 0.9  # of what a column's numbers can be

# Sequences that number a column, which owns them or has them in its default: table, column, sequence, the largest
# number that fits.
_SEQUENCES = """
WITH numbered AS (
    SELECT objid AS sequence, refobjid AS "table", refobjsubid AS "column" FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    UNION
    SELECT d.refobjid, f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
)
SELECT d."table"::regclass::text, quote_ident(a.attname), s.oid::regclass::text,
       least(q.seqmax, CASE a.atttypid WHEN 'int2'::regtype THEN 32767
                                       WHEN 'int4'::regtype THEN 2147483647
                                       ELSE 9223372036854775807 END)
FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid
     JOIN numbered d ON d.sequence = s.oid
     JOIN pg_attribute a ON a.attrelid = d."table" AND a.attnum = d."column"
WHERE q.seqincrement > 0 AND has_schema_privilege(s.relnamespace, 'USAGE') AND has_table_privilege(s.oid, 'SELECT')
  AND has_table_privilege(d."table", 'SELECT') AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
ORDER BY 1, 2
"""
_COLLATION = """
SELECT quote_ident(datname), datcollversion, pg_database_collation_actual_version(oid)
FROM pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True)
class Ailment:
    """Something wrong: its kind, the object it is wrong with, what it means, and the SQL that mends it or what to do."""

    kind: str
    where: str
    text: str
    repair: str = ""


def examine(connection: BaseDatabaseWrapper, *, copy: bool = False) -> list[Ailment]:
    """Return what is wrong with sequences and sort orders.

    Tables whose rows row security hides are left out; on a copy, only where another role owns them.
    """
    found, hiding = [], secured(connection)
    with connection.cursor() as cursor:
        cursor.execute(_SEQUENCES)
        for table, column, sequence, limit in cursor.fetchall():
            if table in hiding and not (copy and hiding[table]):
                continue
            # In this order: a row that somebody inserts between the two has a number that counts already.
            with unsecured(connection, table) if table in hiding else nullcontext():
                cursor.execute(f"SELECT max({column}) FROM {table}")
                (highest,) = cursor.fetchone()
            # One that was set to begin with a number has not given that yet.
            cursor.execute(f"SELECT last_value - (NOT is_called)::int FROM {sequence}")
            (last,) = cursor.fetchone()
            found += _sequence(table, column, sequence, last, highest or 0, limit)
        cursor.execute(_COLLATION)
        name, recorded, actual = cursor.fetchone()
    if recorded != actual and recorded is not None:
        text = (
            f"texts were sorted by version {recorded} of the system's rules, which are now {actual}"
        )
        repair = f"REINDEX DATABASE {name};\nALTER DATABASE {name} REFRESH COLLATION VERSION;"
        found.append(Ailment("collation", "the database", text, repair))
    return found


def _sequence(
    table: str, column: str, sequence: str, last: int, highest: int, limit: int
) -> list[Ailment]:
    """Return what is wrong with one sequence, given the last number it gave and the highest that is there."""
    found, where = [], f"{table}.{column}"
    if last < highest:
        text = (
            f"{sequence} will give {last + 1} next, but {where} goes up to {highest}: inserts fail"
        )
        repair = f"SELECT setval('{sequence}', (SELECT max({column}) FROM {table}));"
        found.append(Ailment("sequence", where, text, repair))
    if max(last, highest) > limit * _NEARLY:
        text = f"{where} has reached {max(last, highest)} of {limit} numbers"
        repair = "Make it a bigint in steps (docs/migrations.md, A wider number)."
        found.append(Ailment("overflow", where, text, repair))
    return found
