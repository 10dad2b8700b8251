"""The exchange: what was restored takes the place of what runs, and what ran is kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from postdo_host import Failure, attempt, run, stamp, status, undisturbed

from . import copies
from .environment import Environment


def switch(
    environment: Environment,
    places: dict[str, str],
    to: str,
    stopped: Callable[[], None] = lambda: None,
) -> list[str]:
    """Put restored volumes in the place of live ones (`places`: the live one's name to the restored one's).

    Calls `stopped` once nobody uses the live ones any more. Returns the volumes that keep what was there.
    """
    # A release that is being deployed has its own plans for the containers.
    with environment.lock("deploy", wait=600, by="a restore"):
        return _exchange(environment, places, to, stopped)


def _exchange(
    environment: Environment, places: dict[str, str], to: str, stopped: Callable[[], None]
) -> list[str]:
    """Do so, alone."""
    now = stamp()
    reason = f"postdo.kept=replaced by a restore to {to}"
    exchanges = [(restored, live, f"{live}-before-{now}") for live, restored in places.items()]
    # Not once for each volume: the database first, and the others in any order.
    consumers = list(dict.fromkeys(name for live in places for name in users(environment, live)))
    up = [name for name in consumers if status(name) in ("running", "restarting", "paused")]
    exchanged = []
    with undisturbed():
        try:
            for restored, _, kept in exchanges:
                copies.make_volume(environment, kept, reason)
                # First to its dated name, where no clean-up looks: the next exchange leaves the old data there.
                copies.exchange(restored, kept)
            for name in reversed(up):
                run("docker", "stop", name, doing=f"Stopping {name}")
            stopped()
            for _, live, kept in exchanges:
                copies.exchange(kept, live)
                exchanged.append((live, kept))
            _require_stopped(consumers)
            _start(up, environment.container)
        except BaseException:
            # What was there before serves again, and only the copy goes.
            if exchanged:
                attempt("docker", "stop", *up)
            for live, kept in exchanged:
                copies.exchange(live, kept)
            attempt("docker", "start", *up)
            attempt("docker", "volume", "rm", *(kept for _, _, kept in exchanges))
            raise
    return [kept for _, _, kept in exchanges]


def users(environment: Environment, volume: str) -> list[str]:
    """Return the environment's containers that a volume is mounted into, running or not."""
    words = ["--filter", f"volume={volume}", "--filter", f"label=postdo.stack={environment.prefix}"]
    words += ["--format", "{{.Names}}"]
    return run("docker", "ps", "--all", *words, doing=f"Asking who uses {volume}").split()


def _require_stopped(containers: list[str]) -> None:
    """Raise Failure where a container was started meanwhile: it would run on the volume of before."""
    started = [name for name in containers if status(name) == "running"]
    if started:
        raise Failure(f"{', '.join(started)} was started by somebody else during the restore.")


def _start(containers: list[str], database: str) -> None:
    """Start containers in their order, and wait until the database is healthy.

    The application may have to be deployed again first.
    """
    for container in containers:
        run("docker", "start", container, doing=f"Starting {container}")
        deadline = time.monotonic() + 120
        # Asked directly: the engine itself looks only every few seconds.
        while (
            container == database and attempt("docker", "exec", database, "healthcheck").returncode
        ):
            if time.monotonic() > deadline:
                raise Failure(f"{container} did not come up on the restored data.")
            time.sleep(0.2)
