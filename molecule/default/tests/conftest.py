"""What the tests are given: each host in turn, and a browser in its network."""

from collections.abc import Iterator

import pytest
from hosts import SHORT, Host
from playwright.sync_api import Browser, sync_playwright
from scheduling import pytest_xdist_make_scheduler  # noqa: F401 - a hook


@pytest.fixture(
    scope="session",
    params=["debian12"] if SHORT else ["debian12", "debian13"],
)
def host(request: pytest.FixtureRequest) -> Host:
    """Each host in turn, or side by side with one worker for each."""
    return Host(request.param)


@pytest.fixture(scope="module")
def browser(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium on this machine, in the network of the host; driven over a pipe, not a port."""
    wrapper = tmp_path_factory.mktemp("browser") / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net={host.network()} chromium "$@"\n')
    wrapper.chmod(0o755)
    quiet = ["background-networking", "component-update", "sync", "quic", "gpu"]
    flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{thing}" for thing in quiet)]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=wrapper, args=flags)
        yield chromium
        chromium.close()
