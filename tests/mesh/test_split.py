"""TrafficSplit on real Envoys. 5,000 requests, tolerance 3 percentage points: a false alarm once in 30,000."""

from __future__ import annotations

import json

import pytest
from rig import World, o_allowed, o_blocked, until
from rig.objects import HTTP_8080, grant_all, split

pytestmark = pytest.mark.mesh

N, TOLERANCE = 5000, 0.03
APEX = "http://shop-apex.blue"


def _grant(world: World, *versions: str) -> None:
    for version in versions:
        world.apply(grant_all("blue", version, "red/caller"))


def _share(world: World, url: str, n: int = N) -> dict[str, float]:
    """The share of each answering pod; anything but a 200 fails."""
    seen = world.pods["red/caller-1"].tally(url, n)
    bad = {k: v for k, v in seen.items() if k.startswith("status")}
    assert not bad, f"{url}: {bad} of {n}"
    assert sum(seen.values()) == n
    return {k: v / n for k, v in seen.items()}


def test_a_spl_01_all_for_one_backend_is_exactly_all(mesh: World) -> None:
    """100/0, and the other way round."""
    _grant(mesh, "shop-v1", "shop-v2")
    for v1, v2, pod in ((100, 0, "shop-v1-1"), (0, 100, "shop-v2-1")):
        mesh.apply(split("blue", "s1", "shop-apex", shop_v1=v1, shop_v2=v2))
        mesh.wait()
        o_allowed(mesh.pods["red/caller-1"], APEX, times=2)
        assert _share(mesh, APEX, 50) == {pod: 1.0}


@pytest.mark.parametrize("apex", ["shop-apex.blue.svc.cluster.local", "shop-apex.blue", "shop-apex"])
def test_a_spl_02_half_and_half(mesh: World, apex: str) -> None:
    """50/50, with every form in which the apex may be named."""
    _grant(mesh, "shop-v1", "shop-v2")
    mesh.apply(split("blue", "s1", apex, shop_v1=50, shop_v2=50))
    mesh.wait()
    share = _share(mesh, APEX)
    assert share.keys() == {"shop-v1-1", "shop-v2-1"}
    assert share["shop-v1-1"] == pytest.approx(0.5, abs=TOLERANCE)


def test_a_spl_06_canary_steps_lose_no_request(mesh: World) -> None:
    """100/0 to 0/100 in steps under load: each step is applied, and not one request fails."""
    _grant(mesh, "shop-v1", "shop-v2")
    mesh.apply(split("blue", "s1", "shop-apex", shop_v1=100, shop_v2=0))
    mesh.wait()
    caller = mesh.pods["red/caller-1"]
    o_allowed(caller, APEX)
    load = caller.load(APEX, rate=50)
    try:
        for weight in (90, 50, 0):
            mesh.apply(split("blue", "s1", "shop-apex", shop_v1=weight, shop_v2=100 - weight))
            mesh.wait()
            sent = load.sent
            until(lambda sent=sent: load.sent >= sent + 50, "fifty more requests have been sent")
            share = _share(mesh, APEX, 500)
            assert share.get("shop-v1-1", 0.0) == pytest.approx(weight / 100, abs=0.09)
    finally:
        load.stop()
    assert load.failures == []
    assert load.sent >= 150


def test_a_spl_10_apex_that_selects_the_backends_pods(mesh: World) -> None:
    """Traffic follows the split, no 503, and the apex is not a backend of its own."""
    _grant(mesh, "shop-v1", "shop-v2")
    mesh.service("blue", "shop-all", HTTP_8080, {"group": "versions"})
    mesh.apply(split("blue", "s1", "shop-all", shop_v1=75, shop_v2=25))
    mesh.wait()
    caller = mesh.pods["red/caller-1"]
    o_allowed(caller, "http://shop-all.blue")
    share = _share(mesh, "http://shop-all.blue")
    assert share["shop-v1-1"] == pytest.approx(0.75, abs=TOLERANCE)
    assert share["shop-v2-1"] == pytest.approx(0.25, abs=TOLERANCE)
    routes = json.dumps(caller.envoy.section("Routes"))
    assert "blue/shop-v1|8080" in routes
    assert "blue/shop-all|8080" not in routes


def test_a_spl_15_host_is_not_rewritten(mesh: World) -> None:
    """The backend sees the name that was called."""
    _grant(mesh, "shop-v1", "shop-v2")
    mesh.apply(split("blue", "s1", "shop-apex", shop_v1=50, shop_v2=50))
    mesh.wait()
    caller = mesh.pods["red/caller-1"]
    o_allowed(caller, f"{APEX}/anything")
    for host in ("shop-apex.blue", "shop-apex.blue.svc.cluster.local"):
        reply = caller.get(f"http://{host}/anything")
        assert reply.face == "200"
        assert json.loads(reply.body)["host"] == host


def test_a_spl_16_a_split_grants_nothing(mesh: World) -> None:
    """Half goes to a backend that the caller may not reach: that half fails with 503, none of it arrives, none is
    moved."""
    _grant(mesh, "shop-v1")
    mesh.apply(split("blue", "s1", "shop-apex", shop_v1=50, shop_v2=50))
    mesh.wait()
    caller, other = mesh.pods["red/caller-1"], mesh.pods["blue/shop-v2-1"]
    before = other.counters(8080)["total"]
    until(lambda: caller.face(APEX) == "200", "the allowed half answers")
    seen = caller.tally(APEX, N, batch=1)
    assert seen.keys() == {"shop-v1-1", "status 503"}
    assert seen["shop-v1-1"] / N == pytest.approx(0.5, abs=TOLERANCE)
    assert other.counters(8080)["total"] == before
    until(
        lambda: (r := caller.get(APEX)).status == 503 and "no healthy upstream" in r.body,
        "the 503 is for want of endpoints",
    )
    o_blocked(caller, "http://shop-v2.blue/", "no chain")
