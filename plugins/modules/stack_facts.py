#!/usr/bin/python
"""Look at everything of one environment on its host, in one task."""

from __future__ import annotations

import glob
import json
import os
import shutil
import socket
import time
from datetime import UTC, datetime

from ansible.module_utils import secret_digests
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: stack_facts
short_description: the engine, the containers, volumes and images of a stack, and the host's ports
description:
  - Reads, and changes nothing. Where no engine answers, its part is empty.
options:
  name:
    description: The project's name, the first part of its images' names.
    type: str
    required: true
  prefix:
    description: The environment's prefix, with which the names of all its objects begin.
    type: str
    required: true
  files:
    description: >-
      Files and directories whose owner is told, for files the text, for links to directories where they point, and for
      units their state, so that a role need not open them to see that they are right. A path with an asterisk stands for those that exist.
    type: list
    elements: str
    default: []
  secrets:
    description: A directory with one of secret files for each container, whose digests are told. Without one, none are.
    type: path
  key:
    description: The key of the digests; without one, none are told.
    type: str
"""

RETURN = """
stack_facts:
  description: >-
    now (seconds since the epoch), files (the text by path, empty where there is none), owners (uid and gid by path, of those that exist), root (bool),
    systemd (bool, whether it is running), systemd_installed (bool), booted (str, UTC), units (of those among the files:
    active and enabled, systemd's words, and stale, bool), programs (paths of dockerd and mmdebstrap, empty where they
    are not installed), requests (bool, whether the Python library is there), firewall (list of the rules of DOCKER-USER,
    in iptables' words), engine (version, empty where none answers; error; host, the DOCKER_HOST it was asked for at;
    root), engine_is_ours (bool, whether the role docker installed it), containers, networks and volumes by name, images
    (created, its day, and size, by name:tag), secrets (digests by directory and file, of the directory itself owner and
    mode), ports (addresses that listen, by TCP port), disk_free (MiB where the engine keeps its data), cpus.
  type: dict
"""


# sudo may leave out the places of root's programs.
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


def _docker(module, *arguments):
    """Return the lines that a docker command printed, or an empty list if it failed."""
    if not shutil.which("docker"):
        return []
    code, out, _error = module.run_command(["docker", *arguments])
    return out.splitlines() if code == 0 else []


def _inspect(module, kind, prefix):
    """Return {name: what docker inspect says} of all objects whose name begins with the prefix."""
    listing = {
        "container": ["ps", "--all", "--format", "{{.Names}}"],
        "network": ["network", "ls", "--format", "{{.Name}}"],
        "volume": ["volume", "ls", "--format", "{{.Name}}"],
    }[kind]
    names = [name for name in _docker(module, *listing) if name.startswith(prefix + "-")]
    if not names:
        return {}
    # What vanished meanwhile makes the command fail; the others are printed all the same.
    _code, out, _error = module.run_command(["docker", "inspect", "--type", kind, *names])
    found = json.loads(out or "[]")
    return {item["Name"].lstrip("/"): item for item in found}


def _engine(module):
    """Return what the engine says of itself; version is empty where none answers."""
    if not shutil.which("docker"):
        return {"version": "", "error": "no docker command is installed", "host": ""}
    code, out, error = module.run_command(["docker", "info", "--format", "{{json .}}"])
    info = json.loads(out) if code == 0 and out.strip() else {}
    problems = info.get("ServerErrors") or ([error.strip()] if error.strip() else [])
    return {
        "version": info.get("ServerVersion") or "",
        "error": "; ".join(problems),
        "host": os.environ.get("DOCKER_HOST", ""),
        "root": info.get("DockerRootDir") or "",
    }


def _container(item):
    """Return the part of a container's inspection that roles read."""
    bindings = item["HostConfig"].get("PortBindings") or {}
    state = item["State"]
    return {
        "image": item["Config"]["Image"],
        "status": state["Status"],
        "health": (state.get("Health") or {}).get("Status", ""),
        "started": state["StartedAt"],
        "ports": sorted(int(b["HostPort"]) for group in bindings.values() for b in group or []),
        "labels": item["Config"].get("Labels") or {},
        "restarts": item.get("RestartCount", 0),
    }


def _volume(item):
    """Return a volume's labels and path, of a plain one the owner, and where it holds a cluster PostgreSQL's version."""
    version = ""
    for place in ("PG_VERSION", "pgdata/PG_VERSION"):
        path = os.path.join(item["Mountpoint"], place)
        if os.path.exists(path):
            with open(path, encoding="ascii") as handle:
                version = handle.read().strip()
    # Others are on their own terms, and may not be mounted now.
    plain = item["Driver"] == "local" and not item["Options"] and os.path.isdir(item["Mountpoint"])
    return {
        "labels": item.get("Labels") or {},
        "path": item["Mountpoint"],
        "owner": _owner(item["Mountpoint"])["uid"] if plain else None,
        "postgres_major": version,
    }


def _address(digits):
    """Return an address as people write it; the kernel's table has it as native 32-bit words."""
    words = bytes.fromhex(digits)
    raw = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _listening():
    """Return {port: [address, ...]} of the TCP sockets that listen, from the kernel's tables."""
    ports = {}
    for family in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{family}", encoding="ascii") as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            continue
        for row in rows:
            address, port = row[1].rsplit(":", 1)
            if row[3] == "0A":
                ports.setdefault(str(int(port, 16)), []).append(_address(address))
    return ports


def _units(module, names):
    """Return {unit: whether it is active, enabled, and read before its file was changed}."""
    asked = "--property=ActiveState,UnitFileState,NeedDaemonReload"
    _code, out, _error = module.run_command(["systemctl", "show", asked, *names])
    units = {}
    for name, block in zip(names, out.split("\n\n"), strict=False):
        said = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        units[name] = {
            "active": said.get("ActiveState", ""),
            "enabled": said.get("UnitFileState", ""),
            "stale": said.get("NeedDaemonReload") == "yes",
        }
    return units


def _booted():
    """Return when the machine was started, as "YYYY-MM-DD HH:MM" in UTC."""
    with open("/proc/stat", encoding="ascii") as statistics:
        seconds = next(int(line.split()[1]) for line in statistics if line.startswith("btime "))
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _text(path):
    """Return a file's text, of a link to a directory where it points, or nothing where it cannot be read."""
    try:
        if os.path.islink(path) and os.path.isdir(path):
            return os.readlink(path)
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError:
        return ""


def _owner(path):
    """Return a file's numeric owner and group."""
    status = os.stat(path)
    return {"uid": status.st_uid, "gid": status.st_gid}


def _secrets(directory, key):
    """Return {directory: {file: digest}} of the secret directories, each one's own owner and mode under an empty name."""
    found = {}
    for place in sorted(glob.glob(os.path.join(directory, "*/"))) if directory and key else ():
        place = place.rstrip("/")
        status = os.stat(place)
        told = {"": secret_digests.of_directory(status.st_uid, status.st_mode & 0o777)}
        told |= {name: _secret(os.path.join(place, name), key) for name in os.listdir(place)}
        found[place] = told
    return found


def _secret(path, key):
    """Return the digest of a secret file, or nothing where it is none."""
    try:
        status = os.stat(path)
        with open(path, encoding="utf-8", errors="replace", newline="") as handle:
            content = handle.read()
    except OSError:
        return ""
    return secret_digests.of_file(key, status.st_uid, status.st_mode & 0o777, content)


def _firewall(module):
    """Return the rules that guard the containers' networks, without the words that append them."""
    if not shutil.which("iptables"):
        return []
    _code, out, _error = module.run_command(["iptables", "-w", "-S", "DOCKER-USER"])
    return [line.removeprefix("-A ") for line in out.splitlines()]


def _has_requests():
    try:
        import requests  # noqa: F401
    except ImportError:
        return False
    return True


def _disk_free(path):
    """Return the MiB that are free where a path is, or would be once it is made."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free // 2**20


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "prefix": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "path"},
            "key": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    name, prefix, files = (module.params[key] for key in ("name", "prefix", "files"))
    files = [one for path in files for one in (sorted(glob.glob(path)) if "*" in path else [path])]
    units = [os.path.basename(path) for path in files if path.endswith((".service", ".timer"))]
    engine = _engine(module)
    form = "{{.Repository}}:{{.Tag}}\t{{.CreatedAt}}\t{{.Size}}"
    images = _docker(module, "images", "--format", form, "--filter", f"reference={name}/*")
    systemd = os.path.isdir("/run/systemd/system")
    facts = {
        "now": time.time(),
        "files": {path: _text(path) for path in files},
        "owners": {path: _owner(path) for path in files if os.path.exists(path)},
        "root": os.geteuid() == 0,
        "systemd": systemd,
        "units": _units(module, units) if systemd and units else {},
        "systemd_installed": os.path.isdir("/etc/systemd/system"),
        "programs": {
            name: shutil.which(name, path=PROGRAMS) or "" for name in ("dockerd", "mmdebstrap")
        },
        "requests": _has_requests(),
        "firewall": _firewall(module),
        "booted": _booted(),
        "engine": engine,
        "containers": {},
        "networks": {},
        "volumes": {},
        "images": {
            reference: {"created": created[:10], "size": size}
            for reference, created, size in (line.split("\t") for line in images)
        },
        "secrets": _secrets(module.params["secrets"], module.params["key"]),
        "ports": _listening(),
        "disk_free": _disk_free(engine.get("root") or "/var/lib/docker"),
        "cpus": os.cpu_count(),
        "engine_is_ours": os.path.exists("/etc/docker/.installed-by-postdo"),
    }
    if engine["version"]:
        containers = _inspect(module, "container", prefix)
        volumes = _inspect(module, "volume", prefix)
        facts["containers"] = {key: _container(item) for key, item in containers.items()}
        facts["volumes"] = {key: _volume(item) for key, item in volumes.items()}
        facts["networks"] = sorted(_inspect(module, "network", prefix))
    module.exit_json(changed=False, ansible_facts={"stack_facts": facts})


if __name__ == "__main__":
    main()
