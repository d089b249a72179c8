"""The rights that the chart gives the daemon are those that it uses: with one less it could not work, and there is none
more."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import kube_rbac, until
from rig.kube import Kube
from rig.kubelet import Kubelet
from rig.world_kube import KubeWorld
from worlds import tracked

pytestmark = pytest.mark.kube


ROLES = ("controller", "roots")


def a_day(kube: Kube) -> set[kube_rbac.Right]:
    """Of a mesh: its start, changes, a wait. The rights that it has used; none was missing."""
    assert kube.kubelet
    flags = ["--ca-bundle-secret-name=osm-ca-bundle"]
    with tracked(KubeWorld(kube, kube.kubelet, real=False, rights=ROLES, flags=flags)) as world:
        world.wait()
        unread = [k for k in world.daemon.status()["source"]["kinds"] if k["state"] != "watched"]
        assert unread == []
        writes = {each for each in kube_rbac.granted(ROLES) if each[1] in ("events", "leases")}

        def used() -> tuple[set[kube_rbac.Right], set[kube_rbac.Right]]:
            return kube_rbac.used(kube.requests(), world.osm_namespace)

        until(lambda: used()[0] >= writes or used()[1], "what it says back has been written", 30)
        got, refused = used()
    assert refused == set()
    return got


def test_kube_rights_of_the_chart_are_those_that_are_used(run_folder: Path) -> None:
    """On a server that streams lists, and on an older one that does not."""
    used: set[kube_rbac.Right] = set()
    for flags in ([], ["--feature-gates=WatchList=false"]):
        with Kube(run_folder, audit=True, flags=flags) as kube, Kubelet(kube) as kube.kubelet:
            used |= a_day(kube)
    assert used == kube_rbac.granted(ROLES)
