"""Production's data in development: nobody gets at it before it was made anonymous, and nothing of it is left."""

import pytest
from hosts import PAGES
from machines import DATABASE

DEVELOPMENT = "postdo-dev-db"
DATA = "/var/lib/docker/volumes/postdo-dev-db-data/_data"
PERSON = "alice.liddell@wonderland.example"
FULL = pytest.mark.full(
    seen_by="molecule/backup/tests/test_80_pull.py::test_what_would_not_be_anonymous_is_refused"
)


@pytest.fixture(scope="module")
def both(small):
    """Bring development up beside production, whose newest backup knows a person."""
    small.page(PAGES["prod"], entry=PERSON)
    # Enough of them for the planner's statistics.
    small.sql(f"CREATE TABLE people AS SELECT '{PERSON}' AS email FROM generate_series(1, 1000)")
    small.sql("GRANT ALL ON people TO app; ANALYZE people")
    small.do("backup")
    small.converge("dev")
    small.page(PAGES["dev"], entry="of the developer")
    yield small
    small.sql("DROP TABLE people")


@pytest.fixture
def pull(both, tmp_path):
    """Return a function that pulls with some SQL, as a developer would."""

    def call(sql=None, *arguments):
        if sql is not None:
            (tmp_path / "anonymous.sql").write_text(sql)
            arguments = ("-e", f"pull_sql={tmp_path}/anonymous.sql", *arguments)
        return both.ansible("dev", *arguments, book="playbooks/pull-data.yml")

    return call


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        pytest.param(None, "pull_as_it_is=true", marks=FULL),
        pytest.param("", "is empty", marks=FULL),
        ("UPDATE people SET email = 'x'; UPDATE nothing SET x = 1", '"nothing" does not exist'),
    ],
    ids=["none", "empty", "broken"],
)
def test_what_would_not_be_anonymous_is_refused(both, pull, sql, says):
    """The data of development is as it was, and no copy is left."""
    before = both.state()
    result = pull(sql)
    assert result.code != 0
    assert says in result.said
    assert both.state() == before
    assert "of the developer" in both.page(PAGES["dev"])


def test_nothing_of_the_person_is_left(both, pull):
    """Not in the rows, the statistics, the log or any file; the page shows production's entries, made anonymous."""
    sql = "UPDATE people SET email = 'x'; UPDATE core_entry SET text = 'somebody' || id"
    result = pull(sql)
    assert result.code == 0, result.said
    both.wait_for_page("dev")
    page = both.page(PAGES["dev"])
    assert "somebody" in page
    assert "of the developer" not in page
    assert both.sql("SELECT DISTINCT email FROM people", DEVELOPMENT) == "x"
    assert both.run(f"grep -rlaF somebody {DATA}")
    assert both.attempt(f"grep -rlaF {PERSON} {DATA}").out == ""
    assert both.sql("SELECT DISTINCT email FROM people", DATABASE) == PERSON
    kept = both.run("docker volume ls --quiet --filter name=postdo-dev-db-data-before")
    assert kept.count("postdo-dev-db-data-before-") == 1
    assert "changed=0" in both.converge("dev")
