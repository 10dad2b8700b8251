"""The two probes, with a real database that is there, away, hung, or a migration behind."""

import socket
import time
from unittest import mock

from django.core.management import call_command
from django.db import connection
from django.test import Client, SimpleTestCase, TransactionTestCase, override_settings


class LiveTest(SimpleTestCase):
    """No database is allowed in this class: the probe must not need one."""

    def test_live_answers(self) -> None:
        answer = self.client.get("/healthz/live")
        self.assertEqual((answer.status_code, answer.json()), (200, {"status": "ok"}))
        self.assertEqual(answer["Cache-Control"], "no-store")

    @override_settings(SECURE_SSL_REDIRECT=True)
    def test_no_redirect_and_no_host_check(self) -> None:
        client = Client(headers={"host": "10.0.0.7"})
        self.assertEqual(client.get("/healthz/live").status_code, 200)
        self.assertEqual(Client().get("/robots.txt").status_code, 301)

    @override_settings(SECURE_SSL_REDIRECT=False)
    def test_head_answers_and_post_is_not_a_probe(self) -> None:
        self.assertEqual(self.client.head("/healthz/live").status_code, 200)
        with self.assertLogs("django.request"):
            self.assertEqual(self.client.post("/healthz/live").status_code, 404)


class ReadyTest(TransactionTestCase):
    """The probe has a connection of its own, so nothing here may hide in a transaction."""

    def test_ready_answers_behind_redirect_and_any_host(self) -> None:
        with self.settings(SECURE_SSL_REDIRECT=True):
            answer = Client(headers={"host": "10.0.0.7"}).get("/healthz/ready")
        state = {"status": "ok", "database": "ok", "migrations": "ok"}
        self.assertEqual((answer.status_code, answer.json()), (200, state))

    def test_unapplied_migration_is_not_ready(self) -> None:
        self.addCleanup(call_command, "migrate", "core", verbosity=0)
        call_command("migrate", "core", "zero", verbosity=0)
        with self.assertLogs(level="WARNING") as logs:
            answer = self.client.get("/healthz/ready")
        self.assertEqual((answer.status_code, answer.json()["database"]), (503, "ok"))
        self.assertRegex(answer.json()["migrations"], r"^[1-9]\d* unapplied$")
        self.assertIn("core.0001_entry", logs.output[0])

        call_command("migrate", "core", verbosity=0)
        self.assertEqual(self.client.get("/healthz/ready").status_code, 200)

    def test_database_away_is_not_ready(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
            self.assert_unreachable(unused.getsockname()[1])

    def test_hung_database_is_not_ready_within_seconds(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.assert_unreachable(silent.getsockname()[1])

    def assert_unreachable(self, port: int) -> None:
        """Check the answer, its delay, and that it tells a stranger nothing."""
        elsewhere = {"HOST": "127.0.0.1", "PORT": port}
        started = time.monotonic()
        with (
            mock.patch.dict(connection.settings_dict, elsewhere),
            self.assertLogs(level="WARNING") as logs,
        ):
            answer = self.client.get("/healthz/ready")
        self.assertLess(time.monotonic() - started, 4)
        state = {"status": "unavailable", "database": "unreachable", "migrations": "unknown"}
        self.assertEqual((answer.status_code, answer.json()), (503, state))
        self.assertNotIn("\n", logs.records[0].getMessage())
        self.assertNotIn(connection.settings_dict["PASSWORD"], logs.output[0])
