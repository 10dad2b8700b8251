"""Why a release could not work with the database's schema as it is now, as far as can be told without trying.

Later releases may have migrated the database. A release can go on serving as long as every table and
column it knows is still there, and every column it does not know fills itself: it is what its models
read and insert that counts, not which migrations were applied. Models without a table of their own
in this database (proxies, unmanaged ones, those of other databases) are not looked at.

It needs nothing else of this package: the application's image has it beside its own programs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator

from django.apps import apps
from django.db import models, router
from django.db.backends.base.base import BaseDatabaseWrapper

# Of each named table its name in the catalog, and its columns: none where it is gone. A table's name is that in a
# statement, for a project may write a schema into it.
_COLUMNS = """
SELECT named.name, to_regclass(named.name)::text, a.attname,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
FROM unnest(%s::text[]) AS named (name)
     LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(named.name) AND a.attnum > 0 AND NOT a.attisdropped
"""


def own_models(connection: BaseDatabaseWrapper) -> Iterator[type[models.Model]]:
    """Yield the models whose tables migrations make in this database."""
    for model in apps.get_models(include_auto_created=True):
        options = model._meta
        if options.proxy or not options.managed or options.swapped:
            continue
        if router.allow_migrate_model(connection.alias, model):
            yield model


def reasons(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what the models need and the schema does not have, a sentence each."""
    known = {
        connection.ops.quote_name(model._meta.db_table): model for model in own_models(connection)
    }
    columns: dict[str, dict[str, bool]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, [list(known)])
        for table, name, column, must_be_given in cursor.fetchall():
            if name is not None:
                columns[table][column] = must_be_given
    found = []
    for table, model in sorted(known.items()):
        name, there = table.replace('"', ""), columns.get(table)
        if there is None:
            found.append(f"the table {name} is missing")
            continue
        needed = {field.column for field in model._meta.local_concrete_fields}
        found += [f"the column {name}.{one} is missing" for one in sorted(needed - set(there))]
        found += [
            f"the column {name}.{column} must be given a value, and this release gives none"
            for column, must_be_given in sorted(there.items())
            if must_be_given and column not in needed
        ]
    return found


def tables(connection: BaseDatabaseWrapper, migrated: Container[str]) -> list[str]:
    """Return the tables of the models of these applications, as the catalog names them."""
    quoted = [
        connection.ops.quote_name(model._meta.db_table)
        for model in own_models(connection)
        if model._meta.app_label in migrated
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT to_regclass(name)::text FROM unnest(%s::text[]) AS named (name)",
            [quoted],
        )
        return sorted(name for (name,) in cursor.fetchall() if name)
