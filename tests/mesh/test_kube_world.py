"""Worlds whose objects are in an API server: real pods, sidecars and all, behind Pod objects that anybody has made."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kubes import deployment, service
from rig import o_allowed, o_blocked, o_clean, until
from rig.daemon import Daemon
from rig.kube import Kube
from rig.kube_mirror import Mirror
from rig.objects import HTTP_8080, grant_all, match, routes, split, target, tcp_route
from rig.world import free_port
from rig.world_kube import APPS, KubeWorld
from rig.xds import CDS, LDS, RDS, Answer, Delta
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
def test_kube_restart_of_the_control_plane_costs_no_request_A_K8S_15(mesh_on_kube: KubeWorld) -> None:
    """Twenty calls before, twenty while there is none (on what the sidecars have), twenty after; and what was
    revoked meanwhile is refused as soon as it is back."""
    world, caller = mesh_on_kube, mesh_on_kube.pods["red/caller-1"]
    shop = world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
    world.service("blue", "shop", HTTP_8080, {"app": "shop"})
    granted = world.apply(grant_all("blue", "shop", "red/caller"))
    world.wait()
    assert caller.tally("http://shop.blue/", 20) == {"shop-1": 20}
    world.daemon.stop()
    assert caller.tally("http://shop.blue/", 20) == {"shop-1": 20}
    world.daemon.start()
    assert caller.tally("http://shop.blue/", 20) == {"shop-1": 20}
    world.until_connected([caller, shop])
    world.wait()
    assert caller.tally("http://shop.blue/", 20) == {"shop-1": 20}
    world.daemon.stop()
    (access,) = (o for o in granted if o["kind"] == "TrafficTarget")
    world.delete("TrafficTarget", "blue", access["metadata"]["name"])
    world.daemon.start()
    world.until_connected([caller, shop])
    world.wait()
    o_blocked(caller, "http://shop.blue/", "no outbound")


UNANSWERED_MAX = 8  # responses of a type that a stream sends ahead of their answers


def _weights(answer: Answer, name: str) -> dict[str, int]:
    routes_ = answer.as_dict(name)
    clusters = [
        cluster
        for host in routes_["virtual_hosts"]
        if "shop.blue" in host["name"]
        for route in host["routes"]
        for cluster in route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
    ]
    return {cluster["name"]: int(cluster["weight"]) for cluster in clusters}


@pytest.mark.mesh
def test_kube_burst_reaches_a_slow_proxy_as_its_last_state_A_K8S_13(mesh_on_kube: KubeWorld) -> None:
    """A hundred and more changes within a second or so, while a proxy has not answered what it was sent before: some
    responses are sent ahead, and then the last state. (Nothing waits for a window: a proxy's own answers set its
    pace.) A trickle reaches it change by change."""
    world = mesh_on_kube
    for version in ("v1", "v2"):
        world.pod("blue", f"shop-{version}", account="shop", labels={"app": "shop", "v": version}, app="http=8080")
        world.service("blue", f"shop-{version}", HTTP_8080, {"app": "shop", "v": version})
    world.service("blue", "shop", HTTP_8080, {"app": "shop"})
    world.apply(grant_all("blue", "shop", "red/caller"))
    slow = world.pod("red", "slow", account="caller", envoy=False)

    def weigh(v1: int) -> None:
        world.apply(split("blue", "split", "shop", shop_v1=v1, shop_v2=100 - v1))

    weigh(100)
    world.wait()
    with Delta(world, slow) as client:
        client.fetch(CDS)
        client.fetch(LDS)
        first = client.fetch(RDS, ["rds-outbound.80"])
        assert _weights(first, "rds-outbound.80") == {"blue/shop-v1|8080": 100, "blue/shop-v2|8080": 0}
        weigh(1)
        held = client.expect(RDS)  # not answered yet
        with ThreadPoolExecutor(4) as pool:
            for n in range(100):
                name = f"burst-{n % 10}"
                pool.submit(world.kube.api.apply, routes("blue", name, match("m", f"/{n}")))
        for n in range(40):
            weigh(10 + n)
        shown = ("proxy", "get", "config", "red/slow", "RDS")
        until(lambda: "weight: 49" in world.daemon.osm(*shown), "the last state is what it shall have")
        told = [held]
        while _weights(told[-1], "rds-outbound.80")["blue/shop-v1|8080"] != 49:
            client.ack(told[-1])
            told.append(client.expect(RDS))
        assert len(told) <= UNANSWERED_MAX + 2
        client.ack(told[-1])
        client.silent()
        for n in range(5):
            weigh(60 + n)
            each = client.expect(RDS)
            assert _weights(each, "rds-outbound.80")["blue/shop-v1|8080"] == 60 + n
            client.ack(each)
        client.silent()


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


@pytest.mark.mesh
def test_kube_world_ends_pods_that_are_deleted_by_force(mesh_on_kube: KubeWorld) -> None:
    """A pod whose object goes at once, without its kubelet's leave, before it runs or later: no process stays."""
    world = mesh_on_kube
    running = world.pod("blue", "running", account="shop", app="http=8080")
    world.wait()
    process = running.netns.pid
    coming = [world.pod("blue", f"coming-{n}", account="shop") for n in range(8)]
    for pod in (running, *coming):
        world.kube.api.delete("v1", "Pod", pod.ns, pod.name, gracePeriodSeconds=0)
    for pod in (running, *coming):
        world.remove_pod(pod)
    assert not Path(f"/proc/{process}").exists()
    assert [k for k in world.pods if k.startswith("blue/")] == []


def _come(world: KubeWorld) -> None:
    world.pod("near", "caller", account="caller")
    for n in (1, 2):
        ports = [{"name": "web", "containerPort": 8080}, {"name": "raw", "containerPort": 9000}]
        world.pod("far", f"shop-{n}", account="shop", labels={"app": "shop"}, ports=ports)
    world.pod("far", "db-0", account="db", labels={"app": "db"}, spec={"hostname": "db-0", "subdomain": "db"})
    by_name = [
        {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"},
        {"name": "tcp-raw", "port": 90, "targetPort": "raw"},
    ]
    for name in ("shop", "shop-v2", "shop-apex"):
        world.service("far", name, by_name, {"app": "shop"})
    world.service("far", "db", [{"name": "tcp", "port": 3306}], {"app": "db"}, headless=True)
    world.service("far", "empty", 80, None)
    played = deployment("far", "many", 3, image=APPS, ports={"web": 8080})
    played["spec"]["template"]["spec"]["containers"][0]["args"] = ["http=8080"]
    world.apply([played, service("far", "many", 80, "web")])


def _grant(world: KubeWorld) -> None:
    for account in ("shop", "default"):
        world.apply(target("far", f"to-{account}", f"far/{account}", ["near/caller"], group="some"))
    world.apply(routes("far", "some", match("a", "/a.*", ["GET"], [{"x-test": "yes"}]), match("b", "/b")))
    world.apply(tcp_route("far", "raw", 9000))
    world.apply(target("far", "to-db", "far/db", ["near/caller"], {"kind": "TCPRoute", "name": "raw"}))
    world.apply(split("far", "split", "shop-apex", shop=30, shop_v2=70))


def _change(world: KubeWorld) -> None:
    world.set_ready(world.pods["far/shop-2"], False)
    world.kube.kubectl("scale", "deployment/many", "-n", "far", "--replicas=1")
    world.apply(split("far", "split", "shop-apex", shop=50, shop_v2=50))
    world.apply(tcp_route("far", "raw"))


def _permit(world: KubeWorld) -> None:
    world.mesh_config(permissive=True)


def _go(world: KubeWorld) -> None:
    world.mesh_config(permissive=False)
    world.delete("TrafficTarget", "far", "to-shop")
    world.delete("TrafficSplit", "far", "split")
    world.remove_pod(world.pods["far/shop-1"])
    world.delete("Service", "far", "shop-v2")


def _served(daemon: Daemon, pods: list[str]) -> dict[str, str]:
    """What these pods' proxies are told. Not the secrets: each daemon has a root of its own."""
    types = ("CDS", "EDS", "LDS", "RDS")
    return {f"{pod} {each}": daemon.osm("proxy", "get", "config", pod, each) for pod in pods for each in types}


def test_kube_source_and_directory_mean_the_same(kube: Kube, tmp_path: Path) -> None:
    """What an API server holds, written to files as it is: a daemon that reads those serves what the daemon does
    that reads the server, after objects of many forms have come, changed and gone."""
    assert kube.kubelet
    files = tmp_path / "files"
    files.mkdir()
    names = {"mesh_name": "twins", "osm_namespace": "twins-system"}
    with tracked(KubeWorld(kube, kube.kubelet, real=False, **names)) as world, Mirror(kube.api, files) as mirror:
        world.namespace("near")
        world.namespace("far")
        twin = Daemon(tmp_path / "twin", files, ads=f"127.0.0.1:{free_port('127.0.0.1')}", **names).start()
        try:
            before: dict[str, str] = {}
            for step in (_come, _grant, _change, _permit, _go):
                step(world)
                world.wait()
                mirror.caught_up()
                twin.applied()
                one, other = (_served(daemon, sorted(world.pods)) for daemon in (world.daemon, twin))
                assert one == other, f"after {step.__name__}"
                assert one != before, f"{step.__name__} has changed nothing"
                before = one
        finally:
            assert twin.stop() == 0
