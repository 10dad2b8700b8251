"""Secrets are where they are used, and nowhere else."""

import re
import secrets

import pytest
from hosts import PAGES, TOOLS, WEB

CONSUMERS = {
    "dev/secrets/db/postgres_password": "postdo-dev-db",
    "dev/secrets/web/postgres_password": "postdo-dev-web",
    "dev/secrets/web/django_secret_key": "postdo-dev-web",
    "dev/secrets/web/superuser_password": "postdo-dev-web",
    "dev/secrets/pgadmin/postgres_password": "postdo-dev-pgadmin",
    "dev/secrets/pgadmin/pgadmin_password": "postdo-dev-pgadmin",
    "prod/secrets/db/postgres_password": "postdo-prod-db",
    "prod/secrets/web/postgres_password": "postdo-prod-web",
    "prod/secrets/web/django_secret_key": "postdo-prod-web",
    "prod/secrets/web/superuser_password": "postdo-prod-web",
}


@pytest.fixture(scope="module")
def canary(host):
    """Put a canary in place of every secret, run both environments with it, and watch meanwhile.

    Returns the canary and all that Ansible said with -vvv and --diff.
    """
    canary = f"canary{secrets.token_hex(12)}"
    # Its password is the operator's here, lest the play make one that no test knows.
    for environment in ("dev", "prod"):
        (host.directory / "secrets" / environment / "superuser_password").touch(mode=0o600)
        for secret in (host.directory / "secrets" / environment).iterdir():
            # No other key reads the backups that are there; the scenario `backup` looks for that one.
            if secret.name == "backup_key":
                continue
            # Another value for each, and long enough for Django.
            secret.write_text(f"{canary}{secret.name}{secrets.token_hex(16)}\n")
    host.run("touch /run/watching")
    # On its standard input, or the canary would be an argument of the watcher itself.
    script = f"text={canary}\n{(TOOLS / 'watch.sh').read_text()}"
    with host.background("sh -s", script) as watcher:
        arguments = ("-vvv", "--diff", "-e", "django_web_superuser_enabled=true")
        said = [host.converge(environment, *arguments) for environment in PAGES]
        host.run("rm /run/watching")
        seen = watcher.communicate(timeout=30)[0]
    return canary, said, seen


def test_changed_secrets_are_in_use_after_the_next_run(host, canary):
    """The database has its new password, and the application and pgAdmin know it."""
    host.wait_for()
    for url in PAGES.values():
        assert "all applied" in host.page(url)


def test_a_superuser_who_was_asked_for_is_there_once(host, canary):
    """With the password of the secrets, which the next run leaves as it is."""
    query = (
        "from django.contrib.auth import get_user_model as m; u = m().objects.get(is_superuser=True);"
        " print(u.username, u.check_password(open('/run/secrets/superuser_password').read().strip()))"
    )
    shell = f'docker exec {host.serving()} python manage.py shell --verbosity 0 -c "{query}"'
    assert host.run(shell) == "admin True"
    assert "changed=0" in host.converge("prod", "-e", "django_web_superuser_enabled=true")


def test_a_superuser_whom_the_project_refuses_costs_nothing_else(host, canary):
    """The run goes on to its end, says why, and fails there."""
    asked = ("-e", "django_web_superuser_enabled=true", "-e", "django_web_superuser_name=''")
    result = host.ansible("prod", *asked)
    assert result.code != 0
    before, _found, after = result.said.partition("postdo-prod is running")
    assert "failed " not in before
    assert "no superuser could be made" in after
    assert "blank" in after


def test_secrets_are_on_the_disk_for_their_consumers_alone(host, canary):
    """Of all files, layers of images, settings and logs of containers, only these have it."""
    # The merged directories show once more what the layers below them have.
    left_out = " ".join(f"--exclude-dir={name}" for name in ("proc", "sys", "merged", "clone"))
    found = host.attempt(f"LC_ALL=C grep -rlaF {left_out} {canary[0]} /", timeout=300).out
    assert set(found.splitlines()) == {f"/etc/postdo/{path}" for path in CONSUMERS}


@pytest.mark.parametrize(
    "where",
    [
        "docker inspect $(docker ps -aq)",
        "docker inspect $(docker images -q)",
        "docker inspect $(docker volume ls -q)",
        "docker inspect $(docker network ls -q)",
        "for i in $(docker images -q); do docker history --no-trunc $i; done",
        "for c in $(docker ps -aq); do docker logs $c 2>&1; done",
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ",
        "journalctl --no-pager --all",
    ],
)
def test_no_secret_is_shown_by(host, canary, where):
    """Neither the engine nor the host shows a secret to whoever asks."""
    shown = host.attempt(f"{where} | tr '\\0' '\\n'").out
    assert shown
    assert canary[0] not in shown


def test_no_secret_is_said_by_ansible(canary):
    """The most talkative run with --diff prints none."""
    for said in canary[1]:
        assert "changed=" in said
        assert canary[0] not in said


def test_no_secret_is_an_argument_or_a_variable_while_a_run_works(canary):
    """Processes come and go during a run; none has a secret in what every user may read."""
    assert canary[2].splitlines() == ["watched"]


@pytest.mark.parametrize("path", CONSUMERS)
def test_a_secret_is_readable_by_its_consumer_alone(host, path):
    """The file belongs to the user of the container that has it mounted, and to no other."""
    consumer = CONSUMERS[path]
    uid = host.containers(consumer)[consumer]["Config"]["User"].split(":")[0]
    assert host.run(f"stat -c '%u %a' /etc/postdo/{path}") == f"{uid} 400"
    # Releases that are kept to go back to have the same secrets, which they read when they start.
    mounted = {
        re.sub("-[0-9a-f]{12}$", "", name)
        for name, item in host.containers().items()
        for mount in item["Mounts"]
        if f"/etc/postdo/{path}".startswith(mount["Source"] + "/")
    }
    assert mounted == {consumer}
    name = path.rsplit("/", 1)[1]
    container = host.serving() if consumer == WEB else consumer
    assert host.run(f"docker exec {container} cat /run/secrets/{name}")
    # A stranger's try, and a proof that it could succeed with another file.
    stranger = "setpriv --reuid 4711 --regid 4711 --clear-groups cat"
    assert host.attempt(f"{stranger} /etc/os-release").code == 0
    assert host.attempt(f"{stranger} /etc/postdo/{path}").code != 0
