"""A shop with rows in it, whose migrations and models each test writes."""

import shutil
import subprocess
import sys

import pytest
from project import PACKAGE, Project
from server import PASSWORD

# Its parts that need neither Django nor a database are used as they are.
sys.path.insert(0, str(PACKAGE))

MODELS = """
from django.db import models
from django.contrib.postgres.indexes import GinIndex

class Kind(models.Model):
    code = models.CharField(max_length=9, unique=True)

class Item(models.Model):
    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
    note = models.TextField(null=True)
    kind = models.ForeignKey(Kind, models.CASCADE, null=True)
"""
HEAD = """
from django.db import migrations, models
from django.contrib.postgres import operations as postgres
"""
RECEIVER = """
from django.apps import AppConfig
from django.db.models.signals import {signal}

def receive(sender, **_):
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute({sql!r})

class Config(AppConfig):
    name = "shop"
    def ready(self):
        {signal}.connect(receive, sender=self)
"""
ROWS = """
INSERT INTO shop_kind (code) SELECT 'k' || n FROM generate_series(1, 5) n;
INSERT INTO shop_item (name, price, note, kind_id)
SELECT 'item ' || n, n % 40, 'note ' || n, n % 5 + 1 FROM generate_series(1, 1000) n;
"""


class Shop(Project):
    """A project with an application `shop`, its first migration applied and rows in its tables."""

    def migration(self, name, *operations, before="", after="", code="", atomic=True):
        """Write a migration that follows the last one, or `after` a named one."""
        files = sorted(path.stem for path in (self.path / "shop/migrations").glob("0*.py"))
        previous = after or files[-1]
        lines = [HEAD, before, code, "class Migration(migrations.Migration):"]
        lines += [f"    atomic = {atomic}", f"    dependencies = [('shop', '{previous}')]"]
        lines += [f"    operations = [{', '.join(operations)}]", ""]
        self.write(f"shop/migrations/{name}.py", "\n".join(lines))
        return f"shop.{name}"

    def remove(self, name):
        """Remove a migration's file."""
        (self.path / f"shop/migrations/{name}.py").unlink()

    def receives(self, signal, sql):
        """Let the application run statements at a signal."""
        self.write("shop/apps.py", RECEIVER.format(signal=signal, sql=sql))

    def models(self, *changes):
        """Write models.py anew, each change a pair of texts."""
        text = MODELS
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.write("shop/models.py", text)

    def look(self):
        """Return what `look` says."""
        return self.ask("look")[0]

    def rehearse(self, *arguments):
        """Return what `rehearse` said of each migration, and the schema at its end."""
        *migrations, last = self.ask("rehearse", *arguments)
        return migrations, last["catalog"]

    def sql(self, query):
        """Run a query on the project's database; return its output."""
        return self.server.sql(query, self.env["TEST_DATABASE"])

    def as_app(self, query):
        """Run statements as the application's role."""
        database = self.env["TEST_DATABASE"]
        return self.server.run(
            "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", f"SET ROLE app; {query}"
        ).stdout

    def idle(self, query, seconds):
        """Begin a transaction with a query in it, which then idles for some seconds; return its process."""
        words = [
            "docker",
            "exec",
            "--interactive",
            "--env",
            f"PGPASSWORD={PASSWORD}",
            self.server.name,
        ]
        words += ["psql", "-XqAt", "-h", "127.0.0.1", "-U", "app", "-d", self.env["TEST_DATABASE"]]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write(f"BEGIN; {query}; \\echo there\n\\! sleep {seconds}\nROLLBACK;\n")
        process.stdin.flush()
        process.stdin.close()
        while "there" not in process.stdout.readline():
            pass
        return process


@pytest.fixture(scope="session")
def filled(tmp_path_factory, python, postgres, repository):
    """Return a shop that the others are copies of, in files and database."""
    path = tmp_path_factory.mktemp("shop") / "project"
    shop = Shop(path, python, postgres, repository / "roles/django_web/files/runtime")
    shop.own_database()
    shop.begin(MODELS)
    shop.manage("migrate", "--verbosity=0")
    shop.as_app(ROWS)
    return shop


@pytest.fixture
def shop(filled, tmp_path):
    """Return a fresh copy of the shop over a database of its own."""
    path = tmp_path / "project"
    shutil.copytree(filled.path, path)
    shop = Shop(path, filled.python, filled.server, filled.runtime)
    shop.own_database(filled.env["TEST_DATABASE"])
    yield shop
    shop.server.sql(f"DROP DATABASE {shop.env['TEST_DATABASE']} WITH (FORCE)")


@pytest.fixture
def serving(shop, tmp_path):
    """Return the release that serves: the shop as it is now, over the same database, to be changed no more."""
    path = tmp_path / "serving"
    shutil.copytree(shop.path, path)
    release = Shop(path, shop.python, shop.server, shop.runtime)
    release.env["TEST_DATABASE"] = shop.env["TEST_DATABASE"]
    return release
