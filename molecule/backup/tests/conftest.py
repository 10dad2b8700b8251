"""What the tests are given: the two hosts; and the table of what was done to them."""

import statistics
from collections.abc import Callable

import pytest
from machines import Machine
from scheduling import pytest_xdist_make_scheduler  # noqa: F401 - a hook


# As parameters, the hosts are in the tests' names, by which they are distributed.
@pytest.fixture(scope="session", params=["backup12"])
def host(request: pytest.FixtureRequest) -> Machine:
    """Debian 12, the repository in a volume."""
    return Machine(request.param)


@pytest.fixture(scope="session", params=["backup13"])
def small(request: pytest.FixtureRequest) -> Machine:
    """Debian 13, data and repository on file systems that can be filled."""
    return Machine(request.param)


@pytest.fixture
def account(record_property) -> Callable:
    """Enter a line of the table: what was done, commits lost, and seconds until service each time."""

    def enter(what: str, verdict: dict, *seconds: float) -> None:
        record_property("commits", [what, verdict["acknowledged"], verdict["lost"], *seconds])

    return enter


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    lines = [
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "commits"
    ]
    if not lines:
        return
    terminalreporter.section("acknowledged commits, and seconds until the first new one")
    form = "{:56} {:>5} {:>12} {:>6} {:>7} {:>7}"
    heads = ("what was done", "times", "acknowledged", "lost", "median", "max")
    terminalreporter.write_line(form.format(*heads))
    for what, acknowledged, lost, *seconds in lines:
        figures = [f"{f(seconds):.1f}" for f in (statistics.median, max)] if seconds else ["", ""]
        times = len(seconds) or 1
        terminalreporter.write_line(form.format(what, times, acknowledged, lost, *figures))
