"""Worlds whose objects are in an API server: real pods, sidecars and all, behind Pod objects that anybody has made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubes import deployment, service
from rig import o_allowed, o_blocked, o_clean
from rig.kube import Kube
from rig.objects import HTTP_8080, grant_all
from rig.world_kube import APPS, KubeWorld
from worlds import tracked


@pytest.fixture(scope="module")
def kube_world(kube: Kube) -> Iterator[KubeWorld]:
    """A caller in red, and a namespace blue."""
    assert kube.kubelet
    with tracked(KubeWorld(kube, kube.kubelet)) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller-1", account="caller")
        world.wait()
        yield world


@pytest.fixture
def mesh_on_kube(kube_world: KubeWorld) -> Iterator[KubeWorld]:
    """The same for one test: nothing was refused at its end, and then everything is as before."""
    with kube_world.scratch():
        yield kube_world
        o_clean(kube_world)
    kube_world.wait()


@pytest.mark.mesh
def test_kube_world_runs_pods_of_its_own(mesh_on_kube: KubeWorld) -> None:
    """What is written as in any world is in the server, and traffic passes when it is allowed."""
    world, caller = mesh_on_kube, mesh_on_kube.pods["red/caller-1"]
    shop = world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
    address = world.service("blue", "shop", HTTP_8080, {"app": "shop"})
    world.wait()
    found = world.kube.api.get("v1", "Pod", "blue", "shop-1")
    assert found and found["status"]["podIP"] == shop.address
    assert world.lookup("shop.blue.svc.cluster.local") == [address]
    o_blocked(caller, "http://shop.blue/", "no outbound")
    world.apply(grant_all("blue", "shop", "red/caller"))
    world.wait()
    o_allowed(caller, "http://shop.blue/")


@pytest.mark.mesh
def test_kube_world_runs_the_pods_of_a_deployment(mesh_on_kube: KubeWorld) -> None:
    """Pods that a controller makes get namespace, address, sidecar and application; scaling changes who answers,
    and what is deleted ends."""
    world, caller = mesh_on_kube, mesh_on_kube.pods["red/caller-1"]
    world.account("blue", "shop")
    shop = deployment("blue", "shop", 2, image=APPS, ports={"web": 8080})
    template = shop["spec"]["template"]["spec"]
    template["serviceAccountName"] = "shop"
    template["containers"][0]["args"] = ["http=8080"]
    world.apply([shop, service("blue", "shop", 80, "web"), *grant_all("blue", "shop", "red/caller")])
    world.wait()
    names = {p.name for p in world.pods.values() if p.ns == "blue"}
    assert len(names) == 2 and all(name.startswith("shop-") for name in names)
    o_allowed(caller, "http://shop.blue/")
    assert set(caller.tally("http://shop.blue/", 60)) == names
    world.kube.kubectl("scale", "deployment/shop", "-n", "blue", "--replicas=1")
    world.wait()
    (left,) = (p.name for p in world.pods.values() if p.ns == "blue")
    assert left in names and caller.tally("http://shop.blue/", 20) == {left: 20}


@pytest.mark.mesh
def test_kube_world_puts_everything_back(kube_world: KubeWorld) -> None:
    """After a scratch nothing is left of it, in the server or in the network."""
    with kube_world.scratch() as world:
        shop = deployment("blue", "shop", 1, image=APPS)
        shop["spec"]["template"]["spec"]["containers"][0]["args"] = ["http=8080"]
        world.apply(shop)
        world.pod("blue", "single", account="shop")
        world.wait()
        processes = [p.netns.pid for p in world.pods.values() if p.ns == "blue"]
        assert len(processes) == 2
    assert kube_world.kube.api.list("v1", "Pod", "blue") == []
    assert [k for k in kube_world.pods if k.startswith("blue/")] == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert kube_world.kube.api.list("apps/v1", "Deployment", "blue") == []
