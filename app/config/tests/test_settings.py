"""The settings file as a fresh process reads it, with an environment made from nothing."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from django.conf import settings
from django.test import SimpleTestCase

# Reads environments from standard input; prints the settings that each makes, or the refusal.
SCRIPT = """
import json, os, runpy, sys
from django.core.exceptions import ImproperlyConfigured

results = []
for environment in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environment)
    try:
        results.append(runpy.run_path("config/settings.py"))
    except ImproperlyConfigured as error:
        results.append(str(error))
print(json.dumps(results, default=str))
"""


class SettingsTest(SimpleTestCase):
    """Runs Python with a complete environment, less or more what a test changes."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.secret_key = secrets.token_urlsafe(60)
        for name, content in {
            "key": cls.secret_key,
            "password": "pass word",
            "empty": "\n",
        }.items():
            (cls.folder / name).write_text(content + "\n")
        cls.complete = {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DJANGO_ENVIRONMENT": "prod",
            "DJANGO_SERVED_BY": "container",
            "DJANGO_SECRET_KEY_FILE": f"{cls.folder}/key",
            "DJANGO_PUBLIC_URL": "http://127.0.0.1:8080",
            "DJANGO_STATIC_ROOT": f"{cls.folder}/static",
            "DJANGO_MEDIA_ROOT": f"{cls.folder}/media",
            "DATABASE_HOST": "db",
            "DATABASE_NAME": "app",
            "DATABASE_USER": "app",
            "DATABASE_PASSWORD_FILE": f"{cls.folder}/password",
        }

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Return the complete environment, changed; a variable that is None is left out."""
        return {k: v for k, v in (self.complete | changes).items() if v is not None}

    def read_all(self, environments: list[dict[str, str]]) -> list[dict[str, object] | str]:
        """Return, for each environment, the settings it makes or the message that refuses it."""
        command, cwd = [sys.executable, "-c", SCRIPT], settings.BASE_DIR
        result = subprocess.run(
            command,
            cwd=cwd,
            input=json.dumps(environments),
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def read(self, **changes: str | None) -> dict[str, object]:
        """Return the settings that the changed environment makes."""
        (result,) = self.read_all([self.environment(**changes)])
        self.assertIsInstance(result, dict, result)
        return result

    def manage(self, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess:
        """Run a command of Django in the changed environment."""
        # Where Python finds Django is not what is tested here.
        inherited = {k: os.environ[k] for k in ("PATH", "PYTHONPATH") if k in os.environ}
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=inherited | self.environment(**changes),
            capture_output=True,
            text=True,
            check=False,
        )

    def assert_refused(self, cases: list[tuple[str, str, dict[str, str | None]]]) -> None:
        """Check each case (variable, remedy, changes): one line that names both."""
        results = self.read_all([self.environment(**changes) for *_, changes in cases])
        for (name, remedy, changes), message in zip(cases, results, strict=True):
            with self.subTest(changes=changes):
                self.assertIsInstance(message, str, "this was accepted")
                self.assertRegex(message, rf"^{name} .*{remedy}")
                self.assertNotIn("\n", message)


class StrictnessTest(SettingsTest):
    """Nothing is guessed."""

    def test_required_variables(self) -> None:
        required = [name for name in self.complete if name != "DJANGO_SETTINGS_MODULE"]
        self.assert_refused(
            [
                (name, "is missing: set it", {name: value})
                for name in required
                for value in (None, "", " ")
            ]
        )

    def test_bad_values(self) -> None:
        mail = {"EMAIL_HOST": "mail", "EMAIL_PORT": "25", "EMAIL_FROM": "a@example.org"}
        mail["EMAIL_SECURITY"] = "none"
        cases = (
            ("DJANGO_DEBUG", "1", "set it to true or false", {}),
            ("DJANGO_ENVIRONMENT", "Prod 1", "lower-case letters", {}),
            ("DJANGO_SERVED_BY", "pod", "container or host", {}),
            ("DJANGO_SECRET_KEY_FILE", "/nonexistent/key", "write the secret", {}),
            ("DJANGO_SECRET_KEY_FILE", f"{self.folder}/empty", "write a secret", {}),
            ("DATABASE_PASSWORD_FILE", f"{self.folder}", "Is a directory", {}),
            ("DATABASE_PASSWORD_FILE", "password", "absolute path", {}),
            ("DATABASE_PORT", "5432x", "whole number from 1 to 65535", {}),
            ("DATABASE_PORT", "65536", "whole number from 1 to 65535", {}),
            ("DJANGO_PUBLIC_URL", "example.org", "such as https://", {}),
            ("DJANGO_PUBLIC_URL", "ftp://example.org", "such as https://", {}),
            ("DJANGO_PUBLIC_URL", "https://example.org/app", "without path", {}),
            ("DJANGO_PUBLIC_URL", "https://me@example.org", "such as https://", {}),
            ("DJANGO_PUBLIC_URL", "https://example.org:x", "such as https://", {}),
            ("DJANGO_PUBLIC_URL", "https://*", "such as https://", {}),
            ("DJANGO_ALLOWED_HOSTS", "a.example,*", "list host names", {}),
            ("DJANGO_ALLOWED_HOSTS", "http://a.example", "list host names", {}),
            ("DJANGO_STATIC_ROOT", "static", "absolute path", {}),
            ("DJANGO_TIME_ZONE", "Brasilia", "time zone such as", {}),
            ("DJANGO_TIME_ZONE", "../etc/passwd", "time zone such as", {}),
            ("DJANGO_LANGUAGE_CODE", "klingon", "language code such as", {}),
            ("DJANGO_LOG_FORMAT", "xml", "text or json", {}),
            ("DJANGO_LOG_LEVEL", "LOUD", "DEBUG or INFO", {}),
            ("EMAIL_SECURITY", None, "is missing", mail),
            ("EMAIL_SECURITY", "ssl", "none or starttls or tls", mail),
            ("EMAIL_PORT", None, "is missing", mail),
            ("EMAIL_FROM", None, "is missing", mail),
            ("EMAIL_PASSWORD_FILE", None, "is missing", mail | {"EMAIL_USER": "me"}),
        )
        self.assert_refused(
            [(name, remedy, others | {name: value}) for name, value, remedy, others in cases]
        )

    def test_command_ends_with_one_line(self) -> None:
        result = self.manage("check", DATABASE_HOST=None)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(
            result.stderr, "manage.py: DATABASE_HOST is missing: set it in the environment.\n"
        )


class DerivationTest(SettingsTest):
    """What follows from what was given."""

    def test_secrets_come_from_files_without_the_line_break(self) -> None:
        read = self.read()
        self.assertEqual(read["SECRET_KEY"], self.secret_key)
        self.assertEqual(read["DATABASES"]["default"]["PASSWORD"], "pass word")

    def test_debug_is_off_unless_asked_for(self) -> None:
        self.assertIs(self.read()["DEBUG"], False)
        development = self.read(DJANGO_DEBUG="true")
        self.assertIs(development["DEBUG"], True)
        self.assertNotIn("Manifest", development["STORAGES"]["staticfiles"]["BACKEND"])

    def test_https(self) -> None:
        read = self.read(DJANGO_PUBLIC_URL="https://Example.org", DJANGO_ALLOWED_HOSTS="b, a")
        self.assertEqual(read["ALLOWED_HOSTS"], ["a", "b", "example.org"])
        self.assertEqual(read["CSRF_TRUSTED_ORIGINS"], ["https://example.org"])
        self.assertEqual(read["SECURE_PROXY_SSL_HEADER"], ["HTTP_X_FORWARDED_PROTO", "https"])
        self.assertEqual(read["SECURE_HSTS_SECONDS"], 31536000)
        self.assertNotIn("SESSION_COOKIE_NAME", read)
        self.assertNotIn("SILENCED_SYSTEM_CHECKS", read)

    def test_plain_http_has_cookies_of_its_own_and_trusts_no_proxy(self) -> None:
        for environment in ("dev", "prod"):
            read = self.read(DJANGO_ENVIRONMENT=environment)
            self.assertEqual(read["SESSION_COOKIE_NAME"], f"sessionid_{environment}")
            self.assertEqual(read["CSRF_COOKIE_NAME"], f"csrftoken_{environment}")
            self.assertNotIn("SECURE_PROXY_SSL_HEADER", read)
            self.assertEqual(read["ALLOWED_HOSTS"], ["127.0.0.1"])

    def test_mail(self) -> None:
        self.assertIn("console", self.read()["EMAIL_BACKEND"])
        server = {
            "EMAIL_HOST": "mail.example",
            "EMAIL_PORT": "587",
            "EMAIL_SECURITY": "starttls",
            "EMAIL_USER": "me",
            "EMAIL_PASSWORD_FILE": f"{self.folder}/password",
            "EMAIL_FROM": "app@example.org",
        }
        read = self.read(**server)
        self.assertEqual((read["EMAIL_USE_TLS"], read["EMAIL_USE_SSL"]), (True, False))
        self.assertEqual(read["EMAIL_HOST_PASSWORD"], "pass word")
        self.assertEqual(read["DEFAULT_FROM_EMAIL"], "app@example.org")
        self.assertNotIn("EMAIL_BACKEND", read)


class DeployCheckTest(SettingsTest):
    """`check --deploy` for the three kinds of public address."""

    def check(self, url: str) -> subprocess.CompletedProcess:
        """Run the check as a deployment does."""
        return self.manage("check", "--deploy", "--fail-level", "WARNING", DJANGO_PUBLIC_URL=url)

    def test_https_is_clean_and_silences_nothing(self) -> None:
        result = self.check("https://example.org")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("(0 silenced)", result.stdout)

    def test_plain_http_on_loopback_silences_exactly_four(self) -> None:
        for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
            result = self.check(f"http://{host}")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("(4 silenced)", result.stdout)
        silenced = self.read()["SILENCED_SYSTEM_CHECKS"]
        self.assertEqual(silenced, [f"security.W{n}" for n in ("004", "008", "012", "016")])

    def test_plain_http_elsewhere_is_refused(self) -> None:
        for host in ("example.org", "192.168.1.10:8080"):
            result = self.check(f"http://{host}")
            self.assertEqual(result.returncode, 1)
            for number in ("004", "008", "012", "016"):
                self.assertIn(f"security.W{number}", result.stderr)
