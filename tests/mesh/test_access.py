"""SMI access on real Envoys: who gets in, and how it looks to those who do not."""

from __future__ import annotations

import pytest
from rig import World, o_allowed, o_blocked
from rig.objects import grant_all, match, routes, target

pytestmark = pytest.mark.mesh

SHOP = "http://shop.blue"


def _total(world: World) -> int:
    """How many requests have reached the shop's applications."""
    return sum(world.pods[f"blue/shop-{n}"].counters(8080)["total"] for n in (1, 2))


def test_a_acc_01_nothing_is_allowed_without_a_target(mesh: World) -> None:
    """No policy: the call is refused at the client, which has no outbound listener; nothing arrives."""
    caller = mesh.pods["red/caller-1"]
    before = _total(mesh)
    o_blocked(caller, f"{SHOP}/", "no outbound", times=5)
    assert _total(mesh) == before
    assert "outbound-listener" not in caller.envoy.listeners()


def test_a_acc_02_only_the_granted_route_is_allowed(mesh: World) -> None:
    """One path and method: that gets 200, a path that nobody was granted 404."""
    caller = mesh.pods["red/caller-1"]
    mesh.apply(routes("blue", "g1", match("m1", "/anything", ["GET"])))
    mesh.apply(target("blue", "t1", "blue/shop", ["red/caller"], group="g1", matches=["m1"]))
    mesh.wait()
    o_allowed(caller, f"{SHOP}/anything", times=20)
    o_blocked(caller, f"{SHOP}/foo", "no route")
    o_blocked(caller, f"{SHOP}/anything", "no route", method="POST", body="x")
    o_blocked(mesh.pods["red/caller2-1"], f"{SHOP}/anything", "no outbound")


def test_a_acc_03_each_identity_has_its_own_routes(mesh: World) -> None:
    """Two targets: each caller gets its own path, 403 on the other's; a target that goes takes only its own grant
    along."""
    caller, caller2 = mesh.pods["red/caller-1"], mesh.pods["red/caller2-1"]
    mesh.apply(routes("blue", "g1", match("any", "/anything", ["GET"]), match("foo", "/foo", ["GET"])))
    mesh.apply(target("blue", "t1", "blue/shop", ["red/caller"], group="g1", matches=["any"]))
    mesh.apply(target("blue", "t2", "blue/shop", ["red/caller2"], group="g1", matches=["foo"]))
    mesh.wait()
    o_allowed(caller, f"{SHOP}/anything")
    o_allowed(caller2, f"{SHOP}/foo")
    o_blocked(caller2, f"{SHOP}/anything", "not granted")
    o_blocked(caller, f"{SHOP}/foo", "not granted")
    mesh.delete("TrafficTarget", "blue", "t2")
    mesh.wait()
    o_blocked(caller2, f"{SHOP}/foo", "no outbound", times=20)
    o_allowed(caller, f"{SHOP}/anything", times=20)


def test_a_acc_04_a_revoked_grant_is_gone_and_a_new_one_works(mesh: World) -> None:
    """Five times: granted, revoked, without a restart of anything."""
    caller = mesh.pods["red/caller-1"]
    grant = grant_all("blue", "shop", "red/caller")
    for _ in range(5):
        mesh.apply(grant)
        mesh.wait()
        o_allowed(caller, f"{SHOP}/anything")
        mesh.delete("TrafficTarget", "blue", "to-shop")
        mesh.wait()
        before = _total(mesh)
        o_blocked(caller, f"{SHOP}/anything", "no outbound", times=5)
        assert _total(mesh) == before


def test_a_acc_05_a_target_outside_its_destinations_namespace_grants_nothing(mesh: World) -> None:
    """The target lies in the caller's namespace; its group exists in both."""
    for ns in ("red", "blue"):
        mesh.apply(routes(ns, "any", match("any", ".*", ["*"])))
    mesh.apply(target("red", "t1", "blue/shop", ["red/caller"], group="any", matches=["any"]))
    mesh.wait()
    o_blocked(mesh.pods["red/caller-1"], f"{SHOP}/anything", "no outbound", times=5)


def test_target_without_sources_lets_nobody_in(mesh: World) -> None:
    """An empty or absent list of sources is not `anyone`, and another target is not widened by it."""
    caller, caller2 = mesh.pods["red/caller-1"], mesh.pods["red/caller2-1"]
    mesh.apply(grant_all("blue", "shop", "red/caller"))
    mesh.apply(target("blue", "empty", "blue/shop", [], group="any", matches=["any"]))
    absent = target("blue", "absent", "blue/shop", [], group="any", matches=["any"])
    absent["apiVersion"] = "access.smi-spec.io/v1alpha2"  # an API server refuses a newer one without
    del absent["spec"]["sources"]
    mesh.apply(absent)
    mesh.wait()
    o_allowed(caller, f"{SHOP}/anything")
    o_blocked(caller2, f"{SHOP}/anything", "no outbound")
    mesh.delete("TrafficTarget", "blue", "to-shop")
    mesh.wait()
    o_blocked(caller, f"{SHOP}/anything", "no outbound")


def test_unmeshed_client_gets_no_answer(mesh: World) -> None:
    """Straight to the pod's address, past no sidecar: refused with and without grants."""
    outsider = mesh.pods["grey/outsider-1"]
    address = mesh.pods["blue/shop-1"].address
    mesh.apply(grant_all("blue", "shop", "red/caller"))
    mesh.wait()
    o_blocked(outsider, f"http://{address}:8080/anything", "unmeshed")
