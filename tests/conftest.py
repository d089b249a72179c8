"""What all Python tests share: the rig on the path, and the marks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marks."""
    config.addinivalue_line("markers", "mesh: needs network namespaces and real Envoys")
    config.addinivalue_line("markers", "files: its objects can be in files only; an API server would refuse them")
    config.addinivalue_line("markers", "kube: needs the API server of the tests (OSM_KUBE)")
    config.addinivalue_line(
        "markers", "shared: in a world that several tests share; its objects are where OSM_SOURCE says"
    )
    config.addinivalue_line("markers", "slow: takes more than a few seconds; run with --all")
