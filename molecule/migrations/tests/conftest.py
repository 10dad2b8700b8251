"""What the tests are given: the two hosts, which share the cases between them."""

import pytest
from hosts import SHORT
from scheduling import pytest_xdist_make_scheduler  # noqa: F401 - a hook
from shops import Shop


# As parameters, the hosts are in the tests' names, by which they are distributed.
# In the short form Debian 12 has more to do than the other.
@pytest.fixture(scope="session", params=["schema13" if SHORT else "schema12"])
def first(request: pytest.FixtureRequest) -> Shop:
    """Debian 12: what is stopped before the live database is touched."""
    return Shop(request.param)


@pytest.fixture(scope="session", params=["schema13"])
def second(request: pytest.FixtureRequest) -> Shop:
    """Debian 13: what only the live database can show."""
    return Shop(request.param)
