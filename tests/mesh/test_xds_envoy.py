"""The discovery protocol with real Envoys under load: what they are sent takes effect, in an order in which nothing is
missed."""

from __future__ import annotations

import pytest
from cast import Cast
from rig import Pod, World, o_clean, until
from rig.objects import split

NO_CLUSTER = '"response_flags":"NC"'

FORMS = pytest.mark.parametrize("form", ["delta", "sotw"])


def _caller(cast: Cast, form: str) -> Pod:
    """One whose Envoy speaks this form of the protocol."""
    world, caller = cast.world, cast.caller
    if form == "sotw":
        caller = world.pod(cast.clients, cast.names.name(), account=cast.caller_account, sotw=True)
        world.wait()
    modes = {proxy["uuid"]: proxy["mode"] for proxy in world.status()["proxies"]}
    assert modes[caller.uuid] == form
    return caller


def _warming(pod: Pod) -> int:
    return pod.envoy.stat("cluster_manager.warming_clusters")


def _logged(pod: Pod, host: str) -> list[str]:
    """The lines of its access log about requests to a host."""
    return [line for line in pod.log().splitlines() if '"response_flags":' in line and f'"authority":"{host}"' in line]


def _all_of(lines: list[str], n: int) -> list[str]:
    """The lines once there are so many."""
    return lines if len(lines) >= n else []


@pytest.mark.mesh
@FORMS
@pytest.mark.parametrize("at_once", [False, True])
def test_a_xds_21_a_new_service_is_warm_before_requests_go_to_it(cast: Cast, form: str, at_once: bool) -> None:
    """A Service and the split that sends to it, under load: no request meets a cluster that is not there. Where each
    comes and goes with no weight, none fails at all; at once, the server's sidecar may hear of it after the client's,
    and until then it knows no such name."""
    world, url, host = cast.world, cast.url(cast.apex), cast.url(cast.apex).split("/")[2]
    world.mesh_config(permissive=True)
    world.wait()
    caller = _caller(cast, form)
    cast.apply(split(cast.servers, "apex", cast.apex, **{cast.v1: 100}))
    world.wait()
    until(lambda: caller.face(url) == "200", "the first version serves")
    logged = len(_logged(caller, host))
    load = caller.load(url, 50)
    was = cast.v1
    for _ in range(4):
        name = cast.names.name()
        labels = {"app": name}
        world.pod(cast.servers, name, account=name, labels=labels, app=f"http={cast.target}", sotw=form == "sotw")
        world.wait()  # the pod serves
        world.service(cast.servers, name, cast.ports(), labels)
        if not at_once:
            cast.apply(split(cast.servers, "apex", cast.apex, **{was: 100, name: 0}))
            world.wait()
        cast.apply(split(cast.servers, "apex", cast.apex, **{was: 0, name: 100}))
        world.wait()
        until(lambda: _warming(caller) == 0, "no cluster is warming")
        sent = load.pods[name]
        until(lambda name=name, sent=sent: load.pods[name] > sent + 10, "requests go to the new version")
        was = name
    failures = load.stop().failures
    assert at_once or failures == []
    lines = until(lambda: _all_of(_logged(caller, host)[logged:], load.sent), "every request is in the access log")
    assert not [line for line in lines if NO_CLUSTER in line]
    counts = caller.envoy.stats(r"^http\..*\.no_cluster$")
    assert counts
    assert not any(counts.values())


@pytest.mark.mesh
@FORMS
def test_a_xds_22_a_cluster_without_endpoints_stops_warming(cast: Cast, form: str) -> None:
    """Requests to it are answered 503 at once, and 200 as soon as a pod is ready."""
    world, name = cast.world, cast.names.name()
    world.mesh_config(permissive=True)
    world.service(cast.servers, name, cast.ports(), {"app": name})
    world.wait()
    caller = _caller(cast, form)
    pod = world.pod(cast.servers, f"{name}-1", account=name, labels={"app": name}, app=f"http={cast.target}")
    cast.apply(pod.manifest(ready=False))
    world.wait()
    until(lambda: f"{cast.servers}/{name}|{cast.target}" in caller.envoy.clusters(), "the cluster is active")
    assert _warming(caller) == 0
    until(lambda: caller.face(cast.url(name)) == "503", "nobody is there to answer")
    cast.apply(pod.manifest())
    world.wait()
    until(lambda: caller.face(cast.url(name)) == "200", "the pod answers")


@pytest.mark.mesh
@FORMS
def test_a_xds_23_each_of_thirty_updates_takes_effect(mesh: World, form: str) -> None:
    """Thirty changes of a split, and after each barrier the requests go where the newest says."""
    mesh.mesh_config(permissive=True)
    caller = _caller(Cast(mesh, None), form)
    versions = ("shop-v1", "shop-v2")
    for n in range(30):
        wanted = versions[n % 2]
        mesh.apply(split("blue", "apex", "shop-apex", **{wanted: 100}))
        mesh.wait()
        tally = caller.tally("http://shop-apex.blue/", 10)
        assert set(tally) == {f"{wanted}-1"}, (n, tally)
    assert caller.envoy.stat("control_plane.connected_state") == 1
    o_clean(mesh)
