"""What facts mean: which stop, which warn, what a project may allow."""

import json
import tomllib

import pytest
from django_rehearsal import verdict, wording
from django_rehearsal.findings import Facts
from django_rehearsal.policy import Adopted, Override, Policy

STRICT = Policy()
LOOK = {
    "recorded": ["shop.0001_initial"],
    "pending": ["shop.0002_x"],
    "ghosts": [],
    "lost": {},
    "unseen": [],
    "unfit": [],
    "tables": ["shop_item"],
    "strangers": [],
    "conflicts": {},
    "problem": "",
    "files": {"shop.0001_initial": "aa"},
    "catalog": {"table shop_item": "plain", "column shop_item.id": "bigint NOT NULL"},
    "ailments": [],
    "invalid_indexes": [],
}
MIGRATION = {
    "migration": "shop.0002_x",
    "atomic": True,
    "operations": ["Add field"],
    "runs_code": False,
    "resumable": True,
    "leftovers": [],
    "seconds": 0.2,
    "statements": [{"sql": "SELECT '<b>'", "count": 2, "seconds": 0.1}],
    "longest_statement": 0.1,
    "longest_pause": 0.0,
    "locks": [],
    "mails": 0,
    "calls": [],
    "wal": 1000,
    "growth": 0,
    "rewritten": [],
    "tables": [],
    "changes": [],
    "dropped": [],
    "ailments": [],
    "invalid_indexes": [],
    "reversal": {"class": "lossless", "why": ""},
}
LOCK = {
    "table": "shop_item",
    "bytes": 900_000_000,
    "mode": "AccessExclusiveLock",
    "blocks": "reads and writes",
    "since": 0.0,
    "seconds": 4.0,
}


def facts(look=None, last=None, expected=None, free=None, **migration):
    """Return facts that are all well, with changes."""
    return Facts(
        LOOK | (look or {}),
        last=last or {},
        expected=expected,
        free=free,
        migrations=[MIGRATION | migration],
    )


def stops(known, policy=STRICT):
    """Return the kinds of findings that stop."""
    return [one.kind for one in verdict.judge(known, policy) if one.stops]


def warns(known, policy=STRICT):
    """Return the kinds of findings that do not."""
    return [one.kind for one in verdict.judge(known, policy) if not one.stops]


def test_what_is_well_is_no_finding():
    assert verdict.judge(facts(expected=LOOK["catalog"]), Policy()) == []


STOPPING = {
    "a problem": ({"look": {"problem": "inconsistent"}}, "history"),
    "two last migrations": ({"look": {"conflicts": {"shop": ["a", "b"]}}}, "history"),
    "a ghost": ({"look": {"ghosts": ["shop.0009_gone"]}}, "ghost"),
    "drift": ({"expected": LOOK["catalog"] | {"column shop_item.name": "text"}}, "drift"),
    "a sequence": (
        {"look": {"ailments": [{"kind": "sequence", "where": "x", "text": "y", "repair": "z"}]}},
        "sequence",
    ),
    "an unfinished index": ({"look": {"invalid_indexes": ["by_x"]}}, "invalid-index"),
    "a failure": ({"error": "no", "culprits": ["a = 1 in 2 rows"], "left": []}, "failure"),
    "lost values": ({"changes": [{"kind": "gone", "where": "a.b", "count": 3}]}, "data-loss"),
    "emptied by code": (
        {"changes": [{"kind": "emptied", "where": "a.b", "count": 3}], "runs_code": True},
        "data-loss",
    ),
    "changed by no code": (
        {"changes": [{"kind": "changed", "where": "a.b", "count": 3}]},
        "data-loss",
    ),
    "shortened by a new type": (
        {
            "changes": [{"kind": "converted", "where": "a.b", "count": 3}],
            "runs_code": True,
            "reversal": {"class": "lossy", "why": "x"},
        },
        "data-loss",
    ),
    "a view that goes with a column": (
        {"dropped": ["view report"], "runs_code": True},
        "data-loss",
    ),
    "rows that row security hides": (
        {"changes": [{"kind": "hidden", "where": "a", "count": 3}], "runs_code": True},
        "data-loss",
    ),
    "a partition that leaves": (
        {"changes": [{"kind": "left", "where": "a", "count": 3}], "runs_code": True},
        "data-loss",
    ),
    "a model's table that no recorded migration makes": ({"expected": {}}, "drift"),
    "a replaced migration that nothing applies": (
        {"look": {"lost": {"shop.0001_squashed": ["shop.0005_x"]}}},
        "history",
    ),
    "a release that lacks a column": (
        {"look": {"pending": [], "unfit": ["the column shop_item.size is missing"]}},
        "new-release",
    ),
    "a sequence left behind": (
        {"ailments": [{"kind": "sequence", "where": "x", "text": "y", "repair": "z"}]},
        "sequence",
    ),
    "a very long lock of a small table": ({"locks": [LOCK | {"bytes": 9, "seconds": 6}]}, "lock"),
    "no way back": ({"reversal": {"class": "irreversible", "why": "x"}}, "irreversible"),
    "a way back that fails": ({"reversal": {"class": "failed", "why": "x"}}, "irreversible"),
    "a long lock": ({"locks": [LOCK]}, "lock"),
    "a rewrite": ({"locks": [LOCK], "rewritten": [{"table": "shop_item", "bytes": 1}]}, "rewrite"),
    "long work": ({"seconds": 61}, "slow"),
    "mail": ({"mails": 1}, "outside"),
    "a call": ({"calls": ["example.org:443"]}, "outside"),
    "a full disk": ({"free": 1500}, "disk"),
}


@pytest.mark.parametrize("case", STOPPING)
def test_it_stops(case):
    change, kind = STOPPING[case]
    assert stops(facts(**change)) == [kind]


@pytest.mark.parametrize(
    "change",
    [
        {"locks": [LOCK | {"bytes": 1000}]},
        {"changes": [{"kind": "converted", "where": "a.b", "count": 3}]},
        {"locks": [LOCK | {"seconds": 0.9}]},
        {"locks": [LOCK | {"blocks": ""}]},
        {"changes": [{"kind": "changed", "where": "a.b", "count": 3}], "runs_code": True},
        {"reversal": {"class": "lossy", "why": "x"}},
        {"free": 2000},
        {"expected": {}, "look": {"tables": []}},
        {"look": {"unfit": ["the column shop_item.size is missing"]}},
    ],
)
def test_it_goes(change):
    assert stops(facts(**change)) == []


def test_who_waits_for_a_table_is_told_once():
    shared = LOCK | {"mode": "ShareLock", "blocks": "writes"}
    (found,) = verdict.judge(facts(locks=[LOCK, shared]), STRICT)
    assert found.text == "it locks shop_item (900.0 MB): reads and writes wait 4.0 s"
    (found,) = verdict.judge(facts(locks=[LOCK, shared | {"seconds": 9.0}]), STRICT)
    assert found.text.endswith(": reads and writes wait 4.0 s, writes wait 9.0 s")


def test_what_is_to_be_done_is_told_once_for_the_same():
    lost = [{"kind": "gone", "where": f"a.{name}", "count": 1} for name in "bc"]
    known = facts(changes=lost)
    lines = wording.describe(known, verdict.judge(known, STRICT))
    assert sum("data-loss: a." in line for line in lines) == 2
    assert sum("[[override]]" in line for line in lines) == 1


def test_what_was_adopted_and_is_another_now_is_told_so():
    catalog = LOOK["catalog"] | {"index by_hand": "CREATE INDEX by_hand ON shop_item (id)"}
    policy = Policy(adopted=(Adopted("index by_hand", "another", "for the report"),))
    (found,) = verdict.judge(facts(look={"catalog": catalog}, expected=LOOK["catalog"]), policy)
    assert found.text.endswith("it was adopted as: another")


def test_what_one_migration_breaks_is_no_finding_of_the_next():
    able = {"checks": "", "requests": {}, "models": {"shop.Item": {"read": "", "insert": ""}}}
    unable = able | {"models": {"shop.Item": {"read": "", "insert": "23502 no"}}}
    known = facts(exercise=unable)
    known.baseline = able
    known.migrations.append(MIGRATION | {"migration": "shop.0003_y", "exercise": unable})
    (found,) = verdict.judge(known, STRICT)
    assert (found.kind, found.migration) == ("old-release", "shop.0002_x")


DOWN = "OperationalError: no such host"


@pytest.mark.parametrize(
    ("models", "untried", "kind", "said"),
    [
        (
            {"shop.Item": {"read": DOWN, "insert": DOWN}, "shop.Kind": {"read": DOWN}},
            {},
            "old-release",
            "can read none of its 2 models there (shop.Item: OperationalError: no such host)",
        ),
        (
            {"shop.Item": {"read": "", "insert": "P0001 no"}, "shop.Kind": {"read": ""}},
            {"shop.Kind": {"insert": "23505 twice"}},
            "untried",
            "not tried: insert of shop.Item; insert of shop.Kind",
        ),
        ({}, {}, "untried", "has no models"),
    ],
)
def test_what_the_serving_release_could_not_do_before_is_said(models, untried, kind, said):
    done = {"checks": "", "requests": {}, "models": models, "untried": untried}
    known = facts(exercise=done)
    known.baseline = done
    (found,) = verdict.judge(known, STRICT)
    assert (found.kind, found.stops) == (kind, kind == "old-release")
    assert said in found.text


def test_a_release_that_does_not_fit_its_own_schema_stops():
    tried = {"read": "", "insert": '23502 null value in column "gone"', "update": "23514 no"}
    known = facts()
    known.new = {"models": {"shop.Item": tried}}
    (found,) = verdict.judge(known, STRICT)
    assert found.kind == "new-release" and found.stops
    assert "insert of shop.Item" in found.text and "update" not in found.text


@pytest.mark.parametrize("code", ["22001", "22003", "42804", "42883", "42P10"])
def test_a_release_whose_models_say_another_thing_than_the_schema_stops(code):
    known = facts()
    known.new = {"models": {"shop.Item": {"read": "", "insert": f"{code} no"}}}
    (found,) = verdict.judge(known, STRICT)
    assert found.kind == "new-release"
    known.baseline = known.new | {"checks": "", "requests": {}}
    assert [one.kind for one in verdict.judge(known, STRICT)] == ["untried"]


def test_a_table_that_the_release_itself_may_not_read_stops():
    known = facts()
    known.new = {"models": {"shop.Box": {"read": "42501 permission denied", "insert": "42501 no"}}}
    (found,) = verdict.judge(known, STRICT)
    assert found.kind == "new-release" and "permission denied" in found.text


def test_a_model_that_django_does_not_manage_needs_no_table_of_its_own():
    known = facts()
    known.new = {"models": {"shop.Rights": {"read": '42P01 relation "rights" does not exist'}}}
    assert verdict.judge(known, STRICT) == []


def test_an_override_lets_one_finding_of_one_migration_pass_with_its_reason():
    lost = facts(changes=[{"kind": "gone", "where": "a.b", "count": 3}], mails=1)
    policy = Policy(overrides=(Override("shop.0002_x", ("data-loss",), "it was moved"),))
    assert stops(lost, policy) == ["outside"]
    allowed = verdict.judge(lost, policy)[0]
    assert allowed.allowed == "it was moved"
    assert any(
        "it was moved" in line for line in wording.describe(lost, verdict.judge(lost, policy))
    )
    other = Policy(overrides=(Override("shop.0003_y", ("data-loss",), "it was moved"),))
    assert "data-loss" in stops(lost, other)


def test_a_failure_passes_by_no_override():
    failed = facts(error="no", culprits=[], left=[])
    policy = Policy(overrides=(Override("shop.0002_x", ("failure",), "never mind"),))
    assert stops(failed, policy) == ["failure"]


def test_an_override_that_nothing_needs_is_told():
    policy = Policy(overrides=(Override("shop.0002_x", ("lock",), "short enough"),))
    assert verdict.unused(facts(), policy, []) == [
        "migrations.toml allows shop.0002_x lock, which it does not do"
    ]


def test_an_override_of_a_migration_that_is_not_there_is_told():
    policy = Policy(overrides=(Override("shop.0009_typo", ("lock",), "short enough"),))
    assert verdict.unused(facts(), policy, []) == [
        "migrations.toml allows shop.0009_typo something, and there is no such migration"
    ]


def test_what_is_done_after_all_migrations_is_allowed_by_the_signals_name():
    lost = [{"kind": "rows", "where": "shop_item", "count": 3}]
    known = facts(migration="post_migrate", changes=lost)
    (found,) = verdict.judge(known, STRICT)
    assert found.stops and 'migration = "post_migrate"' in found.remedy
    allowed = Policy(overrides=(Override("post_migrate", ("data-loss",), "they are made anew"),))
    (found,) = verdict.judge(known, allowed)
    assert not found.stops
    assert verdict.unused(known, allowed, [found]) == []
    known.look = LOOK | {"pending": []}
    first, second = wording.describe(known, [found])
    assert first.startswith("go    post_migrate: 0.20 s") and "they are made anew" in second
    assert verdict.unused(facts(), allowed, []) == []


def test_what_would_stop_no_deploy_is_only_told():
    ailing = [{"kind": "sequence", "where": "x", "text": "behind", "repair": "mend"}]
    known = Facts(LOOK | {"pending": [], "ailments": ailing})
    assert stops(known) == ["sequence"]
    known.told = True
    found = verdict.judge(known, STRICT)
    first, second, _ = wording.describe(known, found)
    assert "would not be stopped" in first and second.strip() == "warning sequence: behind"


def test_adopted_drift_passes_as_long_as_it_is_what_was_adopted():
    catalog = LOOK["catalog"] | {
        "index by_hand": "CREATE INDEX by_hand ON shop_item USING btree (id)"
    }
    drifted = facts(look={"catalog": catalog}, expected=LOOK["catalog"])
    assert stops(drifted) == ["drift"]
    adopted = Adopted("index by_hand", catalog["index by_hand"], "for the year's report")
    assert stops(drifted, Policy(adopted=(adopted,))) == []
    other = Adopted("index by_hand", "another", "for the year's report")
    assert stops(drifted, Policy(adopted=(other,))) == ["drift"]


def test_what_can_be_adopted_is_told_ready_to_paste():
    for definition in ("text DEFAULT 'it''s'::text", "text\n  DEFAULT 'é\\'"):
        catalog = LOOK["catalog"] | {"column shop_item.n": definition}
        known = facts(look={"catalog": catalog}, expected=LOOK["catalog"])
        (found,) = verdict.judge(known, Policy())
        assert tomllib.loads(found.paste)["adopt"][0]["definition"] == definition
        # As a terminal has them, indented.
        assert "\n".join(line.strip() for line in found.paste.splitlines()) == found.paste


def test_what_a_migration_left_unfinished_and_clears_itself_is_no_finding():
    catalog = LOOK["catalog"] | {"index by_name": "CREATE INDEX by_name ... (invalid)"}
    look = {"catalog": catalog, "invalid_indexes": ["by_name"]}
    left = facts(look=look, expected=LOOK["catalog"])
    assert stops(left) == ["invalid-index", "drift"]
    left.migrations[0]["leftovers"] = ["by_name"]
    assert verdict.judge(left, Policy()) == []


def test_an_edited_file_is_a_warning():
    known = facts(last={"files": {"shop.0001_initial": "bb"}})
    assert stops(known) == [] and warns(known) == ["edited"]


@pytest.mark.parametrize("kind", ["edited", "collation", "overflow"])
def test_warnings_become_stops_where_the_project_says_so(kind):
    ailment = {"kind": kind, "where": "there", "text": "it is ill", "repair": "Mend it."}
    known = facts(
        look={"ailments": [] if kind == "edited" else [ailment]},
        last={"files": {"shop.0001_initial": "bb" if kind == "edited" else "aa"}},
    )
    assert stops(known) == [] and warns(known) == [kind]
    assert stops(known, Policy(findings=Policy().findings | {kind: "stop"})) == [kind]


def test_a_line_for_each_migration():
    known = facts(look={"pending": ["shop.0002_x", "shop.0003_y"]}, locks=[LOCK])
    lines = wording.describe(known, verdict.judge(known, Policy()))
    assert lines[0].startswith(
        "STOP  shop.0002_x: 0.20 s, reads and writes of shop_item wait 4.00 s"
    )
    assert lines[-1] == "?     shop.0003_y: not rehearsed"


def test_a_limit_grows_with_what_was_rehearsed():
    for name in ("longest_statement", "longest_pause"):
        limits = verdict.limits(facts(**{name: 2}))
        assert limits == {"shop.0002_x": 40, "post_migrate": 30}


def test_the_page_tells_it_all_and_lets_nothing_in(shop):
    known = {
        "look": LOOK | {"ghosts": ["shop.0009_gone"]},
        "expected": LOOK["catalog"] | {"column shop_item.name": "text"},
        "migrations": [MIGRATION | {"locks": [LOCK]}],
        "about": {"release": "abc <script>"},
        "steps": {"copy": 1.5},
    }
    (answer,) = shop.ask("judge", told=json.dumps(known))
    assert answer["go"] is False and answer["limits"]
    assert answer["why"] == "shop.0009_gone: ghost; the database: drift; shop.0002_x: lock"
    page = answer["page"]
    for text in (
        '<h1 class="stop">',
        "shop.0002_x",
        "column shop_item.name",
        "AccessExclusiveLock",
        "&lt;script&gt;",
    ):
        assert text in page
    assert "<script" not in page and "http" not in page and "SELECT &#x27;&lt;b&gt;&#x27;" in page


def test_a_policy_that_cannot_be_read_is_an_error(shop):
    shop.write("migrations.toml", "[limit]")
    with shop.asking("look") as process:
        _, said = process.communicate("", timeout=60)
    assert process.returncode == 2 and "there is no 'limit'" in said
