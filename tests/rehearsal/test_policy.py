"""The project's own rules: read strictly, since a rule that is misspelt would allow nothing and look as if it did."""

import pytest
from django_rehearsal.policy import FINDINGS, Policy, Unusable, parse, read

GOOD = """
[limits]
table_mb = 10
lock_seconds = 0.5

[findings]
outside = "warn"

[[override]]
migration = "shop.0002_drop"
findings = ["data-loss", "irreversible"]
reason = "the notes were moved"

[[adopt]]
object = "index by_hand"
definition = "CREATE INDEX by_hand ON shop_item USING btree (price)"
reason = "for the report of the year"
"""
BAD = {
    "nonsense = 1": "there is no 'nonsense'",
    "[limits]\nlock_second = 1": "there is no 'lock_second' in [limits]",
    "[limits]\nlock_seconds = '1'": "lock_seconds in [limits] must be a number",
    "[limits]\ntable_mb = -1": "table_mb in [limits] must be a number of 0 or more",
    "[limits]\ntable_mb = true": "table_mb in [limits] must be a number",
    "[findings]\nlocks = 'stop'": "there is no 'locks' in [findings]",
    "[findings]\nlock = 'no'": 'must be "stop" or "warn"',
    "[[override]]\nmigration = 'a.1'\nfindings = ['lock']": "needs reason",
    "[[override]]\nfindings = ['lock']\nreason = 'x'": "needs migration",
    "[[override]]\nmigration = 'a.1'\nfindings = ['failure']\nreason = 'x'": "can't be allowed",
    "[[override]]\nmigration = 'a.1'\nfindings = ['drift']\nreason = 'x'": "is about no migration",
    "[[override]]\nmigration = 'a.1'\nfindings = ['locks']\nreason = 'x'": "can't be allowed",
    "[[override]]\nmigration = 'a.1'\nfindings = []\nreason = 'x'": "must be a list",
    "[[override]]\nmigration = 'a.1'\nfindings = ['lock']\nreason = '...'": "a text that says something",
    '[[override]]\nmigration = "a.1"\nfindings = ["lock"]\nreason = "\\n"': "a text that says something",
    "[override]\nmigration = 'a.1'": "write [[override]]",
    "[[adopt]]\ndefinition = 'x'\nreason = 'y'": "needs object",
    "[[limits]]": "write [limits]",
}


def test_without_a_file_everything_stops_that_can(tmp_path):
    assert read(tmp_path) == Policy()
    assert Policy().findings == FINDINGS


def test_a_policy_is_read(tmp_path):
    (tmp_path / "migrations.toml").write_text(GOOD)
    found = read(tmp_path)
    assert (found.table_mb, found.lock_seconds, found.migration_seconds) == (10, 0.5, 30)
    assert found.findings == FINDINGS | {"outside": "warn"}
    assert found.overrides[0].findings == ("data-loss", "irreversible")
    assert found.adopted[0].object == "index by_hand"


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_named(text):
    with pytest.raises(Unusable) as refused:
        parse(text)
    assert BAD[text] in str(refused.value) and "migrations.toml" in str(refused.value)


def test_what_is_no_toml_is_named(tmp_path):
    (tmp_path / "migrations.toml").write_text("[limits")
    with pytest.raises(Unusable, match="is no TOML"):
        read(tmp_path)
