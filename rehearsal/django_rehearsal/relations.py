"""What a server knows of its tables without reading them: enough to see which ones a migration touched."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

# The statistics of a session arrive when it has the time; here they are wanted now.
_FLUSH = "SELECT pg_stat_force_next_flush()"
_RELATIONS = """
SELECT c.oid::bigint, c.oid::regclass::text, c.relfilenode::bigint,
       CASE c.relkind WHEN 'p' THEN (SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint
                                     FROM pg_partition_tree(c.oid))
                      ELSE pg_total_relation_size(c.oid) END,
       coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0), coalesce(s.n_tup_del, 0),
       (SELECT array_agg(a.attname || ' ' || a.atttypid || ' ' || a.atttypmod ORDER BY a.attname)::text
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       ARRAY(SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = c.oid ORDER BY h.inhseqno),
       concat(c.relrowsecurity, c.relforcerowsecurity,
              (SELECT string_agg(concat_ws(' ', p.polname, p.polcmd, p.polpermissive, p.polroles,
                                           pg_get_expr(p.polqual, c.oid)), ';' ORDER BY p.polname)
               FROM pg_policy p WHERE p.polrelid = c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
# Tables of which row security hides rows from this role, and whether it can lift that.
_SECURED = """
SELECT c.oid::regclass::text, pg_has_role(c.relowner, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid)
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_INVALID = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
ORDER BY 1
"""


@dataclass(frozen=True)
class Relation:
    """A table: `file` changes when it is rewritten, `size` is in bytes with its indexes, and its partitions if it has any.

    `touched` counts the rows ever written, `deleted` those of them that were deleted; `parents` are the tables that are
    read with its rows, as one is whose partition it is; `security` is what hides rows of it from whom.
    """

    name: str
    file: int
    size: int
    touched: int
    deleted: int
    columns: str
    parents: tuple[str, ...]
    security: str


def flush(connection: BaseDatabaseWrapper) -> None:
    """Let others see at once what this session has counted."""
    with connection.cursor() as cursor:
        cursor.execute(_FLUSH)


def read(connection: BaseDatabaseWrapper) -> dict[int, Relation]:
    """Return all tables by the server's number for each."""
    flush(connection)
    with connection.cursor() as cursor:
        cursor.execute(_RELATIONS)
        return {
            oid: Relation(*told, tuple(parents), security)
            for oid, *told, parents, security in cursor.fetchall()
        }


def differing(before: dict[int, Relation], after: dict[int, Relation]) -> set[str]:
    """Return the names, old and new, of the tables in which anything is not as it was."""
    found = set()
    for oid in before.keys() | after.keys():
        old, new = before.get(oid), after.get(oid)
        # It may be larger without another row, by a new index.
        if old is None or new is None or replace(old, size=new.size) != new:
            found |= {one.name for one in (old, new) if one}
    return found


def end_sessions(connection: BaseDatabaseWrapper, since: datetime.datetime) -> None:
    """End this role's other sessions that were begun since: what they have counted is known at their end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() "
            "AND usename = current_user AND pid <> pg_backend_pid() AND backend_start > %s",
            [since],
        )


def secured(connection: BaseDatabaseWrapper) -> dict[str, bool]:
    """Return the tables of which row security hides rows from this role, and whether it may lift that."""
    with connection.cursor() as cursor:
        cursor.execute(_SECURED)
        return dict(cursor.fetchall())


@contextmanager
def unsecured(connection: BaseDatabaseWrapper, table: str) -> Iterator[None]:
    """Let a table's owner see all its rows for a while; what happens meanwhile is undone."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        yield
        transaction.set_rollback(True)


def invalid_indexes(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the indexes that a concurrent build left behind unfinished."""
    with connection.cursor() as cursor:
        cursor.execute(_INVALID)
        return [name for (name,) in cursor.fetchall()]
