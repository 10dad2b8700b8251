"""What people see: the pages of both environments, and pgAdmin in a real browser."""

import re
import uuid

import pytest
from hosts import PAGES, wait_until
from pgadmin_browser import open_server
from playwright.sync_api import expect

ENVIRONMENTS = pytest.mark.parametrize("environment", PAGES)


@ENVIRONMENTS
def test_the_page_says_which_environment_server_and_database_served_it(host, environment):
    """A row of facts on the page tells the environments apart, and all migrations are applied."""
    page = host.page(PAGES[environment])
    assert f'data-environment="{environment}"' in page
    assert f"postdo-{environment}-db:5432" in page
    assert '<span class="chip container">' in page
    assert "all applied" in page


@ENVIRONMENTS
def test_an_entry_stays_in_its_environment(host, environment):
    """Development and production share nothing."""
    other = next(name for name in PAGES if name != environment)
    text = f"only in {environment} {uuid.uuid4()}"
    assert text in host.page(PAGES[environment], entry=text)
    assert text in host.page(PAGES[environment])
    assert text not in host.page(PAGES[other])


def test_production_hides_its_inside_and_serves_hashed_files(host):
    """A missing page is a plain 404, and the style sheet's name carries its content's hash."""
    missing = host.visit(f"{PAGES['prod']}missing")
    assert "404" in missing.said
    assert "There is no such page" in missing.said
    assert "DEBUG" not in missing.said
    assert "DEBUG" in host.visit(f"{PAGES['dev']}missing").said
    style = re.search(r'href="(/static/core/site\.[0-9a-f]{12}\.css)"', host.page(PAGES["prod"]))[1]
    assert host.page(PAGES["prod"].rstrip("/") + style)


def test_development_serves_a_change_of_the_source_at_once(host):
    """The source is mounted and the server reloads: no run is needed between edit and page."""
    template = host.source / "core/templates/core/home.html"
    before = template.read_text()
    template.write_text(before.replace("Leave a word", "Leave a changed word"))
    try:
        page = lambda: host.visit(PAGES["dev"]).out
        wait_until(lambda: "Leave a changed word" in page(), "the change is served", 30)
    finally:
        template.write_text(before)


def test_check_says_what_a_deploy_would_change_and_changes_nothing(host):
    """A new release would be built, and take the place of the one that serves."""
    template = host.source / "core/templates/core/home.html"
    original = template.read_text()
    before = host.state()
    template.write_text(original + "<!-- another release -->")
    try:
        said = host.converge("prod", "--check", "--diff")
    finally:
        template.write_text(original)
    assert re.search(r"postdo/django:\w+ would be built", said)
    assert re.search(r"release \w+ would be deployed", said)
    assert host.state() == before


def test_an_entry_is_added_in_a_browser(host, browser):
    """A visitor fills in the form of production and finds the entry on the page."""
    page = browser.new_page()
    text = f"typed {uuid.uuid4()}"
    page.goto(PAGES["prod"])
    page.get_by_label("Your entry").fill(text)
    page.get_by_role("button", name="Add entry").click()
    expect(page.get_by_text(text)).to_be_visible()
    page.close()


def test_pgadmin_is_logged_into_and_opens_its_server_without_a_question(host, browser):
    """The server is registered already and no database password is to be typed."""
    page = browser.new_page()
    password = (host.directory / "secrets/dev/pgadmin_password").read_text().strip()
    try:
        open_server(page, "http://127.0.0.1:5050", "admin@example.com", password, "postdo-dev")
    except BaseException:
        page.screenshot(path=host.directory / "pgadmin.png")
        raise
    page.close()
