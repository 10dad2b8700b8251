"""A release at work on a database whose schema has moved on: what it still can do, and that it leaves no trace."""

import json

import pytest
from django_rehearsal.findings import Facts
from django_rehearsal.policy import Policy
from django_rehearsal.verdict import judge
from project import SETTINGS

ADD = "migrations.AddField('item', 'size', models.IntegerField({}))"
VIEWS = """
from django.http import HttpResponse
from django.urls import path
from shop.models import Item, Kind

def listing(request):
    return HttpResponse(", ".join(item.note or "" for item in Item.objects.all()[:3]))

def making(request):
    Kind.objects.create(code=request.POST["code"])
    return HttpResponse(status=201)

urlpatterns = [path("items", listing), path("kinds", making)]
"""


def exercise(release, *requests):
    """Return what a release can do."""
    return release.ask("exercise", "--requests", json.dumps(requests))[0]


def broken(shop, serving, *requests):
    """Apply what is pending and return in what way the serving release is broken by it."""
    before = exercise(serving, *requests)
    migrations, _ = shop.rehearse()
    last = migrations[-1]
    facts = Facts(
        shop.look(),
        baseline=before,
        migrations=[{**last, "exercise": exercise(serving, *requests)}],
    )
    return [one.text for one in judge(facts, Policy()) if one.kind == "old-release"]


@pytest.fixture
def rows(shop):
    """Return a function that tells what all tables and sequences hold."""
    queries = (
        "SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM shop_item i",
        "SELECT md5(string_agg(k::text, ',' ORDER BY id)) FROM shop_kind k",
    )
    return lambda: [shop.sql(query) for query in queries]


def test_everything_works_before_and_nothing_is_left(shop, serving, rows):
    serving.write("urls.py", VIEWS)
    serving.env["TEST_URLS"] = "urls"
    before = rows()
    found = exercise(
        serving, {"path": "/items"}, {"path": "/kinds", "method": "post", "data": {"code": "new"}}
    )
    assert found["checks"] == ""
    assert set(found["models"]) == {"shop.Kind", "shop.Item"}
    assert all(why == "" for tried in found["models"].values() for why in tried.values())
    assert found["requests"] == {"GET /items": 200, "POST /kinds": 201}
    assert rows() == before


def test_a_row_that_python_takes_for_nothing_is_a_row(shop, serving):
    name = "    name = models.CharField(max_length=50)\n"
    serving.models((name, f"{name}    def __len__(self): return 0\n"))
    assert "changing update" in exercise(serving)["models"]["shop.Item"]


def test_empty_tables_can_be_tried_too(shop, serving):
    shop.as_app("TRUNCATE shop_item, shop_kind")
    found = exercise(serving)
    assert all(why == "" for tried in found["models"].values() for why in tried.values())


def test_a_column_that_may_be_empty_breaks_nothing(shop, serving):
    shop.migration("0002_size", ADD.format("null=True"))
    assert broken(shop, serving) == []


def test_a_required_column_with_a_default_of_djangos_breaks_inserts(shop, serving):
    shop.migration("0002_size", ADD.format("default=1"))
    (why,) = broken(shop, serving)
    assert "insert, bare insert, full insert of shop.Item: 23502" in why
    assert why.count("size") == 1


def test_a_required_column_with_a_default_of_the_databases_breaks_nothing(shop, serving):
    shop.migration("0002_size", ADD.format("default=1, db_default=1"))
    assert broken(shop, serving) == []


def test_a_removed_column_breaks_all_that_names_it(shop, serving):
    shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    serving.write("urls.py", VIEWS)
    serving.env["TEST_URLS"] = "urls"
    (why,) = broken(shop, serving, {"path": "/items"})
    assert "read of shop.Item: 42703" in why
    assert "insert, bare insert, full insert, update of shop.Item: 42703" in why
    assert "GET /items answers 500 in place of 200" in why


def test_a_column_the_release_no_longer_names_may_go(shop, serving):
    serving.models(("    note = models.TextField(null=True)\n", ""))
    shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    assert broken(shop, serving) == []


@pytest.mark.parametrize("length", [9, 500])
def test_a_narrower_column_breaks_longer_values(shop, serving, length):
    shop.migration(
        "0002_narrow",
        f"migrations.AlterField('item', 'note', models.CharField(max_length={length}, null=True))",
    )
    # Every value that is there fits, but the release lets visitors write longer ones.
    shop.as_app("UPDATE shop_item SET note = left(note, 9)")
    assert "full insert of shop.Item: 22001" in broken(shop, serving)[0]


def test_a_smaller_number_breaks_larger_values(shop, serving):
    shop.migration(
        "0002_small",
        "migrations.AlterField('item', 'price', models.SmallIntegerField(default=0))",
    )
    assert "full insert of shop.Item: 22003" in broken(shop, serving)[0]


def test_a_rule_about_values_that_every_row_keeps_is_no_finding_of_made_up_rows(shop, serving):
    check = "models.CheckConstraint(condition=models.Q(price__lt=40, name__startswith='item'), name='told')"
    shop.migration("0002_check", f"migrations.AddConstraint('item', {check})")
    assert broken(shop, serving) == []


def test_a_rule_that_a_column_must_have_a_value_is_one(shop, serving):
    check = "models.CheckConstraint(condition=models.Q(note__isnull=False), name='filled')"
    shop.migration("0002_check", f"postgres.AddConstraintNotValid('item', {check})")
    (why,) = broken(shop, serving)
    assert "on after it: bare insert of shop.Item: 23514" in why


def test_a_rule_about_values_that_a_row_breaks_is_one(shop, serving):
    check = "models.CheckConstraint(condition=models.Q(price__gt=40), name='dear')"
    shop.migration("0002_check", f"postgres.AddConstraintNotValid('item', {check})")
    assert "update of shop.Item: 23514" in broken(shop, serving)[0]


def test_a_new_uniqueness_is_no_finding_of_made_up_rows(shop, serving):
    shop.as_app("UPDATE shop_item SET price = id")
    shop.migration(
        "0002_unique", "migrations.AlterField('item', 'price', models.IntegerField(unique=True))"
    )
    assert broken(shop, serving) == []


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
def test_rows_that_the_database_no_longer_keeps_are_missed(shop, serving, event):
    function = "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    trigger = f"CREATE TRIGGER t BEFORE {event} ON shop_item FOR EACH ROW EXECUTE FUNCTION gone()"
    shop.migration("0002_trigger", f"migrations.RunSQL({f'{function}; {trigger}'!r}, '')")
    (why,) = broken(shop, serving)
    action = {"INSERT": "insert, bare insert, full insert", "UPDATE": "update"}[event]
    assert f"{action} of shop.Item: " in why and "the database has not kept it" in why


def test_a_table_that_is_gone_breaks_its_model(shop, serving):
    shop.migration(
        "0002_drop", "migrations.RemoveField('item', 'kind')", "migrations.DeleteModel('Kind')"
    )
    (why,) = broken(shop, serving)
    assert "read, insert, bare insert, full insert, update of shop.Kind: 42P01" in why


def test_a_column_that_must_have_a_value_now_breaks_inserts_that_leave_it_empty(shop, serving):
    # Every row that is there has one.
    shop.migration("0002_filled", "migrations.AlterField('item', 'note', models.TextField())")
    (why,) = broken(shop, serving)
    assert "bare insert of shop.Item: 23502" in why and "note" in why


def test_a_made_up_row_that_could_not_be_inserted_before_hides_nothing(shop, serving):
    # Of such an index Django knows nothing, so a row like another is not unique.
    shop.as_app("CREATE UNIQUE INDEX once ON shop_item (lower(name))")
    assert exercise(serving)["models"]["shop.Item"]["insert"] == ""
    shop.migration("0002_size", ADD.format("default=1"))
    (why,) = broken(shop, serving)
    assert "on after it: insert, bare insert, full insert of shop.Item: 23502" in why


def test_rows_that_can_not_be_read_are_not_written(shop, serving):
    field = """class Sealed(models.TextField):
    def from_db_value(self, *_):
        raise ValueError("another key")

class Item("""
    serving.models(("class Item(", field), ("note = models.TextField", "note = Sealed"))
    count = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'shop_item'"
    before = shop.sql(count)
    found = exercise(serving)["models"]["shop.Item"]
    assert "another key" in found["read"] and found["update"] == ""
    assert shop.sql(count) == before


SYNC = (
    "CREATE FUNCTION sync() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := OLD.note; RETURN NEW; END';"
    "CREATE TRIGGER sync BEFORE UPDATE ON shop_item FOR EACH ROW EXECUTE FUNCTION sync()"
)
TWICE = (
    "CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE unique_violation; END';"
    "CREATE TRIGGER twice BEFORE INSERT ON shop_item FOR EACH ROW EXECUTE FUNCTION twice()"
)
CI = "postgres.CreateCollation('ci', provider='icu', locale='und-u-ks-level2', deterministic=False)"
NAMES = (
    "CREATE TABLE names (name varchar(50) PRIMARY KEY); INSERT INTO names SELECT DISTINCT name FROM shop_item;"
    "ALTER TABLE shop_item ADD FOREIGN KEY (name) REFERENCES names"
)
SUBTLE = {
    "a trigger that keeps another value": (
        [f"migrations.RunSQL({SYNC!r}, '')"],
        "changing update of shop.Item: DatabaseError: note was changed",
    ),
    "a number that becomes a text": (
        ["migrations.AlterField('item', 'price', models.CharField(max_length=20, default='0'))"],
        "filter of shop.Item: 42883",
    ),
    "texts that can not be searched": (
        [
            CI,
            "migrations.AlterField('item', 'name', models.CharField(max_length=50, db_collation='ci'))",
        ],
        "filter of shop.Item: 0A000",
    ),
    "free values that must be known elsewhere": (
        [f"migrations.RunSQL({NAMES!r}, '')"],
        "changing update of shop.Item: 23503",
    ),
    "a trigger that calls every row a double": (
        [f"migrations.RunSQL({TWICE!r}, '')"],
        "insert, bare insert, full insert of shop.Item: 23505",
    ),
}


@pytest.mark.parametrize("case", SUBTLE)
def test_what_only_shows_when_it_is_used(shop, serving, case):
    operations, said = SUBTLE[case]
    shop.migration("0002_subtle", *operations)
    (why,) = broken(shop, serving)
    assert said in why


LESS = {
    "models.DecimalField(max_digits=9, decimal_places=4, default=0)": "numeric(9, 2)",
    "models.FloatField(default=0)": "bigint",
    "models.DateTimeField(default='2026-01-01T00:00Z')": "timestamptz(0)",
    "models.CharField(max_length=20, choices=[('s', 's'), ('sent on', 's')], default='s')": "varchar(2)",
    "models.FileField(default='a')": "varchar(20)",
}


@pytest.mark.parametrize("field", LESS)
def test_values_that_the_new_type_would_not_keep_are_missed(shop, field):
    kind = "note = models.TextField(null=True)"
    shop.models((kind, f"{kind}\n    more = {field}"))
    shop.migration("0002_more", f"migrations.AddField('item', 'more', {field})")
    shop.manage("migrate", "--verbosity=0")
    sql = f"ALTER TABLE shop_item ALTER more TYPE {LESS[field]}"
    shop.migration("0003_less", f"migrations.RunSQL({sql!r}, '')")
    assert "of shop.Item: " in broken(shop, shop)[0]


def test_a_request_whose_commit_would_fail_is_an_error(shop, serving):
    urls = """
from django.http import HttpResponse
from django.urls import path
from shop.models import Item

def view(request):
    Item.objects.create(name="astray", kind_id=5000)
    return HttpResponse()

urlpatterns = [path("items", view)]
"""
    serving.write("urls.py", urls)
    serving.env["TEST_URLS"] = "urls"
    assert exercise(serving, {"path": "/items"})["requests"] == {"GET /items": 500}


def test_mail_of_a_request_goes_nowhere(shop, serving):
    urls = """
from django.core.mail import send_mail
from django.http import HttpResponse
from django.urls import path

def view(request):
    send_mail("hello", "there", "a@example.org", ["b@example.org"])
    return HttpResponse()

urlpatterns = [path("mail", view)]
"""
    serving.write("urls.py", urls)
    serving.env["TEST_URLS"] = "urls"
    assert exercise(serving, {"path": "/mail"})["requests"] == {"GET /mail": 200}


def test_a_foreign_key_that_only_a_commit_would_check_is_checked(shop, serving):
    key = (
        "ALTER TABLE shop_item ADD CONSTRAINT astray FOREIGN KEY (id) REFERENCES shop_kind "
        "DEFERRABLE INITIALLY DEFERRED NOT VALID"
    )
    shop.migration("0002_key", f"migrations.RunSQL({key!r}, '')")
    (why,) = broken(shop, serving)
    assert why.count("insert of shop.Item: 23503") == 2 and "full insert" not in why


def test_numbers_of_a_sequence_that_nobody_owns_are_missed_when_they_are_there_already(
    shop, serving
):
    sql = "CREATE SEQUENCE anew; ALTER TABLE shop_item ALTER id DROP IDENTITY, ALTER id SET DEFAULT nextval('anew')"
    shop.migration("0002_numbers", f"migrations.RunSQL({sql!r}, '')")
    before = exercise(serving)
    (found,), _ = shop.rehearse()
    assert [one["kind"] for one in found["ailments"]] == ["sequence"]
    after = exercise(serving)
    facts = Facts(shop.look(), baseline=before, migrations=[{**found, "exercise": after}])
    (why,) = [one.text for one in judge(facts, Policy()) if one.kind == "old-release"]
    assert why.count("insert of shop.Item: 23505") == 3


def test_a_trigger_that_looks_only_at_what_changes_is_fired(shop, serving):
    body = "BEGIN NEW.nowhere := 1; RETURN NEW; END"
    sql = (
        f"CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS '{body}'; CREATE TRIGGER t BEFORE UPDATE ON "
        "shop_item FOR EACH ROW WHEN (OLD.price IS DISTINCT FROM NEW.price) EXECUTE FUNCTION broken()"
    )
    shop.migration("0002_trigger", f"migrations.RunSQL({sql!r}, '')")
    (why,) = broken(shop, serving)
    assert "changing update of shop.Item: 42703" in why


def test_a_trigger_is_seen_though_another_column_takes_no_made_up_value(shop, serving):
    shop.as_app("ALTER TABLE shop_item ADD CHECK (name LIKE 'item%')")
    found = exercise(serving)
    assert found["models"]["shop.Item"]["changing update of price"] == ""
    assert "changing update of name" in found["untried"]["shop.Item"]
    sql = "ALTER TABLE shop_item ADD CHECK (price < 40) NOT VALID"
    shop.migration("0002_price", f"migrations.RunSQL({sql!r}, '')")
    assert broken(shop, serving) == []


UNIQUE = "price = models.IntegerField(unique=True)"
PARTIAL = "CREATE UNIQUE INDEX once ON shop_item (price) WHERE price > 5"


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("ALTER TABLE shop_item DROP CONSTRAINT once", False),
        (f"ALTER TABLE shop_item DROP CONSTRAINT once; {PARTIAL}", False),
        (
            f"{PARTIAL.replace('once', 'other').partition(' WHERE')[0]}; ALTER TABLE shop_item DROP CONSTRAINT once",
            True,
        ),
    ],
)
def test_what_the_serving_release_counts_on_as_unique_must_stay_so(shop, serving, sql, kept):
    shop.as_app(
        "UPDATE shop_item SET price = id; ALTER TABLE shop_item ADD CONSTRAINT once UNIQUE (price)"
    )
    serving.models(("price = models.IntegerField(default=0)", UNIQUE))
    shop.migration("0002_unique", f"migrations.RunSQL({sql!r}, '')")
    told = broken(shop, serving)
    assert len(told) == (not kept)
    assert all("unique price of shop.Item: 42P10" in why for why in told)


def test_uniqueness_under_a_condition_and_of_several_columns_is_asked_for(shop, serving):
    rules = """
    class Meta:
        unique_together = [("name", "price")]
        constraints = [
            models.UniqueConstraint(fields=["note"], condition=models.Q(price__gt=5), name="dear"),
        ]
"""
    serving.write(
        "shop/models.py", (serving.path / "shop/models.py").read_text().rstrip() + "\n" + rules
    )
    shop.as_app(
        "CREATE UNIQUE INDEX ON shop_item (price, name); CREATE UNIQUE INDEX dear ON shop_item (note) WHERE price > 5"
    )
    found = exercise(serving)["models"]["shop.Item"]
    assert found["unique name, price"] == found["unique note"] == ""
    shop.as_app("DROP INDEX dear")
    assert exercise(serving)["models"]["shop.Item"]["unique note"].startswith("42P10")


def test_a_row_of_a_relation_to_each_only_once_refers_to_one_that_is_free(shop, serving):
    serving.models(("kind = models.ForeignKey(", "kind = models.OneToOneField("))
    shop.as_app("UPDATE shop_item SET kind_id = CASE WHEN id < 3 THEN id END")
    shop.as_app("CREATE UNIQUE INDEX ON shop_item (kind_id)")
    found = exercise(serving)
    assert found["untried"] == {} and found["models"]["shop.Item"]["insert"] == ""


def test_what_is_unique_together_is_tried_with_another_value_for_one_of_them(shop, serving):
    serving.env["TEST_APPS"] = "shop django.contrib.contenttypes django.contrib.auth"
    serving.manage("migrate", "--verbosity=0")
    found = exercise(serving)
    # Nobody is in a group, and there is none; permissions there are.
    assert found["untried"] == {}
    assert found["models"]["auth.Permission"]["insert"] == ""
    shop.as_app(
        "INSERT INTO auth_group (name) VALUES ('g');"
        "INSERT INTO auth_group_permissions (group_id, permission_id) SELECT id, 1 FROM auth_group"
    )
    found = exercise(serving)
    assert found["untried"] == {}
    assert found["models"]["auth.Group_permissions"]["insert"] == ""


def test_a_release_that_can_not_reach_the_database_says_so_at_once(serving):
    serving.write("settings.py", f"{SETTINGS}DATABASES['default']['PORT'] = '1'\n")
    with serving.asking("exercise") as process:
        _, said = process.communicate("", timeout=20)
    assert process.returncode == 2 and "refused" in said
