"""Say, as a JSON list, why this release could not work with the database's schema as it is now.

Later releases may have migrated the database. A release can go on serving as long as every table and
column it knows is still there, and every column it does not know fills itself: it is what its models
read and insert that counts, not which migrations were applied. Models without a table of their own
in this database (proxies, unmanaged ones, those of other databases) are not looked at.
"""

import json
from collections import defaultdict

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, router
from django_rehearsal.entry import enter

COLUMNS = """
    SELECT c.relname, a.attname,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND a.attnum > 0 AND NOT a.attisdropped
"""


def reasons(connection):
    """Return what the models need and the schema does not have, a sentence each."""
    tables = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        for table, column, must_be_given in cursor.fetchall():
            tables[table][column] = must_be_given
    found = []
    for model in apps.get_models(include_auto_created=True):
        options = model._meta
        if options.proxy or not options.managed or options.swapped:
            continue
        if not router.allow_migrate_model(connection.alias, model):
            continue
        name, there = options.db_table.strip('"'), tables.get(options.db_table.strip('"'))
        if there is None:
            found.append(f"the table {name} is gone")
            continue
        known = {field.column for field in options.local_concrete_fields}
        found += [f"the column {name}.{column} is gone" for column in sorted(known - set(there))]
        found += [
            f"the column {name}.{column} must be given a value, and this release gives none"
            for column, must_be_given in sorted(there.items())
            if must_be_given and column not in known
        ]
    return found


if __name__ == "__main__":
    enter()
    print(json.dumps(reasons(connections[DEFAULT_DB_ALIAS])))
