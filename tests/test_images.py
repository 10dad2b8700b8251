"""What is in the images that `./run.sh test` has just built, and what is not."""

import json
import re
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

LEFT_BEHIND = (
    "find / -xdev \\( -name ca-bundle.crt -o -path '/var/lib/apt/lists/*_Packages*' -o -name '*.deb'"
    " -o -path '*/.cache/*' -o -name secret -path '/tmp/*' \\) -not -path '/proc/*'"
)


def images():
    """Return {what it is for: name} of every image of both environments."""
    reports = sorted(Path(__file__).parents[1].glob(".cache/*-images.json"))
    return {key: name for path in reports for key, name in json.loads(path.read_text()).items()}


def inside(image, script):
    """Return what a shell script prints in an image, as root and without a network."""
    command = ["docker", "run", "--rm", "--network=none", "--user=0", "--entrypoint=sh", image]
    done = subprocess.run(
        [*command, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout.strip()


@pytest.fixture(params=["base", "postgres", "runtime", "application", "pgadmin"])
def image(request):
    """Return the name of each image in turn."""
    return images()[request.param]


def test_an_empty_volume_of_uploads_stays_the_applications(run, repository):
    """Whichever container that shares it is made last: the volume could take over the owner from any image."""
    (play,) = [
        task["community.docker.docker_container"]
        for task in yaml.safe_load((repository / "roles/proxy/tasks/main.yml").read_text())
        if "community.docker.docker_container" in task
    ]
    (mount,) = [one for one in play["volumes"] if one.startswith("{{ stack_media }}:")]
    name = f"imagestest-{uuid.uuid4().hex[:8]}"
    mounts = {
        "application": f"{name}:/srv/media",
        "proxy": mount.replace("{{ stack_media }}", name),
    }
    # What backs them up has no such directory of its own.
    assert inside(images()["postgres"], "ls /srv") == "backup"
    owners, made = [], []
    try:
        for which in ("application", "proxy"):
            made.append(f"{name}-{which}")
            done = run("docker", "create", "--name", made[-1], "-v", mounts[which], images()[which])
            assert done.returncode == 0, done.stderr
            place = run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name).stdout
            owners.append(Path(place.strip()).stat().st_uid)
    finally:
        run("docker", "rm", "--force", *made)
        run("docker", "volume", "rm", name)
    assert owners == [18000, 18000]


def test_no_compiler_no_installer_of_python_packages_and_nothing_left_behind(image):
    assert inside(image, "command -v sh") == "/usr/bin/sh"
    assert inside(image, "command -v gcc cc c++ make ld pip pip3 uv") == ""
    assert inside(image, LEFT_BEHIND) == ""


def test_what_the_host_trusts_is_trusted_in_no_image(image):
    certificates = "sha256sum /etc/ssl/certs/ca-certificates.crt"
    found = inside(image, certificates)
    assert found.endswith("ca-certificates.crt")
    # Made again from what Debian's package brings, it is the same file.
    assert (
        inside(image, f"update-ca-certificates --fresh > /dev/null 2>&1; {certificates}") == found
    )
    assert inside(image, "ls -A /usr/local/share/ca-certificates") == ""


@pytest.mark.parametrize("kind", ["postgres", "runtime", "application", "pgadmin"])
def test_an_image_has_its_own_user_and_knows_how_it_is_well(kind):
    answer = subprocess.run(
        ["docker", "inspect", "--format", "{{json .Config}}", images()[kind]],
        capture_output=True,
        text=True,
        check=True,
    )
    config = json.loads(answer.stdout)
    assert int(config["User"].split(":")[0]) > 1000
    assert config["Healthcheck"]["Test"][0] == "CMD"


LOCK = re.compile(
    r"^uv pip compile (?!--upgrade).* requirements\.in -o requirements\.txt$", re.MULTILINE
)


def dry(run, lock, version):
    """Return the answer of installing a lock for a version of Python, without doing it."""
    command = ["uv", "pip", "install", "--dry-run", "--require-hashes", "--system-certs"]
    target = ["--target", lock.parent / "target", "--python-platform", "linux"]
    return run(*command, *target, "--python-version", version, "-r", lock)


@pytest.mark.parametrize("readme", ["README.md", "README.pt-BR.md"])
def test_the_documented_lock_has_what_the_images_python_needs(repository, run, tmp_path, readme):
    """With what only a new Python may have, and what it has no more; and a marker that it does not fit."""
    (command,) = LOCK.findall((repository / readme).read_text())
    wanted = ["Django>=6,<6.1", "audioop-lts", "legacy-cgi", 'tomli; python_version < "3.11"']
    (tmp_path / "requirements.in").write_text("\n".join(wanted))
    made = run(*command.split(), cwd=tmp_path, env={"UV_SYSTEM_CERTS": "1"})
    assert made.returncode == 0, made.stderr
    lock = tmp_path / "requirements.txt"
    assert re.search("^tzdata==.* ; sys_platform", lock.read_text(), re.MULTILINE)
    version = inside(
        images()["runtime"], "python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'"
    )
    answer = dry(run, lock, version)
    assert answer.returncode == 0, answer.stderr
    names = set(re.findall(r"^ \+ ([\w-]+)==", answer.stderr, re.MULTILINE))
    assert names == {"asgiref", "audioop-lts", "django", "legacy-cgi", "sqlparse"}


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_the_examples_lock_serves_the_image_and_the_host(repository, run, tmp_path, version):
    lock = tmp_path / "requirements.txt"
    lock.write_text((repository / "app/requirements.txt").read_text())
    assert " ; sys_platform" in lock.read_text()  # made for every platform
    answer = dry(run, lock, version)
    assert answer.returncode == 0, answer.stderr
    assert "django==5.2" in answer.stderr
