"""What the tests are given: the two hosts, which share the cases between them."""

import pytest
from shops import Shop
from xdist.scheduler import LoadScopeScheduling


class OneWorkerForEachHost(LoadScopeScheduling):
    """Hosts share nothing, so their tests run side by side, those of one host in their order."""

    def _split_scope(self, nodeid: str) -> str:
        return next(name for name in Shop.addresses if name in nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Distribute the tests by host."""
    return OneWorkerForEachHost(config, log)


# As a parameter, the host is in the tests' names.
@pytest.fixture(scope="session", params=["schema12"])
def first(request: pytest.FixtureRequest) -> Shop:
    """Debian 12: what is stopped before the live database is touched."""
    return Shop(request.param)


@pytest.fixture(scope="session", params=["schema13"])
def second(request: pytest.FixtureRequest) -> Shop:
    """Debian 13: what only the live database can show."""
    return Shop(request.param)
