"""The two probes, with a real database that is there, away, hung, or a migration behind."""

import socket
import time
from collections.abc import Callable
from unittest import mock

from django.core.management import call_command
from django.db import connection, transaction
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

    def test_the_applications_own_options_count(self) -> None:
        """The record of the migrations is in a schema that only the application's options name."""
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA shop; ALTER TABLE django_migrations SET SCHEMA shop")
        self.addCleanup(self.put_back)
        options = {"options": "-c search_path=shop,public"}
        with mock.patch.dict(connection.settings_dict["OPTIONS"], options):
            self.assertEqual(self.client.get("/healthz/ready").status_code, 200)

    def put_back(self) -> None:
        """Undo the move of the migrations' record."""
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE shop.django_migrations SET SCHEMA public; DROP SCHEMA shop")

    def test_the_applications_connections_are_left_alone(self) -> None:
        """Nothing is asked over the application's connection or of its pool, and nothing stays set."""
        asked = []

        def note(execute: Callable, sql: str, *arguments: object) -> object:
            asked.append(sql)
            return execute(sql, *arguments)

        # Django refuses a pool with the driver of the example; one who took from it would fail.
        pool = mock.patch.dict(connection.settings_dict["OPTIONS"], {"pool": {"min_size": 1}})
        with connection.execute_wrapper(note), pool:
            answer = self.client.get("/healthz/ready")
        self.assertEqual((answer.status_code, asked), (200, []))
        self.assertEqual(connection.settings_dict["OPTIONS"].get("options"), None)
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            self.assertEqual(cursor.fetchone(), ("0",))

    def test_a_database_without_a_record_lacks_every_migration(self) -> None:
        name = "ALTER TABLE {} RENAME TO {}"
        with connection.cursor() as cursor:
            cursor.execute(name.format("django_migrations", "elsewhere"))
            self.addCleanup(
                connection.cursor().execute, name.format("elsewhere", "django_migrations")
            )
        with self.assertLogs(level="WARNING"):
            answer = self.client.get("/healthz/ready")
        self.assertEqual((answer.status_code, answer.json()["database"]), (503, "ok"))

    def test_a_statement_that_hangs_is_not_waited_for(self) -> None:
        """Somebody holds a lock on the migrations' record."""
        with transaction.atomic():
            connection.cursor().execute("LOCK TABLE django_migrations")
            with self.assertLogs(level="WARNING") as logs:
                answer = self.client.get("/healthz/ready")
        self.assertEqual((answer.status_code, answer.json()["database"]), (503, "unreachable"))
        self.assertIn("statement timeout", logs.output[0])

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
