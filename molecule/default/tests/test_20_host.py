"""`./run.sh`, typed on the host as a newcomer would: `-2` beside the container, and the operations."""

import json
import subprocess
import uuid

import pytest
from hosts import PAGES, PROJECT, wait_until

CLONE = "/srv/clone"
PAGE = "http://127.0.0.1:8001/"
LEFT_OUT = [".git", ".venv", ".venv-app", ".cache", "inventories/*/secrets"]


@pytest.fixture(scope="module")
def application(host):
    """Unpack this project on the host, with the secrets of its development, and run it there."""
    excluded = [f"--exclude=./{name}" for name in LEFT_OUT]
    tar = subprocess.run(
        ["tar", "-C", PROJECT, *excluded, "-czf", "-", "."], capture_output=True, check=True
    )
    unpack = ["docker", "exec", "-i", host.machine, "tar", "-C", CLONE, "-xzf", "-"]
    host.run(f"mkdir -p {CLONE}/inventories/dev/secrets")
    subprocess.run(unpack, input=tar.stdout, check=True)
    for secret in (host.directory / "secrets/dev").iterdir():
        file = f"{CLONE}/inventories/dev/secrets/{secret.name}"
        host.run(f"umask 077; cat > {file}", input=secret.read_text())
    before = host.state()["containers"]
    command = f"cd {CLONE} && exec ./run.sh -2 -e django_web_source={host.source}"
    with host.background(f"{command} -e images_archive=/var/cache/postdo-images", "") as run:
        try:
            what = f"{host.name}: {PAGE}"
            wait_until(lambda: host.answers(PAGE) or run.poll() is not None, what, 300)
            assert run.poll() is None, run.stdout.read()
            yield before, run
        finally:
            interrupt(host)
            run.wait(30)


def interrupt(host):
    """Do what Ctrl-C does: every process of the group gets the signal."""
    host.attempt("pkill -INT --full '[m]anage.py runserver 127.0.0.1:8001'")


def run_sh(host, words):
    """Return what run.sh says in the host, whatever comes of it."""
    return host.attempt(f"cd {CLONE} && ./run.sh {words}", timeout=180)


def test_the_application_on_the_host_says_so(host, application):
    """It is the same environment, served by another server."""
    page = host.page(PAGE)
    assert 'data-environment="dev"' in page
    assert '<span class="chip host">' in page


@pytest.mark.parametrize(("here", "there"), [(PAGE, PAGES["dev"]), (PAGES["dev"], PAGE)])
def test_an_entry_added_at_one_is_seen_at_the_other(host, application, here, there):
    """Container and host share the database."""
    text = f"shared {uuid.uuid4()}"
    host.page(here, entry=text)
    assert text in host.page(there)


def test_status_tells_how_things_are(host, application):
    """As one screen and as JSON; a container that is not healthy makes it fail."""
    screen = run_sh(host, "dev status")
    assert screen.code == 0, screen.said
    assert "postdo-dev-db-data" in screen.out
    report = json.loads(run_sh(host, "dev status -e status_format=json").out)
    applied = int(run_sh(host, "-1 psql -At -c 'SELECT count(*) FROM django_migrations'").out)
    assert report["migrations"] == {"known": True, "applied": applied, "unapplied": []}
    assert applied >= 19
    assert {item["health"] for item in report["containers"].values()} == {"healthy"}
    host.run("docker stop postdo-dev-pgadmin")
    try:
        ill = run_sh(host, "dev status")
        assert ill.code != 0
        assert "postdo-dev-pgadmin is not healthy" in ill.said
    finally:
        host.run("docker start postdo-dev-pgadmin")


def test_logs_are_those_of_the_container_that_was_asked_for(host, application):
    """A line of the application's own is there, and nothing of its neighbours."""
    host.page(f"{PAGES['dev']}?seen-in-the-log")
    logs = run_sh(host, "dev logs -e logs_service=web -e logs_lines=20").out
    assert "== postdo-dev-web" in logs
    assert "seen-in-the-log" in logs
    assert "== postdo-dev-db" not in logs


@pytest.mark.parametrize("environment", ["-1", "-2"])
def test_any_command_of_django_can_be_typed(host, application, environment):
    """In the container, and on the host."""
    said = run_sh(host, f"{environment} manage migrate --check --plan")
    assert said.code == 0, said.said
    assert "No planned migration operations." in said.out
    assert run_sh(host, f"{environment} manage nonsense").code != 0


def test_the_databases_shell_is_the_applications_role(host, application):
    """Which may do what the application may, and can become the superuser."""
    asked = run_sh(host, "-1 psql -At -c 'SELECT current_user'")
    assert asked.out == "app"
    asked = run_sh(host, "-1 psql -At -c 'SET ROLE NONE' -c 'SELECT current_user'")
    assert asked.out.splitlines()[-1] == "postgres"


def test_an_operation_on_what_does_not_run_says_what_to_start(host, application):
    """No environment of this name was ever brought up here."""
    inventories = f"{CLONE}/inventories"
    host.run(f"cp -r {inventories}/prod {inventories}/staging")
    said = run_sh(host, "staging psql")
    assert said.code == 1
    assert "postdo-staging-db is not running; start it: ./run.sh staging" in said.error


def test_ctrl_c_ends_it_and_nothing_else(host, application):
    """The server is gone from its port; the containers went on as before, whatever was done above."""
    before, run = application
    assert host.answers(PAGE)
    interrupt(host)
    assert run.wait(30) in (0, 130)
    assert not host.answers(PAGE)
    unchanged = [line for line in before if "pgadmin" not in line]
    assert [line for line in host.state()["containers"] if "pgadmin" not in line] == unchanged
