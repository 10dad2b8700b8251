"""What the application is told, and its own tests, in the image it runs in, over the project's own PostgreSQL."""

import json
import secrets
import subprocess
import sys

import pytest
from server import PASSWORD, Server, docker


@pytest.fixture
def server(image):
    """Yield a server that is prepared for the application's tests."""
    server = Server(image)
    try:
        server.start("-c", "fsync=off")
        server.prepare("--createdb")
        yield server
    finally:
        server.remove()


@pytest.fixture
def secret(tmp_path):
    """Return a directory with the application's secrets."""
    (tmp_path / "postgres_password").write_text(PASSWORD)
    (tmp_path / "django_secret_key").write_text(secrets.token_urlsafe(48))
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    return tmp_path


def test_the_applications_own_tests_pass_in_its_image_on_the_projects_postgresql(
    server, secret, images, repository
):
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_DEBUG": "true",
        "DJANGO_ENVIRONMENT": "test",
        "DJANGO_SERVED_BY": "container",
        "DJANGO_PUBLIC_URL": "http://127.0.0.1:8000",
        "DJANGO_STATIC_ROOT": "/tmp/static",
        "DJANGO_MEDIA_ROOT": "/tmp/media",
        "DJANGO_SECRET_KEY_FILE": "/run/secrets/django_secret_key",
        "DATABASE_HOST": server.name,
        "DATABASE_NAME": "app",
        "DATABASE_USER": "app",
        "DATABASE_PASSWORD_FILE": "/run/secrets/postgres_password",
    }
    tests = docker(
        *(
            "run",
            "--rm",
            "--network",
            server.name,
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
        ),
        *("--volume", f"{repository / 'app'}:/app:ro", "--volume", f"{secret}:/run/secrets:ro"),
        *(word for key, value in environment.items() for word in ("--env", f"{key}={value}")),
        *(images["runtime"], "python", "manage.py", "test", "--noinput"),
        check=False,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    # A run that found no test is no success.
    assert "Ran 0 tests" not in tests.stderr
    assert "\nOK" in tests.stderr


# -- what the application is told ---------------------------------------------------------------

# The role's own variables, as Ansible reads them; nothing is made or run.
TOLD = """
- hosts: web
  become: false
  gather_facts: false
  roles: [stack]
  tasks:
    - ansible.builtin.include_role: {name: django_web, tasks_from: source, public: true}
    - ansible.builtin.copy:
        content: "{{ {'container': __django_web_env, 'host': __django_web_host_env} | to_json }}"
        dest: "{{ said }}/told.json"
        mode: "0600"
    - ansible.builtin.template: {src: "{{ script }}", dest: "{{ said }}/manage", mode: "0700"}
"""


@pytest.fixture
def told(run, repository, tmp_path):
    """Return a function of (inventory, variables) that returns what the application is told there."""

    def call(inventory, **variables):
        (tmp_path / "playbook.yml").write_text(TOLD)
        variables = {
            "said": str(tmp_path),
            "script": str(repository / "roles/django_web/templates/host.j2"),
            "stack_images": {key: {"reference": "image:1"} for key in ("runtime", "application")},
            "stack_secrets_directory": str(tmp_path / "secrets"),
            "stack_facts": {},
            "stack_database_published": {"host": "127.0.0.1", "port": 5433},
            "stack_public_url": "http://127.0.0.1:8000",
            **variables,
        }
        answer = run(
            *("ansible-playbook", tmp_path / "playbook.yml", "-e", json.dumps(variables)),
            *("-i", repository / "inventories" / inventory),
            env={"ANSIBLE_CONFIG": str(repository / "ansible.cfg")},
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return json.loads((tmp_path / "told.json").read_text())

    return call


@pytest.mark.parametrize("inventory", ["dev", "prod"])
def test_a_variable_whose_value_is_empty_is_not_set(told, inventory):
    given = {"NOTHING": None, "EMPTY": "", "ZERO": 0, "DJANGO_TIME_ZONE": ""}
    own = {"django_web_environment": given, "django_web_allowed_hosts": []}
    environment = told(inventory, **own)["container"]
    assert [name for name, value in environment.items() if value in ("", None, "None")] == []
    absent = {"DJANGO_ALLOWED_HOSTS", "EMAIL_HOST", "EMAIL_USER", "EMAIL_FROM", *given}
    absent |= {"EMAIL_PASSWORD_FILE", "GUNICORN_WORKERS"}
    assert absent & {*environment} == {"ZERO"}
    assert environment["ZERO"] == "0"
    assert environment["DJANGO_SETTINGS_MODULE"] == "config.settings"


def test_what_has_a_value_is_set(told):
    mail = {"host": "mail.example", "user": "me", "from": "me@example.org"}
    given = {f"django_web_email_{name}": value for name, value in mail.items()}
    given["django_web_email_password"] = "correct horse"
    environments = told("prod", django_web_allowed_hosts=["a", "b"], django_web_workers=3, **given)
    for environment in environments.values():
        assert environment["DJANGO_ALLOWED_HOSTS"] == "a,b"
        assert [environment[f"EMAIL_{name.upper()}"] for name in mail] == [*mail.values()]
        assert environment["EMAIL_PASSWORD_FILE"].endswith("/email_password")
    assert environments["container"]["GUNICORN_WORKERS"] == "3"


def test_the_name_of_a_release_follows_from_what_is_set_and_from_nothing_else(told):
    def release(**own):
        return told("prod", django_web_environment=own)["container"]["DJANGO_RELEASE"]

    first = release(A="1", B="2")
    assert release(B="2", A="1", EMPTY="", NOTHING=None) == first
    assert release(A="1", B="3") != first


def test_on_the_host_what_is_empty_is_not_taken_from_the_callers_shell(told, tmp_path):
    """The script runs the project's manage.py: here one that prints what it is told."""
    place = tmp_path / ".venv-app/bin"
    place.mkdir(parents=True)
    (place / "python").symlink_to(sys.executable)
    (tmp_path / "manage.py").write_text("import json, os; print(json.dumps({**os.environ}))")
    (tmp_path / "requirements.txt").touch()
    told(
        "dev",
        django_web_allowed_hosts=[],
        django_web_source=str(tmp_path),
        stack_project=str(tmp_path),
    )
    inherited = {"DJANGO_ALLOWED_HOSTS": "caller", "EMAIL_HOST": "caller", "OTHER": "caller"}
    said = subprocess.run(
        [tmp_path / "manage", "check"], env=inherited, capture_output=True, text=True, check=True
    )
    environment = json.loads(said.stdout)
    assert {*inherited} & {*environment} == {"OTHER"}
    assert environment["DJANGO_SERVED_BY"] == "host"
