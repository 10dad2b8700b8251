"""The application's own tests, in the image it runs in, over the project's own PostgreSQL."""

import secrets

import pytest
from server import PASSWORD, Server, docker


@pytest.fixture
def server(image):
    """Yield a server that is prepared for the application's tests."""
    server = Server(image)
    try:
        server.start("-c", "fsync=off")
        server.prepare("--createdb")
        yield server
    finally:
        server.remove()


@pytest.fixture
def secret(tmp_path):
    """Return a directory with the application's secrets."""
    (tmp_path / "postgres_password").write_text(PASSWORD)
    (tmp_path / "django_secret_key").write_text(secrets.token_urlsafe(48))
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    return tmp_path


def test_the_applications_own_tests_pass_in_its_image_on_the_projects_postgresql(
    server, secret, images, repository
):
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_DEBUG": "true",
        "DJANGO_ENVIRONMENT": "test",
        "DJANGO_SERVED_BY": "container",
        "DJANGO_PUBLIC_URL": "http://127.0.0.1:8000",
        "DJANGO_STATIC_ROOT": "/tmp/static",
        "DJANGO_MEDIA_ROOT": "/tmp/media",
        "DJANGO_SECRET_KEY_FILE": "/run/secrets/django_secret_key",
        "DATABASE_HOST": server.name,
        "DATABASE_NAME": "app",
        "DATABASE_USER": "app",
        "DATABASE_PASSWORD_FILE": "/run/secrets/postgres_password",
    }
    tests = docker(
        *(
            "run",
            "--rm",
            "--network",
            server.name,
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
        ),
        *("--volume", f"{repository / 'app'}:/app:ro", "--volume", f"{secret}:/run/secrets:ro"),
        *(word for key, value in environment.items() for word in ("--env", f"{key}={value}")),
        *(images["runtime"], "python", "manage.py", "test", "--noinput"),
        check=False,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    # A run that found no test is no success.
    assert "Ran 0 tests" not in tests.stderr
    assert "\nOK" in tests.stderr
