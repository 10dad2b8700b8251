"""The role that runs every container: what is equal, running and well is left alone, and what differs is made anew."""

import json

import pytest

SPEC = {
    "container": "test-x-shop",
    "image": "test/shop:1",
    "user": "4711:4711",
    "memory_mib": 64,
    "pids_limit": 16,
    "cpu_shares": 512,
    "networks": ["test-x-edge"],
    "environment": {"A": "1"},
}
SECRETS = {"name": "shop", "uid": 4711, "files": {"password": "correct horse"}}

# The role's own view of a container. Nothing is made: a service without a start_timeout is not waited for.
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  become: false
  roles: [stack]
  tasks:
    - include_role: {name: service, tasks_from: wait, public: true}
    - copy:
        content: >-
          {{ {'hash': __service_hash, 'stands': __service_stands, 'wanted': __service_wanted, 'handed': __service_handed}
          | to_json }}
        dest: "{{ told }}"
        mode: "0600"
"""


@pytest.fixture
def ask(run, repository, tmp_path):
    """Return a function of (spec, secrets, what the host has) that returns what the role makes of it."""

    def call(spec=None, secrets=None, container=None, had=None, **variables):
        (tmp_path / "play.yml").write_text(PLAY)
        facts = {
            "containers": {"test-x-shop": container} if container else {},
            "secrets": {"/etc/test/x/secrets/shop": had or {}},
        }
        variables |= {
            "stack_name": "test",
            "stack_environment": "x",
            "stack_secrets_directory": str(tmp_path / "secrets"),
            "stack_facts": facts,
            "service_spec": {**SPEC, **(spec or {})},
            "service_secrets": SECRETS if secrets is None else secrets,
            "told": str(tmp_path / "told.json"),
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        done = run(
            *("ansible-playbook", tmp_path / "play.yml", "-i", "localhost,"),
            *("-e", json.dumps(variables)),
            env={"ANSIBLE_CONFIG": str(repository / "ansible.cfg")},
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((tmp_path / "told.json").read_text())

    return call


def secret(text, **more):
    """Return the service's secrets with another password."""
    return {**SECRETS, "files": {"password": text}, **more}


def test_a_container_stands_while_it_is_equal_and_runs(ask):
    known = {"labels": {"postdo.spec": ask()["hash"]}, "status": "running", "health": "healthy"}
    assert ask(container=known)["stands"]
    assert not ask(container={**known, "status": "exited"})["stands"]
    assert not ask(container={**known, "labels": {}})["stands"]
    assert not ask()["stands"]


def test_whatever_it_is_made_of_and_each_secret_makes_it_another(ask):
    """But for a secret that is read again when it is needed."""
    changes = [{"image": "test/shop:2"}, {"environment": {"A": "2"}}, {"memory_mib": 65}]
    hashes = [ask()["hash"], *(ask(change)["hash"] for change in changes)]
    hashes.append(ask(secrets=secret("battery staple"))["hash"])
    assert len({*hashes}) == len(hashes)
    later = [ask(secrets=secret(text, at_start=False))["hash"] for text in ("one", "two")]
    assert later[0] == later[1]


def test_what_the_host_has_of_the_secrets_is_compared_by_digests(ask):
    wanted = ask()["wanted"]
    assert wanted[""] == "4711 500"
    assert "correct" not in json.dumps(wanted)
    assert ask(had=wanted)["handed"]
    assert not ask(had={**wanted, "password": "0" * 32})["handed"]
    assert not ask(had={**wanted, "": "4711 700"})["handed"]
    more = {**wanted, "older": "0" * 32}
    assert not ask(had=more)["handed"]
    assert ask(had=more, secrets=secret("correct horse", prune=False))["handed"]


def test_the_digests_of_a_host_are_those_of_the_role(ask, module, tmp_path):
    """Where both have the key; without it, none are told."""
    wanted = ask()["wanted"]
    key = (tmp_path / "secrets/spec_key").read_text().strip()
    module("secret_directory", path=str(tmp_path / "host/shop"), uid=4711, files=SECRETS["files"])
    options = {"name": "test", "prefix": "test-x", "secrets": str(tmp_path / "host")}
    facts = module("stack_facts", key=key, **options)["ansible_facts"]["stack_facts"]
    assert facts["secrets"] == {str(tmp_path / "host/shop"): wanted}
    facts = module("stack_facts", **options)["ansible_facts"]["stack_facts"]
    assert facts["secrets"] == {}
