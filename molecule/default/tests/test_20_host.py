"""`./run.sh -2`, typed on the host as a newcomer would, over the data of the container beside it."""

import subprocess
import uuid

import pytest
from hosts import PAGES, PROJECT, wait_until

CLONE = "/srv/clone"
PAGE = "http://127.0.0.1:8001/"
LEFT_OUT = [".git", ".venv", ".venv-app", ".cache", "inventories/*/secrets"]


@pytest.fixture(scope="module")
def application(host):
    """Unpack this project on the host, with the secrets of its development, and run it there."""
    excluded = [f"--exclude=./{name}" for name in LEFT_OUT]
    tar = subprocess.run(
        ["tar", "-C", PROJECT, *excluded, "-czf", "-", "."], capture_output=True, check=True
    )
    unpack = ["docker", "exec", "-i", host.machine, "tar", "-C", CLONE, "-xzf", "-"]
    host.run(f"mkdir -p {CLONE}/inventories/dev/secrets")
    subprocess.run(unpack, input=tar.stdout, check=True)
    for secret in (host.directory / "secrets/dev").iterdir():
        file = f"{CLONE}/inventories/dev/secrets/{secret.name}"
        host.run(f"umask 077; cat > {file}", input=secret.read_text())
    before = host.state()["containers"]
    command = f"cd {CLONE} && exec ./run.sh -2 -e django_web_source={host.source}"
    with host.background(f"{command} -e images_archive=/var/cache/postdo-images", "") as run:
        try:
            wait_until(lambda: host.answers(PAGE) or run.poll(), f"{host.name}: {PAGE}", 300)
            assert run.poll() is None, run.stdout.read()
            yield before
        finally:
            # What Ctrl-C does: every process of the group gets it.
            host.attempt("pkill -INT --full '[m]anage.py runserver 127.0.0.1:8001'")
            run.wait(30)


def test_the_application_on_the_host_says_so(host, application):
    """It is the same environment, served by another server."""
    page = host.page(PAGE)
    assert 'data-environment="dev"' in page
    assert '<span class="chip host">' in page


@pytest.mark.parametrize(("here", "there"), [(PAGE, PAGES["dev"]), (PAGES["dev"], PAGE)])
def test_an_entry_added_at_one_is_seen_at_the_other(host, application, here, there):
    """Container and host share the database."""
    text = f"shared {uuid.uuid4()}"
    host.page(here, entry=text)
    assert text in host.page(there)


def test_running_it_left_the_containers_alone(host, application):
    """The database was there and as it should be; the container's server goes on beside it."""
    assert host.state()["containers"] == application
