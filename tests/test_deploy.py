"""The program that deploys, with real containers: killed at every point, wanted or unwanted afterwards.

Needs Docker and the images of `./run.sh test`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from server import docker, until

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = PROJECT / "roles/django_web/files/program"
LIBRARY = PROJECT / "roles/program/files/library"
STAND_IN = PROJECT / "tests/stand_in"
ECHO = (PROJECT / "molecule/shared/tools/echo.py").read_text()
UNFIT = Path(__file__).with_name("unfit.py")
WORKER = "import time\nwhile True: time.sleep(0.1)"
# A site whose answers are in a file: a status for each path, or a kind of page; 200 where nothing is said.
SITE = """
import http.server, json, os, pathlib, socketserver, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = json.loads(pathlib.Path("/run/web/answers.json").read_text()).get(self.path, 200)
        if said == "as the proxy asks":
            names = ("Host", "X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Host")
            asked = [self.headers[name] for name in names]
            wanted = ["shop.example:8443", "https", "127.0.0.1", "shop.example:8443"]
            said = 200 if asked == wanted else 500
        if said == "slow":
            time.sleep(30)
        self.send_response(said if isinstance(said, int) else 200)
        self.end_headers()
        while said == "endless":
            self.wfile.write(b"x" * 100000)
        while said == "silent":
            time.sleep(1)
    def address_string(self):
        return "a visitor"
class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size, daemon_threads = 50, True
if os.path.exists("/run/web/http.sock"):
    os.unlink("/run/web/http.sock")
Server("/run/web/http.sock", Answer).serve_forever()
"""
# Between any two things that a deploy does, what it is about to do, or has just done.
POINTS = [
    "migrations.migrate",
    "containers.start",
    "containers.await_health",
    "containers.watch",
    "containers.stop",
    "containers.keep_up",
    "releases.serve",
    "releases.note_served",
    "releases.remove",
]
# Around the switch and after the migrations: a fault in how a killed deploy is taken up again shows here first.
QUICK = [("migrations.migrate", "after"), ("releases.serve", "before"), ("releases.serve", "after")]
FULL = pytest.mark.full(seen_by="tests/test_deploy.py::test_a_deploy_that_is_killed_at_any_point")
KILLS = [
    pytest.param(point, when, marks=[] if (point, when) in QUICK else [FULL])
    for point in POINTS
    for when in ("before", "after")
]
KILLING = """
import os, runpy, sys
from postdo_deploy import containers, migrations, releases
modules = {{"containers": containers, "migrations": migrations, "releases": releases}}
module, name = modules["{module}"], "{name}"
original = getattr(module, name)
calls = []
def killed(*words, **more):
    calls.append(words)
    if "{when}" == "before" and len(calls) == {call}:
        os.kill(os.getpid(), 9)
    result = original(*words, **more)
    if "{when}" == "after" and len(calls) == {call}:
        os.kill(os.getpid(), 9)
    return result
setattr(module, name, killed)
sys.argv = ["postdo-deploy", *sys.argv[1:]]
runpy.run_module("postdo_deploy", run_name="__main__")
"""


class Stack:
    """An environment without a proxy, whose releases are a small server and a worker."""

    def __init__(self, place: Path, image: str) -> None:
        self.prefix = f"deploytest{uuid.uuid4().hex[:8]}"
        self.releases = place / "releases"
        self.releases.mkdir(parents=True)
        self.image = image
        # In the place of the package that rehearses.
        self.package = STAND_IN
        # What the release's own look at the schema finds; the real one has a project and a database.
        self.unfit = place / "unfit.json"
        self.unfit.write_text("[]")
        self.facts = place / "deploy.json"
        facts = {"prefix": self.prefix, "inventory": "none", "state": str(place), "front": {}}
        facts |= {"start_timeout": 10, "watch_time": 0.4, "keep_releases": 3}
        facts |= {"url": "https://shop.example:8443", "watch_paths": ["/"]}
        facts |= {
            "secrets": str(place),
            "database": {"name": "none", "user": "none"},
            "requests": [],
            "step_timeout": 60,
        }
        self.facts.write_text(json.dumps(facts))

    def tell(self, **facts) -> None:
        """Tell the program something else of the environment."""
        self.facts.write_text(json.dumps(json.loads(self.facts.read_text()) | facts))

    def make(
        self, name: str, *, command: str = ECHO, worker: bool = True, static: str = ""
    ) -> None:
        """Make a release as the role does."""
        directory = self.releases / name
        (directory / "run").mkdir(parents=True, exist_ok=True)
        (directory / "run").chmod(0o777)
        processes = [{"name": "web", "stop_timeout": 5}]
        commands = {"web": command}
        if worker:
            processes.append({"name": "worker", "stop_timeout": 1})
            commands["worker"] = WORKER
        for process, code in commands.items():
            container = f"{self.prefix}-{process}-{name}"
            if docker("ps", "-aq", "--filter", f"name=^{container}$").stdout:
                continue
            made = docker(
                *("create", "--name", container, "--init", "--network", "none", "--restart", "no"),
                *("--label", f"postdo.stack={self.prefix}", "--label", f"postdo.release={name}"),
                *("--label", f"postdo.process={process}"),
                *("--env", "GUNICORN_BIND=unix:/run/web/http.sock", "--env", "HEALTH_PATH=/health"),
                *("--volume", f"{directory}/run:/run/web", "--volume", f"{self.unfit}:/unfit.json"),
                *("--volume", f"{UNFIT}:/opt/postdo/schema_fit.py:ro", self.image),
                *("python", "-c", code),
            )
            assert made.returncode == 0, made.stderr
        # Not the image itself: it is the other tests' too, and goes with a release that is given up.
        manifest = {"release": name, "images": [f"{self.prefix}:{name}"], "revision": name}
        text = json.dumps(manifest | {"processes": processes, "static": static})
        (directory / "release.json").write_text(text)

    def answers(self, name: str, **answers: int | str) -> None:
        """Say what the site of a release answers: words are paths, with _ for /."""
        told = {path.replace("_", "/"): answer for path, answer in answers.items()}
        aside = self.releases / name / "run/answers.new"
        aside.write_text(json.dumps(told))
        aside.rename(aside.with_name("answers.json"))

    def make_site(self, name: str, *, static: str = "", **answers: int | str) -> None:
        """Make a release with answers of its own."""
        self.make(name, command=SITE, static=static)
        self.answers(name, **answers)

    def call(self, *words: str, code: str = "") -> subprocess.CompletedProcess:
        """Call the program, or a piece of code in its place."""
        start = ["-c", code] if code else ["-m", "postdo_deploy"]
        return subprocess.run(
            [sys.executable, *start, "--environment", str(self.facts), *words],
            env={**os.environ, "PYTHONPATH": f"{PROGRAM}:{LIBRARY}:{self.package}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def deploy(self, name: str) -> None:
        """Make a release and deploy it; fail the test if that fails."""
        self.make(name)
        done = self.call("deploy", name)
        assert done.returncode == 0, done.stderr

    def containers(self) -> dict[str, tuple[bool, str]]:
        """Return of each container whether it runs, and whether it starts again by itself."""
        names = docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
        own = [
            name
            for name in names
            if name.startswith(self.prefix) and name != f"{self.prefix}-proxy"
        ]
        found = json.loads(docker("inspect", *own).stdout) if own else []
        return {
            item["Name"][1:].removeprefix(f"{self.prefix}-"): (
                item["State"]["Running"],
                item["HostConfig"]["RestartPolicy"]["Name"],
            )
            for item in found
        }

    def stands(self, serving: str, *kept: str) -> None:
        """Fail the test unless one release serves, these are kept, and nothing is left over."""
        assert str((self.releases / "current").readlink()) == serving
        up = {f"{process}-{serving}": (True, "unless-stopped") for process in ("web", "worker")}
        found = self.containers()
        assert {name: state for name, state in found.items() if state[0]} == up
        assert {name.split("-")[1] for name in found} == {serving, *kept}
        listed = {path.name for path in self.releases.iterdir()}
        assert listed == {serving, *kept, "current"}

    def remove(self) -> None:
        """Remove every container."""
        names = [f"{self.prefix}-{name}" for name in self.containers()]
        if names:
            docker("rm", "--force", *names)


@pytest.fixture
def stack(tmp_path, images):
    one = Stack(tmp_path / "state", images["runtime"])
    yield one
    one.remove()


@pytest.fixture
def proxy(stack, configure, repository, tmp_path):
    """Run the proxy before the stack; return what a visitor must know of it."""
    image = json.loads((repository / ".cache/prod-images.json").read_text())["proxy"]
    name = f"{stack.prefix}-proxy"
    caddyfile = tmp_path / "Caddyfile"
    configure(caddyfile)
    docker(
        *("run", "--detach", "--user=0", "--name", name, "--publish=127.0.0.1::8080"),
        *("--volume", f"{stack.releases}:/run/web:ro"),
        *("--volume", f"{caddyfile}:/etc/caddy/Caddyfile:ro", image),
    )
    port = int(docker("port", name, "8080").stdout.rsplit(":", 1)[1])
    until(lambda: docker("exec", name, "healthcheck", check=False).returncode == 0)
    yield {"address": "127.0.0.1", "port": port, "tls": False, "name": "", "path": "/health"}
    docker("rm", "--force", "--volumes", name)


@pytest.mark.parametrize(("point", "when"), KILLS)
def test_a_deploy_that_is_killed_at_any_point(stack, point, when):
    """The next run, of the same release, of the one before or of a third, ends in one that serves alone."""
    stack.deploy("one")
    stack.make("two")
    module, name = point.split(".")
    code = KILLING.format(module=module, name=name, when=when, call=1)
    assert stack.call("deploy", "two", code=code).returncode == -9
    # Whatever happened: something serves, and the engine would keep it up.
    link = str((stack.releases / "current").readlink())
    assert stack.containers()[f"web-{link}"] == (True, "unless-stopped")
    stack.deploy("two")
    stack.stands("two", "one")
    stack.make("three")
    assert stack.call("deploy", "three", code=code).returncode == -9
    stack.deploy("two")
    link = str((stack.releases / "current").readlink())
    assert link == "two"
    assert {name for name, state in stack.containers().items() if state[0]} == {
        "web-two",
        "worker-two",
    }
    assert not (stack.releases / "underway.json").exists()


BAD = {
    "ends": "raise SystemExit('no reason')",
    "is not healthy": "import time\nwhile True: time.sleep(1)",
    "ends a little later": f"import threading, os\nthreading.Timer(0.9, lambda: os._exit(7)).start()\n{ECHO}",
    "ends once it serves": f"import threading, os\nthreading.Timer(2.6, lambda: os._exit(7)).start()\n{ECHO}",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_release_leaves_the_one_before_with_its_workers(stack, bad):
    stack.tell(start_timeout=4, watch_time=0.6)
    stack.deploy("one")
    stack.make("two", command=BAD[bad])
    done = stack.call("deploy", "two")
    assert done.returncode == 1
    assert "What serves is one, as before" in done.stderr
    stack.stands("one")


WORSE = {
    "an error": (200, 500),
    "not found": (200, 404),
    "not found after a redirect": (302, 404),
    "an error after not found": (404, 503),
    "no answer": (200, "slow"),
}
AS_BEFORE = {
    "a login": (302, 302),
    "still forbidden": (401, 403),
    "an error as before": (500, 502),
    "as slow as before": ("slow", "slow"),
    "better": (500, 404),
    "asked too often": (200, 429),
    "a stream": (200, "endless"),
    "a silent stream": (200, "silent"),
    "as the proxy asks": ("as the proxy asks", "as the proxy asks"),
}


def paths(kinds: dict[str, tuple]) -> dict[str, tuple]:
    """Return the answers of before and after by a path for each kind."""
    return {f"/{kind.replace(' ', '-')}": answers for kind, answers in kinds.items()}


def test_a_release_that_answers_a_watched_path_worse_does_not_come_to_serve(stack):
    """It is stopped before the switch, with each path, what came, and what came before."""
    stack.tell(watch_paths=["/", *paths(WORSE)])
    stack.make_site("one", **{path: before for path, (before, _) in paths(WORSE).items()})
    assert stack.call("deploy", "one").returncode == 0
    stack.make_site("two", **{path: after for path, (_, after) in paths(WORSE).items()})
    done = stack.call("deploy", "two")
    assert done.returncode == 1
    for path, (before, after) in paths(WORSE).items():
        said = f"status {after}" if after != "slow" else "no answer (TimeoutError)"
        assert f"{path} gives {said}, and status {before} before" in done.stderr
    assert "; / gives" not in done.stderr
    assert "django_web_watch_paths" in done.stderr
    stack.stands("one")


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_a_release_that_answers_a_watched_path_worse_does_not_come_to_serve"
)
def test_a_watched_path_that_is_answered_as_before_stops_nothing(stack):
    stack.tell(watch_paths=list(paths(AS_BEFORE)))
    stack.make_site("one")
    assert stack.call("deploy", "one").returncode == 0
    stack.answers("one", **{path: before for path, (before, _) in paths(AS_BEFORE).items()})
    stack.make_site("two", **{path: after for path, (_, after) in paths(AS_BEFORE).items()})
    done = stack.call("deploy", "two")
    assert done.returncode == 0, done.stderr
    stack.stands("two", "one")


@pytest.mark.parametrize(("status", "code"), [(404, 0), (500, 1)])
def test_a_first_release_must_answer_without_an_error(stack, status, code):
    stack.make_site("one", _=status)
    assert stack.call("deploy", "one").returncode == code
    assert (stack.releases / "current").exists() == (code == 0)


@pytest.mark.parametrize(("before", "after", "code"), [(200, 404, 1), (404, 404, 0), (200, 200, 0)])
def test_each_release_is_asked_for_a_static_file_of_its_own(stack, before, after, code):
    """Their names have a hash, so the other release's is none of its."""
    stack.make_site("one", static="/css.1", _css=404, **{"_css.1": before, "_css.2": 404})
    assert stack.call("deploy", "one").returncode == 0
    stack.make_site("two", static="/css.2", **{"_css.1": 404, "_css.2": after})
    assert stack.call("deploy", "two").returncode == code


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_what_visitors_get_worse_once_a_release_serves_is_the_way_back"
)
def test_going_back_to_a_release_without_a_page_is_possible(stack):
    """An error there is still a reason to stay."""
    stack.tell(watch_paths=["/new"])
    stack.make_site("one", _new=404)
    assert stack.call("deploy", "one").returncode == 0
    stack.make_site("two")
    assert stack.call("deploy", "two").returncode == 0
    stack.answers("one", _new=500)
    refused = stack.call("rollback")
    assert refused.returncode == 1
    assert "/new gives status 500" in refused.stderr
    stack.answers("one", _new=404)
    assert stack.call("rollback").returncode == 0
    stack.stands("one", "two")


def test_what_visitors_get_worse_once_a_release_serves_is_the_way_back(stack, proxy):
    """Through the real proxy: the account says what was asked and what failed."""
    stack.tell(watch_paths=["/", "/login"], watch_time=2, front=proxy)
    stack.make_site("one", static="/css.1", **{"_css.2": 404})
    assert stack.call("deploy", "one").returncode == 0
    stack.make_site("two", static="/css.2", **{"_css.1": 404})
    done = stack.call("deploy", "two")
    assert done.returncode == 0, done.stderr
    assert "0 failed" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "asked for" in line]
    assert line.split(maxsplit=2)[2] == "/health, /, /login, /css.2"
    stack.make_site("three", static="/css.2")
    worse = KILLING.format(module="releases", name="serve", when="never", call=1).replace(
        "    calls.append(words)",
        "    calls.append(words)\n    import pathlib\n"
        f"    pathlib.Path({str(stack.releases / 'three/run/answers.json')!r})"
        """.write_text('{"/login": 500}')""",
    )
    done = stack.call("deploy", "three", code=worse)
    assert done.returncode == 1
    assert "/login gives status 500, and status 200 before" in done.stderr
    assert "status 500 at /login" in done.stderr.splitlines()[-1]
    stack.stands("two", "one")


def test_a_health_path_that_leads_elsewhere_is_no_visit(stack, proxy):
    """A redirect through the proxy says that the site was not to be reached."""
    stack.tell(front=proxy)
    stack.make_site("one", _health=200)
    assert stack.call("deploy", "one").returncode == 0
    stack.answers("one", _health=301)
    stack.make_site("two")
    done = stack.call("deploy", "two")
    assert "the site was not to be reached before" in done.stdout


def test_a_signal_goes_back(stack):
    """Whoever ends the program finds the release of before, and its workers."""
    stack.deploy("one")
    stack.make("two")
    code = KILLING.format(module="containers", name="stop", when="after", call=1)
    done = stack.call("deploy", "two", code=code.replace("os.getpid(), 9", "os.getpid(), 15"))
    assert done.returncode == 1
    assert "Ended by SIGTERM" in done.stderr
    stack.stands("one")


def test_as_many_releases_are_kept_as_asked_for_in_the_order_they_were_deployed_in(stack):
    """A release that is deployed again counts as new; one that was only gone back to, as the one before the next."""
    for name in ("one", "two", "three", "four"):
        stack.deploy(name)
    stack.stands("four", "three", "two")
    listed = stack.call("releases").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["two", "three", "four"]
    assert "serves now" in listed[-1]
    stack.deploy("two")
    listed = stack.call("releases").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["three", "four", "two"]


@pytest.mark.parametrize("before", ["", " "], ids=["now", "as said before"])
def test_an_older_release_that_the_schema_has_left_behind_is_not_deployed_again(stack, before):
    """What is refused to a rollback is refused to a deploy of the old source."""
    stack.deploy("one")
    stack.deploy("two")
    stack.unfit.write_text(f'{before}["the table of one is gone"]')
    for words in (["deploy", "one"], ["rollback"]):
        done = stack.call(*words)
        assert done.returncode == 1
        assert "the table of one is gone" in done.stderr
        stack.stands("two", "one")


# What the package does in the place of an answer, and what is said of that.
WORDLESS = {
    "it never answers": (
        "time.sleep(1000)",
        "did not end within 3 s (django_web_rehearsal_step_timeout)",
    ),
    "it never ends": (
        "print(ANSWERS); print('{}', flush=True); time.sleep(1000)",
        "did not end within 3 s (django_web_rehearsal_step_timeout)",
    ),
    "the project speaks in its place": (
        """print('{"pending": []}')""",
        "two can't be examined: django_rehearsal look said nothing",
    ),
    "the project ends it": (
        "print('level logger message'); sys.exit('no licence')",
        "two can't be examined: no licence",
    ),
}


@pytest.mark.parametrize("case", WORDLESS)
def test_a_look_without_an_answer_ends_in_a_verdict(stack, tmp_path, case):
    code, said = WORDLESS[case]
    stack.deploy("one")
    stack.package = tmp_path
    package = tmp_path / "django_rehearsal"
    shutil.copytree(STAND_IN / "django_rehearsal", package)
    (package / "__main__.py").write_text(f"import sys, time\nfrom . import ANSWERS\n{code}\n")
    # On the live database a step has twice as long.
    stack.tell(step_timeout=1.5)
    stack.make("two")
    done = stack.call("deploy", "two")
    assert done.returncode == 1
    assert said in done.stderr
    stack.stands("one")


def test_what_could_not_be_drained_is_healed_by_the_next_run(stack):
    """The release serves and can be gone back to; the next run of it stops what was left."""
    stack.deploy("one")
    stack.make("two")
    fails = KILLING.format(module="containers", name="stop", when="never", call=2)
    code = fails.replace(
        "    calls.append(words)",
        "    calls.append(words)\n    if len(calls) == 2: raise deploy.Failure('the engine is away')",
    ).replace("import containers", "import deploy, containers")
    done = stack.call("deploy", "two", code=code)
    assert done.returncode == 0, done.stderr
    assert "What served before could not be stopped" in done.stdout
    assert stack.containers()["web-one"][0]
    assert (stack.releases / "underway.json").exists()
    stack.deploy("two")
    stack.stands("two", "one")


def test_an_engine_that_is_away_for_a_moment_is_waited_for_and_then_things_are_as_before(stack):
    """Just after the switch the engine does not answer; its silence says nothing about the containers."""
    stack.deploy("one")
    stack.make("two")
    away = (
        "import os, threading\n"
        "def away():\n"
        "    os.environ['DOCKER_HOST'] = 'unix:///nowhere'\n"
        "    threading.Timer(2, os.environ.pop, ['DOCKER_HOST']).start()\n"
    )
    watch = KILLING.format(module="containers", name="watch", when="never", call=3)
    code = away + watch.replace(
        "    calls.append(words)", "    calls.append(words)\n    if len(calls) == 3: away()"
    )
    done = stack.call("deploy", "two", code=code)
    assert done.returncode == 1
    assert "Cannot connect to the Docker daemon" in done.stderr
    stack.stands("one")


def test_a_migration_that_outlived_its_deploy_is_waited_for(stack):
    """It belongs to a release that is given up; ended in its middle it could leave anything behind."""
    stack.deploy("one")
    stack.make("given-up")
    done = stack.releases / "given-up/run/done"
    migrate = "import time, pathlib; time.sleep(2); pathlib.Path('/run/web/done').touch()"
    docker(
        *("run", "--detach", "--name", f"{stack.prefix}-migrate-given-up", "--network", "none"),
        *("--label", f"postdo.stack={stack.prefix}", "--label", "postdo.release=given-up"),
        *("--label", "postdo.process=migrate", "--volume", f"{done.parent}:/run/web"),
        *(stack.image, "python", "-c", migrate),
    )
    late = KILLING.format(module="releases", name="remove", when="never", call=1)
    seen = f"import pathlib; seen = lambda: print('ended', pathlib.Path({str(done)!r}).exists())\n"
    code = seen + late.replace("    calls.append(words)", "    calls.append(words); seen()")
    stack.make("two")
    said = stack.call("deploy", "two", code=code)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("ended True")
    stack.stands("two", "one")


@pytest.mark.parametrize("content", ["", "nonsense"])
@pytest.mark.parametrize("file", ["served", "release.json"])
def test_a_note_that_a_power_failure_took_locks_nobody_out(stack, file, content):
    """The release serves on, and the next takes its place."""
    stack.deploy("one")
    (stack.releases / "one" / file).write_text(content)
    stack.deploy("two")
    stack.stands("two")


def test_removed_containers_are_no_releases_to_go_back_to(stack):
    """`docker container prune` takes all that do not run."""
    stack.deploy("one")
    stack.deploy("two")
    docker("rm", f"{stack.prefix}-web-one", f"{stack.prefix}-worker-one")
    refused = stack.call("rollback")
    assert refused.returncode == 1
    assert "There is no earlier release to go back to" in refused.stderr
    stack.deploy("two")
    stack.stands("two")


def test_what_another_run_prepares_meanwhile_is_left_alone(stack):
    """It waits for its turn, which comes when this one has ended. A look that never began is nobody's."""
    stack.deploy("one")
    stack.make("two")
    look = f"{stack.prefix}-look-none"
    docker("create", "--name", look, "--label", f"postdo.look={stack.prefix}", stack.image)
    time.sleep(1)  # the engine counts whole seconds
    late = KILLING.format(module="containers", name="watch", when="never", call=1)
    code = late.replace("    calls.append(words)", "    calls.append(words); prepare()")
    prepare = f"import pathlib; prepare = lambda: pathlib.Path({str(stack.releases / 'next-one')!r}).mkdir(exist_ok=True)\n"
    assert stack.call("deploy", "two", code=prepare + code).returncode == 0
    assert (stack.releases / "next-one").is_dir()
    assert "look-none" not in stack.containers()
    time.sleep(0.1)
    stack.deploy("two")
    stack.stands("two", "one")


def test_a_container_of_before_there_were_releases_serves_until_the_first_one_does(stack):
    """It is not removed before a release has proven itself, and not kept afterwards."""
    docker(
        *("run", "--detach", "--name", f"{stack.prefix}-web", "--network", "none", "--init"),
        *("--label", f"postdo.stack={stack.prefix}", stack.image, "python", "-c", WORKER),
    )
    stack.make("one", command=BAD["ends"])
    assert stack.call("deploy", "one").returncode == 1
    assert stack.containers() == {"web": (True, "no")}
    stack.deploy("two")
    stack.stands("two")


def test_two_at_once(stack):
    """The second is told who the first is."""
    stack.deploy("one")
    stack.make("two")
    inside = KILLING.format(module="containers", name="watch", when="never", call=1)
    code = f"import subprocess, sys\n{inside}".replace(
        "    calls.append(words)",
        "    calls.append(words); again = subprocess.run([sys.executable, '-m', 'postdo_deploy',"
        " *sys.argv[1:3], 'deploy', 'one'], capture_output=True, text=True);"
        " print(again.returncode, again.stderr)",
    )
    done = stack.call("deploy", "two", "--by=alice@laptop", code=code)
    assert done.returncode == 0, done.stderr
    assert "75 Another deploy is at work: process" in done.stdout
    assert "of alice@laptop, since 20" in done.stdout
    stack.stands("two", "one")


ENVIRONMENT = """
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from postdo_deploy import migrations
from postdo_deploy.environment import Environment
from postdo_deploy.inside import Copy
from postdo_deploy.rehearsal import Rehearsal
environment = Environment(Path(sys.argv[2]))
"""


@pytest.mark.parametrize("left", [True, False])
def test_the_volume_of_a_rehearsal_whose_container_is_gone_goes_with_the_next_deploy(
    stack, tmp_path, left
):
    """The engine removes what worked on it when the host starts."""
    (tmp_path / "backup").write_text(f"#!/bin/sh\necho $* > {tmp_path}/called\n")
    (tmp_path / "backup").chmod(0o755)
    name = f"{stack.prefix}-db-data-{'rehearsal' if left else 'before'}"
    docker("volume", "create", "--label", f"postdo.stack={stack.prefix}", name)
    try:
        code = f"{ENVIRONMENT}environment.backup = sys.argv[3]\nmigrations.clear(environment)\n"
        done = stack.call(str(tmp_path / "backup"), code=code)
    finally:
        docker("volume", "rm", name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "called").exists() == left
    assert not left or (tmp_path / "called").read_text() == "rehearsal-end\n"


def test_a_serving_release_whose_container_is_gone_is_said_not_to_be_tried(stack):
    code = f"""{ENVIRONMENT}
before = SimpleNamespace(web=SimpleNamespace(container="{stack.prefix}-web-gone"))
one = Rehearsal(environment, None, before, {{}}, SimpleNamespace(last={{}}))
assert one._serving(Copy("copy", Path("/nowhere")), ExitStack()) is None
print(one._facts["unexercised"])
"""
    done = stack.call(code=code)
    assert done.returncode == 0, done.stderr
    assert "-web-gone is gone" in done.stdout
