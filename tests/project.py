"""A small Django project over a real PostgreSQL, and how to run it."""

import json
import os
import subprocess
import uuid
from pathlib import Path

from server import PASSWORD

# Where the package django_rehearsal is.
PACKAGE = Path(__file__).resolve().parent.parent / "rehearsal"
STARTER = Path(__file__).with_name("starter.py")
ANSWERS = "django_rehearsal answers:"

SETTINGS = """
import os, pathlib
SECRET_KEY = "x" * 5
INSTALLED_APPS = os.environ["TEST_APPS"].split()
AUTH_USER_MODEL = os.environ.get("TEST_USER_MODEL", "auth.User")
ROOT_URLCONF = os.environ.get("TEST_URLS", "settings")
urlpatterns = []
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1",
    "PORT": os.environ["TEST_PORT"], "NAME": os.environ["TEST_DATABASE"], "USER": "app",
    "PASSWORD": pathlib.Path(os.environ["TEST_PASSWORD_FILE"]).read_text(),
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
MANAGE = """
import sys
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""


class Project:
    """A Django project with one application, shop, and a database that may be shared."""

    def __init__(self, path, python, server, runtime):
        self.path, self.python, self.runtime = path, python, runtime
        # How Python begins with a program: by a fork of one that has imported Django.
        self.starting = [python, "-IS", STARTER, "start", python.parent / "starter"]
        self.server = server
        # Where else the package finds what it imports.
        self.beside = []
        self.env = {
            "PATH": "/usr/bin:/bin",
            "DJANGO_SETTINGS_MODULE": "settings",
            # Compiled once for all tests, and not among the project's files.
            "PYTHONPYCACHEPREFIX": str(python.parent.parent / "cache"),
            "TEST_PORT": server.port,
            "TEST_DATABASE": "app",
            "TEST_APPS": "shop",
            "TEST_PASSWORD_FILE": str(path / "password"),
        }

    def write(self, name, content):
        """Write a file of the project."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(content)

    def begin(self, models):
        """Write a project of which nothing but the models is said, and its first migration."""
        self.write("manage.py", MANAGE)
        self.write("settings.py", SETTINGS)
        self.write("password", PASSWORD)
        self.write("shop/__init__.py", "")
        self.write("shop/migrations/__init__.py", "")
        self.write("shop/models.py", models)
        self.manage("makemigrations", "--verbosity=0")

    def own_database(self, template="template1"):
        """Give the project a database of its own, empty or a copy; return its name."""
        name = f"app_{uuid.uuid4().hex[:8]}"
        self.server.sql(f"CREATE DATABASE {name} OWNER app TEMPLATE {template}")
        self.env["TEST_DATABASE"] = name
        return name

    def files(self):
        """Return every file of the project with its content."""
        found = (path for path in self.path.rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)): path.read_text() for path in found}

    def with_package(self):
        """Return the environment in which the package django_rehearsal is there as well."""
        further = [self.env["PYTHONPATH"]] if "PYTHONPATH" in self.env else []
        places = os.pathsep.join(map(str, [PACKAGE, *self.beside, *further]))
        return {**self.env, "PYTHONPATH": places}

    def run(self, program, *arguments):
        """Run one of the role's programs; its input stays open and never says anything."""
        asking, answering = os.pipe()
        try:
            return subprocess.run(
                [*self.starting, self.runtime / program, *arguments],
                cwd=self.path,
                env=self.with_package(),
                stdin=asking,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            os.close(asking)
            os.close(answering)

    def state(self, *arguments):
        """Return what the look at the migrations printed, which must be one line."""
        process = self.run("migration_state.py", *arguments)
        assert process.returncode == 0, process.stderr
        assert process.stdout.strip().count("\n") == 0
        return json.loads(process.stdout)

    def manage(self, *arguments):
        """Run a command of Django that must succeed; return its output."""
        command = [*self.starting, "manage.py", *arguments]
        process = subprocess.run(
            command, cwd=self.path, env=self.env, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    def ask(self, operation, *arguments, told="", code=0):
        """Return the answers of one operation of django_rehearsal, which must end with this status."""
        with self.asking(operation, *arguments) as process:
            out, said = process.communicate(told, timeout=120)
        assert process.returncode == code, said + out
        return [json.loads(line) for line in out.splitlines()]

    def asking(self, operation, *arguments):
        """Begin one operation of django_rehearsal and return its process, which has nothing but answers to say now."""
        process = subprocess.Popen(
            [*self.starting, "-m", "django_rehearsal", operation, *arguments],
            cwd=self.path,
            env=self.with_package(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Byte by byte from the pipe itself: what Python had read ahead, communicate would never see.
        said = b""
        while not said.endswith(f"{ANSWERS}\n".encode()) and (
            byte := os.read(process.stdout.fileno(), 1)
        ):
            said += byte
        return process
