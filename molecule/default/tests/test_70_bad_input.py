"""Bad input gets one line that names the variable, an error, and no change at all."""

import json
import shutil

import pytest

# Another value that the same line of a preflight refuses.
FULL = pytest.mark.full(seen_by="molecule/default/tests/test_70_bad_input.py::test_a_port_in_use")


@pytest.fixture(autouse=True)
def nothing_changed(host):
    """Compare everything on the engine before and after each test."""
    before = host.state()
    yield
    assert host.state() == before


def refuses(host, environment, *said, **variables):
    """Assert that a run with these variables fails and says these words in one line."""
    result = host.ansible(environment, "-e", json.dumps(variables))
    assert result.code != 0, result.said
    assert any(all(word in line for word in said) for line in result.said.splitlines()), result.said


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        pytest.param("dev", "django_web_port", marks=FULL),
        ("dev", "postgres_port"),
        pytest.param("dev", "pgadmin_port", marks=FULL),
        ("prod", "proxy_http_port"),
    ],
)
def test_a_port_in_use(host, environment, variable):
    """Another program listens where a container would be published."""
    with host.background("exec python3 -m http.server --bind 127.0.0.1 9999", "") as program:
        try:
            refuses(host, environment, variable, "9999", "in use", **{variable: 9999})
        finally:
            host.run("pkill --full '[h]ttp.server --bind 127.0.0.1 9999'")
            program.wait(10)


@pytest.mark.parametrize(
    "variable", ["postgres_password", pytest.param("django_web_secret_key", marks=FULL)]
)
def test_an_empty_secret_in_a_variable(host, variable):
    """A vault that has nothing for us."""
    refuses(host, "prod", variable, "empty", **{variable: ""})


@pytest.mark.parametrize(
    "secret", ["postgres_password", pytest.param("django_secret_key", marks=FULL)]
)
def test_an_empty_secret_in_a_file(host, secret):
    """A file that somebody emptied."""
    with without(host, secret) as file:
        file.touch()
        refuses(host, "prod", secret, "empty")


def test_a_secret_that_vanished_while_its_data_exists(host):
    """A new one is not made silently: the data may be worth asking."""
    with without(host, "postgres_password") as file:
        refuses(host, "prod", "postgres_password", "gone", str(file))
        assert not file.exists()


@pytest.mark.parametrize("name", [pytest.param("Prod", marks=FULL), "../etc"])
def test_an_environment_name_with_illegal_characters(host, name):
    """The name becomes part of every object's name."""
    refuses(host, "prod", "stack_environment", stack_environment=name)


def test_an_unknown_inventory(host):
    """Ansible would go on with no hosts and call it a success."""
    result = host.ansible("nowhere")
    assert result.code != 0
    assert "nowhere" in result.said


def test_a_source_without_manage_py(host, tmp_path):
    """A directory that is no Django project."""
    refuses(host, "prod", "django_web_source", "manage.py", django_web_source=str(tmp_path))


def test_a_requirement_that_cannot_be_resolved(host):
    """The build fails with the requirement's name, and what runs is not touched."""
    source = shutil.copytree(host.source, host.directory / "unresolvable", dirs_exist_ok=True)
    (source / "requirements.txt").write_text(f"Django==0.0.1 --hash=sha256:{'0' * 64}\n")
    refuses(host, "prod", "0.0.1", django_web_source=str(source))


def test_another_major_version_in_the_volume(host):
    """A cluster of PostgreSQL 15 is neither started nor removed."""
    data = host.run("docker volume inspect --format '{{.Mountpoint}}' postdo-prod-db-data")
    version = f"{data}/pgdata/PG_VERSION"
    before = host.run(f"cat {version}")
    host.run(f"echo 15 > {version}")
    try:
        refuses(host, "prod", "postdo-prod-db-data", "PostgreSQL 15", "Dump it")
    finally:
        host.run(f"echo {before} > {version}")


def test_production_with_a_pgadmin_group(host, tmp_path):
    """pgAdmin is absent from production because the group is, and the role refuses as well."""
    group = tmp_path / "pgadmin.yml"
    group.write_text(f"pgadmin:\n  hosts:\n    {host.name}:\n")
    result = host.ansible("prod", "-i", str(group))
    assert result.code != 0
    assert any("pgadmin group" in line and "hosts.yml" in line for line in result.said.splitlines())


def test_a_disk_too_full_to_build(host):
    """The room that a build needs is looked for before it begins."""
    packages = ["postgresql-17-pgvector"]
    too_much = {"stack_disk_required": 10**9, "postgres_extra_packages": packages}
    refuses(host, "prod", "stack_disk_required", "MiB are free", **too_much)


def test_an_engine_too_old(host):
    """The oldest engine that was tried is a variable."""
    refuses(host, "prod", "docker_minimum_version", docker_minimum_version="99.0")


def test_a_user_who_is_not_root(host):
    """Root is needed, and the line says for what."""
    refuses(host, "prod", "Root is needed", "ansible_become", ansible_user="1000")


def test_an_engine_that_does_not_answer(host):
    """It is not installed where that is forbidden, and --check has nothing to compare with."""
    host.run("systemctl stop docker.socket docker.service")
    try:
        refuses(host, "prod", "docker_install", docker_install=False)
        result = host.ansible("prod", "--check", "--diff")
        assert result.code != 0
        assert "--check has nothing to compare with" in result.said
        assert "Traceback" not in result.said
    finally:
        host.run("systemctl start docker.socket docker.service")


class without:
    """A secret of production, out of its place for a while."""

    def __init__(self, host, secret):
        self.file = host.directory / "secrets/prod" / secret
        self.aside = self.file.with_suffix(".aside")

    def __enter__(self):
        return self.file.rename(self.aside) and self.file

    def __exit__(self, *_):
        self.aside.replace(self.file)
