"""What an inventory may say: every option of every role, two files of it, and nothing that this project says itself."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent

# Of lines like these an inventory had 76 before the project said them itself.
EARLIER = """\
---
stack_name: postdo
stack_prefix: "{{ stack_name }}-{{ stack_environment }}"
stack_files:
  - /etc/docker/daemon.json
stack_front: {}
stack_database: {host: shop-db, port: 5432, name: shop, user: shop}
"""


@pytest.fixture
def inventory(tmp_path):
    """Return a copy of production's inventory, called staging."""
    copy = tmp_path / "staging"
    ignored = shutil.ignore_patterns("secrets", "vault.yml")
    shutil.copytree(REPOSITORY / "inventories/prod", copy, ignore=ignored)
    return copy


@pytest.fixture
def look(run):
    """Return a function that lets site.yml, or an operation, look at an inventory's host."""

    def call(inventory, *words, book="site.yml", **env):
        return run(
            *("ansible-playbook", book, "-i", inventory, *words),
            env={"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), **env},
            timeout=300,
        )

    return call


def test_an_inventory_of_an_earlier_day_is_refused_with_the_lines_to_remove(look, inventory):
    (inventory / "group_vars/all/stack.yml").write_text(EARLIER)
    answer = look(inventory, "--tags", "always")
    assert answer.returncode != 0
    told = [line.strip() for line in answer.stdout.splitlines() if "is no variable" in line]
    place = f"{inventory}/group_vars/all/stack.yml"
    now = "Did you mean stack_database_name and stack_database_user?"
    assert told == [
        f"stack_database is no variable of this project ({place}:7). {now}",
        f"stack_files is no variable of this project ({place}:4). Remove it there.",
        f"stack_front is no variable of this project ({place}:6). Remove it there.",
        f"stack_prefix is no variable of this project ({place}:3). Remove it there.",
    ]
    assert "changed=0" in answer.stdout


def test_a_mistyped_variable_is_refused_with_the_nearest_name(look, inventory):
    """In a file or with -e; names of one's own are free."""
    own = {"vault_postgres": "x", "shop_port": 1, "ansible_user": "me", "djangoweb_x": 1}
    with (inventory / "group_vars/all/main.yml").open("a") as file:
        file.write(f"django_web_prot: 8010\n{yaml.safe_dump(own)}")
    answer = look(inventory, "--tags", "always", "-e", "backup_enable=true __proxy_tls=true")
    assert answer.returncode != 0
    told = [line.strip() for line in answer.stdout.splitlines() if "is no variable" in line]
    assert [line.partition(" ")[0] for line in told] == [
        "__proxy_tls",
        "backup_enable",
        "django_web_prot",
    ]
    assert told[0].endswith("(with -e, or in a vault). Remove it there.")
    assert told[1].endswith("(with -e, or in a vault). Did you mean backup_enabled?")
    assert f"{inventory}/group_vars/all/main.yml:" in told[2]
    assert told[2].endswith("Did you mean django_web_port?")


def options():
    """Return the options of all roles that are for users, and are no secret, with their specs."""
    roles = {
        "stack",
        "docker",
        "base_image",
        "postgres",
        "django_web",
        "proxy",
        "pgadmin",
        "backup",
    }
    found = {}
    for role in (*sorted(roles), "boot"):
        specs = yaml.safe_load((REPOSITORY / f"roles/{role}/meta/argument_specs.yml").read_text())
        point = next(iter(specs["argument_specs"].values()))
        found |= {name: one for name, one in point["options"].items() if not one.get("no_log")}
    return found


def other(option):
    """Return a value that an option may have, and that is not its default."""
    if option["type"] == "list":
        whole = option.get("elements") == "dict"
        return [{"name": "web", "path": "/other"}] if whole else ["a.test"]
    texts = {one for one in option.get("choices", ["4321"]) if one != option.get("default")}
    values = {"bool": option.get("default") is not True, "int": 4321, "dict": {"other": "value"}}
    return values.get(option["type"], min(texts))


@pytest.mark.parametrize("book", ["site.yml", "playbooks/status.yml"])
def test_what_an_inventory_says_is_what_the_roles_read(look, inventory, tmp_path, book):
    """Nothing of the project's is stronger, whichever playbook is called: Ansible reads group_vars beside it as well."""
    given = {name: other(option) for name, option in options().items()}
    assert len(given) > 100
    (inventory / "group_vars/all/main.yml").write_text(
        yaml.safe_dump({**given, "ansible_connection": "local"})
        + 'ansible_python_interpreter: "{{ ansible_playbook_python }}"\n'
    )
    told = tmp_path / "told.json"
    look(
        inventory,
        book=book,
        ANSIBLE_CALLBACK_PLUGINS=f"{REPOSITORY}/plugins/callback:{REPOSITORY}/tests/callback",
        ANSIBLE_CALLBACKS_ENABLED="told",
        TOLD_FILE=str(told),
        TOLD_NAMES=json.dumps(sorted(given)),
    )
    assert json.loads(told.read_text()) == given
