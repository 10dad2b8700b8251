"""A repository elsewhere. By SFTP, an account of the host stands for it; at S3, a server beside the hosts."""

import json
import os
import ssl
import subprocess
import urllib.request

import pytest
from hosts import PROJECT, call, wait_until
from machines import DATABASE

KEYS = "/root/sftp"
ACCOUNT = f"""
mkdir {KEYS}
for name in client other; do ssh-keygen -q -t ed25519 -N '' -f {KEYS}/$name; done
useradd --create-home --home-dir /srv/keeper keeper
install -d -o keeper -m 0700 /srv/keeper/.ssh /srv/keeper/backups
install -o keeper -m 0600 {KEYS}/client.pub /srv/keeper/.ssh/authorized_keys
systemctl start ssh
"""
APPLICATION = """
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
application = DomainDispatcherApplication(create_backend_app)
"""
# Keeps which name servers the drill's database had last.
WATCHED_DRILL = """
rm -f /root/names
/usr/local/sbin/postdo-prod-backup drill & process=$!
while kill -0 $process 2> /dev/null; do
    docker exec postdo-prod-drill cat /etc/resolv.conf > /root/names.new 2> /dev/null &&
        cp /root/names.new /root/names
    sleep 0.1
done
wait $process
"""
# The server is another, and nothing else.
FULL = pytest.mark.full(
    seen_by="molecule/backup/tests/test_90_elsewhere.py::test_backups_go_there_and_come_back"
)
LOCK = PROJECT / "molecule/backup/requirements.txt"


@pytest.fixture(scope="module")
def sftp(small):
    """Make an account that lets one key in; return the variables for it."""
    small.run(f"set -e\n{ACCOUNT}")
    return {
        "backup_repository": "sftp",
        "backup_directory": "/srv/keeper/backups",
        "backup_sftp_host": small.address,
        "backup_sftp_user": "keeper",
        "backup_sftp_host_key": small.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub"),
        "backup_sftp_private_key": small.run(f"cat {KEYS}/client"),
    }


@pytest.fixture(scope="module")
def s3(small, tmp_path_factory):
    """Run a server that speaks S3, with a bucket; return the variables for it."""
    directory = tmp_path_factory.mktemp("s3")
    # The hosts' router, which is this machine.
    name = f"{small.address.rpartition('.')[0]}.1"
    endpoint = f"{name}:8443"
    subject = f"-subj /CN={name} -addext subjectAltName=IP:{name},DNS:{name}"
    for command in (
        "uv venv --quiet venv",
        f"uv pip install --quiet --python venv --require-hashes -r {LOCK}",
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 1 {subject}",
    ):
        environment = os.environ | {"UV_SYSTEM_CERTS": "1"}
        made = call(command.split(), timeout=300, cwd=directory, env=environment)
        assert made.code == 0, made.said
    (directory / "s3.py").write_text(APPLICATION)
    command = (
        "venv/bin/gunicorn --worker-class gthread --threads 8 --certfile certificate --keyfile key"
    )
    with (directory / "log").open("w") as log:
        server = subprocess.Popen(
            [*command.split(), "--bind", endpoint, "s3"], cwd=directory, stdout=log, stderr=log
        )
    try:
        make = urllib.request.Request(f"https://{endpoint}/backups", method="PUT")
        trust = ssl.create_default_context(cafile=directory / "certificate")

        def made() -> bool:
            try:
                return urllib.request.urlopen(make, context=trust).status == 200
            except OSError:
                return False

        wait_until(made, "the bucket is made")
        yield {
            "backup_repository": "s3",
            "backup_directory": "/postdo-prod",
            "backup_s3_endpoint": endpoint,
            "backup_s3_bucket": "backups",
            "backup_s3_key": "key",
            "backup_s3_secret": "secret",
            "backup_ca_bundle": f"{directory}/certificate",
        }
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def given(tmp_path):
    """Return a function that hands variables to a playbook, and none of them to onlookers."""

    def write(variables):
        path = tmp_path / "variables.json"
        path.write_text(json.dumps(variables))
        return "-e", f"@{path}"

    return write


def networks(host):
    return sorted(host.containers(DATABASE)[DATABASE]["NetworkSettings"]["Networks"])


@pytest.mark.parametrize(
    ("variable", "file", "says"),
    [
        ("backup_sftp_host_key", "other.pub", "known hosts failure"),
        pytest.param(
            *("backup_sftp_private_key", "other", "public key authentication failed"), marks=FULL
        ),
    ],
)
def test_the_wrong_key_of_either_side_is_refused(small, sftp, given, variable, file, says):
    """The run fails, nothing was written there, and no key was shown."""
    key = small.run(f"cut -d' ' -f1,2 {KEYS}/{file}")
    result = small.ansible("prod", *given(sftp | {variable: key}))
    assert result.code != 0
    assert says in result.said
    assert "PRIVATE KEY" not in result.said
    assert small.run("ls /srv/keeper/backups") == ""


@pytest.mark.parametrize("kind", ["sftp", pytest.param("s3", marks=FULL)])
def test_backups_go_there_and_come_back(small, given, request, kind):
    """The database has a way out while its repository is elsewhere, and no longer."""
    variables = given(request.getfixturevalue(kind))
    small.converge("prod", *variables)
    assert networks(small) == ["postdo-prod-data", "postdo-prod-edge"]
    small.do("check")
    small.sql("DROP TABLE IF EXISTS there; CREATE TABLE there AS SELECT 1 AS n")
    small.do("backup")
    small.sql("INSERT INTO there VALUES (2)")
    small.do(f"mark both-rows-{kind}")
    small.sql("INSERT INTO there VALUES (3)")
    small.run(WATCHED_DRILL, timeout=300)
    assert small.run("cat /root/names") == ""
    # The data's volume of this host can't be exchanged, so a copy beside it tells.
    small.do(f"inspect --to both-rows-{kind}")
    rows = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM there"
    assert small.sql(rows, "postdo-prod-inspect") == "1 2"
    small.do("inspect-end")
    assert "changed=0" in small.converge("prod", *variables)
    # Back to the directory beside the host.
    small.converge("prod")
    assert networks(small) == ["postdo-prod-data"]
    small.do("check")
    small.well()
