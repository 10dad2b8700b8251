"""Leave nothing behind, also after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from tools import CONTEXTS, MARK, PORTS, docker, lines, run, say


def objects(prefix: str) -> dict[str, list[str]]:
    """Return our containers, networks and volumes by kind."""
    listing = {
        "container": ("ps", "--all", "--format={{.Names}}"),
        "network": ("network", "ls", "--format={{.Name}}"),
        "volume": ("volume", "ls", "--format={{.Name}}"),
    }
    return {
        kind: [name for name in lines(*command) if name.startswith(prefix)]
        for kind, command in listing.items()
    }


def remove_objects(prefix: str) -> None:
    """Remove containers, networks and volumes by the beginning of their names."""
    for kind, names in objects(prefix).items():
        for name in names:
            docker(kind, "rm", *["--force"] * (kind != "network"), name, check=False)


def leftovers() -> list[str]:
    """Return the names of everything that bears our name."""
    found = [name for names in objects("bench-").values() for name in names]
    return found + lines(
        "images", "--filter=reference=bench/*", "--format={{.Repository}}:{{.Tag}}"
    )


def remove_images() -> None:
    """Remove our images, and the build stages that no image needs any more."""
    form = "--format={{.Repository}}:{{.Tag}}"
    # One by one: removing one image can take another with it.
    for image in lines("images", "--filter=reference=bench/*", form):
        docker("rmi", "--force", image, check=False)
    # Those of our environments, and of plain builds.
    for stage in (*(f"bench-{environment}" for environment in PORTS), "build"):
        docker("image", "prune", "--force", f"--filter=label=postdo.stage={stage}", check=False)


def processes() -> list[int]:
    """Return the processes that this run started; not an engine, which outlives it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            engine = (
                (place / "comm").read_text().startswith(("dockerd", "containerd", "docker-proxy"))
            )
            if MARK.encode() in (place / "environ").read_bytes().split(b"\0") and not engine:
                found.append(int(place.name))
    return found


def end_processes() -> None:
    """End what an interruption left running: a playbook, its builds in the background."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 2)):
        for process in processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.time() + seconds
        while processes() and time.time() < deadline:
            time.sleep(0.2)


def clean(directory: Path) -> None:
    """Remove everything that this program made; other stacks are not touched."""
    say("removing everything again")
    end_processes()
    for environment in PORTS:
        if any(objects(f"bench-{environment}-").values()):
            sure = {"teardown_data": True, "teardown_confirm": f"bench-{environment}"}
            own = {"stack_name": "bench", "stack_secrets_directory": str(directory)}
            run("./run.sh", environment, "teardown", "-e", json.dumps(own | sure), check=False)
    # What teardown keeps or does not know: the floors', and what a cut run left half made.
    remove_objects("bench-")
    remove_images()
    for environment in PORTS:
        Path(f"/usr/local/sbin/bench-{environment}").unlink(missing_ok=True)
        unit = Path(f"/etc/systemd/system/bench-{environment}.service")
        if unit.exists():
            unit.unlink()
            run("systemctl", "daemon-reload", check=False)
    for archive in CONTEXTS.glob("bench-*.tar"):
        archive.unlink()
    for place in [*Path("/var/lib/postdo-build").glob("bench-*"), Path("/etc/bench"), directory]:
        shutil.rmtree(place, ignore_errors=True)
    if left := leftovers():
        say(f"not removed: {' '.join(left)}")
