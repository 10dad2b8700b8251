"""The exchange: a copy takes the place of what runs, and what ran is kept."""

from __future__ import annotations

import time

from . import copies, media
from .copies import Copy
from .environment import Environment, Failure, attempt, inspect, run, stamp, status


def switch(environment: Environment, copy: Copy, to: str, uploads: bool) -> list[str]:
    """Put the copy in the place of the database; return the volumes that keep what was there."""
    now = stamp()
    reason = f"postdo.kept=replaced by a restore to {to}"
    exchanges = [(copy.volume, environment.volume, f"{environment.volume}-before-{now}")]
    if uploads:
        name = environment.media_volume
        exchanges.append((media.copy_of(environment), name, f"{name}-before-{now}"))
    consumers = [environment.container, *([environment.web] if uploads else [])]
    up = [name for name in consumers if status(name) in ("running", "restarting", "paused")]
    exchanged = []
    try:
        for restored, _, kept in exchanges:
            copies.make_volume(environment, kept, reason)
            # First to its dated name, where no clean-up looks: the next exchange leaves the old data there.
            copies.exchange(restored, kept)
        for name in reversed(up):
            run("docker", "stop", name, doing=f"Stopping {name}")
        for _, live, kept in exchanges:
            copies.exchange(kept, live)
            exchanged.append((live, kept))
        _start(up)
    except BaseException:
        # Whatever ended it, a signal too: what was there before serves again, and only the copy goes.
        if exchanged:
            attempt("docker", "stop", *up)
        for live, kept in exchanged:
            copies.exchange(live, kept)
        attempt("docker", "start", *up)
        attempt("docker", "volume", "rm", *(kept for _, _, kept in exchanges))
        raise
    return [kept for _, _, kept in exchanges]


def _start(containers: list[str]) -> None:
    """Start containers in their order and wait until each is healthy."""
    for container in containers:
        run("docker", "start", container, doing=f"Starting {container}")
        deadline = time.monotonic() + 120
        while inspect("container", container)["State"]["Health"]["Status"] != "healthy":
            if time.monotonic() > deadline:
                raise Failure(f"{container} did not come up on the restored data.")
            time.sleep(0.2)
