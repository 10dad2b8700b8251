"""What the application's image says of a release before anything is done for it: can it serve, where is a static file?

Django and gunicorn come from the application's own lock.
"""

import importlib
import json
import os
import subprocess
import sys

import pytest

SETTINGS = """
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["django.contrib.staticfiles", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "1"}}
STATIC_URL, STATIC_ROOT = "/files/", "static"
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}
"""
WSGI = """
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
GUNICORN = ["python3", "-m", "gunicorn"]


@pytest.fixture
def project(tmp_path):
    """Return a project that can be served, with a static file."""
    files = {"settings.py": SETTINGS, "wsgi.py": WSGI, "shop/__init__.py": ""}
    for name, content in (files | {"shop/static/site.css": "body {}"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def look(repository, project, python):
    """Return a function that runs the program; it returns what was said, and whether that is a refusal."""

    def call(wsgi="wsgi:application", interpreter=python, **commands):
        facts = {"wsgi": wsgi, "commands": {"web": GUNICORN} | commands}
        program = repository / "roles/django_web/files/runtime/serving.py"
        done = subprocess.run(
            [interpreter, program, json.dumps(facts)],
            cwd=project,
            env={"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "settings"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stderr.splitlines()[-1] if done.returncode else json.loads(done.stdout)

    return call


def collect(project, python):
    """Make the manifest of static files."""
    command = [python, "-m", "django", "collectstatic", "--noinput"]
    env = {"PATH": "/usr/bin", "PYTHONPATH": str(project), "DJANGO_SETTINGS_MODULE": "settings"}
    subprocess.run(command, cwd=project, env=env, check=True, capture_output=True)


def test_a_static_file_is_named_where_there_is_a_manifest(project, look, python):
    assert look() == {"static": ""}
    collect(project, python)
    path = look()["static"]
    assert path.startswith("/files/site.") and path.endswith(".css")
    (project / "settings.py").write_text(f"{SETTINGS}STATIC_URL = 'https://cdn.example/'\n")
    assert look() == {"static": ""}
    (project / "settings.py").write_text(f"{SETTINGS}STORAGES['staticfiles'] = {{}}\n")
    assert look() == {"static": ""}


BAD = {
    "no module": ({"wsgi": "nowhere.wsgi:app"}, "No module named 'nowhere'"),
    "no attribute": ({"wsgi": "wsgi:app"}, "Failed to find attribute 'app' in 'wsgi'"),
    "no callable": ({"wsgi": "settings:SECRET_KEY"}, "must be callable"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_served_is_said_with_the_variable(look, bad):
    words, said = BAD[bad]
    line = look(**words)
    assert line.startswith(f"django_web_wsgi is {words['wsgi']}, which can't be imported")
    assert said in line


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import absent", "(wsgi.py, line 2): ModuleNotFoundError: No module named 'absent'"),
        ("1 / 0", "(wsgi.py, line 2): ZeroDivisionError: division by zero"),
        ("raise SystemExit('not\\nnow')", "(wsgi.py, line 2): SystemExit: not now"),
        ("import shop.broken", "(shop/broken.py, line 1): ValueError: mine"),
    ],
)
def test_a_module_that_fails_by_itself_is_shown_with_its_own_error(project, look, code, said):
    (project / "shop/broken.py").write_text("raise ValueError('mine')\n")
    (project / "wsgi.py").write_text(f"print('begun')\n{code}\napplication = print\n")
    assert look().endswith(said)


def test_what_a_module_begins_and_prints_keeps_nobody_waiting(project, look):
    begun = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()\n"
    (project / "wsgi.py").write_text(f"{begun}print('begun')\n{WSGI}")
    assert look() == {"static": ""}


def test_a_lock_without_gunicorn_is_said(look):
    """The tests' own Python has none."""
    line = look(interpreter=sys.executable)
    assert line.startswith("gunicorn is to serve the site, but is not in")
    assert "requirements.txt" in line


def test_a_web_process_of_ones_own_needs_neither(project, look):
    (project / "wsgi.py").write_text("1 / 0")
    assert look("", interpreter=sys.executable) == {"static": ""}


def test_a_command_that_is_not_there_is_said(project, look):
    line = look(worker=["celery", "worker"])
    assert line.startswith("django_web_processes gives worker the command celery, which is not in")
    assert look(worker=["./work"]).startswith(
        "django_web_processes gives worker the command ./work"
    )
    (project / "work").write_text("#!/bin/sh\n")
    (project / "work").chmod(0o755)
    assert look(worker=["./work"]) == {"static": ""}


def test_an_upload_that_comes_while_others_are_cleared_away_stays(
    repository, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(repository / "roles/django_web/files/runtime")
    bodies = importlib.import_module("bodies")
    old, new = tmp_path / "tmpold.upload", tmp_path / "tmpnew.upload"
    old.touch()
    read = os.readlink

    def look(path):
        new.touch()
        return read(path)

    monkeypatch.setattr(bodies.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(bodies.os, "readlink", look)
    bodies.clear()
    assert new.exists() and not old.exists()
