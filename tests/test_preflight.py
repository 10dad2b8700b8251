"""What a run refuses before it changes anything: the play's own look, at the real inventory."""

import json
import re

import pytest


@pytest.fixture(scope="module")
def look(run, repository):
    """Return a function that lets production be looked at with some variables; it returns what was refused."""

    def call(**variables):
        variables = {"stack_environment": "preflight", "proxy_http_port": 47680, **variables}
        done = run(
            *("ansible-playbook", "site.yml", "-i", "inventories/prod", "--tags", "always"),
            *("-e", json.dumps(variables)),
            env={"ANSIBLE_CONFIG": str(repository / "ansible.cfg")},
            timeout=300,
        )
        assert "changed=0" in done.stdout, done.stdout + done.stderr
        # As long as nothing is refused, nothing is said.
        return " ".join(done.stdout.split()) if done.returncode else ""

    return call


SITE = {
    "proxy_domain": "www.site.test",
    "proxy_redirect_domains": ["site.test"],
    "proxy_https_port": 47643,
}


@pytest.mark.parametrize(
    ("hosts", "refused"),
    [
        (
            ["site.test", "localhost", "Shop.Other.test", ".other.test"],
            "shop.other.test, .other.test",
        ),
        (["127.0.0.1", "[::1]", "*", "web", "web.internal", ".site.test", "WWW.site.test."], ""),
    ],
)
def test_a_name_that_the_proxy_does_not_serve_is_refused(look, hosts, refused):
    """With a domain, where its visitors would meet a TLS error; names of the inside are nobody's."""
    said = look(**SITE, django_web_allowed_hosts=hosts)
    assert bool(said) == bool(refused), said
    if refused:
        assert f"has {refused}, where visitors would meet a TLS error" in said
        assert "proxy_redirect_domains" in said


def test_a_value_that_is_no_text_is_refused_in_the_environment(look):
    """YAML's `true` would arrive as True, which half of all settings read as false."""
    given = {"TEXT": "true", "NUMBER": 1.5, "NOTHING": None, "FLAG": True, "LIST": ["a"], "MAP": {}}
    said = look(django_web_environment=given)
    assert "has a value that is no text for FLAG, LIST, MAP, and" in said


def test_a_variable_that_no_shell_could_hand_on_is_refused_in_the_environment(look):
    """The container's first command is a shell script, which drops a name that is none."""
    names = ["", "a=b", "a-b", "a b", "9A", "é", "A\n"]
    said = look(django_web_environment=dict.fromkeys([*names, "_a9", "Ab"], "1"))
    assert 'has the names "", "a=b", "a-b", "a b", "9A", "é", "A\\n":' in said
    assert "a value with a NUL byte" in look(django_web_environment={"A": "a\0b"})


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({"django_web_workers": 11, "django_web_allowed_hosts": ["site.test"]}, ""),
        (
            {"django_web_environment": {"GUNICORN_WORKERS": "12"}},
            "need 99 connections .* leaves it 97: .* django_web_workers to 11 or",
        ),
        ({"django_web_workers": 12, "postgres_settings": {"max_connections": "102"}}, ""),
        ({"postgres_max_connections": 8}, "django_web_workers is 0, .* Lower django_web_threads"),
        (
            {
                "django_web_workers": 99,
                "django_web_processes": [{"name": "web", "command": ["serve"]}],
            },
            "",
        ),
    ],
)
def test_more_connections_than_the_database_has_are_refused(look, variables, refused):
    """Two releases' while one replaces the other; of a command of one's own nobody knows how many."""
    said = look(**variables)
    assert bool(said) == bool(refused), said
    assert re.search(refused, said)


def test_a_process_is_not_named_like_another_container_of_the_environment(look):
    """The programs remove what has the name of a copy of theirs."""
    command = ["python", "manage.py", "work"]

    def named(name):
        return look(django_web_processes=[{"name": "web"}, {"name": name, "command": command}])

    assert "django_web_processes names web, rehearsal: it needs" in named("rehearsal")
    assert named("rehearsals") == ""
