"""What is in the images that `./run.sh test` has just built, and what is not."""

import base64
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
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
    variables = yaml.safe_load((repository / "roles/proxy/vars/main.yml").read_text())
    volumes = variables["__proxy_service"]["volumes"]
    (mount,) = [one for one in volumes if one.startswith("{{ stack_media }}:")]
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


PASSWORD = "pass-4711-word"


class Index(http.server.BaseHTTPRequestHandler):
    """An index of a few wheels, for whoever knows the password."""

    def do_GET(self):
        login = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {login}":
            return self.answer(401, b"", "text/plain")
        *_, place, name = self.path.partition("#")[0].strip("/").split("/")
        if place == "files":
            return self.answer(200, (self.wheels / name).read_bytes(), "application/octet-stream")
        wheels = [path.name for path in self.wheels.iterdir() if path.name.startswith(name + "-")]
        self.asked.append(name)
        links = "".join(f'<a href="/files/{wheel}">{wheel}</a>' for wheel in wheels)
        return self.answer(200 if wheels else 404, links.encode(), "text/html")

    def answer(self, status, content, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_words):
        pass


@pytest.fixture
def index(run, repository, tmp_path):
    """Yield (the address of an index with uv and asgiref, with its password; the names that were asked for)."""
    wheels = tmp_path / "wheels"
    lock = (repository / "app/requirements.txt").read_text()
    (tmp_path / "one.txt").write_text(
        re.search(r"^asgiref==(.+\n)+?(?=\S|\s+#)", lock, re.MULTILINE)[0]
    )
    for file in (repository / "requirements-uv.txt", tmp_path / "one.txt"):
        words = ["--quiet", "--no-deps", "--require-hashes", "--dest", wheels, "-r", file]
        fetched = run(sys.executable, "-m", "pip", "download", *words)
        assert fetched.returncode == 0, fetched.stderr
    handler = type("OurIndex", (Index,), {"wheels": wheels, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}/simple", handler.asked
        server.shutdown()


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  roles: [stack]
  vars:
    ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
    stack_name: test
    stack_environment: "{name}"
    stack_images: {{base: {{reference: "{base}"}}}}
    image_declarations:
      ours:
        name: "{name}"
        base: base
        parts:
          - src: "{source}"
          - {{src: "{lock}", dest: requirements.txt}}
          - {{src: "{repository}/requirements-uv.txt", dest: uv.txt}}
          - {{src: "{repository}/rehearsal/django_rehearsal/entry.py", dest: django_rehearsal/entry.py}}
    image_declaration: "{{{{ stack_images.ours }}}}"
  tasks:
    - include_role: {{name: image, tasks_from: name}}
    - include_role: {{name: image}}
    - include_role: {{name: image, tasks_from: wait}}
"""


def docker(*words):
    """Return what a docker command prints."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    return done.stdout


def stages(label):
    """Return the images without a name that a build with this label left behind."""
    listed = ["--quiet", "--filter=dangling=true", f"--filter=label=postdo.stage={label}"]
    return docker("images", *listed).split()


@pytest.mark.full(
    seen_by="tests/test_plugins.py::test_pip_and_uv_both_get_the_index_wherever_it_is_said"
)
def test_a_build_takes_the_index_with_its_password_and_leaves_neither_behind(
    run, repository, tmp_path, index
):
    """Nor a stage, not even one of a build that was cut off; but another environment's, which may be building."""
    address, asked = index
    ours, theirs = (f"test-{uuid.uuid4().hex[:8]}" for _ in range(2))
    name, base = ours.removeprefix("test-"), images()["base"]
    for label in (ours, theirs):
        plain = tmp_path / label
        plain.mkdir()
        (plain / "Dockerfile").write_text(
            f"FROM {base}\nLABEL postdo.stage={label}\nENV A={label}\n"
        )
        docker("build", "--quiet", str(plain))
    leftover = Path(f"/var/lib/postdo-build/{ours}/test_{name}_1/source")
    leftover.mkdir(parents=True)
    play = tmp_path / "play.yml"
    env = {"PIP_INDEX_URL": address, "ANSIBLE_CONFIG": str(repository / "ansible.cfg")}

    def build(source):
        words = {"repository": repository, "name": name, "base": base}
        play.write_text(PLAY.format(source=source, lock=tmp_path / "one.txt", **words))
        command = ["ansible-playbook", play, "-i", "localhost,", "-vvv", "--diff"]
        answer = run(*command, env=env, timeout=900)
        assert PASSWORD not in answer.stdout + answer.stderr
        assert stages(ours) == []
        assert not leftover.parents[1].exists()
        return answer

    try:
        assert len(stages(ours)) == len(stages(theirs)) == 1
        loud = tmp_path / "loud"
        loud.mkdir()
        lines = f"FROM {base}\nARG STAGE\nLABEL postdo.stage=${{STAGE}}\nCOPY index.env /\n"
        (loud / "Dockerfile").write_text(lines + "RUN cat /index.env; false\n")
        failed = build(loud)
        assert failed.returncode != 0
        assert "could not be built" in failed.stdout
        assert "127.0.0.1" in failed.stdout  # the line with the password, without it
        made = build(repository / "roles/django_web/files/runtime")
        assert made.returncode == 0, made.stdout[-3000:]
        assert asked == ["uv", "asgiref"]
        image = docker("images", "--format={{.Repository}}:{{.Tag}}", f"test/{name}").strip()
        assert inside(image, "/opt/venv/bin/python -c 'import asgiref; print(1)'") == "1"
        said = docker("history", "--no-trunc", image) + docker("inspect", image)
        assert PASSWORD not in said
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            kept = saved.stdout.read()
        assert b"asgiref" in kept
        assert PASSWORD.encode() not in kept
        assert len(stages(theirs)) == 1
    finally:
        docker("rmi", "--force", *docker("images", "--quiet", f"test/{name}").split())
        for label in (ours, theirs):
            for stage in stages(label):
                docker("rmi", stage)
        shutil.rmtree(leftover.parents[1], ignore_errors=True)
        for packed in repository.glob(f".cache/contexts/{ours}-*"):
            packed.unlink()


def test_a_mirror_with_a_password_is_refused_before_anything_is_made(run):
    mirror = f"base_image_mirror=https://user:{PASSWORD}@mirror.test/debian"
    answer = run(
        "ansible-playbook",
        "playbooks/images.yml",
        "-i",
        "inventories/prod",
        "-e",
        mirror,
        timeout=300,
    )
    assert answer.returncode != 0
    assert (
        "base_image_mirror or base_image_security_mirror has a name and a password" in answer.stdout
    )
    assert PASSWORD not in answer.stdout + answer.stderr
