"""What every container is that a program makes."""

from __future__ import annotations


def contained(verb: str, *options: str, memory: int, tmp_mib: int = 64) -> list[str]:
    """Return the docker command that makes a container, up to the image: `run` or `create`, with further options.

    It has no privileges that the options do not add, writes only to volumes and to `tmp_mib` MiB of /tmp, and has
    `memory` bytes and no swap beyond them. The role service makes those of the services (tasks/run.yml).
    """
    return [
        *("docker", verb, "--pull", "never", "--read-only", "--no-healthcheck"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "256"),
        *("--memory", str(memory), "--memory-swap", str(memory)),
        *("--tmpfs", f"/tmp:mode=1777,size={tmp_mib}m"),
        *options,
    ]
