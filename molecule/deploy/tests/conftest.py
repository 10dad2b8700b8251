"""What the tests are given: the two hosts, and the table of what visitors met."""

import pytest
from scheduling import pytest_xdist_make_scheduler  # noqa: F401 - a hook
from sites import Site


# As parameters, the hosts are in the tests' names, by which they are distributed.
@pytest.fixture(scope="session", params=["deploy12"])
def host(request: pytest.FixtureRequest) -> Site:
    """Debian 12, reached as the other scenarios' hosts are."""
    return Site(request.param)


@pytest.fixture(scope="session", params=["deploy13"])
def distant(request: pytest.FixtureRequest) -> Site:
    """Debian 13, which Ansible reaches by SSH as an ordinary user."""
    return Site(request.param)


@pytest.fixture
def account(record_property):
    """Enter a line of the table: what was done, and what the visitors met."""

    def enter(what: str, met: dict) -> None:
        record_property("visitors", [what, met])

    return enter


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    lines = [
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "visitors"
    ]
    if not lines:
        return
    terminalreporter.section("what visitors met, none of whom tries anything twice")
    form = "{:60} {:>8} {:>6} {:>12} {:>9}"
    terminalreporter.write_line(
        form.format("meanwhile", "requests", "failed", "page p99, ms", "max, ms")
    )
    for what, met in lines:
        sent = sum(one["sent"] for one in met.values())
        failed = sum(sum(one["failed"].values()) for one in met.values())
        page = met["Page"]["ms"]
        terminalreporter.write_line(form.format(what, sent, failed, page["p99"], page["max"]))
