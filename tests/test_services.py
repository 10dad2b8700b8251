"""A service is a role and a line: one that the project has never seen is added to a copy of it by exactly that."""

import json
import runpy
import shutil
import uuid
from pathlib import Path

import pytest
import yaml
from server import docker

REPOSITORY = Path(__file__).resolve().parent.parent
LIST = "roles/stack/vars/main.yml"
SERVICES = yaml.safe_load((REPOSITORY / LIST).read_text())["stack_services"]
LAST = "  - {role: pgadmin, group: pgadmin}\n"
PORT = 28999


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service["role"])
def test_a_service_has_the_entry_points_that_are_called(service):
    role = REPOSITORY / "roles" / service["role"]
    for point in ("interface", "preflight", "main"):
        assert (role / f"tasks/{point}.yml").exists()
    # The site checks the arguments once, at preflight.
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    assert specs["preflight"]["options"] == specs["main"]["options"]


# -- which images are made, and in which order --------------------------------------------------

PRODUCTION = {
    "base": {"reference": "base:1", "runs": False},
    "proxy": {"reference": "proxy:1", "base": "base"},
    "runtime": {"reference": "runtime:1", "base": "base", "runs": False},
    "application": {"reference": "application:1", "base": "runtime"},
}
MAKE = runpy.run_path(str(REPOSITORY / "plugins/filter/images_to_make.py"))["images_to_make"]
APPLICATION = PRODUCTION["application"]["reference"]


@pytest.mark.parametrize(
    ("images", "present", "steps"),
    [
        (PRODUCTION, [], [["base"], ["runtime", "proxy"], ["application"]]),
        (PRODUCTION, ["base:1", "runtime:1"], [["proxy", "application"]]),
        # A release that is here needs nothing of what it was made on.
        (PRODUCTION, [APPLICATION], [["base"], ["proxy"]]),
        (PRODUCTION, [APPLICATION, "proxy:1"], []),
        # In development containers run the runtime itself, and nobody waits for pgAdmin.
        (
            {
                "pgadmin": {"reference": "pgadmin:1", "awaited": False},
                "runtime": {"reference": "runtime:1"},
            },
            [],
            [["runtime", "pgadmin"]],
        ),
    ],
)
def test_only_what_is_needed_is_made_and_what_others_wait_for_first(images, present, steps):
    assert MAKE(images, present) == steps


def test_an_archive_gets_what_is_only_built_on_too():
    assert MAKE(PRODUCTION, [APPLICATION, "proxy:1"], everything=True) == [["base"], ["runtime"]]


# -- a service more -----------------------------------------------------------------------------


@pytest.fixture
def play(run, tmp_path):
    """Yield a function that runs a playbook of a copy of the project with the toy in it, in which nothing else runs."""
    project, inventory = tmp_path / "project", tmp_path / f"toy{uuid.uuid4().hex[:8]}"
    ignored = shutil.ignore_patterns(".*", "secrets", "vault.yml", "__pycache__")
    shutil.copytree(REPOSITORY, project, ignore=ignored)
    # The directory, and the line.
    shutil.copytree(REPOSITORY / "tests/toy", project / "roles/toy")
    said = (project / LIST).read_text()
    assert said.count(LAST) == 1
    (project / LIST).write_text(said.replace(LAST, f"{LAST}  - {{role: toy, group: toy}}\n"))
    # The images' base is development's, which is there.
    main = "group_vars/all/main.yml"
    variables = yaml.safe_load((REPOSITORY / "inventories/dev" / main).read_text())
    (inventory / "group_vars/all").mkdir(parents=True)
    (inventory / main).write_text(yaml.safe_dump({**variables, "toy_port": PORT}))
    (inventory / "hosts.yml").write_text("toy: {hosts: {localhost: }}\n")

    def call(book, *words):
        return run(
            *("ansible-playbook", book, "-i", inventory, *words),
            cwd=project,
            env={"ANSIBLE_CONFIG": str(project / "ansible.cfg")},
            timeout=300,
        )

    call.prefix, call.report = f"postdo-{inventory.name}", tmp_path / "images.json"
    yield call
    call("playbooks/teardown.yml", "-e", "teardown_data=true", "-e", "teardown_backups=true")
    docker("rmi", *json.loads(call.report.read_text())["toy"].split(), check=False)


def succeed(answer):
    """Return what a playbook printed, which must have done its work."""
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_a_new_service_is_run_shown_stopped_started_and_removed_like_the_others(play, run):
    toy = f"{play.prefix}-toy"
    refused = play("site.yml", "-e", "toy_port=0")
    assert "toy_port is '0': give a port from 1 to 65535." in refused.stdout
    assert "Did you mean toy_port?" in play("site.yml", "-e", "toy_prot=1").stdout
    succeed(play("playbooks/images.yml", "-e", f"images_report={play.report}"))
    assert "/toy:" in json.loads(play.report.read_text())["toy"]

    succeed(play("site.yml"))
    assert docker("exec", toy, "healthcheck").returncode == 0
    assert "127.0.0.1:28999" in docker("port", toy).stdout
    again = succeed(play("site.yml"))
    assert "changed=0" in again
    assert f"\n  {toy} " in succeed(play("playbooks/status.yml"))
    assert "GET / HTTP/1.1" in succeed(play("playbooks/logs.yml", "-e", "logs_service=toy"))

    control = f"/usr/local/sbin/{play.prefix}"
    assert run(control, "stop").returncode == 0
    ill = play("playbooks/status.yml")
    assert ill.returncode != 0
    assert f"{toy} is not healthy." in ill.stdout
    assert run(control, "start").returncode == 0
    succeed(play("playbooks/status.yml"))

    succeed(play("playbooks/teardown.yml"))
    left = docker("ps", "--all", "--quiet", f"--filter=label=postdo.stack={play.prefix}").stdout
    assert left == ""
    assert docker("volume", "inspect", f"{toy}-data").returncode == 0
