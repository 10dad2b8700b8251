"""A bad release never arrives: each way of being bad, under load, and no request fails."""

import re

import pytest

GUNICORN = ["gunicorn", "--config", "/opt/postdo/gunicorn.conf.py", "config.wsgi:application"]
MIGRATION = '''"""Fail on the rows that are there."""

from django.db import migrations


def fail(apps, schema_editor):
    raise ValueError("this row is not as it should be")


class Migration(migrations.Migration):
    dependencies = [("trial", "0001_initial")]
    operations = [migrations.RunPython(fail)]
'''


def web(*command):
    """Return processes of which the only one has this command."""
    return [{"name": "web", "command": list(command)}]


# What is bad, the variables that make it so, what must be said.
BAD = {
    "it ends at once": (
        {"django_web_wsgi": "config.nowhere:application"},
        "django_web_wsgi is config.nowhere:application, .* No module named 'config.nowhere'",
    ),
    "it never gets healthy": (
        {"django_web_health_path": "/nowhere", "django_web_start_timeout": 8},
        "/nowhere answered 404.* .django_web_start_timeout",
    ),
    "it ends while it is watched": (
        {"django_web_processes": web("timeout", "6", *GUNICORN), "django_web_watch_time": 10},
        "ended with status|fell ill|was started again",
    ),
    "it ends once it serves": (
        {"django_web_processes": web("timeout", "11", *GUNICORN), "django_web_watch_time": 6},
        "ended with status|fell ill|was started again",
    ),
    "a secret is wrong": (
        {
            "django_web_environment": {"DATABASE_PASSWORD_FILE": "/run/secrets/django_secret_key"},
        },
        "password authentication failed",
    ),
    "a worker ends": (
        {"django_web_processes": [{"name": "web"}, {"name": "worker", "command": ["false"]}]},
        "ended with status 1",
    ),
    "its command is not there": (
        {"django_web_processes": web("nonsense")},
        "django_web_processes gives web the command nonsense",
    ),
    "a page fails": (
        {
            "django_web_environment": {"TRIAL_STATUS": "500"},
            "django_web_watch_paths": ["/trial/status"],
        },
        "/trial/status gives status 500, and status 200 before",
    ),
}


# The others are tried with less around them.
QUICK = ["it ends at once", "it ends once it serves"]
FULL = pytest.mark.full(
    seen_by="tests/test_deploy.py::test_a_bad_release_leaves_the_one_before_with_its_workers"
)


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, marks=[] if bad in QUICK else [FULL]) for bad in BAD]
)
def test_a_bad_release_never_arrives(host, account, bad):
    """It fails with its last words, the release of before serves all along, and nothing is left."""
    before = host.release
    variables, words = BAD[bad]
    with host.visited() as met:
        result = host.deploy(**variables)
    account(f"a bad release: {bad}", met)
    assert result.code != 0
    assert re.search(words, result.said), result.said
    assert host.page() == host.release == before
    assert host.left_over() == []
    if bad == "it ends once it serves":
        # Whoever comes meanwhile waits; what the dying process had in hand can't be saved.
        host.nothing_lost()
    else:
        host.unharmed(met)


def test_an_image_that_cannot_be_built(host, account):
    """The build's own words are shown."""
    before = host.release
    with host.unchanged_source(), host.visited() as met:
        host.edit("config/urls.py", lambda text: text)
        host.edit("config/settings.py", lambda text: f"{text}\nraise ValueError('unbuildable')\n")
        result = host.deploy()
    account("a bad release: its image can't be built", met)
    assert result.code != 0
    assert "unbuildable" in result.said
    assert host.page() == host.release == before
    assert host.left_over() == []
    host.unharmed(met)


def test_a_migration_that_fails(host, account):
    """Its error is shown, the release of before serves on, and once it is gone the next run is well."""
    before = host.release
    with host.unchanged_source():
        (host.source / "trial/migrations/0002_fails.py").write_text(MIGRATION)
        with host.visited() as met:
            result = host.deploy()
        account("a bad release: its migration fails", met)
    assert result.code != 0
    assert "this row is not as it should be" in result.said
    assert host.page() == host.release == before
    assert host.left_over() == []
    host.unharmed(met)
    assert "changed=0" in host.deployed()


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_a_note_that_a_power_failure_took_locks_nobody_out"
)
def test_a_full_disk(host, account):
    """Where nothing can be written down any more, the release of before serves on."""
    before = host.release
    place = "/var/lib/postdo/prod"
    # A small file system in the place of the real one, with what is there.
    host.run(
        f"mkdir -p /small && mount -t tmpfs -o size=1m,mode=0755 small /small && cp -a {place}/. /small/ && "
        f"head -c 2m /dev/zero > /small/full || :"
    )
    host.run(f"mount --bind /small {place}")
    try:
        with host.visited() as met:
            result = host.deploy(django_web_log_level="DEBUG")
    finally:
        host.run(f"umount {place} && umount /small")
    account("a bad release: the disk is full", met)
    assert result.code != 0
    assert "No space left on device" in result.said
    assert host.page() == host.release == before
    host.unharmed(met)
    assert "changed=0" in host.deployed()
    assert host.left_over() == []
