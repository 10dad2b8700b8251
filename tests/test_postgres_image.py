"""The PostgreSQL image, in real containers hardened as the play runs them.

Needs Docker and the images of `./run.sh test`.
"""

import json
import shlex
import subprocess

import pytest
from server import DATA, PASSWORD, Server, docker, until

ROTATED = " sécond 'Canary' \"%s\" $HOME : \\ "

# Watches every process of its container, as often as it can, for a word given on stdin.
WATCHER = """
import json, pathlib, sys, time
word = sys.stdin.buffer.readline().strip()
print("ready", flush=True)
leaks, programs, end = set(), set(), time.monotonic() + 3
while time.monotonic() < end:
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                content = (process / name).read_bytes()
            except OSError:
                continue
            if name == "cmdline":
                programs.add(content.split(b"\\0")[0].decode())
            if word in content:
                leaks.add(name)
print(json.dumps({"leaks": sorted(leaks), "programs": sorted(programs)}))
"""


@pytest.fixture
def server(image):
    """Yield a server that is not started, with an empty volume."""
    server = Server(image)
    yield server
    server.remove()


@pytest.fixture(scope="module")
def prepared(image):
    """Yield a running, prepared server for tests that leave it as they found it."""
    server = Server(image)
    try:
        server.start("-c", "log_statement=all", "-c", "log_min_duration_statement=0")
        server.prepare()
        yield server
    finally:
        server.remove()


def test_first_and_second_start(server):
    server.start()
    assert server.prepare() == {
        "changed": True,
        "actions": ["role created", "database created", "password set"],
    }
    assert server.prepare() == {"changed": False, "actions": []}
    assert server.client(PASSWORD, "CREATE TABLE kept AS SELECT 42 AS answer").returncode == 0
    server.start()
    assert server.prepare() == {"changed": False, "actions": []}
    assert server.client(PASSWORD, "SELECT answer FROM kept").stdout == "42\n"
    assert "initdb" not in server.logs()


def test_becomes_healthy_over_tcp_without_filling_the_log(server):
    server.start("-c", "listen_addresses=")
    until(lambda: "ready to accept connections" in server.logs())
    assert server.run("healthcheck", check=False).returncode != 0  # the socket alone is not enough
    server.start()
    state = ("inspect", "--format={{.State.Health.Status}}", server.name)
    until(lambda: docker(*state).stdout == "healthy\n")
    before = server.logs()
    assert server.run("healthcheck").returncode == 0
    assert server.logs() == before


def test_runs_unprivileged_on_a_read_only_root(prepared):
    assert prepared.run("id", "-u").stdout == "15432\n"
    assert "Read-only" in prepared.run("touch", "/etc/x", check=False).stderr
    assert prepared.run("stat", "-c", "%u %a", DATA).stdout == "15432 700\n"


def test_cluster_is_what_was_asked_for(prepared):
    assert prepared.sql("SHOW data_checksums") == "on"
    assert prepared.sql("SHOW server_encoding", "app") == "UTF8"
    assert prepared.sql("SHOW password_encryption") == "scram-sha-256"
    query = "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{z,Á,b,a}'::text[]) x"
    assert prepared.sql(query, "app") == "aÁbz"


def test_jit_may_be_asked_for_though_it_is_not_there(prepared):
    query = "SET jit = on; SET jit_above_cost = 0; SELECT sum(x) FROM generate_series(1, 1000) x"
    assert prepared.sql(query) == "500500"


def test_application_role_is_no_superuser(prepared):
    query = (
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = 'app'"
    )
    assert prepared.sql(query) == "t|f|f|f|f|f"
    assert prepared.client(PASSWORD, "CREATE DATABASE other").returncode != 0
    assert prepared.client(PASSWORD, "COPY (SELECT 1) TO PROGRAM 'id'").returncode != 0


def test_superuser_has_no_way_in_over_tcp(prepared):
    assert (
        prepared.sql("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'postgres'") == "t"
    )
    for answer in (
        prepared.client("anything", user="postgres", database="postgres"),
        prepared.run("psql", "-w", "-h", "127.0.0.1", "-U", "postgres", check=False),
    ):
        assert answer.returncode != 0
        assert "pg_hba.conf rejects connection" in answer.stderr


def test_wrong_password_is_refused(prepared):
    assert "password authentication failed" in prepared.client("wrong").stderr
    assert prepared.client(PASSWORD).stdout == "1\n"


@pytest.mark.parametrize(
    ("drift", "action"),
    [
        ("ALTER ROLE app SUPERUSER", "role attributes changed"),
        ("ALTER ROLE app CREATEDB", "role attributes changed"),
        ("ALTER ROLE app NOLOGIN", "role attributes changed"),
        ("GRANT CONNECT ON DATABASE app TO PUBLIC", "public access revoked"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "public creation revoked"),
        ("ALTER DATABASE app OWNER TO postgres", "database owner changed"),
        ("ALTER ROLE app PASSWORD 'another'", "password set"),
        ("ALTER ROLE app PASSWORD NULL", "password set"),
    ],
)
def test_drift_is_put_right(prepared, drift, action):
    prepared.sql(drift, "app")
    assert prepared.prepare() == {"changed": True, "actions": [action]}
    assert prepared.prepare()["changed"] is False


def test_createdb_is_given_and_taken(prepared):
    assert prepared.prepare("--createdb")["actions"] == ["role attributes changed"]
    assert prepared.client(PASSWORD, "CREATE DATABASE test_app").returncode == 0
    assert prepared.client(PASSWORD, "DROP DATABASE test_app").returncode == 0
    assert prepared.prepare()["actions"] == ["role attributes changed"]
    assert prepared.client(PASSWORD, "CREATE DATABASE test_app").returncode != 0


def test_another_role_cannot_enter_the_database(prepared):
    prepared.sql("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    try:
        answer = prepared.client("stranger", user="stranger")
        assert 'permission denied for database "app"' in answer.stderr
    finally:
        prepared.sql("DROP ROLE stranger")


def test_database_of_another_owner_is_not_taken_over(server):
    server.start()
    server.prepare()
    command = ["--role=other"]
    answer = server.prepare(*command, check=False)
    assert answer.returncode == 1
    assert 'belongs to role "app"' in answer.stderr
    remedy = answer.stderr[answer.stderr.index("docker exec") :]
    subprocess.run(shlex.split(remedy), check=True, capture_output=True)
    assert server.prepare(*command)["changed"] is False
    assert server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'app'") == "0"


def test_rotation_keeps_the_secret_to_itself(server):
    server.start("-c", "log_statement=all", "-c", "log_min_duration_statement=0")
    server.prepare()
    server.write_secret(ROTATED + "\n")
    watcher = subprocess.Popen(
        ["docker", "exec", "-i", server.name, "python3", "-c", WATCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watcher.stdin.write("Canary\n")  # quoting cannot change it
    watcher.stdin.close()
    assert watcher.stdout.readline() == "ready\n"
    process = server.prepare(check=False)
    seen = json.loads(watcher.stdout.read())
    assert watcher.wait() == 0

    assert json.loads(process.stdout) == {"changed": True, "actions": ["password set"]}
    assert "psql" in seen["programs"]
    assert seen["leaks"] == []
    assert server.client(ROTATED).stdout == "1\n"
    assert "password authentication failed" in server.client(PASSWORD).stderr
    assert server.prepare()["changed"] is False
    logs = server.logs()
    assert "CREATE DATABASE" in logs  # statements are logged
    for secret in (PASSWORD, ROTATED, "Canary", "SCRAM-SHA-256$"):
        assert secret not in logs + process.stdout + process.stderr


def test_interrupted_rotation_heals(server):
    server.start()
    server.prepare()
    codes = set()
    for number in range(12):
        server.write_secret(f"password-{number}\n")
        kill = ("timeout", "--signal=KILL", f"{0.04 + number * 0.02:.2f}")
        codes.add(server.prepare(prefix=kill, check=False).returncode)
    assert 137 in codes  # some were really killed
    server.write_secret("the last\n")
    assert server.prepare()["actions"] == ["password set"]
    assert server.client("the last").stdout == "1\n"


def test_failure_after_the_password_was_set_tells_no_secret(server):
    server.start("-c", "log_statement=all")
    server.prepare()
    server.sql("ALTER ROLE app VALID UNTIL '2000-01-01'")
    answer = server.prepare(check=False)
    assert answer.returncode == 1
    assert "still cannot log in" in answer.stderr
    assert "Canary" not in answer.stdout + answer.stderr + server.logs()
    assert "SCRAM-SHA-256$" not in server.logs()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        ("", "is empty"),
        ("\n", "is empty"),
        ("Canary\nsecond\n", "has more than one line"),
    ],
)
def test_bad_secret_is_named(prepared, content, message):
    prepared.write_secret(content)
    try:
        answer = prepared.prepare(check=False)
    finally:
        prepared.write_secret(PASSWORD + "\n")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith("prepare-database: postgres_password: ")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert "Canary" not in answer.stderr
    assert prepared.prepare()["changed"] is False


def test_names_are_checked(prepared):
    for name in ("--role=postgres", "--role=a b", "--database=template1", '--database=a"b'):
        answer = prepared.prepare(name, check=False)
        assert answer.returncode == 2
        assert "is not usable" in answer.stderr


def test_locale_by_another_name_is_the_same(server):
    server.start(options=["--env=POSTGRES_ICU_LOCALE=pt_BR"])
    server.prepare("--locale=pt_BR")
    assert server.prepare("--locale=pt_BR")["changed"] is False
    assert server.prepare("--locale=pt-BR")["changed"] is False
    query = "SELECT DISTINCT datlocale FROM pg_database"
    assert server.sql(query) == "pt-BR"


def test_locale_change_is_refused(prepared):
    answer = prepared.prepare("--locale=pt-BR", check=False)
    assert answer.returncode == 1
    assert 'postgres_locale is "pt-BR"' in answer.stderr
    assert 'made with "und"' in answer.stderr
    answer = prepared.prepare("--locale=xx-nonsense", check=False)
    assert answer.returncode == 1
    assert 'postgres_locale "xx-nonsense" is not a locale' in answer.stderr


def test_unknown_locale_makes_no_cluster(server):
    server.start(options=["--env=POSTGRES_ICU_LOCALE=xx-nonsense"])
    assert server.ended() == 1
    assert "postgres_locale is xx-nonsense" in server.logs()
    server.start()
    assert server.prepare()["changed"] is True


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'app'",
        "UPDATE pg_database SET datcollversion = '1.0' WHERE datcollversion IS NOT NULL",
        (
            'CREATE TABLE sorted (name text COLLATE "de-x-icu" UNIQUE);'
            " UPDATE pg_collation SET collversion = '1.0' WHERE collname IN ('de-x-icu', 'fr-x-icu')"
        ),
    ],
)
def test_outdated_collation_stops_and_the_remedy_works(server, forgery):
    server.start()
    server.prepare()
    server.sql(forgery, "app")
    answer = server.prepare(check=False)
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert "fr-x-icu" not in answer.stderr  # nothing uses it
    remedies = [line for line in answer.stderr.splitlines() if line.startswith("docker exec")]
    assert remedies
    for remedy in remedies:
        subprocess.run(shlex.split(remedy), check=True, capture_output=True)
    assert server.prepare()["changed"] is False


def test_other_major_version_is_refused_and_left_alone(server):
    for place in ("pgdata", "."):
        server.in_volumes(f"cd {DATA}; mkdir -p {place}; echo 16 > {place}/PG_VERSION")
        server.in_volumes(f"echo x > {DATA}/{place}/data; chown -R 15432 {DATA}")
        listing = f"cd {DATA}; find . -printf '%p %u %m %T@ %s\\n' | sort"
        before = server.in_volumes(listing)
        server.start()
        assert server.ended() == 1
        assert "PostgreSQL 16, this image is PostgreSQL 17" in server.logs()
        assert server.logs().count("\n") == 1
        assert server.in_volumes(listing) == before
        server.in_volumes(f"rm -rf {DATA}/*")


def test_foreign_files_are_refused(server):
    server.in_volumes(f"echo x > {DATA}/photo.jpg; mkdir {DATA}/lost+found")
    server.start()
    assert server.ended() == 1
    assert "is not empty (photo.jpg)" in server.logs()
    server.in_volumes(f"rm {DATA}/photo.jpg")
    server.start()
    server.prepare()


def test_a_killed_server_leaves_no_process_id_behind_that_stops_the_next(server):
    server.start()
    server.prepare()
    docker("kill", server.name)
    # In the next container this is the id of a process that lives and is no server.
    server.in_volumes(f"sed -i '1s/.*/1/' {DATA}/pgdata/postmaster.pid")
    server.start()
    assert server.prepare()["changed"] is False


def test_a_second_server_on_the_same_volume_is_refused(server):
    server.start()
    server.prepare()
    second = ["run", "--rm", "--init", f"--volume={server.name}-data:{DATA}", server.image]
    process = docker(*second, check=False, timeout=30)
    assert process.returncode == 1
    assert "Another container runs a server on this volume" in process.stderr
    assert server.sql("SELECT 1") == "1"
    # The lock ends with the container, however it ends.
    docker("kill", server.name)
    server.start()
    assert server.prepare()["changed"] is False


def test_initdb_killed_midway_heals(server):
    server.start(options=["--cpus=0.1"])  # slow, so that midway is long
    until(
        lambda: (
            server.run("test", "-e", f"{DATA}/pgdata.unfinished/base", check=False).returncode == 0
        )
    )
    docker("kill", server.name)
    assert server.in_volumes(f"ls {DATA}") == "pgdata.unfinished\n"
    server.start()
    assert server.prepare()["changed"] is True
    assert server.in_volumes(f"ls {DATA}") == "pgdata\n"


@pytest.mark.parametrize("stop", ["stop", "TERM", "INT"])
def test_stops_fast_and_clean(server, stop):
    server.start()
    server.prepare()
    # A client that does not go by itself: PostgreSQL's own SIGTERM would wait for it.
    server.run("sh", "-c", "psql -d postgres -c 'SELECT pg_sleep(300)' > /dev/null 2>&1 &")
    sleeping = "SELECT pid FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
    until(lambda: server.sql(sleeping))
    docker(
        *(("stop", "--time=60") if stop == "stop" else ("kill", f"--signal={stop}")), server.name
    )
    assert server.ended() == 0
    assert "received fast shutdown request" in server.logs()
    assert "database system is shut down" in server.logs()
    server.start()
    assert server.prepare()["changed"] is False
    assert "not properly shut down" not in server.logs()


def test_server_that_never_answers_is_waited_for_in_bounds(server):
    server.start("-c", "listen_addresses=")
    answer = server.prepare("--wait=1", check=False)
    assert answer.returncode == 1
    assert f"within 1.0 s: read docker logs {server.name}" in answer.stderr
