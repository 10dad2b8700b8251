"""What is promised in two places agrees: specs and defaults, inventories and roles, both READMEs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
# Roles that others call, with arguments.
CALLED = ("image", "program", "service")
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
# Those that come with the project; a copy is its owner's.
INVENTORIES = ["dev", "prod"]
LOCKS = sorted(
    path.relative_to(REPOSITORY)
    for pattern in (
        "*requirements*.txt",
        "app/*requirements*.txt",
        "roles/**/*requirements*.txt",
        "molecule/*/*requirements*.txt",
    )
    for path in REPOSITORY.glob(pattern)
)

# Hosts of registries; whoever mirrors them must not meet their names. The backslashes keep this
# list from finding itself.
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|deb\.debian\.org|security\.debian\.org|debian\.org/debian"
    r"|npmjs\.(?:org|com)|docker\.io/|(?:hub|download)\.docker\.com"
    r"|ghcr\.io|quay\.io|gcr\.io|galaxy\.ansible\.com"
)

# Directories that any machine may have at its root; another one is this machine's own.
STANDARD = {"bin", "dev", "etc", "home", "lib", "media", "mnt", "opt", "proc", "root", "run"}
STANDARD |= {"sbin", "srv", "sys", "tmp", "usr", "var"}


def read(path):
    """Return what a YAML file says; an empty or missing one says nothing."""
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def entry_points(role):
    """Return the argument specs of a role by entry point."""
    return read(REPOSITORY / "roles" / role / "meta/argument_specs.yml")["argument_specs"]


def options(role):
    """Return the options of a role's main entry point, or of its first where it has no main."""
    points = entry_points(role)
    return points.get("main", next(iter(points.values())))["options"]


def defaults(role):
    """Return a role's default variables."""
    return read(REPOSITORY / "roles" / role / "defaults/main.yml")


def project_files():
    """Return every file that is tracked by git, or would be; of an unpacked archive, all of it."""
    if not (REPOSITORY / ".git").exists():
        places = (path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*") if path.is_file())
        return [
            path
            for path in places
            if not {".venv", ".venv-app", ".cache", "secrets"} & {*path.parts}
        ]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True)
    files = [Path(name) for name in listing.stdout.split("\0") if name]
    return [name for name in files if (REPOSITORY / name).is_file()]


def assert_none(found):
    """Fail with what was found, a line each; pytest alone would cut a list short."""
    found = sorted(found)
    assert not found, "\n" + "\n".join(found)


def findings(pattern):
    """Return "file:line: match" wherever a pattern occurs in the project."""
    return [
        f"{name}:{number}: {match.group()}"
        for name in project_files()
        for number, line in enumerate(
            (REPOSITORY / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        for match in pattern.finditer(line)
    ]


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_an_option_with_the_same_default(role):
    undocumented = set(defaults(role)) - set(options(role))
    assert_none(undocumented)
    different = {
        name: {"defaults": value, "argument_specs": options(role)[name].get("default")}
        for name, value in defaults(role).items()
        if options(role)[name].get("default") != value
        or type(options(role)[name].get("default")) is not type(value)
    }
    assert different == {}


@pytest.mark.parametrize("role", ROLES)
def test_every_option_has_a_default_is_required_or_says_what_undefined_means(role):
    wrong = []
    for name, option in options(role).items():
        if option.get("required"):
            if name in defaults(role) or "default" in option:
                wrong.append(f"{name} is required and has a default")
        elif "default" in option:
            if name not in defaults(role):
                wrong.append(f"{name} has a default in the specs alone")
        elif "undefined" not in str(option["description"]).lower():
            wrong.append(f"{name} does not say what it means that it is undefined")
    assert_none(wrong)


@pytest.mark.parametrize("role", ROLES)
def test_every_option_says_what_it_is_and_of_what_type(role):
    vague = [
        f"{point}: {name}"
        for point, spec in entry_points(role).items()
        for name, option in spec["options"].items()
        if not option.get("description") or not option.get("type")
    ]
    assert_none(vague)


@pytest.mark.parametrize("role", ROLES)
def test_every_password_and_key_is_kept_out_of_the_output(role):
    secret = re.compile(r"(?<!secrets)_(password|secret|token|key|private_key|secret_key)$")
    shown = [
        name
        for name, option in options(role).items()
        if secret.search(name) and option.get("no_log") is not True
    ]
    # A server's public keys.
    assert_none({*shown} - {"backup_sftp_host_key"})


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_begins_with_the_name_of_the_role(role):
    # One folder of archives serves every role that makes an image, so it carries no role's name.
    own = re.compile(rf"(__)?{role}_|images_archive$")
    variables = {*defaults(role), *options(role), *read(REPOSITORY / f"roles/{role}/vars/main.yml")}
    assert_none(name for name in variables if not own.match(name))


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_an_inventory_is_two_files_of_25_lines_at_most_that_say_what_differs(inventory):
    """Hosts, and options of the roles; how Ansible reaches a host is nobody's option."""
    folder = REPOSITORY / "inventories" / inventory
    files = [folder / "hosts.yml", folder / "group_vars/all/main.yml"]
    assert {path for path in folder.rglob("*.yml") if "vault" not in path.name} == {*files}
    lines = [line for path in files for line in path.read_text().splitlines()]
    assert len([line for line in lines if line.strip() and not line.startswith("#")]) <= 25
    variables = {name for name in read(files[1]) if not name.startswith("ansible_")}
    known = {name for role in ROLES for name in options(role)}
    assert_none(variables - known)


def made(role):
    """Yield the names that a role's tasks make: registered ones, facts, variables of a task, and arguments of a role."""
    for folder in ("tasks", "handlers"):
        for path in (REPOSITORY / "roles" / role / folder).glob("*.yml"):
            for task in dictionaries(read(path)):
                yield from {task["register"]} if "register" in task else ()
                yield from task.get("vars", ())
                yield from task.get("ansible.builtin.set_fact", ())


def dictionaries(part):
    """Yield every dictionary in what a file of YAML says."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict):
        yield part
    for one in inner:
        yield from dictionaries(one)


@pytest.mark.parametrize("role", ROLES)
def test_every_name_that_a_task_makes_is_the_roles_own_or_shared_on_purpose(role):
    """Its own has two underscores before it. What others may know begins with stack_, and arguments with their role."""
    called = {
        name
        for other in CALLED
        for point in entry_points(other).values()
        for name in point["options"]
    }
    own = re.compile(rf"__{role}_|stack_")
    assert_none(name for name in set(made(role)) - called if not own.match(name))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reads_the_variables_of_another(role):
    others = {name for other in ROLES if other != role for name in defaults(other)}
    for other in set(ROLES) - {role}:
        others |= {*read(REPOSITORY / f"roles/{other}/vars/main.yml"), *made(other)}
    others -= {name for name in others if name.startswith((f"{role}_", f"__{role}_"))}
    # Some roles are called with arguments; the stack's variables are there for all.
    called = {
        name
        for other in CALLED
        for point in entry_points(other).values()
        for name in point["options"]
    }
    others = {name for name in others - called if not name.startswith(("images_", "stack_"))}
    word = re.compile(r"\b(?:" + "|".join(sorted(others, key=len, reverse=True)) + r")\b")
    files = [
        path
        for folder in ("tasks", "handlers", "vars", "defaults", "templates")
        for path in (REPOSITORY / "roles" / role / folder).rglob("*")
        if path.is_file()
    ]
    assert files
    reads = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in files
        for line in path.read_text().splitlines()
        if not line.lstrip().startswith("#")
        for name in word.findall(line)
    }
    assert_none(reads)


def test_what_a_container_may_do_is_said_where_containers_are_made():
    """By the role for services and for work that ends, and by one function for the programs on the hosts."""
    said = re.compile(r"no-new-privileges|cap_drop|cap-drop")
    places = {line.split(":")[0] for line in findings(said) if line.startswith("roles/")}
    tasks = {f"roles/service/tasks/{name}.yml" for name in ("run", "once")}
    assert places == {*tasks, "roles/program/files/library/postdo_host/containers.py"}
    made = re.compile(r"""["']docker["'], ["'](run|create)["']""")
    assert_none(line for line in findings(made) if line.startswith("roles/"))


@pytest.mark.parametrize("name", ["README", "docs/migrations", "docs/the-day-it-happened"])
def test_both_languages_have_the_same_headings_and_the_same_code(name):
    """What code says to people is translated too: comments, reasons, names of steps."""
    fence = re.compile(r"^( *)(`{3,}|~{3,})(.*)\n((?:.*\n)*?)\1\2[ ]*$", re.MULTILINE)
    words = re.compile(r"(?<= )# .*|(?<=reason = ).*|(?<= name: )[A-Z].*")
    files = (REPOSITORY / f"{name}{language}.md" for language in ("", ".pt-BR"))
    texts = [file.read_text("utf-8") for file in files]
    code = [
        [(kind.strip(), words.sub("", body)) for _, _, kind, body in fence.findall(text)]
        for text in texts
    ]
    levels = [re.findall(r"^(#{1,6}) ", fence.sub("", text), re.MULTILINE) for text in texts]
    assert levels[0] == levels[1]
    assert levels[0]
    assert code[0] == code[1]
    assert code[0]


@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_the_readme_gives_the_defaults_of_the_roles(name):
    """Where a cell has nothing but values; others say in words what a default follows from."""
    known = {variable: value for role in ROLES for variable, value in defaults(role).items()}
    words = {"empty": "", "vazio": "", "vazia": ""}
    wrong, right = [], 0
    row = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
    for cells in row.finditer((REPOSITORY / name).read_text("utf-8")):
        variables = re.findall(r"`(\w+)`", cells[1])
        given = [words.get(value, value.strip("`")) for value in cells[2].split(", ")]
        if len(given) != len(variables) or not {*variables} <= {*known}:
            continue
        for variable, value in zip(variables, given, strict=True):
            default = known[variable]
            plain = isinstance(default, (str, int)) and "{{" not in str(default)
            text = str(default).lower() if isinstance(default, bool) else str(default)
            if plain and text != value:
                wrong.append(f"{variable} is {default!r}, and said to be {value!r}")
            right += plain
    assert_none(wrong)
    assert right > 50


def test_no_file_names_the_host_of_a_registry():
    assert_none(findings(REGISTRIES))


def test_no_file_names_a_place_of_one_machine():
    places = [re.escape(str(REPOSITORY)) + r"\b", r"(?<![\w.}/])/(?:home|Users)/\w"]
    top = REPOSITORY.parts[1]
    if top not in STANDARD:
        places.append(rf"(?<![\w.}}/*-])/{re.escape(top)}/")
    assert_none(findings(re.compile("|".join(places))))


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_every_requirement_of_a_lock_is_pinned_and_hashed(lock):
    text = re.sub(r"\\\n", " ", (REPOSITORY / lock).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    requirements = [line for line in lines if not line.startswith("#")]
    assert requirements
    loose = [line for line in requirements if not re.match(r"[\w.\[\]-]+==[\w.!+]+[ ;]", line)]
    assert_none(loose)
    assert_none([line for line in requirements if "--hash=sha256:" not in line])


def test_the_lock_of_the_application_is_the_same_for_every_python():
    lines = (REPOSITORY / "app/requirements.txt").read_text().splitlines()
    assert_none([line for line in lines if "python_" in line.partition(";")[2]])


def test_secrets_are_ignored_by_git_in_every_inventory(run):
    inventories = [path.name for path in (REPOSITORY / "inventories").iterdir() if path.is_dir()]
    assert inventories
    assert "/inventories/*/secrets/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    if not (REPOSITORY / ".git").exists():  # an unpacked archive
        return
    for name in [*inventories, "an-inventory-made-tomorrow"]:
        answer = run("git", "check-ignore", f"inventories/{name}/secrets/postgres_password")
        assert answer.returncode == 0, name
    assert run("git", "ls-files", "inventories/*/secrets").stdout == ""
