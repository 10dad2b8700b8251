"""The hosts of this scenario: what `sites` knows of a site, and the migrations that are tried on it."""

from __future__ import annotations

import re

from hosts import Result
from sites import Site

HEAD = '''"""One of the tests' migrations."""

from django.contrib.postgres import operations as postgres
from django.db import migrations, models
'''
# Each row of the tables that no visitor writes, and what is recorded.
ROWS = """
SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM stock_item i
UNION ALL SELECT md5(string_agg(k::text, ',' ORDER BY id)) FROM stock_kind k
UNION ALL SELECT md5(string_agg(app || name, ',' ORDER BY app, name)) FROM django_migrations
"""


class Shop(Site):
    """One of the scenario's hosts."""

    pause = 0.4

    # -- the source -----------------------------------------------------------------------------

    def migration(
        self, name: str, *operations: str, code: str = "", atomic: bool = True, after: str = ""
    ) -> str:
        """Write a migration that follows the last one, or `after` a named one; return its name."""
        place = self.source / "stock/migrations"
        last = max(path.stem for path in place.glob("0*.py"))
        own = f"{int(last[:4]) + 1:04}_{name}"
        lines = [HEAD, code, "", "class Migration(migrations.Migration):"]
        lines += [f"    atomic = {atomic}", f'    dependencies = [("stock", "{after or last}")]']
        lines += ["    operations = [", *(f"        {one}," for one in operations), "    ]", ""]
        (place / f"{own}.py").write_text("\n".join(lines))
        return own

    def remove(self, name: str) -> None:
        """Remove a migration's file."""
        (self.source / f"stock/migrations/{name}.py").unlink()

    def model(self, old: str, new: str) -> None:
        """Change a line of the models."""
        assert old in (self.source / "stock/models.py").read_text()
        self.edit("stock/models.py", lambda text: text.replace(old, new))

    def field(self, name: str, options: str) -> None:
        """Add a field to the model of the items."""
        self.model("    kind = ", f"    {name} = models.IntegerField({options})\n    kind = ")

    def allow(self, text: str) -> None:
        """Write the project's rules."""
        (self.source / "migrations.toml").write_text(text)

    # -- the database ---------------------------------------------------------------------------

    def database(self) -> tuple[str, str]:
        """Return what tells the live schema, the rows and the record from any others."""
        dump = "docker exec postdo-prod-db pg_dump -U postgres --schema-only app"
        # Newer ones begin with a word that is another each time.
        schema = re.sub(r"(?m)^\\(un)?restrict .*$", "", self.run(dump))
        return schema, self.sql(ROWS.strip())

    def as_app(self, statements: str) -> str:
        """Run statements as the application's role, whose everything then is."""
        return self.sql(f"SET ROLE app; {statements}")

    # -- verdicts -------------------------------------------------------------------------------

    def stops(self, *said: str, **variables) -> Result:
        """Deploy under load; fail the test unless that is stopped, says this, and leaves no trace."""
        before = self.database(), self.release
        with self.visited() as met:
            result = self.deploy(**variables)
        assert result.code != 0, result.said
        assert [words for words in said if words not in result.said] == [], result.said
        assert (self.database(), self.release) == before
        assert self.page() == self.release
        assert self.left_over() == []
        assert self.rehearsal_left() == ""
        self.unharmed(met)
        return result

    def goes(self, **variables) -> str:
        """Deploy under load; fail the test unless another release serves then; return what was said."""
        before = self.release
        with self.visited() as met:
            said = self.deployed(**variables)
        assert self.page() == self.release != before
        assert self.left_over() == []
        assert self.rehearsal_left() == ""
        self.unharmed(met)
        return said

    def rehearsal_left(self) -> str:
        """Return what a rehearsal must not leave: containers, volumes, networks, secrets."""
        return self.run(
            "docker ps --all --format '{{.Names}}' | grep rehearsal;"
            "docker volume ls --quiet | grep rehearsal; docker network ls --format '{{.Name}}' | grep rehearsal;"
            "ls /var/lib/postdo/prod | grep rehearsal-secrets; true"
        )
