"""What only the live database can show: stopped cleanly, and taken up again."""

import pytest
from hosts import SHORT, wait_until

ADD = 'migrations.AddField("item", "{}", models.IntegerField({}))'
INDEX = 'postgres.AddIndexConcurrently("item", models.Index(fields=["name"], name="by_name"))'
SLEEP = 'migrations.RunSQL("SELECT pg_sleep({})", "")'


def idle(shop, query):
    """Begin a transaction that idles until it is ended."""
    psql = "docker exec -i postdo-prod-db psql -XqAt -U postgres -d app"
    shop.background(f"({{ cat; sleep 600; }} | {psql})", f"BEGIN; {query};\n")
    begun = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    wait_until(lambda: shop.sql(begun) != "0", "a transaction that idles")


def end_idle(shop):
    """End it."""
    shop.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    )


def test_a_row_that_came_after_the_copy(second):
    """The constraint passes on the copy and fails on the live database, which stays as it was."""
    second.model(
        "    name = models.CharField(max_length=50)\n",
        "    name = models.CharField(max_length=50, unique=True)\n",
    )
    second.migration("before", SLEEP.format(3))
    second.migration(
        "unique",
        'migrations.AlterField("item", "name", models.CharField(max_length=50, unique=True))',
    )
    insert = "INSERT INTO stock_item (name, price) VALUES ('item 1', 1)"
    before = second.release
    with second.visited() as met:
        result = second.during("migrate", lambda: second.sql(insert))
    assert result.code != 0
    assert "passed on the copy and failed on the live database" in result.said
    assert "name = 'item 1' in 2 rows" in result.said
    assert second.release == second.page() == before
    assert second.sql("SELECT count(*) FROM stock_item") == "1001"
    assert second.left_over() == []
    second.unharmed(met)
    second.sql("DELETE FROM stock_item WHERE id = (SELECT max(id) FROM stock_item)")
    # In the short form the last test's deploy applies it.
    if not SHORT:
        second.goes()


@pytest.mark.full(
    seen_by="tests/rehearsal/test_live.py::test_it_gives_up_for_a_lock_again_and_again_and_nobody_waits_long"
)
def test_a_table_that_somebody_holds(second):
    """It tries again and again and gives up; whoever reads meanwhile hardly waits."""
    second.field("held", "null=True")
    second.migration("held", ADD.format("held", "null=True"))
    idle(second, "SELECT count(*) FROM stock_item")
    before, reads = second.release, []

    def read():
        while second.step() == "migrate":
            # Fails if it has to wait for the table longer than this.
            second.sql("SET lock_timeout = '1.5s'; SELECT count(*) FROM stock_item")
            reads.append(second.get("/stock/").status)

    with second.visited() as met:
        result = second.during("migrate", read)
    assert result.code != 0
    assert "lock timeout" in result.said and "attempts; in the way: process" in result.said
    assert set(reads) == {200}
    assert second.release == before
    second.unharmed(met)
    end_idle(second)
    second.goes()


@pytest.mark.full(
    seen_by="tests/rehearsal/test_live.py::test_an_index_whose_build_was_killed_is_built_again"
)
def test_a_concurrent_index_killed_midway(second):
    """The unfinished index is found, dropped and built again by the next run."""
    second.edit(
        "stock/models.py",
        lambda text: (
            text
            + '\n    class Meta:\n        indexes = [models.Index(fields=["name"], name="by_name")]\n'
        ),
    )
    second.migration("index", INDEX, atomic=False)
    unfinished = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"

    def kill():
        wait_until(lambda: second.sql(unfinished) == "1", "an unfinished index")
        second.run("docker kill $(docker ps --quiet --filter name=postdo-prod-migrate)")
        # The server would finish it for nobody.
        second.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'"
        )

    before = second.release
    # It waits for whoever has written to the table.
    idle(second, "UPDATE stock_item SET price = price WHERE id = 1")
    with second.visited() as met:
        result = second.during("migrate", kill)
    end_idle(second)
    assert result.code != 0
    assert second.release == before
    second.unharmed(met)
    assert second.sql(unfinished) == "1"
    second.goes()
    assert second.sql(unfinished) == "0"


@pytest.mark.full(
    seen_by="tests/rehearsal/test_live.py::test_an_interrupted_run_ends_in_the_same_schema"
)
def test_a_deploy_killed_between_migrations(second):
    """The next run goes on, and ends in the schema that the rehearsal ended in."""
    for name in ("one", "two", "three", "four"):
        second.field(name, "null=True")
        second.migration(name, ADD.format(name, "null=True"), SLEEP.format(2))

    two = "SELECT count(*) FROM django_migrations WHERE name LIKE '%_two'"

    def kill():
        wait_until(lambda: second.sql(two) == "1", "two of four migrations")
        second.kill_program()
        second.run("docker kill $(docker ps --quiet --filter name=postdo-prod-migrate)")

    before = second.release
    with second.visited() as met:
        result = second.during("migrate", kill)
    assert result.code != 0
    assert second.release == second.page() == before
    second.unharmed(met)
    said = second.goes()
    assert "was cut off in its step migrate" in said
    assert "_three" in said and "_four" in said


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_a_bad_release_leaves_the_one_before_with_its_workers"
)
def test_a_release_that_is_ill_after_its_migrations(second):
    """The old one serves on, with the migrated schema; no row is lost, those of meanwhile neither."""
    second.field("ill", "null=True")
    second.migration("ill", ADD.format("ill", "null=True"))
    before = second.release
    with second.visited() as met:
        result = second.deploy(django_web_health_path="/nowhere", django_web_start_timeout=8)
    assert result.code != 0
    assert second.release == second.page() == before
    assert second.left_over() == []
    second.unharmed(met)


def test_a_rehearsal_alone_changes_nothing(second):
    """It says what a deploy would, and leaves the release, the schema and the rows."""
    second.migration("alone", SLEEP.format(5))
    before = second.database(), second.release
    result = second.operate("rehearse")
    assert result.code == 0, result.said
    assert "lossless" in result.said and "Report: " in result.said
    assert (second.database(), second.release) == before
    assert second.left_over() == [] and second.rehearsal_left() == ""


def test_two_deploys_at_once(second):
    """One migrates what the two tests before have left to do, the other is told who does."""
    release = second.release

    def again():
        refused = second.program(f"deploy {release}")
        assert refused.code == 75
        assert "Another deploy is at work" in refused.said

    with second.visited() as met:
        result = second.during("rehearse", again)
    assert result.code == 0, result.said
    assert second.release == second.page() != release
    assert second.left_over() == [] and second.rehearsal_left() == ""
    second.unharmed(met)
