"""Files: uploads that come back, a dump that is moved, a key that nobody sees."""

import json
import re

import pytest
from hosts import PAGES
from machines import DATABASE, UPLOADS

DUMP = "/root/app.dump"

# All that an onlooker could see, again and again while something runs.
WATCH = """
"$@" > /root/watched 2>&1 & process=$!
while kill -0 $process 2> /dev/null; do
    cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' '
    echo
    docker inspect $(docker ps --all --quiet) 2> /dev/null | tee /root/containers.new
    grep -q '"Name": "/postdo-prod-drill"' /root/containers.new && cp /root/containers.new /root/containers
    sleep 0.2
done > /root/seen
wait $process
"""


def test_an_upload_comes_back(host):
    """With -e restore_uploads=true, as it was at the backup."""
    host.upload("one.txt", "picture")
    host.do("backup")
    host.run(f"rm {UPLOADS}/one.txt && echo later > {UPLOADS}/other.txt")
    host.restore("latest", "-e", "restore_uploads=true")
    assert host.run(f"cat {UPLOADS}/one.txt") == "picture"
    assert host.attempt(f"ls {UPLOADS}/other.txt").code != 0
    assert host.run(f"stat -c %u:%g {UPLOADS}/one.txt") == "18000:18000"
    host.well()
    host.upload("next.txt", "picture")


@pytest.mark.full(seen_by="molecule/backup/tests/test_60_files.py::test_an_upload_comes_back")
def test_uploads_that_are_all_gone_are_told_and_come_back_alone(host):
    """The next backup fails and names the command, which leaves the database as it is."""
    host.upload("two.txt", "picture")
    host.do("backup")
    host.sql("CREATE TABLE since AS SELECT 1")
    host.run(f"find {UPLOADS} -mindepth 1 -delete")
    said = host.refusal("backup")
    assert "now there is none" in said
    moment = re.search(r'restore_to="([^"]+)"', said)[1]
    host.restore(moment, "-e", "restore_only=uploads")
    assert host.run(f"cat {UPLOADS}/two.txt") == "picture"
    assert host.sql("SELECT count(*) FROM since") == "1"
    host.do("backup")
    host.well()
    host.upload("three.txt", "picture")


def test_a_dump_is_loaded_and_the_old_database_kept(host):
    """The dump's rows are there, what came later is in the old database."""
    host.page(PAGES["prod"], entry="in the dump")
    result = host.play("dump", "-e", f"dump_file={DUMP}")
    assert result.code == 0, result.said
    host.page(PAGES["prod"], entry="after the dump")
    result = host.play("load", "-e", f"load_file={DUMP}", "-e", "load_confirm=postdo-prod")
    assert result.code == 0, result.said
    host.wait_for_page("prod")
    page = host.page(PAGES["prod"])
    assert "in the dump" in page
    assert "after the dump" not in page
    old = host.sql("SELECT max(datname) FROM pg_database WHERE datname LIKE 'app_before_%'")
    query = "SELECT count(*) FROM core_entry WHERE text = 'after the dump'"
    assert host.run(f'docker exec {DATABASE} psql -XqAtU postgres -d {old} -c "{query}"') == "1"
    host.run(f"docker exec {DATABASE} dropdb -U postgres {old}")


@pytest.mark.full(seen_by="tests/test_backup.py::test_a_dump_is_whole_or_not_there")
def test_a_dump_that_is_cut_is_refused(host):
    """Nothing has changed, and no half-loaded database is left."""
    databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
    before, there = host.state(), host.sql(databases)
    size = int(host.run(f"stat -c %s {DUMP}"))
    host.run(f"head -c {size - 200} {DUMP} > {DUMP}.cut")
    result = host.play("load", "-e", f"load_file={DUMP}.cut", "-e", "load_confirm=postdo-prod")
    assert result.code != 0
    assert "could not be loaded, nothing was changed" in result.said
    assert (host.state(), host.sql(databases)) == (before, there)
    unconfirmed = host.play("load", "-e", f"load_file={DUMP}")
    assert unconfirmed.code != 0
    assert "load_confirm=postdo-prod" in unconfirmed.said


@pytest.fixture(scope="module")
def watched(host):
    """Watch a backup and a drill."""
    host.run("cat > /root/watch.sh", input=WATCH)
    seen = ""
    for operation in ("backup", "drill"):
        host.run(f"sh /root/watch.sh /usr/local/sbin/postdo-prod-backup {operation}", timeout=300)
        seen += host.run("cat /root/seen")
    return seen


def test_the_key_is_nowhere_to_be_seen(host, watched):
    """Not in arguments, containers, images, volumes, logs or the journal, also not at work."""
    key = (host.directory / "secrets/prod/backup_key").read_text().strip()
    assert "pgbackrest" in watched
    assert key not in watched
    for command in (
        "docker inspect $(docker ps -aq) $(docker images -q) $(docker volume ls -q)",
        "for image in $(docker images -q); do docker history --no-trunc $image; done",
        "for container in $(docker ps -aq); do docker logs $container 2>&1; done",
        "journalctl --no-pager",
        "find /etc/postdo/prod/backup.json /var/lib/postdo/prod -type f -exec cat {} +",
    ):
        said = host.run(command)
        assert said
        assert key not in said


def test_a_drill_has_no_way_out(host, watched):
    """Its database has no network at all."""
    (drill,) = [
        item
        for item in json.loads(host.run("cat /root/containers"))
        if item["Name"] == "/postdo-prod-drill"
    ]
    assert list(drill["NetworkSettings"]["Networks"]) == ["none"]
