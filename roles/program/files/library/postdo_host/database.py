"""How a server in a container is asked."""

from __future__ import annotations

from . import run

# Arguments of docker exec: the limits that an operator sets for the site's queries are not for a client's in there.
UNLIMITED = ("--env", "PGOPTIONS=-c statement_timeout=0 -c transaction_timeout=0")

# A database's own settings, as statements. The values of lists are quoted already.
_SETTINGS = """
SELECT format('ALTER %s SET %I TO %s;',
  CASE setrole WHEN 0 THEN 'DATABASE "{new}"'
               ELSE format('ROLE %I IN DATABASE "{new}"', pg_get_userbyid(setrole)) END,
  name, CASE WHEN name ~ '(search_path|_libraries|_tablespaces)$' THEN value ELSE quote_literal(value) END)
FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) AS setting,
  split_part(setting, '=', 1) AS name, substr(setting, length(name) + 2) AS value
WHERE datname = '{database}'
"""


def psql(container: str, query: str, database: str = "postgres") -> str:
    """Return what a query gives the superuser, without alignment; raises Failure."""
    return run(
        *("docker", "exec", "--interactive", *UNLIMITED, container, "psql", "-XqAt"),
        *("-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database),
        doing=f"A query in {container}",
        input=query,
    )


def database_settings(database: str, new: str) -> str:
    """Return the query whose answer are statements that give a database `new` the own settings of another."""
    return _SETTINGS.format(database=database, new=new)
