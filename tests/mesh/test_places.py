"""Whose objects count: namespaces of this mesh, of another and of none; pods of one Service with several accounts;
names that would mean everybody."""

from __future__ import annotations

from typing import Any

import pytest
from cast import Cast
from rig import o_allowed, o_blocked, until
from rig.objects import match, routes, target

pytestmark = pytest.mark.mesh


def _labelled(ns: str, mesh: str | None) -> dict[str, Any]:
    labels = {"openservicemesh.io/monitored-by": mesh} if mesh else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, "labels": labels}}


@pytest.mark.parametrize("mesh", [None, "another"])
def test_a_namespace_leaves_the_mesh_and_comes_back(cast: Cast, mesh: str | None) -> None:
    """Without its label, or with another mesh's name, nothing of it counts: its grants and its Services neither."""
    world = cast.world
    cast.grant()
    world.wait()
    o_allowed(cast.caller, cast.url())
    before = [pod.counters(cast.target)["total"] for pod in cast.shops()]
    world.apply(_labelled(cast.servers, mesh))
    world.daemon.applied()
    until(lambda: cast.caller.face(cast.url()) == "exit 7", "the call is refused")
    o_blocked(cast.caller, cast.url(), "no outbound")
    assert [pod.counters(cast.target)["total"] for pod in cast.shops()] == before
    world.apply(_labelled(cast.servers, world.mesh_name))
    world.wait()
    for pod in world.sidecars():
        until(pod.envoy.connected, f"{pod} is connected again", 60)
    world.wait(60)
    o_allowed(cast.caller, cast.url())


def test_objects_of_a_namespace_outside_the_mesh_grant_nothing(cast: Cast) -> None:
    """A target, a group and a Service there; and callers from there, who have no sidecar of the mesh."""
    world, ns = cast.world, cast.names.name()
    world.namespace(ns, monitored=False)
    source = f"{cast.clients}/{cast.caller.account}"
    cast.apply(
        routes(ns, "g", match("all")),
        target(ns, "t", f"{ns}/{cast.shop}", [source], group="g"),
        target(ns, "other", f"{cast.servers}/{cast.shop}", [source], group="g"),
    )
    world.service(ns, cast.shop, cast.ports(), {"app": cast.shop})
    world.wait()
    o_blocked(cast.caller, cast.url(), "no outbound")
    o_blocked(cast.caller, cast.url().replace(f".{cast.servers}", f".{ns}"), "no outbound")


def test_pods_of_one_service_with_several_accounts(cast: Cast) -> None:
    """A grant for one account opens its pods and no others, though they stand behind the same Service and name."""
    world, name = cast.world, cast.names.name()
    accounts = [cast.names.name(), cast.names.name()]
    pods = [
        world.pod(cast.servers, f"{name}-{n}", account=account, labels={"app": name}, app=f"http={cast.target}")
        for n, account in enumerate(accounts)
    ]
    world.service(cast.servers, name, cast.ports(), {"app": name})
    cast.grant(accounts[0], match("all"))
    world.wait()
    o_allowed(cast.caller, cast.url(name))
    assert cast.caller.tally(cast.url(name), 50) == {pods[0].name: 50}
    assert pods[1].counters(cast.target)["total"] == 0
    cast.grant(accounts[1], match("all"))
    world.wait()
    assert cast.caller.tally(cast.url(name), 50).keys() == {pod.name for pod in pods}
    world.delete("TrafficTarget", cast.servers, f"only-{accounts[0]}-{cast.caller.account}")
    world.wait()
    at = pods[0].counters(cast.target)["total"]
    until(lambda: cast.caller.tally(cast.url(name), 20, batch=1) == {pods[1].name: 20}, "only the other one answers")
    assert pods[0].counters(cast.target)["total"] == at


@pytest.mark.parametrize("wild", ["*", "", ".*", "system:authenticated", "caller*", "%", "**"])
def test_names_that_would_mean_everybody_mean_nobody(cast: Cast, wild: str) -> None:
    """As a source's name or namespace, as the destination, as a rule's or a match's name."""
    ns, account = cast.servers, f"{cast.servers}/{cast.shop}"
    name = cast.caller.account
    cast.apply(
        routes(ns, "g", match("all")),
        target(ns, "a", account, [f"{cast.clients}/{wild}"], group="g"),
        target(ns, "b", account, [f"{wild}/{name}"], group="g"),
        target(ns, "c", f"{ns}/{wild}", [f"{cast.clients}/{name}"], group="g"),
        target(ns, "d", account, [f"{cast.clients}/{name}"], group=wild or " "),
        target(ns, "e", account, [f"{cast.clients}/{name}"], group="g", matches=[wild]),
    )
    cast.world.wait()
    for pod in (cast.caller, cast.other):
        o_blocked(pod, cast.url(), "no outbound", times=1)
    assert len(cast.world.status()["rejects"]) >= 4
