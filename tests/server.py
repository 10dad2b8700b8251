"""A PostgreSQL server of the project's image, hardened as the play runs it."""

import json
import shlex
import subprocess
import time
import uuid

import pytest

DATA = "/var/lib/postgresql/data"
PASSWORD = "first:Canary\\4711"


def docker(*arguments, check=True, **options):
    """Run a docker command and return the finished process, its output as text."""
    process = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, **options
    )
    if check and process.returncode:
        pytest.fail(f"docker {shlex.join(arguments)}: {process.stdout}{process.stderr}")
    return process


def until(condition, seconds=30):
    """Wait until a condition holds and return its value; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    return pytest.fail(f"did not become true within {seconds} s")


class Server:
    """A server with its own network, volumes and secrets, all named pgtest-SOMETHING."""

    def __init__(self, image):
        self.image = image
        self.name = f"pgtest-{uuid.uuid4().hex[:8]}"
        docker("network", "create", self.name)
        self.write_secret(PASSWORD + "\n")

    def remove(self):
        """Remove all that it consists of."""
        docker("rm", "--force", self.name, check=False)
        docker("volume", "rm", "--force", f"{self.name}-data", f"{self.name}-secrets")
        docker("network", "rm", self.name)

    def in_volumes(self, script, **options):
        """Run a shell script as root beside the volumes; return its output."""
        arguments = ["run", "--rm", "--interactive", "--user=0", "--entrypoint=sh"]
        arguments += [f"--volume={self.name}-data:{DATA}", f"--volume={self.name}-secrets:/secrets"]
        return docker(*arguments, self.image, "-c", script, **options).stdout

    def write_secret(self, content):
        """Replace the secret's file, or remove it if the content is None."""
        script = "rm -f /secrets/postgres_password"
        if content is not None:
            script += "; cd /secrets && cat > postgres_password"
            script += " && chmod 0400 postgres_password && chown 15432:15432 postgres_password"
        self.in_volumes(script, input=content or "")

    def start(self, *settings, options=()):
        """Start a new container on the volume, without waiting for it."""
        docker("rm", "--force", self.name, check=False)
        docker(
            *("run", "--detach", "--name", self.name, "--network", self.name),
            *("--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
            *("--memory=512m", "--pids-limit=200", "--shm-size=128m", "--tmpfs=/tmp"),
            "--tmpfs=/run/postgresql:uid=15432,gid=15432,mode=0700",
            f"--volume={self.name}-data:{DATA}",
            f"--volume={self.name}-secrets:/run/secrets:ro",
            *options,
            self.image,
            *settings,
        )

    def run(self, *command, **options):
        """Run a command inside the container."""
        return docker("exec", self.name, *command, **options)

    def prepare(self, *arguments, prefix=(), check=True):
        """Run prepare-database; return its JSON, or the finished process if it may fail."""
        command = [*prefix, "prepare-database", "--database=app", "--role=app"]
        command += [f"--container={self.name}", *arguments]
        process = self.run(*command, check=check)
        return json.loads(process.stdout) if check else process

    def sql(self, query, database="postgres"):
        """Run a query as superuser over the socket; return its output."""
        options = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database]
        return self.run("psql", *options, "-c", query).stdout.strip()

    def client(self, password, query="SELECT 1", user="app", database="app"):
        """Run a query from another container, over the network."""
        return docker(
            *("run", "--rm", f"--network={self.name}", f"--env=PGPASSWORD={password}"),
            *("--entrypoint=psql", self.image, "-XqAtw", "-h", self.name),
            *("-U", user, "-d", database, "-c", query),
            check=False,
        )

    def logs(self):
        """Return all that the container wrote."""
        process = docker("logs", self.name)
        return process.stdout + process.stderr

    def ended(self, seconds=10):
        """Wait for the container's end and return its exit code."""
        return int(docker("wait", self.name, timeout=seconds).stdout)
