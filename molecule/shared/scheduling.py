"""Which tests run side by side: hosts share nothing, so each has a worker, which runs its tests in their order.

A scenario's conftest.py imports the hook.
"""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

# Hosts are parameters of fixtures, so they stand in the tests' names; their names end in their Debian's version.
_HOST = re.compile(r"[\[-][a-z]+(1[23])[\]-]")


class OneWorkerForEachHost(LoadScopeScheduling):
    """Distributes the tests by the host in their names."""

    def _split_scope(self, nodeid: str) -> str:
        return _HOST.search(nodeid)[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Distribute the tests by host."""
    return OneWorkerForEachHost(config, log)
