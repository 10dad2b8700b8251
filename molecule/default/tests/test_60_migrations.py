"""The database follows the models: once, without losing rows, and after a failed run too."""

import uuid

import pytest
from hosts import PAGES

# Of another name each time: the tests may be run again on hosts that are still there.
NAME = f"mood_{uuid.uuid4().hex[:6]}"
# With a default of the database's own: the release that serves goes on inserting without the field.
FIELD = f'    {NAME} = models.CharField(max_length=20, blank=True, default="", db_default="")\n'
TABLE = '''"""Make a table that nobody else may have made."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("core", "{previous}")]
    operations = [migrations.RunSQL("CREATE TABLE {table} (id int)", "DROP TABLE {table}")]
'''


@pytest.fixture(scope="module", autouse=True)
def entries(host):
    """Leave an entry in each environment, which the last test looks for."""
    text = f"before the migrations {uuid.uuid4()}"
    for url in PAGES.values():
        host.page(url, entry=text)
    return text


def test_production_refuses_models_without_a_migration(host):
    """A changed model whose migration nobody wrote stops the run before anything is replaced."""
    models = host.source / "core/models.py"
    author = '    author = models.CharField("name", max_length=80, blank=True)\n'
    text = models.read_text()
    assert author in text
    models.write_text(text.replace(author, author + FIELD))
    before = host.state()["containers"]
    result = host.ansible("prod")
    assert result.code != 0
    assert "no migration" in result.said
    assert "makemigrations" in result.said
    assert host.state()["containers"] == before


def test_development_writes_the_migration_and_applies_it(host, entries):
    """The file lands in the source, owned by its owner, and rows survive."""
    host.converge("dev")
    written = migrations(host)[-1]
    assert NAME in written.name
    assert written.stat().st_uid == host.source.stat().st_uid
    assert applied(host, "dev", written.stem) == 1
    assert entries in host.page(PAGES["dev"])


def test_a_working_tree_is_rehearsed_before_it_is_pushed(host, commit, entries):
    """Against the last commit: before it is applied in development, where it would be stopped, and after, mended."""
    models = host.source / "core/models.py"
    text = models.read_text()
    models.write_text(
        text.replace(FIELD, f"{FIELD}    {NAME}_count = models.IntegerField(default=0)\n")
    )
    host.run("docker exec postdo-dev-web python manage.py makemigrations --verbosity 0 core")
    new = migrations(host)[-1]
    result = host.ansible("dev", book="playbooks/rehearse.yml")
    assert result.code != 0
    assert f"STOP  core.{new.stem}" in result.said
    assert "stop old-release: the release that serves can't go on after it" in result.said
    assert applied(host, "dev", new.stem) == 0
    for path in (models, new):
        mended = path.read_text().replace(
            "IntegerField(default=0", "IntegerField(default=0, db_default=0"
        )
        path.write_text(mended)
    host.converge("dev")
    assert applied(host, "dev", new.stem) == 1
    result = host.ansible("dev", book="playbooks/rehearse.yml")
    assert result.code == 0, result.said
    assert f"go    core.{new.stem}" in result.said
    assert applied(host, "dev", new.stem) == 1
    assert entries in host.page(PAGES["dev"])
    left = host.run("docker ps --all --format '{{.Names}}' --filter name=postdo-dev").split()
    assert sorted(left) == ["postdo-dev-db", "postdo-dev-pgadmin", "postdo-dev-web"]


@pytest.fixture
def commit(host):
    """Have the host's source as it is in a commit of its own repository for a while."""
    host.run("command -v git || apt-get install --yes --no-install-recommends git")
    git = f"git -C {host.source} -c safe.directory='*'"
    who = "-c user.name=developer -c user.email=developer@example.org"
    host.run(f"{git} init --quiet && {git} add --all && {git} {who} commit --quiet --message now")
    yield
    host.run(f"rm -rf {host.source}/.git")


@pytest.mark.full(
    seen_by="molecule/deploy/tests/test_20_bad_releases.py::test_a_migration_that_fails"
)
def test_production_applies_what_a_failed_run_left_once(host, entries):
    """A run fails in the second of two migrations, the old release serves on; the next is whole.

    Between them neither source nor image changes: only the state says that something is left.
    """
    first = migrations(host)[-1]
    second = first.with_name(f"{int(first.name[:4]) + 1:04}_proof.py")
    second.write_text(TABLE.format(previous=first.stem, table=f"proof_{NAME}"))
    sql(host, "prod", f"CREATE TABLE proof_{NAME} (id int)")
    serving = host.containers("postdo-prod-web")["postdo-prod-web"]["Id"]
    result = host.ansible("prod")
    assert result.code != 0
    assert f'relation "proof_{NAME}" already exists' in result.said
    assert host.containers("postdo-prod-web")["postdo-prod-web"]["Id"] == serving
    assert entries in host.page(PAGES["prod"])
    sql(host, "prod", f"DROP TABLE proof_{NAME}")
    host.converge("prod")
    assert host.containers("postdo-prod-web")["postdo-prod-web"]["Id"] != serving
    assert [applied(host, "prod", path.stem) for path in (first, second)] == [1, 1]
    assert entries in host.page(PAGES["prod"])
    assert "changed=0" in host.converge("prod")


def migrations(host):
    """Return the paths of the migrations in the host's source, in their order."""
    return sorted((host.source / "core/migrations").glob("[0-9]*.py"))


def applied(host, environment, name):
    """Return how often the database has applied a migration."""
    return int(
        sql(host, environment, f"SELECT count(*) FROM django_migrations WHERE name='{name}'")
    )


def sql(host, environment, statement):
    """Return what the application's role gets from a statement."""
    psql = (
        f"docker exec -i postdo-{environment}-db psql -XqAt -v ON_ERROR_STOP=1 -U postgres -d app"
    )
    return host.run(psql, input=f"SET ROLE app;\n{statement};\n")
