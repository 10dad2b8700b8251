"""The project's own Ansible plugins, run by Ansible itself, against the real engine.

Needs Docker, and root: the secrets belong to the users of containers.
"""

import contextlib
import io
import json
import os
import pty
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import uuid

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import init_plugin_loader, lookup_loader

# -- the lookup build_context -------------------------------------------------------------------


@pytest.fixture(scope="session")
def build_context(repository):
    """Return the lookup as a function of (parts, options) that returns the hash."""
    with contextlib.suppress(ValueError):  # it was loaded before
        init_plugin_loader()
    lookup_loader.add_directory(str(repository / "plugins/lookup"))

    def call(*parts, **options):
        """Take each part as a directory, or as (src, dest)."""
        parts = [part if isinstance(part, tuple) else (part, "") for part in parts]
        terms = [{"src": str(src), "dest": dest} for src, dest in parts]
        (found,) = lookup_loader.get("build_context").run(terms, variables={}, **options)
        return found

    return call


@pytest.fixture
def tree(tmp_path):
    """Return a small build context."""
    tree = tmp_path / "tree"
    (tree / "app/static").mkdir(parents=True)
    (tree / "Dockerfile").write_text("FROM scratch\n")
    (tree / "app/models.py").write_text("answer = 42\n")
    (tree / "app/static/site.css").write_text("b {}\n")
    (tree / "app/run").write_text("#!/bin/sh\n")
    (tree / "app/run").chmod(0o755)
    return tree


def packed(build_context, tmp_path, *parts, **options):
    """Return the names of what is in the archive of a context."""
    archive = tmp_path / "packed.tar"
    build_context(*parts, archive=str(archive), **options)
    with tarfile.open(archive) as tar:
        return [member.name for member in tar if not member.isdir()]


def test_the_hash_is_twelve_hexadecimal_digits_and_the_same_for_a_copy(build_context, tree):
    copy = tree.parent / "copy/elsewhere"
    subprocess.run(["mkdir", "-p", copy.parent], check=True)
    subprocess.run(["cp", "-R", tree, copy], check=True)  # without times
    assert re.fullmatch("[0-9a-f]{12}", build_context(tree))
    assert build_context(copy) == build_context(tree)


def test_times_owners_and_irrelevant_modes_do_not_count(build_context, tree):
    before = build_context(tree)
    for path in tree.rglob("*"):
        os.utime(path, (1, 1))
        os.chown(path, 4711, 4711)
    (tree / "app/models.py").chmod(0o600)
    (tree / "app/run").chmod(0o700)
    assert build_context(tree) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "app/models.py").write_text("answer = 43\n"),
        lambda tree: (tree / "app/models.py").chmod(0o755),
        lambda tree: (tree / "app/run").chmod(0o644),
        lambda tree: (tree / "app/models.py").rename(tree / "app/views.py"),
        lambda tree: (tree / "app/new.py").touch(),
        lambda tree: (tree / "app/run").unlink(),
        lambda tree: (tree / "app/run").rename(tree / "run"),
    ],
    ids=["content", "made executable", "made plain", "renamed", "added", "removed", "moved"],
)
def test_every_change_of_the_tree_makes_another_hash(build_context, tree, change):
    before = build_context(tree)
    change(tree)
    assert build_context(tree) != before


def test_bytes_that_move_from_one_file_to_the_next_make_another_hash(build_context, tree):
    (tree / "a").write_text("12")
    (tree / "b").write_text("3")
    before = build_context(tree)
    (tree / "a").write_text("1")
    (tree / "b").write_text("23")
    assert build_context(tree) != before


def test_the_text_counts(build_context, tree):
    hashes = {build_context(tree, text=text) for text in ("", "a", "b", ["a"], {"a": "b"})}
    assert len(hashes) == 5
    assert build_context(tree, text="a") == build_context(tree, text="a")


def test_what_is_excluded_is_neither_hashed_nor_packed(build_context, tree, tmp_path):
    before = build_context(tree)
    (tree / "app/__pycache__").mkdir()
    (tree / "app/__pycache__/models.pyc").write_text("x")
    (tree / "notes.md").write_text("x")
    assert build_context(tree) != before
    exclude = ["**/__pycache__", "*.md"]
    assert build_context(tree, exclude=exclude) == before
    names = packed(build_context, tmp_path, tree, exclude=exclude)
    assert names == ["Dockerfile", "app/models.py", "app/run", "app/static/site.css"]


def test_dockerignore_is_respected_with_its_comments_and_its_exceptions(
    build_context, tree, tmp_path
):
    for name in ("a.log", "keep.log", "secret.env"):
        (tree / "app" / name).write_text("x")
    ignore = "# *.py is not ignored\n\n  app/*.log  \n!app/keep.log\nsecret.env\n**/*.env\n"
    (tree / ".dockerignore").write_text(ignore)
    names = packed(build_context, tmp_path, tree)
    assert "app/keep.log" in names
    assert "app/models.py" in names
    assert {"app/a.log", "app/secret.env"}.isdisjoint(names)
    before = build_context(tree)
    (tree / "app/a.log").write_text("more")
    assert build_context(tree) == before
    (tree / "app/keep.log").write_text("more")
    assert build_context(tree) != before


def test_a_directory_is_excluded_with_all_that_is_in_it_but_for_exceptions(
    build_context, tree, tmp_path
):
    exclude = ["app", "!app/static/site.css"]
    names = packed(build_context, tmp_path, tree, exclude=exclude)
    assert names == ["Dockerfile", "app/static/site.css"]


def test_a_link_is_packed_as_a_link_and_its_target_counts(build_context, tree, tmp_path):
    (tree / "link").symlink_to("app/models.py")
    (tree / "folder").symlink_to("app")
    (tree / "dangling").symlink_to("nowhere")
    before = build_context(tree)
    archive = tmp_path / "packed.tar"
    assert build_context(tree, archive=str(archive)) == before
    with tarfile.open(archive) as tar:
        links = {member.name: member.linkname for member in tar if member.issym()}
        assert not [name for name in tar.getnames() if name.startswith("folder/")]
    assert links == {"link": "app/models.py", "folder": "app", "dangling": "nowhere"}
    (tree / "link").unlink()
    (tree / "link").symlink_to("app/run")
    assert build_context(tree) != before
    (tree / "link").unlink()
    (tree / "link").write_text("app/models.py")  # a file that says what the link said
    assert build_context(tree) != before


def test_the_archive_is_the_same_every_time_and_holds_what_was_hashed(
    build_context, tree, tmp_path
):
    first, second = tmp_path / "made/for/it/1.tar", tmp_path / "2.tar"
    build_context(tree, archive=str(first))
    for path in tree.rglob("*"):
        os.utime(path, (1, 1))
        os.chown(path, 4711, 4711)
    build_context(tree, archive=str(second))
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        files = {m.name: (m.mode, tar.extractfile(m).read().decode()) for m in tar if m.isfile()}
        assert {member.mode for member in tar if member.isdir()} == {0o755}
    assert files == {
        "Dockerfile": (0o644, "FROM scratch\n"),
        "app/models.py": (0o644, "answer = 42\n"),
        "app/run": (0o755, "#!/bin/sh\n"),
        "app/static/site.css": (0o644, "b {}\n"),
    }
    copy = tmp_path / "unpacked"
    subprocess.run(["mkdir", copy], check=True)
    subprocess.run(["tar", "-xf", first, "-C", copy], check=True)
    assert build_context(copy) == build_context(tree)


def test_parts_have_their_places_and_a_later_one_wins(build_context, tree, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("x")
    names = packed(build_context, tmp_path, (tree, "source"), (other, "in/place"), (other, ""))
    assert "source/app/run" in names
    assert "in/place" in names
    assert "other.txt" in names
    replaced = build_context(tree, (other, "Dockerfile"))
    assert replaced != build_context((other, "Dockerfile"), tree)
    (tree / "Dockerfile").write_text("x")
    assert build_context(tree) == replaced


def test_a_missing_part_is_an_error_that_names_it(build_context, tree, tmp_path):
    with pytest.raises(AnsibleLookupError, match=re.escape(f"{tmp_path}/gone does not exist")):
        build_context(tree, tmp_path / "gone")


def test_a_playbook_finds_the_lookup_by_the_configuration(build_context, tree, run):
    expression = "{{ lookup('build_context', {'src': '%s'}, text='x') }}" % tree  # noqa: UP031
    answer = run("ansible", "localhost", "-m", "debug", "-a", f"msg={expression}", "-v")
    assert build_context(tree, text="x") in answer.stdout


# -- what of a project enters a release -----------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """Return a function that makes a project of some files (a name that ends with / is a directory), and its path."""

    def make(*names, **contents):
        for name in names:
            place = tmp_path / "project" / name
            (place if name.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                place.write_text(contents.get(name, ""))
        return tmp_path / "project"

    return make


@pytest.fixture
def git(tmp_path):
    """Return a function that runs git in the project."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")

    def call(*words, at="project"):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        command = ["git", *who, "-c", "core.excludesFile=/dev/null", "-C", tmp_path / at, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return call


@pytest.fixture
def entering(build_context, tmp_path):
    """Return a function of (project, options) that returns the files and empty directories that enter."""

    def call(source, **options):
        archive = tmp_path / "packed.tar"
        (found,) = lookup_loader.get("build_context").run(
            [{"src": str(source), "dest": "source", "project": options}],
            variables={},
            archive=str(archive),
        )
        with tarfile.open(archive) as tar:
            members = {member.name: member.isdir() for member in tar}
        above = {name.rpartition("/")[0] for name in members}
        names = [name + "/" * folder for name, folder in members.items() if name not in above]
        call.hash = found
        return sorted(name.removeprefix("source/") for name in names)

    return call


@pytest.fixture
def left_out(build_context):
    """Return the lookup left_out as a function of (project, options)."""

    def call(source, **options):
        return lookup_loader.get("left_out").run([str(source)], variables={}, **options)

    return call


SECRETS = """
.env .env.local .env.production .ENV prod.env .env-prod .envrc .envs/.production/.django .env.d/token
site.pem tls.KEY id_rsa id_ed25519.old client.p12 store.jks
credentials.json google-credentials.json service-account.json service_account_prod.json secrets.json
.netrc .pgpass .pypirc .npmrc .aws/credentials .ssh/config .git-credentials terraform.tfstate .git/config
shop.dump shop.sql.gz dump.sql prod-dump.sql backup-2026.sql db.sqlite3 db.sqlite3-wal dump.rdb
""".split()  # noqa: SIM905
HARMLESS = """
.env.example .env.sample .env.template .env.dist prod.env.example example.env environment.py env.py
credentials.json.example keys.py key.svg monkey.md pem.txt id.py secrets.py credentials.py
0001_initial.sql dump.py sqlite3.py envs/base.py .envoy.yaml venv.md git.py .gitattributes cache/page.html
""".split()  # noqa: SIM905
AGAIN = """
node_modules/x/index.js .venv/bin/python venv/pyvenv.cfg env/pyvenv.cfg __pycache__/a.pyc a.pyc
.tox/log .pytest_cache/x .mypy_cache/x .ruff_cache/x .coverage .DS_Store
""".split()  # noqa: SIM905


@pytest.mark.parametrize("depth", ["", "config/", "a/b/c/"])
def test_nothing_enters_that_is_secret_by_its_name_or_made_again_at_any_depth(
    project, entering, depth
):
    source = project("manage.py", *(depth + name for name in SECRETS + HARMLESS + AGAIN))
    assert entering(source) == sorted(["manage.py", *(depth + name for name in HARMLESS)])


def test_the_readme_has_the_whole_list_of_names(repository):
    names = lookup_loader.get("left_out", class_only=True)
    for readme in ("README.md", "README.pt-BR.md"):
        quoted = set(re.findall("`([^`\n]+)`", (repository / readme).read_text()))
        assert {name.lstrip("!") for name in names.SECRET + names.MADE} <= quoted


def test_gitignore_files_count_with_and_without_a_repository(project, entering, git):
    source = project(
        *("manage.py", "a.log", "keep.log", "local.py", "app/local.py", "app/b.log", "app/c.py"),
        *("dist/site.js", "build/x", "build/keep/y", "mine.txt"),
        ".gitignore",
        "app/.gitignore",
        **{
            ".gitignore": "*.log\n!keep.log\n/local.py\ndist/\nbuild/*\n!build/keep/\n",
            "app/.gitignore": "!b.log\nc.py\n",
        },
    )
    enter = ["app/b.log", "app/local.py", "build/keep/y", "keep.log", "manage.py", "mine.txt"]
    enter = sorted([".gitignore", "app/.gitignore", *enter])
    assert entering(source) == enter
    git("init", "-q")
    assert entering(source) == enter
    # What git tracks it does not ignore, but what is secret by its name stays out.
    (source / "prod.env").write_text("")
    git("add", "--force", "local.py", "dist/site.js", "prod.env", "manage.py")
    (source / "dist/other.js").write_text("")
    assert entering(source) == sorted([*enter, "local.py", "dist/site.js"])
    git("rm", "-q", "--cached", "dist/site.js")
    (source / ".git/info/exclude").write_text("mine.txt\n")
    assert entering(source) == sorted({*enter, "local.py"} - {"mine.txt"})


def test_git_agrees_about_any_rules(entering, git, tmp_path):
    """Trees, rules and tracked files at random, the same ones each time."""
    source = tmp_path / "project"
    names = ["a", "b", "build", "dist", "x.py", "y.log", "keep", "foo bar", ".hid", "[z]", "é"]
    rules = """* !* */ !*/ /a a/ !a/ a/* !a/b **/b b/** a/**/x.py *.log !keep /build/ dist/ !*.py #c .hid
    /* !/a a/b [a-c] \\[z\\] !a/b/x.py é ! /""".split()  # noqa: SIM905
    rules += ["foo bar", "foo\\ bar ", "keep  ", "\\!x", ""]

    def grow(folder, depth):
        for name in chance.sample(names, chance.randint(1, 6)):
            if depth < 3 and "." not in name and chance.random() < 0.45:
                (folder / name).mkdir()
                grow(folder / name, depth + 1)
            else:
                (folder / name).write_text("")
        if chance.random() < 0.4:
            some = chance.sample(rules, chance.randint(1, 6))
            (folder / ".gitignore").write_text("\n".join(some) + "\n")

    for seed in range(40):
        chance = random.Random(seed)
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        grow(source, 0)
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        git("init", "-q")
        git("add", "--force", *chance.sample(files, min(3, len(files))))
        inner = [path for path in sorted(source.iterdir()) if path.is_dir() and path.name != ".git"]
        for place in [source, *inner]:
            if place == source or git("ls-files", at=place):
                listed = git("ls-files", "-zco", "--exclude-standard", at=place).split("\0")
                found = [name for name in entering(place) if not name.endswith("/")]
                assert found == sorted(filter(None, listed)), (seed, place)


def test_a_repository_around_the_project_counts_only_if_it_tracks_it(project, entering, git):
    names = ["shop/manage.py", "shop/own.log", "shop/local.py", "shop/media/a.png"]
    rules = "*.log\n/shop/media/\n/cache/\n"
    top = project(*names, "cache/copy/manage.py", ".gitignore", **{".gitignore": rules})
    git("init", "-q")
    git("add", "shop/manage.py")
    assert entering(top / "shop") == ["local.py", "manage.py"]
    assert entering(top / "cache/copy") == ["manage.py"]


def test_a_hook_that_deploys_sees_the_projects_repository(project, entering, git, monkeypatch):
    source = project("manage.py", "local.py", ".gitignore", **{".gitignore": "local.py"})
    git("init", "-q")
    git("add", "--force", "local.py")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert entering(source) == [".gitignore", "local.py", "manage.py"]


def test_dockerignore_and_exclude_leave_out_and_bring_back_nothing_secret(project, entering):
    source = project(
        *("manage.py", "docs/a.md", "docs/keep.md", "notes/x", "config/.env", "node_modules/x"),
        ".dockerignore",
        **{".dockerignore": "docs\n!docs/keep.md\n!**/.env\n!node_modules\n"},
    )
    enter = [".dockerignore", "config/", "docs/keep.md", "manage.py"]
    assert entering(source, exclude=["notes"]) == enter


@pytest.mark.parametrize(
    ("include", "enter"),
    [
        ([], []),
        (["config/.env"], ["config/.env"]),
        (["**/.env"], ["config/.env"]),
        (["certs/ca.pem"], ["certs/ca.pem"]),
        (["dist"], ["dist/js/site.js", "dist/node_modules/x.js", "dist/site.css"]),
        (["dist/**"], ["dist/js/site.js", "dist/node_modules/x.js", "dist/site.css"]),
        (["dist/*/site.js"], ["dist/js/site.js"]),
        (["dist", "dist/.env"], [
            "dist/.env", "dist/js/site.js", "dist/node_modules/x.js", "dist/site.css",
        ]),
        (["web/node_modules/lib/dist"], ["web/node_modules/lib/dist/lib.js"]),
        (["web/node_modules"], [
            "web/node_modules/lib/dist/lib.js", "web/node_modules/lib/node_modules/y.js",
        ]),
        (["**/lib.js"], []),
        (["docs/a.md", "notes"], ["docs/a.md", "notes/x"]),
        ([".envs"], [".envs/.production/.django"]),
    ],
)  # fmt: skip
def test_include_brings_back_what_it_names(project, entering, include, enter):
    source = project(
        *(
            "manage.py",
            "config/.env",
            "certs/ca.pem",
            "certs/site.pem",
            ".envs/.production/.django",
        ),
        *("dist/site.css", "dist/js/site.js", "dist/.env", "dist/node_modules/x.js"),
        *("web/node_modules/lib/dist/lib.js", "web/node_modules/lib/node_modules/y.js"),
        *("web/node_modules/lib/.env", "docs/a.md", "docs/b.md", "notes/x"),
        *(".gitignore", ".dockerignore"),
        **{".gitignore": "/dist\n", ".dockerignore": "docs\n.dockerignore\n.gitignore\n"},
    )
    found = entering(source, include=include, exclude=["notes"])
    always = {".dockerignore", "manage.py"}
    assert [name for name in found if name not in always and not name.endswith("/")] == enter


def test_an_empty_directory_enters_and_counts(project, entering):
    source = project("manage.py", "static/", "a/b/", "logs/x.log", ".gitignore", "old/__pycache__/a.pyc",
                     "old/models/__pycache__/b.pyc", "media/a.png", **{".gitignore": "*.log"})  # fmt: skip
    exclude = ["media"]
    empty = ["a/b/", "logs/", "static/"]
    assert entering(source, exclude=exclude) == [".gitignore", *empty[:2], "manage.py", empty[2]]
    before = entering.hash
    (source / "static").rmdir()
    entering(source, exclude=exclude)
    assert entering.hash != before
    (source / "static").mkdir()
    # What another branch's code has left is no part of this one.
    shutil.rmtree(source / "old")
    entering(source, exclude=exclude)
    assert entering.hash == before


OPENED = []
sys.addaudithook(lambda event, words: event == "os.scandir" and OPENED.append(str(words[0])))


def test_what_is_left_out_is_not_walked_through(project, entering, left_out):
    source = project(
        *("manage.py", "web/node_modules/a/b.js", ".venv/lib/c.py", "dist/d/e.js", "media/f/g.png"),
        ".gitignore",
        **{".gitignore": "dist/"},
    )
    OPENED.clear()
    entering(source, exclude=["media"], include=["**/*.js"])
    left_out(source, exclude=["media"])
    assert {path.removeprefix(str(source)).strip("/") for path in OPENED} >= {"", "web"}
    assert not re.search("node_modules|venv|dist|media", " ".join(OPENED).replace(str(source), ""))


def test_what_is_left_out_is_told_shortly_and_who_names_it(project, left_out):
    source = project(
        *("manage.py", ".env", "certs/ca.pem", "certs/site.pem", "web/node_modules/x", "dist/x"),
        *("__pycache__/a.pyc", ".venv/x", ".git/config", "static_root/x", ".gitignore"),
        *("config/settings.py", "shop/migrations/0002_rows.py", "shop/models.py", "rows.dump"),
        **{
            ".gitignore": "dist/\nstatic_root\n",
            "config/settings.py": "CA = BASE / 'certs/ca.pem'\nSTATIC_ROOT = 'static_root'\n"
            'DIRS = [BASE / "dist"]\n',
            "shop/migrations/0002_rows.py": 'open("rows.dump")',
            "shop/models.py": "environ = '.environment'  # not .env\n",
        },
    )
    first, *named = left_out(source)
    assert first == (
        "Not in the release: .env (secret), certs/ca.pem (secret), certs/site.pem (secret), dist/ (.gitignore),"
        " rows.dump (secret), static_root/ (.gitignore), web/node_modules/ (made)."
    )
    rest = "which is not in the release: if it is needed there, add it to django_web_include."
    assert named == [
        f"config/settings.py names certs/ca.pem, {rest}",
        f"config/settings.py names dist/, {rest}",
        f"shop/migrations/0002_rows.py names rows.dump, {rest}",
    ]
    brought = left_out(source, include=["dist", "certs/ca.pem", "*.dump"])
    assert brought == [
        "Not in the release: .env (secret), certs/site.pem (secret), static_root/ (.gitignore), web/node_modules/ (made)."
    ]
    for number in range(40):
        (source / f"{number}.pem").write_text("")
    assert re.search(r" and 3\d more\.$", left_out(source)[0])
    assert left_out(project("../plain/manage.py").parent / "plain") == []


def test_names_that_are_no_text_are_packed_too(project, entering):
    source = project("manage.py")
    with open(os.fsencode(source) + b"/caf\xe9.txt", "w"):
        pass
    assert len(entering(source)) == 2


# -- the index of packages ------------------------------------------------------------------------


@pytest.fixture
def index(build_context, tmp_path, monkeypatch):
    """Return a function of (variables, files of the home directory) that returns the settings by name."""
    home = tmp_path / "home"

    def call(files=None, /, **variables):
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "XDG_"))]:
            monkeypatch.delenv(name)
        for name, value in {"HOME": str(home), "XDG_CONFIG_DIRS": str(home), **variables}.items():
            monkeypatch.setenv(name, value)
        for name, text in (files or {}).items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        (answer,) = lookup_loader.get("package_index").run([], variables={})
        script = answer["text"] + "env"
        shown = subprocess.run(
            ["sh", "-c", script], env={}, capture_output=True, text=True, check=True
        )
        lines = (line.partition("=") for line in shown.stdout.splitlines())
        call.loopback = answer["loopback"]
        return {key: value for key, _, value in lines if key.startswith(("PIP_", "UV_"))}

    return call


def test_without_settings_a_build_has_none(index):
    assert index(PIP_CONFIG_FILE=os.devnull, UV_NO_CONFIG="1") == {}
    assert index.loopback is False


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ({}, {"PIP_INDEX_URL": "https://a:p%40w@one.test/simple"}),
        ({}, {"UV_DEFAULT_INDEX": "https://a:p%40w@one.test/simple"}),
        ({}, {"UV_INDEX_URL": "https://a:p%40w@one.test/simple"}),
        ({".config/pip/pip.conf": "[global]\nindex-url = https://a:p%40w@one.test/simple\n"}, {}),
        ({".pip/pip.conf": "[install]\nindex-url = https://a:p%40w@one.test/simple\n"}, {}),
        ({".config/uv/uv.toml": 'index-url = "https://a:p%40w@one.test/simple"'}, {}),
        ({".config/uv/uv.toml": '[pip]\nindex-url = "https://a:p%40w@one.test/simple"'}, {}),
        ({"uv/uv.toml": '[[index]]\nurl = "https://a:p%40w@one.test/simple"\ndefault = true'}, {}),
        (
            {".netrc": "machine one.test login a password p@w"},
            {"PIP_INDEX_URL": "https://one.test/simple"},
        ),
        (
            {".config/uv/uv.toml": '[[index]]\nname = "o-ne"\nurl = "https://one.test/simple"\ndefault = true'},
            {"UV_INDEX_O_NE_USERNAME": "a", "UV_INDEX_O_NE_PASSWORD": "p@w"},
        ),
    ],
)  # fmt: skip
def test_pip_and_uv_both_get_the_index_wherever_it_is_said(index, files, variables):
    url = "https://a:p%40w@one.test/simple"
    assert index(files, **variables) == {"PIP_INDEX_URL": url, "UV_DEFAULT_INDEX": url}


def test_further_indexes_and_trusted_hosts_come_along_and_directories_do_not(index):
    told = index(
        {".pip/pip.conf": "[global]\nextra-index-url =\n  file:///srv/index\n  http://127.0.0.2:3141/two\n"},
        PIP_TRUSTED_HOST="one.test",
        UV_INSECURE_HOST="two.test",
    )  # fmt: skip
    assert told == {
        "PIP_EXTRA_INDEX_URL": "http://127.0.0.2:3141/two",
        "UV_INDEX": "http://127.0.0.2:3141/two",
        "PIP_TRUSTED_HOST": "one.test two.test",
        "UV_INSECURE_HOST": "one.test two.test",
    }
    assert index.loopback is True


def test_what_pip_is_told_by_a_variable_is_stronger_and_each_keeps_its_own(index):
    told = index(
        {".config/pip/pip.conf": "[global]\nindex-url = https://file.test\n"},
        PIP_INDEX_URL="https://variable.test",
        UV_DEFAULT_INDEX="https://uv.test/it's",
    )
    assert told == {
        "PIP_INDEX_URL": "https://variable.test",
        "UV_DEFAULT_INDEX": "https://uv.test/it's",
    }


def test_a_broken_file_of_uv_is_an_error_that_names_it(index):
    with pytest.raises(AnsibleLookupError, match=re.escape(".config/uv/uv.toml can't be read")):
        index({".config/uv/uv.toml": "index-url = "})


# -- the module secret_directory ----------------------------------------------------------------

UID = 15432
CANARY = "Canary-4711 \\ \"'$x"


@pytest.fixture
def secrets(module, tmp_path):
    """Return (the directory, which is not made yet; a function that has it hold some files)."""
    if os.geteuid() != 0:
        pytest.fail("these tests give files to other users: run them as root")
    path = tmp_path / "made/for/it"

    def keep(check=False, uid=UID, **files):
        return module("secret_directory", path=str(path), uid=uid, files=files, check=check)

    return path, keep


def picture(path):
    """Return (content, mode, owner, number and time of the inode) of what is in a directory."""
    found = {}
    for file in [path, *path.rglob("*")] if path.exists() else []:
        status = file.stat()
        content = file.read_bytes() if file.is_file() else None
        found[file.name] = (content, status.st_mode, status.st_uid, status.st_ino, status.st_ctime)
    return found


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_secrets_are_readable_by_their_user_and_by_nobody_else(secrets):
    path, keep = secrets
    answer = keep(a=CANARY, b="é\nsecond line\r\n")
    assert answer["changed"] is True
    assert answer["written"] == ["a", "b"]
    assert (path / "a").read_text() == CANARY
    assert (path / "b").read_bytes() == "é\nsecond line\r\n".encode()
    assert [mode(path / name) for name in ("a", "b")] == ["0o400", "0o400"]
    assert mode(path) == "0o500"
    assert {file.stat().st_uid for file in (path, path / "a", path / "b")} == {UID}
    others = [mode(parent) for parent in (path.parent, path.parent.parent)]
    assert others == ["0o711", "0o711"]  # nobody but root lists them


def test_what_is_not_listed_stays_where_nothing_is_to_be_pruned(secrets, module):
    path, keep = secrets
    keep(a=CANARY, b="b")
    words = {"path": str(path), "uid": UID, "files": {"b": "b"}, "prune": False}
    assert module("secret_directory", **words)["changed"] is False
    assert (path / "a").read_text() == CANARY
    assert keep(b="b")["removed"] == ["a"]


def test_a_second_run_changes_nothing(secrets):
    path, keep = secrets
    files = {"a": CANARY, "lines": "1\r\n2\n", "empty": ""}
    first = keep(**files)
    before = picture(path)
    second = keep(**files)
    assert (second["changed"], second["written"], second["removed"]) == (False, [], [])
    assert second["modified"] == first["modified"]
    assert picture(path) == before


def test_only_what_differs_is_written_and_what_is_not_listed_is_removed(secrets):
    path, keep = secrets
    first = keep(a="1", b="2", c="3")
    kept = (path / "b").stat().st_ino
    (path / ".new-left-by-a-power-cut").write_text("1")
    time.sleep(0.01)
    answer = keep(a="changed", b="2")
    assert (answer["written"], answer["removed"]) == (["a"], [".new-left-by-a-power-cut", "c"])
    assert sorted(file.name for file in path.iterdir()) == ["a", "b"]
    assert (path / "a").read_text() == "changed"
    assert (path / "b").stat().st_ino == kept
    assert answer["modified"] > first["modified"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "a").chmod(0o444),
        lambda path: os.chown(path / "a", 0, -1),
        lambda path: (path / "a").write_text("other"),
        lambda path: (path / "a").write_bytes(b"\xff\xfe"),
        lambda path: (path / "a").unlink(),
        lambda path: path.chmod(0o755),
        lambda path: os.chown(path, 0, -1),
    ],
    ids=["mode", "owner", "content", "no text", "gone", "folder's mode", "folder's owner"],
)
def test_what_somebody_changed_is_put_right(secrets, damage):
    path, keep = secrets
    keep(a=CANARY)
    damage(path)
    assert keep(a=CANARY)["changed"] is True
    assert (path / "a").read_text() == CANARY
    assert (mode(path / "a"), mode(path)) == ("0o400", "0o500")
    assert (path / "a").stat().st_uid == path.stat().st_uid == UID
    assert keep(a=CANARY)["changed"] is False


def test_a_user_who_may_write_only_where_it_is_allowed_keeps_its_own_files(run, module, tmp_path):
    """The application on the host is a developer's, whom a directory of mode 0500 stops."""
    path = tmp_path / "own"
    for text in ("one", "two"):
        arguments = {"path": str(path), "uid": os.geteuid(), "files": {"a": text}}
        answer = run(
            *("setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable),
            "plugins/modules/secret_directory.py",
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            stdin=None,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert (path / "a").read_text() == text
        assert path.stat().st_mode & 0o777 == 0o500


def test_another_user_gets_the_files(secrets):
    path, keep = secrets
    keep(a=CANARY)
    assert keep(uid=18000, a=CANARY)["changed"] is True
    assert (path / "a").stat().st_uid == path.stat().st_uid == 18000


def test_a_reader_sees_the_old_or_the_new_secret_and_never_a_part(secrets):
    path, keep = secrets
    old, new = "o" * 200_000, "n" * 200_000
    keep(a=old)
    with (path / "a").open() as before:
        seen, done = set(), threading.Event()

        def read():
            while not done.is_set():
                seen.add((path / "a").read_text())

        reader = threading.Thread(target=read)
        reader.start()
        keep(a=new)
        done.set()
        reader.join()
        assert before.read() == old  # replaced, not written over
    assert seen <= {old, new}
    assert old in seen
    assert (path / "a").read_text() == new


def test_check_mode_says_what_it_would_do_and_does_nothing(secrets):
    path, keep = secrets
    answer = keep(check=True, a=CANARY)
    assert (answer["changed"], answer["written"]) == (True, ["a"])
    assert not path.exists()
    assert not path.parent.exists()
    keep(a="1", b="2")
    before = picture(path)
    answer = keep(check=True, a="other")
    assert (answer["changed"], answer["written"], answer["removed"]) == (True, ["a"], ["b"])
    assert picture(path) == before
    assert keep(check=True, a="1", b="2")["changed"] is False


def test_a_secret_that_is_not_a_text_is_refused_by_name(secrets):
    path, keep = secrets
    answer = keep(a="text", pin=815471)
    assert answer["failed"] is True
    assert "pin" in answer["msg"]
    assert "815471" not in json.dumps(answer)
    assert not path.exists()


@pytest.mark.parametrize("how", [[], ["--check", "--diff"]], ids=["run", "check"])
def test_ansible_never_shows_a_secret_however_talkative_it_is(run, tmp_path, how):
    variables = tmp_path / "variables.json"
    arguments = {"path": str(tmp_path / "kept"), "uid": UID, "files": {"a": "Canary-4711"}}
    variables.write_text(json.dumps(arguments))
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        "- hosts: localhost\n  tasks:\n    - secret_directory:\n"
        '        path: "{{ path }}"\n        uid: "{{ uid }}"\n        files: "{{ files }}"\n'
    )
    command = ["ansible-playbook", playbook, "-i", "localhost,", "-c", "local", "-vvv"]
    command += ["-e", f"@{variables}", "-e", "ansible_become=no", *how]
    answer = run(*command, env={"ANSIBLE_PYTHON_INTERPRETER": sys.executable})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "'written': ['a']" in answer.stdout or '"a"' in answer.stdout
    assert "Canary" not in answer.stdout + answer.stderr


# -- the module stack_facts ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack():
    """Yield the prefix of a volume, a network and a container that were never started."""
    prefix = f"facts{uuid.uuid4().hex[:8]}"
    image = f"{prefix}/image:1"

    def docker(*arguments, **options):
        options = {"capture_output": True, "text": True, "check": True, **options}
        return subprocess.run(["docker", *arguments], **options).stdout.strip()  # noqa: PLW1510

    try:
        docker("import", "--change", "CMD true", "-", image, input="", text=True)
        docker("network", "create", f"{prefix}-data")
        docker("volume", "create", "--label", f"test={prefix}", f"{prefix}-db-data")
        docker("volume", "create", f"{prefix}other-data")
        docker(
            *("create", "--name", f"{prefix}-web", "--label", f"test={prefix}"),
            *("--publish", "127.0.0.1:49871:80", "--publish", "127.0.0.1:49870:81", image, "true"),
        )
        yield prefix, docker
    finally:
        for words in (
            ("rm", "--force", f"{prefix}-web"),
            ("volume", "rm", "--force", f"{prefix}-db-data", f"{prefix}other-data"),
            ("network", "rm", f"{prefix}-data"),
            ("rmi", "--force", image),
        ):
            docker(*words, check=False)


def facts(module, prefix, **options):
    answer = module("stack_facts", name=prefix, prefix=prefix, **options)
    assert answer["changed"] is False
    return answer["ansible_facts"]["stack_facts"]


def test_facts_tell_of_the_objects_of_one_environment_and_of_no_other(module, stack):
    prefix, docker = stack
    found = facts(module, prefix)
    assert set(found["containers"]) == {f"{prefix}-web"}
    assert set(found["volumes"]) == {f"{prefix}-db-data"}  # not the one of the longer prefix
    assert found["networks"] == [f"{prefix}-data"]
    assert set(found["images"]) == {f"{prefix}/image:1"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["images"][f"{prefix}/image:1"]["created"])
    container = found["containers"][f"{prefix}-web"]
    assert container["image"] == f"{prefix}/image:1"
    assert container["status"] == "created"
    assert container["health"] == ""
    assert container["ports"] == [49870, 49871]
    assert container["labels"] == {"test": prefix}
    assert found["volumes"][f"{prefix}-db-data"]["labels"] == {"test": prefix}
    assert found["engine"]["version"] == docker("version", "--format", "{{.Server.Version}}")
    assert found["engine"]["error"] == ""
    assert found["disk_free"] > 0


def test_facts_tell_the_version_of_the_cluster_in_a_volume(module, stack):
    prefix, docker = stack
    if os.geteuid() != 0:
        pytest.fail("volumes are root's: run these tests as root")
    path = docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{prefix}-db-data")
    assert facts(module, prefix)["volumes"][f"{prefix}-db-data"]["postgres_major"] == ""
    os.makedirs(f"{path}/pgdata")
    with open(f"{path}/pgdata/PG_VERSION", "w", encoding="ascii") as file:
        file.write("17\n")
    assert facts(module, prefix)["volumes"][f"{prefix}-db-data"]["postgres_major"] == "17"


def test_facts_tell_whose_a_plain_volume_is(module, stack):
    prefix, docker = stack
    path = docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{prefix}-db-data")
    for owner in (0, 18000):
        os.chown(path, owner, owner)
        assert facts(module, prefix)["volumes"][f"{prefix}-db-data"]["owner"] == owner
    options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs"]
    other = docker("volume", "create", *options, f"{prefix}-mounted")
    try:
        assert facts(module, prefix)["volumes"][other]["owner"] is None
    finally:
        docker("volume", "rm", other)


def test_facts_tell_who_listens_at_which_address(module):
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        four_port, six_port = (server.getsockname()[1] for server in (four, six))
        ports = facts(module, "nothing")["ports"]
    assert ports[str(four_port)] == ["127.0.0.1"]
    assert ports[str(six_port)] == ["::1"]


def test_facts_tell_texts_and_owners_of_the_files_that_exist(module, tmp_path):
    (tmp_path / "text").write_text("one\ntwo\n")
    os.chown(tmp_path / "text", 1234, 4321)
    paths = [str(tmp_path / "text"), str(tmp_path), str(tmp_path / "none")]
    found = facts(module, "nothing", files=paths)
    assert found["files"] == dict(zip(paths, ["one\ntwo\n", "", ""], strict=True))
    assert found["owners"][paths[0]] == {"uid": 1234, "gid": 4321}
    assert set(found["owners"]) == set(paths[:2])


def test_facts_tell_the_firewalls_rules_as_a_role_writes_them(module):
    rule = (
        "DOCKER-USER ! -i nowhere0 -o nowhere0 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"
    )
    assert rule not in facts(module, "nothing")["firewall"]
    subprocess.run(["iptables", "-w", "-I", *rule.split()], check=True)
    try:
        assert rule in facts(module, "nothing")["firewall"]
    finally:
        subprocess.run(["iptables", "-w", "-D", *rule.split()], check=True)


@pytest.mark.parametrize("check", [False, True])
def test_facts_change_nothing_in_check_mode_or_without(module, stack, check):
    prefix, docker = stack
    listings = [("ps", "-a"), ("volume", "ls"), ("network", "ls")]
    names = [docker(*words, "--filter", f"name={prefix}", "--format", "x") for words in listings]
    assert set(facts(module, prefix, check=check)["containers"]) == {f"{prefix}-web"}
    assert names == [
        docker(*words, "--filter", f"name={prefix}", "--format", "x") for words in listings
    ]


def test_without_an_engine_the_facts_say_so_and_the_rest_is_there(module, stack, tmp_path):
    prefix, _docker = stack
    found = facts(module, prefix, env={"DOCKER_HOST": f"unix://{tmp_path}/no.sock"})
    assert found["engine"]["version"] == ""
    assert "no.sock" in found["engine"]["error"]
    empty = [found[kind] for kind in ("containers", "networks", "volumes", "images")]
    assert not any(empty)
    assert found["ports"]
    assert found["disk_free"] > 0


def test_without_a_docker_command_the_facts_say_so(module, tmp_path):
    found = facts(module, "nothing", env={"PATH": str(tmp_path)})
    assert found["engine"]["version"] == ""
    assert found["engine"]["error"] == "no docker command is installed"
    assert found["containers"] == {}


# -- the module spent_images --------------------------------------------------------------------


@pytest.fixture
def pile():
    """Yield a name with images base, one (built on base), two (the same) and old, and a function for docker."""
    name = f"spent{uuid.uuid4().hex[:8]}"

    def docker(*arguments, **options):
        options = {"capture_output": True, "text": True, "check": True, **options}
        return subprocess.run(["docker", *arguments], **options).stdout.strip()  # noqa: PLW1510

    def build(tag, *lines):
        docker("build", "--tag", f"{name}/{tag}", "-", input="\n".join([*lines, ""]))

    try:
        for tag in ("base:1", "old:1"):
            with io.BytesIO() as file:
                with tarfile.open(fileobj=file, mode="w") as tar:
                    tar.addfile(tarfile.TarInfo(f"{name}{tag}"))
                archive = file.getvalue()
            change = "CMD true"
            words = ["docker", "import", "--change", change, "-", f"{name}/{tag}"]
            subprocess.run(words, input=archive, capture_output=True, check=True)
        for tag in ("one:1", "two:1"):
            build(tag, f"FROM {name}/base:1", f"WORKDIR /{tag.replace(':', '')}")
        yield name, docker
    finally:
        for container in docker("ps", "-aq", "--filter", f"name={name}").split():
            docker("rm", "--force", container)
        for tag in ("one:1", "two:1", "old:1", "base:1"):
            docker("rmi", "--force", f"{name}/{tag}", check=False)


def left(pile):
    """Return the names that images of the pile still have."""
    name, docker = pile
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{name}/*")
    return {line.removeprefix(f"{name}/") for line in listed.split()}


def test_an_environments_images_go_with_what_nothing_else_is_built_on(module, pile):
    name, _docker = pile
    answer = module("spent_images", name=name, images=[f"{name}/one:1"], check=True)
    assert (answer["changed"], answer["removed"]) == (True, [f"{name}/one:1"])
    assert len(left(pile)) == 4
    answer = module("spent_images", name=name, images=[f"{name}/one:1"])
    assert (answer["removed"], answer["kept"]) == ([f"{name}/one:1"], [f"{name}/base:1"])
    assert left(pile) == {"base:1", "two:1", "old:1"}
    assert module("spent_images", name=name, images=[f"{name}/one:1"])["changed"] is False
    answer = module("spent_images", name=name, images=[f"{name}/two:1"])
    assert answer["removed"] == [f"{name}/base:1", f"{name}/two:1"]
    assert left(pile) == {"old:1"}


def test_an_image_that_a_container_has_stays_with_what_it_is_built_on(module, pile):
    name, docker = pile
    docker("create", "--name", f"{name}-web", f"{name}/two:1", "true")
    answer = module("spent_images", name=name)
    assert answer["removed"] == [f"{name}/old:1", f"{name}/one:1"]
    assert answer["kept"] == [f"{name}/base:1", f"{name}/two:1"]
    assert left(pile) == {"base:1", "two:1"}
    docker("rm", f"{name}-web")
    assert module("spent_images", name=name)["changed"] is True
    assert left(pile) == set()
    assert module("spent_images", name=name)["changed"] is False


# -- the filter build_log -----------------------------------------------------------------------

BUILDING = """
- hosts: localhost
  tasks:
    - community.docker.docker_image:
        name: "{{ name }}"
        source: build
        build: {path: "{{ path }}", pull: false}
      register: built
      failed_when: false
    - copy: {content: "{{ built.msg | build_log | to_json }}", dest: "{{ path }}/said", mode: "0600"}
"""
SAYING = r"""
printf '\033[91m%s\033[0m\n' "it's red" >&2
echo 'a "quoted" word'; echo "both \" and '"; printf '%s\n' 'C:\new' 'é [' 'from https://me:Canary@index.example/simple'
exit 3
"""


@pytest.mark.parametrize(
    ("dockerfile", "lines"),
    [
        (
            "FROM {image}\nCOPY say /\nRUN sh /say\n",
            [
                "it's red",
                'a "quoted" word',
                "both \" and '",
                "C:\\new",
                "é [",
                "from https://index.example/simple",
            ],
        ),
        ("FROM {image}\nNONSENSE\n", ["unknown instruction"]),
        ("FROM {image}\nCOPY nothing /\n", ["COPY failed: "]),
    ],
    ids=["a program fails", "a Dockerfile is no good", "a file is missing"],
)
def test_the_log_of_a_failed_build_is_lines_as_they_were_said(
    playbook, image, tmp_path, dockerfile, lines
):
    (tmp_path / "Dockerfile").write_text(dockerfile.format(image=image))
    (tmp_path / "say").write_text(SAYING)
    variables = {"name": f"buildlog{uuid.uuid4().hex[:8]}", "path": str(tmp_path)}
    answer = playbook(BUILDING, "-e", json.dumps(variables))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    said = json.loads((tmp_path / "said").read_text())
    for line in lines:
        assert line in said or any(line in one for one in said if len(lines) == 1), said
    assert not [
        one for one in said if re.search(r"\x1b|--->|container|^\[|, '|Step 1|Canary", one)
    ], said


# -- the callback postdo ------------------------------------------------------------------------

PLAYBOOK = """
- name: The play that works
  hosts: localhost
  tasks:
    - name: Change something
      set_fact: {a: b}
      changed_when: true
    - name: Change nothing
      set_fact: {a: b}
    - name: Skip something
      set_fact: {a: b}
      when: false
    - name: Say something
      debug: {msg: "  plain text,\\n  as it is"}
    - name: Say several things
      debug: {msg: "said of {{ item }}"}
      loop: [one, two]
    - name: Say a list
      debug: {msg: [first line, second line]}
    - name: Take long
      command: sleep {{ seconds | default(2.4) }}
      changed_when: false
    - name: Fail unimportantly
      fail: {msg: never mind}
      ignore_errors: true

- name: The play in which nothing happens
  hosts: localhost
  tasks:
    - name: Change nothing again
      set_fact: {a: b}
"""

FAILING = """
- name: The play that fails
  hosts: localhost
  tasks:
    - name: Check the variable
      fail: {msg: "port is 99999.\\nRemedy: a port below 65536."}
      when: reason == "message"
    - name: Run the program
      command: sh -c "echo on stdout; echo on stderr >&2; exit 3"
      when: reason == "program"
    - name: Run a module without its Python
      ping:
      vars: {ansible_python_interpreter: /nowhere/python}
      when: reason == "interpreter"
    - name: Run all of them
      command: sh -c "echo number {{ item }} >&2; exit {{ item }}"
      loop: [0, 7]
      when: reason == "loop"
    - name: Refuse some of them
      fail: {msg: "{{ item }} is missing.\\nRemedy: make it."}
      loop: [there, gone, there too]
      when: reason == "items" and item == "gone"
    - name: Refuse with a list
      fail: {msg: [first reason, second reason]}
      when: reason == "list"
    - name: Ignore what fails
      command: sh -c "echo ignored >&2; exit {{ item }}"
      loop: [0, 7]
      ignore_errors: true
      when: reason == "ignored"
    - name: Fail after it
      fail: {msg: the reason}
      when: reason == "ignored"
    - name: Say nothing that may be seen
      command: sh -c "echo secret >&2; exit 3"
      no_log: true
      when: reason == "censored"
"""


@pytest.fixture(scope="module")
def playbook(run, tmp_path_factory):
    """Return a function that runs a playbook, given as text, in a pipe or by another runner."""

    def call(text, *arguments, run=run, **env):
        path = tmp_path_factory.mktemp("playbook") / "playbook.yml"
        path.write_text(text)
        command = ["ansible-playbook", path, "-i", "localhost,", "-c", "local"]
        env = {"POSTDO_QUIET": "false", "ANSIBLE_PYTHON_INTERPRETER": sys.executable, **env}
        return run(*command, "-e", "ansible_become=no", *arguments, env=env)

    return call


@pytest.fixture(scope="module")
def output(playbook):
    """Return what the playbook that works printed in a pipe, its long tasks telling each second."""
    answer = playbook(PLAYBOOK, POSTDO_NOTICE_SECONDS="1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_a_change_is_a_line_with_its_duration_below_the_name_of_its_play(output):
    lines = output.splitlines()
    assert [line for line in lines if re.fullmatch(r"  changed  Change something  \d+\.\d s", line)]
    assert lines.count("The play that works") == 1
    first = next(number for number, line in enumerate(lines) if line.startswith("  changed "))
    assert "The play that works" in lines[:first]


def test_what_changed_nothing_is_hidden_unless_it_took_long(output):
    for hidden in ("Change nothing", "Skip something", "The play in which nothing", "Say"):
        assert hidden not in output
    assert re.search(r"^  ok       Take long  \d+\.\d s$", output, re.MULTILINE)


def test_an_ignored_failure_is_hidden(output):
    assert "unimportantly" not in output


def test_the_text_of_a_debug_task_is_plain(output):
    for text in ("  plain text,\n  as it is\n", "said of one\nsaid of two\n"):
        assert text in output
    assert "first line\nsecond line\n" in output
    assert "All items completed" not in output


def test_a_long_task_announces_itself_in_a_pipe_before_it_ends(output):
    assert re.findall(r"^  … Take long  (\d) s$", output, re.MULTILINE)[:2] == ["1", "2"]
    assert output.index("… Take long  2 s") < output.index("ok       Take long")
    assert "\x1b" not in output
    assert "\r" not in output


def test_the_recap_counts_the_changes_of_each_host(output):
    recap = output[output.index("PLAY RECAP") :].splitlines()
    assert re.fullmatch(r"PLAY RECAP  \d+ tasks in \d+\.\d s", recap[0])
    assert recap[1] == "localhost : ok=8 changed=1 unreachable=0 failed=0 skipped=1"


def test_every_line_of_a_pipe_arrives_when_it_is_written(playbook):
    times = {}

    def live(*command, env, **_options):
        path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "PATH": path, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout:
            times[line.strip().split("  ")[0]] = time.monotonic()
        return process.wait()

    text = "- hosts: localhost\n  tasks:\n    - debug: {msg: early}\n"
    text += "    - command: sleep 1.5\n    - debug: {msg: late}\n"
    assert playbook(text, run=live) == 0
    assert times["late"] - times["early"] > 1.4


@pytest.mark.parametrize(
    ("reason", "task", "told"),
    [
        ("message", "Check the variable", ["port is 99999.", "Remedy: a port below 65536."]),
        ("program", "Run the program", ["on stderr"]),
        ("loop", "Run all of them", ["number 7"]),
        ("items", "Refuse some of them", ["gone is missing.", "Remedy: make it."]),
        ("list", "Refuse with a list", ["first reason", "second reason"]),
        ("ignored", "Fail after it", ["the reason"]),
        ("censored", "Say nothing that may be seen", [".*no_log.*"]),
        ("interpreter", "Run a module without its Python", [r"(\| )?.*/nowhere/python.*"]),
    ],
)
def test_a_failure_is_told_in_plain_lines(playbook, reason, task, told):
    answer = playbook(FAILING, "-e", json.dumps({"reason": reason}))
    assert answer.returncode == 2
    assert re.search(rf"^  failed   {task}  \d+\.\d s$", answer.stdout, re.MULTILINE)
    for line in told:
        assert re.search(rf"^           {line}$", answer.stdout, re.MULTILINE), answer.stdout
    assert "number 0" not in answer.stdout
    assert "non-zero return code" not in answer.stdout  # the program's own words say more
    for hidden in ("{", "['", "there too", "ignored", "secret"):
        assert hidden not in answer.stdout
    assert "failed=1" in answer.stdout


def test_quiet_prints_the_text_of_debug_tasks_and_nothing_else(playbook):
    answer = playbook(PLAYBOOK, "-e", "seconds=1.5", POSTDO_QUIET="true", POSTDO_NOTICE_SECONDS="1")
    assert answer.stdout == (
        "  plain text,\n  as it is\nsaid of one\nsaid of two\nfirst line\nsecond line\n"
    )


def test_quiet_still_tells_of_a_failure(playbook):
    answer = playbook(FAILING, "-e", "reason=message", POSTDO_QUIET="true")
    assert "Remedy: a port below 65536." in answer.stdout


def test_with_v_the_output_is_the_default_one(playbook):
    answer = playbook(PLAYBOOK, "-v", "-e", "seconds=0")
    for text in (
        "TASK [Change nothing]",
        "ok: [localhost]",
        "skipping: [localhost]",
        "...ignoring",
    ):
        assert text in answer.stdout
    assert "  changed  " not in answer.stdout
    assert re.search("^localhost +: ok=8 +changed=1 ", answer.stdout, re.MULTILINE)


def test_in_a_terminal_the_running_task_is_shown_with_its_seconds(playbook):
    seen = bytearray()

    def terminal(*command, env, **_options):
        """Run a command in a pseudo-terminal of its own; keep what it shows."""
        ours, theirs = pty.openpty()
        path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "TERM": "xterm", "PATH": path, **env},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        with contextlib.suppress(OSError):  # how Linux says that nobody has the terminal open
            while part := os.read(ours, 65536):
                seen.extend(part)
        os.close(ours)
        return process.wait()

    assert playbook(PLAYBOOK, run=terminal) == 0
    shown = seen.decode()
    assert re.findall(r"\r\x1b\[K  … Take long  (\d) s", shown)[0] == "1"
    assert "  … Take long  2 s" in shown
    assert "… Change something" not in shown
    # The line is wiped before the next one: it does not stay on the screen.
    before, _found, _after = shown.partition("ok       Take long")
    assert before.rindex("\r\x1b[K") > before.rindex("… Take long")
