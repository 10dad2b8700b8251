"""The same outcomes by plain docker commands: what a run could cost at least."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tarfile
import time
from pathlib import Path

from leftovers import remove_objects
from tools import (
    CA_BUNDLE,
    CONTEXTS,
    ENVIRONMENT,
    ROUNDS,
    Page,
    docker,
    image_names,
    lines,
    results,
    run,
)


def inspect(container: str, rename: tuple[str, str] = ("", "")) -> dict:
    """Return a container's inspection, with one name replaced throughout."""
    text = docker("inspect", container)
    return json.loads(text.replace(*rename) if rename[0] else text)[0]


def arguments(container: dict) -> list[str]:
    """Return the options of docker run that give an equivalent of an inspected container."""
    host, config = container["HostConfig"], container["Config"]
    # A release has a directory at /tmp, which whoever starts on it empties.
    tmpfs = host.get("Tmpfs") or {"/tmp": "mode=1777"}
    options = {
        "user": [config["User"]],
        "env": config["Env"],
        "label": [f"{key}={value}" for key, value in config["Labels"].items()],
        "stop-timeout": [config["StopTimeout"]],
        "cap-drop": host["CapDrop"],
        "security-opt": host["SecurityOpt"],
        "tmpfs": [f"{path}:{how}" for path, how in tmpfs.items()],
        "volume": [bind for bind in host["Binds"] if ":/tmp:" not in bind],
        "memory": [host["Memory"]],
        "memory-swap": [host["MemorySwap"]],
        "shm-size": [host["ShmSize"]],
        "pids-limit": [host["PidsLimit"]],
        "restart": [host["RestartPolicy"]["Name"]],
        "log-driver": [host["LogConfig"]["Type"]],
        "log-opt": [f"{key}={value}" for key, value in host["LogConfig"]["Config"].items()],
        "network": [host["NetworkMode"]],
        "publish": [
            f"{one['HostIp']}:{one['HostPort']}:{port.split('/')[0]}"
            for port, group in (host["PortBindings"] or {}).items()
            for one in group
        ],
    }
    flags = ["--read-only"] * host["ReadonlyRootfs"] + ["--init"] * bool(host["Init"])
    return flags + [f"--{key}={value}" for key, values in options.items() for value in values or []]


def start(container: dict, image: str) -> None:
    """Start an equivalent of an inspected container from an image."""
    name = container["Name"].lstrip("/")
    docker(
        "create", f"--name={name}", *arguments(container), image, *container["Config"]["Cmd"] or []
    )
    for network in container["NetworkSettings"]["Networks"]:
        if network != container["HostConfig"]["NetworkMode"]:
            docker("network", "connect", network, name)
    docker("start", name)


def start_second(live: str, name: str, *binds: str) -> None:
    """Start a database server like a running one, on a volume of its own and without the backups' archive."""
    second = inspect(live, (live, name))
    host, config = second["HostConfig"], second["Config"]
    host["NetworkMode"] = inspect(live)["HostConfig"]["NetworkMode"]
    own = [bind for bind in host["Binds"] if "backup" not in bind.split(":")[0]]
    host["Binds"] = [*own, *binds]
    options = [word for word in config["Cmd"] if word != "-c" and "archive" not in word]
    words = [word for option in options for word in ("-c", option)]
    docker("run", "--detach", f"--name={name}", *arguments(second), config["Image"], *words)


def healthy(name: str) -> None:
    """Wait until a container's own health check succeeds."""
    run("timeout", "120", "sh", "-c", f"until docker exec {name} healthcheck; do sleep 0.3; done")


def build(context: Path, image: str, **arguments: str) -> subprocess.Popen:
    """Begin a plain build in the background."""
    given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    log = (context.parent / f"{context.name}.log").open("w")
    return subprocess.Popen(
        ["docker", "build", f"--tag={image}", *given, str(context)],
        stdout=log,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def built(job: subprocess.Popen) -> None:
    """Wait for a plain build; raise RuntimeError if it failed."""
    if job.wait():
        raise RuntimeError(f"{' '.join(job.args)} failed; its log is beside its context.")


def context(directory: Path, image: str) -> Path:
    """Return a copy of the build context that a run packed for an image."""
    place = directory / "contexts" / re.sub(r"[/:]", "_", image)
    if not place.exists():
        place.mkdir(parents=True)
        archive = next(CONTEXTS.glob(f"bench-*-{image.replace('/', '_')}.tar"))
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="fully_trusted")
        shutil.copy(CA_BUNDLE, place / "ca-bundle.crt")
        (place / "index.env").touch()
    return place


def floor_first_page(directory: Path, events: list[dict]) -> dict[str, float]:
    """Make base, images and containers by a plain script; return the time of each milestone."""
    names, base = image_names(events), "bench/floor-base:latest"
    bootstrap = next(one["cmd"] for one in results(events) if "mmdebstrap" in str(one.get("cmd")))
    prepare = next(
        one["invocation"]["module_args"]["argv"]
        for one in results(events)
        if "prepare-database" in str(one.get("invocation", {}).get("module_args", {}).get("argv"))
    )
    parts = {"db": "postgres", "web": "runtime", "pgadmin": "pgadmin"}
    images = {part: f"bench/floor-{part}" for part in parts}
    contexts = {part: context(directory, names[key]) for part, key in parts.items()}
    rename = ("bench-dev-", "bench-floor-")
    containers = {part: inspect(f"bench-dev-{part}", rename) for part in parts}
    docker("stop", *[f"bench-dev-{part}" for part in ("web", "pgadmin", "db")])
    page, times = Page("dev"), {"begin": time.time()}

    run("bash", "-c", bootstrap.replace(names["base"], base))
    times["images"] = time.time()
    jobs = {part: build(contexts[part], images[part], BASE_IMAGE=base) for part in parts}
    built(jobs["db"])
    built(jobs["web"])
    times["containers"] = time.time()
    docker("network", "create", "--internal", "bench-floor-data")
    docker("network", "create", "bench-floor-edge")
    start(containers["db"], images["db"])
    docker("exec", "bench-floor-db", *[word.replace(*rename) for word in prepare])
    docker(
        "create",
        "--name=bench-floor-migrate",
        *[
            option
            for option in arguments(containers["web"])
            if not option.startswith(("--publish", "--restart"))
        ],
        images["web"],
        "python",
        "manage.py",
        "migrate",
        "--noinput",
    )
    docker("network", "connect", "bench-floor-data", "bench-floor-migrate")
    docker("start", "--attach", "bench-floor-migrate")
    start(containers["web"], images["web"])
    times["page"] = page.wait()
    built(jobs["pgadmin"])
    start(containers["pgadmin"], images["pgadmin"])
    healthy("bench-floor-pgadmin")
    times["end"] = time.time()

    remove_objects("bench-floor-")
    run("/usr/local/sbin/bench-dev", "start")
    return times


def compose_floor(directory: Path) -> tuple[float | None, str]:
    """Return the seconds of docker compose's no-change up, or None, and a sentence about it."""
    if not lines("compose", "version"):
        return None, "docker compose is not here: its no-change up was not measured."
    services = {}
    for part in ("db", "web", "pgadmin"):
        found = inspect(f"bench-dev-{part}", ("bench-dev-", "bench-floor-"))
        host, config = found["HostConfig"], found["Config"]
        services[part] = {
            "container_name": found["Name"].lstrip("/"),
            "image": config["Image"],
            "command": [word.replace("$", "$$") for word in config["Cmd"] or []] or None,
            "environment": [word.replace("$", "$$") for word in config["Env"]],
            "user": config["User"],
            "read_only": True,
            "init": True,
            "cap_drop": host["CapDrop"],
            "security_opt": host["SecurityOpt"],
            "tmpfs": [f"{path}:{how}" for path, how in host["Tmpfs"].items()],
            "volumes": host["Binds"],
            "networks": list(found["NetworkSettings"]["Networks"]),
        }
    volumes = [bind.split(":")[0] for one in services.values() for bind in one["volumes"]]
    file = directory / "compose.json"
    content = {
        "services": services,
        "networks": {
            f"bench-floor-{kind}": {"name": f"bench-floor-{kind}"} for kind in ("data", "edge")
        },
        "volumes": {name: {"name": name} for name in volumes if not name.startswith("/")},
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    command = ("compose", f"--file={file}", "--project-name=bench-floor", "up", "--detach")
    docker(*command)
    times = []
    for _round in range(ROUNDS):
        begin = time.time()
        docker(*command)
        times.append(time.time() - begin)
    remove_objects("bench-floor-")
    return statistics.median(
        times
    ), "docker compose: the same three containers, ports not published."
