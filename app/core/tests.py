"""The guest book's page, the admin and the database's own rules."""

import re
import socket

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client, TestCase, override_settings

from core.models import Entry
from core.views import ENTRIES_PER_PAGE


def make_entry(text: str, **fields: str) -> Entry:
    """Store an entry as a container would."""
    return Entry.objects.create(text=text, served_by="container abc123", **fields)


@override_settings(SECURE_SSL_REDIRECT=False)
class PageTest(TestCase):
    """What a visitor sees."""

    def test_empty_page_says_so(self) -> None:
        self.assertContains(self.client.get("/"), "Nothing here yet.")

    def test_newest_entry_comes_first(self) -> None:
        make_entry("the older one")
        make_entry("the newer one", author="Ana")
        page = self.client.get("/").content.decode()
        self.assertLess(page.index("the newer one"), page.index("the older one"))
        self.assertIn("container abc123", page)

    def test_entries_are_escaped(self) -> None:
        make_entry("<script>alert(1)</script>", author="<b>")
        page = self.client.get("/")
        self.assertNotContains(page, "<script>")
        self.assertNotContains(page, "<b>")

    def test_pages_are_split_and_out_of_range_is_the_last(self) -> None:
        for number in range(ENTRIES_PER_PAGE + 1):
            make_entry(f"entry [{number}]")
        self.assertNotContains(self.client.get("/"), "entry [0]")
        self.assertContains(self.client.get("/?page=2"), "entry [0]")
        self.assertContains(self.client.get("/?page=99"), "Page 2 of 2")
        self.assertContains(self.client.get("/?page=x"), "Page 1 of 2")

    def test_panel_shows_what_served_the_page(self) -> None:
        page = self.client.get("/").content.decode()
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0].split()[0]
        for fact in (
            settings.ENVIRONMENT,
            settings.SERVED_BY,
            socket.gethostname(),
            settings.RELEASE,
            connection.settings_dict["NAME"],
            f"{connection.settings_dict['HOST']}:{connection.settings_dict['PORT']}",
            version,
            "all applied",
        ):
            self.assertIn(fact, page)

    def test_page_is_not_cached(self) -> None:
        self.assertIn("no-store", self.client.get("/")["Cache-Control"])

    def test_unknown_address_is_404(self) -> None:
        with self.assertLogs("django.request"):
            answer = self.client.get("/nowhere")
        self.assertContains(answer, "no such page", status_code=404)

    def test_unknown_host_is_refused(self) -> None:
        with self.assertLogs("django.security.DisallowedHost"):
            answer = self.client.get("/", headers={"host": "evil.example"})
        self.assertEqual(answer.status_code, 400)

    def test_robots_stay_out_of_the_admin(self) -> None:
        self.assertContains(self.client.get("/robots.txt"), "Disallow: /admin/")

    def test_other_methods_are_refused(self) -> None:
        with self.assertLogs("django.request"):
            self.assertEqual(self.client.delete("/").status_code, 405)


@override_settings(SECURE_SSL_REDIRECT=False)
class AddTest(TestCase):
    """What a visitor sends."""

    def test_adding_redirects_to_the_new_entry(self) -> None:
        answer = self.client.post("/", {"text": "  hello  ", "author": "Ana"})
        entry = Entry.objects.get()
        self.assertRedirects(answer, f"/#entry-{entry.pk}", fetch_redirect_response=False)
        self.assertEqual((entry.text, entry.author), ("hello", "Ana"))
        self.assertEqual(entry.served_by, f"{settings.SERVED_BY} {socket.gethostname()}")
        self.assertContains(self.client.get("/"), f'id="entry-{entry.pk}"')

    def test_visitor_can_not_choose_the_server(self) -> None:
        self.client.post("/", {"text": "hello", "served_by": "host forged"})
        self.assertNotIn("forged", Entry.objects.get().served_by)

    def test_blank_text_is_explained_and_the_name_kept(self) -> None:
        answer = self.client.post("/", {"text": " \n ", "author": "Ana"})
        self.assertContains(answer, "Write something: the text is blank.", count=1)
        self.assertContains(answer, 'value="Ana"')
        self.assertContains(answer, 'aria-invalid="true"', count=1)
        self.assertFalse(Entry.objects.exists())

    def test_too_long_is_explained(self) -> None:
        answer = self.client.post("/", {"text": "x" * 501, "author": "y" * 81})
        self.assertContains(answer, '<ul class="errorlist" id="id_text_error">')
        self.assertContains(answer, '<ul class="errorlist" id="id_author_error">')
        self.assertFalse(Entry.objects.exists())

    def test_a_line_break_counts_as_one_character(self) -> None:
        text = "x" * 300 + "\r\n" * 100 + "y" * 100
        self.client.post("/", {"text": text})
        self.assertEqual(Entry.objects.get().text, text.replace("\r\n", "\n"))

    def test_null_character_is_refused(self) -> None:
        self.assertEqual(self.client.post("/", {"text": "a\0b"}).status_code, 200)
        self.assertFalse(Entry.objects.exists())

    def test_csrf_token_is_needed_and_works(self) -> None:
        client = Client(enforce_csrf_checks=True)
        with self.assertLogs("django.security.csrf"):
            self.assertEqual(client.post("/", {"text": "forged"}).status_code, 403)
        page = client.get("/").content.decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        answer = client.post("/", {"text": "mine", "csrfmiddlewaretoken": token})
        self.assertEqual(answer.status_code, 302)
        self.assertIn(settings.CSRF_COOKIE_NAME, client.cookies)


class DatabaseTest(TestCase):
    """What holds whoever writes."""

    def test_database_refuses_a_blank_text(self) -> None:
        for text in ("", " \n\t"):
            with self.assertRaises(IntegrityError), transaction.atomic():
                make_entry(text)

    def test_database_sets_the_time(self) -> None:
        entry = make_entry("hello")
        entry.refresh_from_db()
        self.assertIsNotNone(entry.created_at.tzinfo)

    def test_every_model_change_has_its_migration(self) -> None:
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@override_settings(SECURE_SSL_REDIRECT=False)
class AdminTest(TestCase):
    """The admin, with the per-environment cookie."""

    def test_staff_logs_in_and_adds_an_entry(self) -> None:
        get_user_model().objects.create_superuser("root", password="a long pass phrase")
        form = {"username": "root", "password": "a long pass phrase"}
        answer = self.client.post("/admin/login/?next=/admin/", form)
        self.assertRedirects(answer, "/admin/")
        self.assertIn(settings.SESSION_COOKIE_NAME, answer.cookies)
        self.assertContains(self.client.get("/admin/core/entry/add/"), "text")
        self.client.post("/admin/core/entry/add/", {"text": "from the admin"})
        self.assertIn(socket.gethostname(), Entry.objects.get().served_by)
        self.assertContains(self.client.get("/admin/core/entry/"), "from the admin")

    def test_visitors_must_log_in(self) -> None:
        self.assertRedirects(self.client.get("/admin/"), "/admin/login/?next=/admin/")
