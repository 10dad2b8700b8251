"""What other people's models, settings and migrations have, and what must not mislead a rehearsal."""

import json

import pytest
from django_rehearsal.findings import Facts
from django_rehearsal.policy import Policy
from django_rehearsal.verdict import judge
from project import SETTINGS

ADD = "migrations.AddField('item', '{}', {})"
NOTE = "    note = models.TextField(null=True)\n"
SIZE = ADD.format("size", "models.IntegerField(null=True)")
VIEWS = """
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.cache import cache_page
from shop.models import Item

def listing(request):
    return HttpResponse(Item.objects.filter(note="x").count())

urlpatterns = [path("kept", cache_page(600)(listing))]
"""


def exercise(release, *requests):
    """Return what a release can do."""
    return release.ask("exercise", "--requests", json.dumps(requests))[0]


def pages(release, *hosts):
    """Give a release its pages, which it serves at these hosts."""
    release.write("urls.py", VIEWS)
    release.env["TEST_URLS"] = "urls"
    release.write("settings.py", f"{SETTINGS}ALLOWED_HOSTS = {list(hosts)}\n")


def add(shop, *fields):
    """Give the items these fields (name, code), with a migration of their own, and apply it."""
    shop.models((NOTE, NOTE + "".join(f"    {name} = {code}\n" for name, code in fields)))
    shop.migration("0002_more", *(ADD.format(name, code) for name, code in fields))
    shop.manage("migrate", "--verbosity=0")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("name = models.CharField(max_length=200)", "full insert of shop.Item: 22001"),
        ("name = models.CharField(max_length=50, unique=True)", "42P10"),
    ],
    ids=["longer", "unique"],
)
def test_a_release_whose_table_only_its_state_has_changed_stops(shop, serving, fields, said):
    name = "name = models.CharField(max_length=50)"
    state = f"migrations.AlterField('item', 'name', {fields.removeprefix('name = ')})"
    shop.models((name, fields))
    shop.migration("0002_state", f"migrations.SeparateDatabaseAndState(state_operations=[{state}])")
    before = exercise(serving)
    (found,), _ = shop.rehearse()
    facts = Facts(shop.look(), baseline=before, migrations=[found], new=exercise(shop))
    (stop,) = [one for one in judge(facts, Policy()) if one.kind == "new-release"]
    assert said in stop.text


def test_made_up_rows_leave_the_numbers_of_sequences(shop, serving):
    numbers = "SELECT last_value, is_called FROM shop_{}_id_seq"
    shop.as_app("ALTER SEQUENCE shop_kind_id_seq RESTART WITH 7")
    before = [shop.sql(numbers.format(name)) for name in ("item", "kind")]
    assert exercise(serving)["models"]["shop.Item"]["insert"] == ""
    assert [shop.sql(numbers.format(name)) for name in ("item", "kind")] == before


def test_a_request_goes_to_a_host_that_the_project_answers_for(serving):
    pages(serving, "*.example.org", ".example.com")
    assert exercise(serving, {"path": "/kept"})["requests"] == {"GET /kept": 200}


def test_a_request_that_could_not_be_answered_before_is_told(shop, serving):
    before = exercise(serving, {"path": "/nowhere"})
    (told,) = judge(Facts(shop.look(), baseline=before), Policy())
    assert (told.kind, told.level) == ("untried", "warn") and "GET /nowhere" in told.text


def test_a_page_that_is_kept_is_asked_for_again(shop, serving):
    pages(serving, "*")
    with serving.asking("exercise", "--requests", json.dumps([{"path": "/kept"}])) as process:
        before = json.loads(process.stdout.readline())
        shop.as_app("ALTER TABLE shop_item DROP COLUMN note")
        process.stdin.write("\n")
        process.stdin.flush()
        after = json.loads(process.stdout.readline())
        process.stdin.close()
    assert [one["requests"]["GET /kept"] for one in (before, after)] == [200, 500]


def test_rows_that_a_reverse_would_delete_are_not_the_next_migrations(shop):
    code = """
def forward(apps, editor):
    Item = apps.get_model('shop', 'Item')
    Item.objects.bulk_create(Item(name=f'more {n}') for n in range(30))

def back(apps, editor):
    apps.get_model('shop', 'Item').objects.filter(name__startswith='more').delete()
"""
    shop.migration("0002_rows", "migrations.RunPython(forward, back)", code=code)
    shop.migration("0003_size", SIZE)
    _, found = shop.rehearse()[0]
    assert found["changes"] == []
    (table,) = [one for one in found["tables"] if one["table"] == "shop_item"]
    assert table["written"] == 0


MANY = """
class Answer:
    def __bool__(self):
        raise ValueError("which of them?")

class Many:
    def __eq__(self, other): return Answer()
    def __ne__(self, other): return Answer()
    __hash__ = None

class ManyField(models.TextField):
    def from_db_value(self, value, expression, connection):
        return Many()
"""


def test_values_that_can_not_be_compared_are_not(shop):
    (shop.path / "shop/fields.py").write_text(f"from django.db import models\n{MANY}")
    code = "models.TextField(default='1 2')"
    add(shop, ("many", code))
    text = (shop.path / "shop/models.py").read_text().replace(code, "ManyField(default='1 2')")
    shop.write("shop/models.py", f"from shop.fields import ManyField\n{text}")
    found = exercise(shop)["models"]["shop.Item"]
    assert found["read"] == found["insert"] == found["changing update"] == ""


@pytest.mark.parametrize(
    "field",
    [
        "kind = models.ForeignKey(Kind, models.CASCADE, default=None, related_name='boxes')",
        "name = models.CharField(max_length=9, default=None)",
        "name = models.CharField(max_length=9, choices=[(None, '---'), ('a', 'A')])",
        "size = models.DecimalField(max_digits=38, decimal_places=18)",
    ],
)
def test_a_new_model_that_asks_for_a_value_can_be_given_one(shop, field):
    models = (shop.path / "shop/models.py").read_text()
    shop.write("shop/models.py", f"{models}\nclass Box(models.Model):\n    {field}\n")
    shop.manage("makemigrations", "--verbosity=0")
    shop.manage("migrate", "--verbosity=0")
    found = exercise(shop)["models"]["shop.Box"]
    assert {action: why for action, why in found.items() if why} == {}


def test_a_pause_on_the_copy_may_be_as_long_on_the_live_database(shop):
    code = """
import time

def forward(apps, editor):
    apps.get_model('shop', 'Item').objects.count()
    time.sleep(0.6)
    apps.get_model('shop', 'Item').objects.count()
    time.sleep(1.2)
"""
    run = "migrations.RunPython(forward, migrations.RunPython.noop)"
    shop.migration("0002_thinks", run, code=code)
    (found,), _ = shop.rehearse()
    assert 1.2 <= found["longest_pause"] < 1.2 + found["seconds"]


def test_a_model_with_relations_to_many_may_get_another_name(shop):
    tags = "models.ManyToManyField('shop.Kind', related_name='tagged')"
    add(shop, ("tags", tags))
    shop.as_app("INSERT INTO shop_item_tags (item_id, kind_id) SELECT id, 1 FROM shop_item")
    shop.migration("0003_name", "migrations.RenameModel('Item', 'Product')")
    assert shop.rehearse()[0][0]["changes"] == []


def test_a_long_script_names_what_it_drops_at_its_end(shop):
    shop.as_app("CREATE VIEW report AS SELECT price FROM shop_item")
    sql = f"SELECT '{'x' * 5000}'; DROP VIEW report"
    shop.migration("0002_script", f"migrations.RunSQL({sql!r}, '')")
    assert shop.rehearse()[0][0]["dropped"] == []


def test_the_same_row_is_tried_wherever_it_lies(shop, serving):
    shop.as_app(
        "CREATE FUNCTION no() RETURNS trigger AS $$ BEGIN RAISE 'closed'; END $$ LANGUAGE plpgsql;"
        "CREATE TRIGGER closed BEFORE UPDATE ON shop_item FOR EACH ROW WHEN (OLD.id > 1) EXECUTE FUNCTION no()"
    )
    assert exercise(serving)["models"]["shop.Item"]["update"] == ""
    shop.as_app("UPDATE shop_item SET price = 5 WHERE id = 1")
    assert exercise(serving)["models"]["shop.Item"]["update"] == ""
