"""Use pgAdmin in a real browser, as a person does who was told one address and one password."""

import itertools
import re
import time

from playwright.sync_api import Error, Locator, Page, expect

TIMEOUT = 90_000  # milliseconds, for a page or a whole step
PATIENCE = 20_000  # milliseconds, for one thing in the tree


def open_server(page: Page, base_url: str, email: str, password: str, server_name: str) -> None:
    """Log in to pgAdmin, open its registered server and run a query there.

    `page` is a page of a browser without a session, `base_url` is like "http://127.0.0.1:5050",
    `server_name` is the server's name in the tree. Raises playwright's Error or AssertionError
    if a step fails, also if pgAdmin asks for the database's password; a screenshot of `page`
    then still shows the step that failed.
    """
    page.set_default_timeout(TIMEOUT)
    page.on("dialog", lambda dialog: dialog.accept())  # "Leave this page?"
    log_in(page, base_url, email, password)
    select_database(page, server_name)
    answer = query(page, "SELECT 'answer ' || (20 + 22)")
    if answer != "answer 42":
        raise AssertionError(f"pgAdmin's query tool answers {answer!r}")


def log_in(page: Page, base_url: str, email: str, password: str) -> None:
    """Fill in the login page and wait for the tree, or raise with what pgAdmin says instead."""
    page.goto(f"{base_url}/login?next=/browser/")
    page.locator("input[name=email]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Login", exact=True).click()
    refusal = page.get_by_text(re.compile("Incorrect username or password|account is locked"))
    expect(page.locator(".file-entry").or_(refusal).first).to_be_visible(timeout=TIMEOUT)
    if refusal.first.is_visible():
        raise AssertionError(f"pgAdmin refuses the login: {refusal.first.inner_text()}")


def select_database(page: Page, server_name: str) -> None:
    """Open the server in the tree and click on its database, the one pgAdmin connects to.

    pgAdmin draws a server again when it is connected, so a step that met such a moment starts over on
    a new page.
    """
    question = page.get_by_text(re.compile("Please enter the password|Connect to Server"))
    database = page.locator(".file-entry", has=page.locator(".pg-icon-database"))
    path = [entry(page, "Servers"), entry(page, server_name), entry(page, "Databases"), database]
    deadline = time.monotonic() + TIMEOUT / 1000
    while True:
        try:
            for parent, child in itertools.pairwise(path):
                unfold(parent.first, child.or_(question).first)
                if question.first.is_visible():
                    break
            else:
                database.locator(".file-name").first.click(timeout=PATIENCE)
                expect(query_button(page)).to_be_enabled(timeout=PATIENCE)
                return
        except (Error, AssertionError):
            if time.monotonic() > deadline:
                raise
        if question.first.is_visible():
            raise AssertionError(f"pgAdmin asks for the password of {server_name}")
        page.reload()
        expect(path[0].first).to_be_visible(timeout=TIMEOUT)


def query(page: Page, statement: str) -> str:
    """Return the first value of the statement's result, as a new query tool shows it."""
    tools = page.locator("iframe[id^='id-query-tool_']")
    before = tools.count()  # pgAdmin shows the tabs of the last session again
    query_button(page).click()
    expect(tools).to_have_count(before + 1, timeout=TIMEOUT)
    tool = tools.last.content_frame
    tool.locator(".cm-content[contenteditable=true]").first.click()
    page.keyboard.insert_text(statement)
    tool.locator("button[data-label='Execute script']").click()
    cell = tool.locator(".rdg-row .rdg-cell[aria-colindex='2']").first
    expect(cell).to_be_visible(timeout=TIMEOUT)
    return cell.inner_text().strip()


def query_button(page: Page) -> Locator:
    """Return the button that opens the query tool."""
    return page.locator("button[data-label='Query Tool']").first


def entry(page: Page, name: str) -> Locator:
    """Return the tree's entries of exactly this name."""
    label = page.locator(".file-name", has_text=re.compile(rf"^\s*{re.escape(name)}\s*$"))
    return page.locator(".file-entry", has=label)


def unfold(directory: Locator, child: Locator) -> None:
    """Open a directory of the tree until its child shows, unless pgAdmin opens it by itself.

    pgAdmin opens an only child, and what was open the last time, a moment after it drew them. A click
    in that moment closes the directory again, or leaves it open and empty.
    """
    toggle = directory.locator(".directory-toggle")
    for patience in (3_000, PATIENCE, PATIENCE):
        try:
            return expect(child).to_be_visible(timeout=patience)
        except AssertionError:
            if "open" in (toggle.get_attribute("class", timeout=PATIENCE) or "").split():
                toggle.click(timeout=PATIENCE)
            toggle.click(timeout=PATIENCE)
    return expect(child).to_be_visible(timeout=PATIENCE)
