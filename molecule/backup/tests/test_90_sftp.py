"""A repository on another machine, by SFTP: an account of the host itself stands for it."""

import json

import pytest
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


@pytest.fixture(scope="module")
def variables(small, tmp_path_factory):
    """Return a function that gives site.yml the variables for the server, some of them changed."""
    small.run(f"set -e\n{ACCOUNT}")
    path = tmp_path_factory.mktemp("sftp") / "variables.json"
    right = {
        "backup_repository": "sftp",
        "backup_directory": "/srv/keeper/backups",
        "backup_sftp_host": small.address,
        "backup_sftp_user": "keeper",
        "backup_sftp_host_key": small.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub"),
        "backup_sftp_private_key": small.run(f"cat {KEYS}/client"),
    }

    def write(**changes):
        path.write_text(json.dumps(right | changes))
        return "-e", f"@{path}"

    return write


def networks(host):
    return sorted(host.containers(DATABASE)[DATABASE]["NetworkSettings"]["Networks"])


@pytest.mark.parametrize(
    ("variable", "file", "says"),
    [
        ("backup_sftp_host_key", "other.pub", "known hosts failure"),
        ("backup_sftp_private_key", "other", "public key authentication failed"),
    ],
)
def test_the_wrong_key_of_either_side_is_refused(small, variables, variable, file, says):
    """The run fails, nothing was written there, and no key was shown."""
    key = small.run(f"cut -d' ' -f1,2 {KEYS}/{file}")
    result = small.ansible("prod", *variables(**{variable: key}))
    assert result.code != 0
    assert says in result.said
    assert "PRIVATE KEY" not in result.said
    assert small.run("ls /srv/keeper/backups") == ""


def test_backups_go_there_and_come_back(small, variables):
    """The database has a way out while its repository is elsewhere, and no longer."""
    small.converge("prod", *variables())
    assert networks(small) == ["postdo-prod-data", "postdo-prod-edge"]
    small.do("check")
    small.sql("CREATE TABLE there AS SELECT 1 AS n")
    small.do("backup")
    small.sql("INSERT INTO there VALUES (2)")
    small.do("mark both-rows")
    small.sql("INSERT INTO there VALUES (3)")
    small.do("drill")
    # The data's volume of this host can't be exchanged, so a copy beside it tells.
    small.do("inspect --to both-rows")
    rows = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM there"
    assert small.sql(rows, "postdo-prod-inspect") == "1 2"
    small.do("inspect-end")
    assert "changed=0" in small.converge("prod", *variables())
    held = small.run("find /srv/keeper/backups -type f -user keeper | head -n 1")
    assert held
    small.converge("prod")
    assert networks(small) == ["postdo-prod-data"]
    small.do("check")
    small.well()
