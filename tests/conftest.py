"""Set-up of the tests that need the programs: isolation, and the worlds that tests share.

The whole pytest run moves into namespaces of its own (rig/isolate.py); each worker of pytest-xdist gets a further
network, so that several meshes run side by side under the same addresses. Without root, tests that need a network
are skipped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import isolate, net

_ROOT = os.geteuid() == 0


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marks and moves the run inside."""
    config.addinivalue_line("markers", "mesh: needs network namespaces and real Envoys")
    config.addinivalue_line("markers", "slow: takes more than a few seconds; run with --all")
    worker = hasattr(config, "workerinput")
    if not _ROOT or config.option.collectonly:
        return
    if not worker:
        isolate.enter()
        net.loopback_up()
    else:
        isolate.own_network()
        net.loopback_up()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there is no network of our own."""
    if not _ROOT:
        for item in items:
            if item.get_closest_marker("mesh"):
                item.add_marker(pytest.mark.skip(reason="needs root: network namespaces"))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run."""
    return isolate.run_folder() if isolate.inside() else tmp_path_factory.mktemp("run")
