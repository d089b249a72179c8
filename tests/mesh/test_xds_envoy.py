"""The discovery protocol with real Envoys under load: what they are sent takes effect, in an order in which nothing is
missed."""

from __future__ import annotations

import pytest
from rig import Pod, World, o_clean, until
from rig.objects import HTTP_8080, split

NO_CLUSTER = '"response_flags":"NC"'

FORMS = pytest.mark.parametrize("form", ["delta", "sotw"])


def _caller(mesh: World, form: str) -> Pod:
    """One whose Envoy speaks this form of the protocol."""
    if form == "delta":
        caller = mesh.pods["red/caller-1"]
    else:
        caller = mesh.pod("red", "old-1", account="caller", sotw=True)
        mesh.wait()
    modes = {proxy["uuid"]: proxy["mode"] for proxy in mesh.status()["proxies"]}
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
def test_a_xds_21_a_new_service_is_warm_before_requests_go_to_it(mesh: World, form: str, at_once: bool) -> None:
    """A Service and the split that sends to it, under load: no request meets a cluster that is not there. Where each
    comes and goes with no weight, none fails at all; at once, the server's sidecar may hear of it after the client's,
    and until then it knows no such name."""
    mesh.mesh_config(permissive=True)
    mesh.wait()
    caller = _caller(mesh, form)
    mesh.apply(split("blue", "apex", "shop-apex", **{"shop-v1": 100}))
    mesh.wait()
    until(lambda: caller.face("http://shop-apex.blue/") == "200", "the first version serves")
    logged = len(_logged(caller, "shop-apex.blue"))
    load = caller.load("http://shop-apex.blue/", 50)
    for n in range(4):
        mesh.pod("blue", f"next-{n}", account="next", labels={"app": f"next-{n}"}, app="http=8080", sotw=form == "sotw")
        mesh.wait()  # the pod serves
        mesh.service("blue", f"next-{n}", HTTP_8080, {"app": f"next-{n}"})
        was = f"next-{n - 1}" if n else "shop-v1"
        if not at_once:
            mesh.apply(split("blue", "apex", "shop-apex", **{was: 100, f"next-{n}": 0}))
            mesh.wait()
        mesh.apply(split("blue", "apex", "shop-apex", **{was: 0, f"next-{n}": 100}))
        mesh.wait()
        until(lambda: _warming(caller) == 0, "no cluster is warming")
        sent = load.pods[f"next-{n}"]
        until(lambda n=n, sent=sent: load.pods[f"next-{n}"] > sent + 10, "requests go to the new version")
    failures = load.stop().failures
    assert at_once or failures == []
    lines = until(
        lambda: _all_of(_logged(caller, "shop-apex.blue")[logged:], load.sent), "every request is in the access log"
    )
    assert not [line for line in lines if NO_CLUSTER in line]
    counts = caller.envoy.stats(r"^http\..*\.no_cluster$")
    assert counts
    assert not any(counts.values())
    o_clean(mesh)


@pytest.mark.mesh
@FORMS
def test_a_xds_22_a_cluster_without_endpoints_stops_warming(mesh: World, form: str) -> None:
    """Requests to it are answered 503 at once, and 200 as soon as a pod is ready."""
    mesh.mesh_config(permissive=True)
    mesh.service("blue", "empty", HTTP_8080, {"app": "empty"})
    mesh.wait()
    caller = _caller(mesh, form)
    mesh.pod("blue", "empty-1", account="empty", labels={"app": "empty"}, app="http=8080")
    pod = mesh.pods["blue/empty-1"]
    mesh.apply(pod.manifest(ready=False))
    mesh.wait()
    until(lambda: "blue/empty|8080" in caller.envoy.clusters(), "the cluster is active")
    assert _warming(caller) == 0
    until(lambda: caller.face("http://empty.blue/") == "503", "nobody is there to answer")
    mesh.apply(pod.manifest())
    mesh.wait()
    until(lambda: caller.face("http://empty.blue/") == "200", "the pod answers")
    o_clean(mesh)


@pytest.mark.mesh
@FORMS
def test_a_xds_23_each_of_thirty_updates_takes_effect(mesh: World, form: str) -> None:
    """Thirty changes of a split, and after each barrier the requests go where the newest says."""
    mesh.mesh_config(permissive=True)
    caller = _caller(mesh, form)
    versions = ("shop-v1", "shop-v2")
    for n in range(30):
        wanted = versions[n % 2]
        mesh.apply(split("blue", "apex", "shop-apex", **{wanted: 100}))
        mesh.wait()
        tally = caller.tally("http://shop-apex.blue/", 10)
        assert set(tally) == {f"{wanted}-1"}, (n, tally)
    assert caller.envoy.stat("control_plane.connected_state") == 1
    o_clean(mesh)
