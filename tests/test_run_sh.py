"""The front door, in a copy of the project; what it installs there is real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = ("ansible.cfg", "run.sh", "site.yml", "requirements-uv.txt", "requirements.txt")
FOLDERS = ("inventories", "playbooks", "plugins", "roles")

# Says of itself what an old Python would say, and is otherwise the real one.
OLD = """#!/bin/sh
[ "$1" = -V ] && echo Python 3.9.2 && exit
[ "$1" = -c ] && shift
exec {python} -c "import sys; sys.version_info = (3, 9, 2)
$1"
"""


@pytest.fixture
def tree(repository, tmp_path):
    """Return a copy of the project, without a toolchain and without secrets."""
    tree = tmp_path / "copy of the project"
    tree.mkdir()
    for name in PARTS:
        shutil.copy2(repository / name, tree)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("secrets", "__pycache__")
        shutil.copytree(repository / name, tree / name, ignore=ignore)
    return tree


@pytest.fixture
def toolchain(repository, tree):
    """Give the copy the repository's own toolchain; return the copy."""
    (tree / ".venv").symlink_to(repository / ".venv")
    shutil.copy2(repository / ".venv/complete", tree / "requirements.txt")
    return tree


def start(tree, *arguments, path=(), cwd="/", **env):
    """Run the copy's run.sh from somewhere else, with a Python that can make environments."""
    places = [*map(str, path), f"{sys.base_prefix}/bin", "/usr/bin", "/bin"]
    return subprocess.run(
        [tree / "run.sh", *arguments],
        cwd=cwd,
        env={"HOME": os.environ["HOME"], "PATH": ":".join(places), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_the_table_is_printed_without_making_anything(tree, arguments):
    answer = start(tree, *arguments)
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert answer.stdout.startswith("Usage: ./run.sh ENVIRONMENT")
    for word in ("-0, prod", "-1, dev", "-2, host", "manage", "psql", "test", "new PATH"):
        assert word in answer.stdout
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("kind", ["absolute", "relative", "of a link", "of the folder", "on PATH"])
def test_the_project_is_where_the_file_is_and_not_a_link_to_it(toolchain, tmp_path, kind):
    place = tmp_path / "a place/bin"
    place.mkdir(parents=True)
    link = place / "stack"
    target = os.path.relpath(toolchain / "run.sh", place)
    link.symlink_to(toolchain / "run.sh" if kind == "absolute" else target)
    words = [link]
    if kind == "of a link":
        (tmp_path / "second").symlink_to("a place/bin/stack")
        words = ["./second"]
    elif kind == "of the folder":
        (tmp_path / "folder").symlink_to(place)
        words = ["folder/stack"]
    elif kind == "on PATH":
        words = ["stack"]
    answer = subprocess.run(
        [*words, "-1", "nonsense"],
        cwd=tmp_path,
        env={"HOME": os.environ["HOME"], "PATH": f"/usr/bin:/bin:{place}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.endswith("run.sh: unknown operation: nonsense\n")
    assert not (place / ".venv").exists() and not (tmp_path / ".venv").exists()


def test_the_table_names_operations_that_exist(tree):
    table = " ".join(start(tree).stdout.split())
    operations = re.search(r"one of the playbooks: ([\w, -]+);", table)[1].split(", ")
    assert operations
    missing = [name for name in operations if not (tree / f"playbooks/{name}.yml").exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("-3", "argument"),
        ("--verbose", "argument"),
        ("../dev", "argument"),
        ("production", "environment"),
        ("status", "environment"),
    ],
)
def test_an_unknown_argument_is_told_with_the_table_and_makes_nothing(tree, argument, kind):
    answer = start(tree, argument)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("Usage: ./run.sh ENVIRONMENT")
    assert f"run.sh: unknown {kind}: {argument}" in answer.stderr.splitlines()[-1]
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("operation", ["nonsense", "Status", "tasks", "host", "new"])
def test_an_unknown_operation_is_told_with_the_table(toolchain, operation):
    answer = start(toolchain, "-1", operation)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("Usage: ./run.sh ENVIRONMENT")
    assert answer.stderr.endswith(f"run.sh: unknown operation: {operation}\n")


def test_a_new_project_needs_a_path(toolchain):
    answer = start(toolchain, "new")
    assert answer.returncode == 2
    assert answer.stderr == "run.sh: say where the project goes: ./run.sh new PATH\n"


def test_a_new_project_is_one_that_django_finds_nothing_wrong_with(toolchain, tmp_path, python):
    shutil.copytree(Path(__file__).parents[1] / "app", toolchain / "app")
    # Relative to where the caller stands.
    made = start(toolchain, "new", "a shop", cwd=tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr
    secret = tmp_path / "secret"
    secret.write_text("x" * 50)
    settings = {
        "DATABASE_HOST": "h",
        "DATABASE_PORT": "1",
        "DATABASE_NAME": "n",
        "DATABASE_USER": "u",
    }
    settings |= {name: str(secret) for name in ("DJANGO_SECRET_KEY_FILE", "DATABASE_PASSWORD_FILE")}
    settings |= {f"DJANGO_{name}_ROOT": str(tmp_path) for name in ("STATIC", "MEDIA")}
    settings |= {"DJANGO_PUBLIC_URL": "http://127.0.0.1:8000", "DJANGO_ENVIRONMENT": "dev"}
    settings |= {"DJANGO_SERVED_BY": "host", "DJANGO_DEBUG": "true"}
    checked = subprocess.run(
        [python, "manage.py", "check", "--fail-level=WARNING"],
        cwd=tmp_path / "a shop",
        env={"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "config.settings", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout
    assert not (tmp_path / "a shop/core").exists()
    again = start(toolchain, "new", "a shop", cwd=tmp_path)
    assert again.returncode != 0
    assert "is not empty" in again.stdout + again.stderr


def test_further_arguments_reach_ansible_as_they_are(toolchain):
    answer = start(toolchain, "-0", "-e", "@/no such/file with spaces.yml")
    assert answer.returncode not in (0, 2)
    assert "'/no such/file with spaces.yml'" in answer.stderr
    listing = start(toolchain, "prod", "--list-tags")
    assert listing.returncode == 0, listing.stderr
    assert re.search(r"TASK TAGS: \[.*backup", listing.stdout)


def test_an_inventory_that_does_not_exist_is_told_in_one_line(toolchain):
    answer = subprocess.run(
        [toolchain / ".venv/bin/ansible-playbook", "site.yml", "-i", "inventories/nonsense"],
        cwd=toolchain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "PLAY RECAP" not in answer.stdout
    lines = [line for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert "inventories/nonsense" in lines[0]


def test_a_python_that_is_too_old_is_told_in_one_line(tree, tmp_path):
    (tmp_path / "old").mkdir()
    old = tmp_path / "old/python3"
    old.write_text(OLD.format(python=sys.executable))
    old.chmod(0o755)
    answer = start(tree, "-1", path=[old.parent])
    assert answer.returncode == 1
    assert answer.stderr == "run.sh: Python 3.11 or newer is needed; this one is Python 3.9.2.\n"
    assert answer.stdout == ""
    assert not (tree / ".venv").exists()


def test_a_missing_python_is_told_in_one_line(tree, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "realpath", "cmp", "cat"):
        (tools / name).symlink_to(Path(shutil.which(name)))
    answer = subprocess.run(
        [tree / "run.sh", "-1"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr == "run.sh: python3 (3.11 or newer) is needed; install it first.\n"


def test_a_toolchain_that_is_cut_short_or_outdated_is_made_again(tree, repository):
    """The lock is a small one, so that making it takes seconds; Python, pip and uv are real."""
    lock, first, complete = (
        tree / name for name in ("requirements.txt", "requirements-uv.txt", ".venv/complete")
    )
    text = re.sub(r"\\\n\s*", "", (repository / "requirements.txt").read_text())
    line = re.search(r"^distro==.*$", text, re.MULTILINE)[0] + "\n"
    # What an interrupted run leaves: an environment in which things are missing.
    (tree / ".venv/bin").mkdir(parents=True)
    (tree / ".venv/half-made").touch()

    good = first.read_text()
    first.write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", good))
    failed = start(tree, "-1", "nonsense")
    assert failed.returncode not in (0, 2)
    assert "hash" in failed.stderr.lower()
    assert not complete.exists()

    first.write_text(good)
    lock.write_text(line)
    made = start(tree, "-1", "nonsense")
    assert made.returncode == 2, made.stderr
    assert "Making the toolchain in .venv" in made.stdout
    assert complete.read_text() == line
    assert not (tree / ".venv/half-made").exists()
    assert list(tree.glob(".venv/lib/python3*/site-packages/distro"))

    made = complete.stat().st_ino
    again = start(tree, "-1", "nonsense")
    assert (again.returncode, again.stdout) == (2, "")
    assert complete.stat().st_ino == made

    # What an upgrade of the system leaves: the packages of a Python that is no more.
    (place,) = tree.glob(".venv/lib/python3*")
    place.rename(place.with_name("python3.1"))
    after = start(tree, "-1", "nonsense")
    assert after.returncode == 2, after.stderr
    assert "Making the toolchain in .venv" in after.stdout


def test_a_secret_is_no_host_of_its_inventory(toolchain):
    secrets = toolchain / "inventories/dev/secrets"
    secrets.mkdir()
    (secrets / "postgres_password").write_text("correct horse Canary [x")
    command = [toolchain / ".venv/bin/ansible-inventory", "-i", "inventories/dev", "--graph"]
    answer = subprocess.run(command, cwd=toolchain, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "localhost" in answer.stdout
    assert "Canary" not in answer.stdout + answer.stderr
