"""The application's own tests, in the image it runs in, over the project's own PostgreSQL."""

import json
import secrets
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


def docker(*arguments, check=True):
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=check, timeout=600
    )


@pytest.fixture
def database(tmp_path):
    """A PostgreSQL of the project's image, prepared for the application; yields its name."""
    images = json.loads((PROJECT / ".cache/dev-images.json").read_text())
    name = f"apptest-{secrets.token_hex(4)}"
    secret = tmp_path / "secrets"
    secret.mkdir()
    for file in ("postgres_password", "django_secret_key"):
        (secret / file).write_text(secrets.token_urlsafe(32))
    for path in (secret, *secret.iterdir()):
        path.chmod(0o755)
    docker("network", "create", name)
    try:
        docker(
            *("run", "--detach", "--init", "--name", name, "--network", name),
            *("--tmpfs", "/var/lib/postgresql/data:uid=15432,mode=0700"),
            *("--volume", f"{secret}:/run/secrets:ro", images["postgres"]),
            *("-c", "fsync=off"),
        )
        prepare = ("prepare-database", "--database", "app", "--role", "app", "--createdb")
        docker("exec", name, *prepare, "--container", name)
        yield name, secret, images["runtime"]
    finally:
        docker("rm", "--force", "--volumes", name)
        docker("network", "rm", name)


def test_the_applications_own_tests_pass_in_its_image_on_the_projects_postgresql(database):
    name, secret, runtime = database
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_DEBUG": "true",
        "DJANGO_ENVIRONMENT": "test",
        "DJANGO_SERVED_BY": "container",
        "DJANGO_PUBLIC_URL": "http://127.0.0.1:8000",
        "DJANGO_STATIC_ROOT": "/tmp/static",
        "DJANGO_MEDIA_ROOT": "/tmp/media",
        "DJANGO_SECRET_KEY_FILE": "/run/secrets/django_secret_key",
        "DATABASE_HOST": name,
        "DATABASE_NAME": "app",
        "DATABASE_USER": "app",
        "DATABASE_PASSWORD_FILE": "/run/secrets/postgres_password",
    }
    tests = docker(
        *("run", "--rm", "--network", name, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--volume", f"{PROJECT / 'app'}:/app:ro", "--volume", f"{secret}:/run/secrets:ro"),
        *(word for key, value in environment.items() for word in ("--env", f"{key}={value}")),
        *(runtime, "python", "manage.py", "test", "--noinput"),
        check=False,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    # A run that found no test is no success.
    assert "Ran 0 tests" not in tests.stderr
    assert "\nOK" in tests.stderr
