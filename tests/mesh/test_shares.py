"""TrafficSplits on real Envoys: shares, replicas, missing parts, and splits of some requests only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cast import Cast
from rig import Pod, o_allowed, o_blocked, until
from rig.objects import match, routes

pytestmark = pytest.mark.mesh


def _split(cast: Cast, apex: str, weights: dict[str, int], name: str = "s", **spec: Any) -> dict[str, Any]:
    backends = [{"service": service, "weight": weight} for service, weight in weights.items()]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4" if spec else "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "metadata": {"name": name, "namespace": cast.servers},
        "spec": {"service": apex, "backends": backends, **spec},
    }


def _shares(cast: Cast, client: Pod, url: str) -> dict[str, float]:
    """The share of each Service by the pods that answered. 5,000 requests and 3 percentage points, or 500 and 9."""
    n = 5000 if cast.seed is None else 500
    seen = client.tally(url, n)
    assert not [key for key in seen if key.startswith("status")], seen
    shares: dict[str, float] = {}
    for pod, count in seen.items():
        service = pod.rpartition("-")[0]
        shares[service] = shares.get(service, 0.0) + count / n
    return shares


def _expect(cast: Cast, shares: dict[str, float], weights: dict[str, int]) -> None:
    tolerance, total = 0.03 if cast.seed is None else 0.09, sum(weights.values())
    for service, weight in weights.items():
        if weight == 0:
            assert service not in shares
        else:
            assert shares.get(service, 0.0) == pytest.approx(weight / total, abs=tolerance), service
    assert shares.keys() <= weights.keys()


def _weights(cast: Cast, *usual: int) -> list[int]:
    """As given, or drawn."""
    return list(usual) if cast.seed is None else [cast.names.random.randint(1, 100000) for _ in usual]


@pytest.mark.parametrize("usual", [(75, 25), (1000, 500), (0, 7)])
def test_a_spl_03_05_11_weights_are_relative(cast: Cast, usual: tuple[int, int]) -> None:
    """75 to 25; 1000 to 500; nothing at all for weight 0."""
    drawn = _weights(cast, *usual)
    weights = {cast.v1: 0 if usual[0] == 0 else drawn[0], cast.v2: drawn[1]}
    for name in (cast.v1, cast.v2):
        cast.grant(name)
    cast.apply(_split(cast, cast.apex, weights))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(cast.apex), times=1)
    _expect(cast, _shares(cast, cast.caller, cast.url(cast.apex)), weights)


def test_a_spl_04_three_backends_and_one_that_is_none(cast: Cast) -> None:
    """50, 30 and 20; a fourth Service that nobody granted is never reached, by the split or straight."""
    third, fourth = cast.names.name(), cast.names.name()
    for name in (third, fourth):
        cast.backend(name)
    weights = dict(zip((cast.v1, cast.v2, third), _weights(cast, 50, 30, 20), strict=True))
    for name in weights:
        cast.grant(name)
    cast.apply(_split(cast, cast.apex, weights))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(cast.apex), times=1)
    _expect(cast, _shares(cast, cast.caller, cast.url(cast.apex)), weights)
    o_blocked(cast.caller, cast.url(fourth), "no chain")
    assert cast.pod(fourth).counters(cast.target)["total"] == 0


@pytest.mark.parametrize("permissive", [False, True])
def test_a_spl_07_14_every_replica_answers(cast: Cast, permissive: bool) -> None:
    """Five backends of two pods, two clients: each pod answers; the backends' own names work beside the split."""
    if cast.seed is not None and permissive:
        pytest.skip("ten more Envoys, once")
    world, backends = cast.world, [cast.names.name() for _ in range(5)]
    for name in backends:
        cast.backend(name, 2)
        for client in (cast.caller, cast.other):
            if not permissive:
                cast.grant(name, match("all"), to=client)
    world.mesh_config(permissive=permissive)
    cast.apply(_split(cast, cast.apex, dict.fromkeys(backends, 20)))
    world.wait(60)
    everybody = {f"{name}-{n}" for name in backends for n in (1, 2)}
    for client in (cast.caller, cast.other):
        o_allowed(client, cast.url(cast.apex), times=1)
        assert client.tally(cast.url(cast.apex), 400).keys() == everybody
        for name in backends:
            o_allowed(client, cast.url(name), times=1)
            assert client.tally(cast.url(name), 60).keys() == {f"{name}-1", f"{name}-2"}


def test_a_spl_08_one_account_for_all_backends(cast: Cast) -> None:
    """The shares are those of the Services, though one grant opens both."""
    account, names = cast.names.name(), [cast.names.name() for _ in range(2)]
    for name in names:
        cast.backend(name, account=account)
    cast.grant(account)
    weights = dict(zip(names, _weights(cast, 60, 40), strict=True))
    cast.apply(_split(cast, cast.apex, weights))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(cast.apex), times=1)
    _expect(cast, _shares(cast, cast.caller, cast.url(cast.apex)), weights)


def test_a_spl_09_apex_is_its_own_only_backend(cast: Cast) -> None:
    """100 of 100 to itself."""
    cast.grant()
    cast.apply(_split(cast, cast.shop, {cast.shop: 100}))
    cast.world.wait()
    o_allowed(cast.caller, cast.url())
    assert cast.caller.tally(cast.url(), 40).keys() == {pod.name for pod in cast.shops()}


def test_a_spl_12_missing_backend(cast: Cast) -> None:
    """What is left gets everything; the split says what is missing."""
    cast.grant(cast.v1)
    cast.apply(_split(cast, cast.apex, {cast.v1: 50, "gone": 50}))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(cast.apex))
    assert cast.caller.tally(cast.url(cast.apex), 50) == {f"{cast.v1}-1": 50}
    assert "gone" in json.dumps(cast.world.status()["rejects"])


def test_a_spl_13_deleted_split(cast: Cast) -> None:
    """An apex with pods goes back to them; one without is reached by nobody."""
    for name in (cast.shop, cast.v1):
        cast.grant(name)
    cast.apply(_split(cast, cast.shop, {cast.v1: 1}, "a"), _split(cast, cast.apex, {cast.v1: 1}, "b"))
    cast.world.wait()
    for apex in (cast.shop, cast.apex):
        o_allowed(cast.caller, cast.url(apex), times=1)
        assert cast.caller.tally(cast.url(apex), 20) == {f"{cast.v1}-1": 20}
    for name in ("a", "b"):
        cast.world.delete("TrafficSplit", cast.servers, name)
    cast.world.wait()
    assert cast.caller.tally(cast.url(), 40).keys() == {pod.name for pod in cast.shops()}
    o_blocked(cast.caller, cast.url(cast.apex), "no chain")


def test_two_splits_of_one_apex_and_splits_in_a_circle(cast: Cast) -> None:
    """One of them counts, the other is reported; a circle is no chain: each split is looked at once."""
    for name in (cast.v1, cast.v2):
        cast.grant(name)
    cast.apply(_split(cast, cast.v1, {cast.v2: 1}, "there"), _split(cast, cast.v2, {cast.v1: 1}, "back"))
    cast.apply(_split(cast, cast.apex, {cast.v1: 1}, "a"), _split(cast, cast.apex, {cast.v2: 1}, "b"))
    cast.world.wait()
    for apex, pod in ((cast.apex, cast.v1), (cast.v1, cast.v2), (cast.v2, cast.v1)):
        o_allowed(cast.caller, cast.url(apex), times=1)
        assert cast.caller.tally(cast.url(apex), 20) == {f"{pod}-1": 20}
    assert "split by TrafficSplit" in json.dumps(cast.world.status()["rejects"])


@pytest.mark.parametrize("permissive", [False, True])
def test_split_of_some_requests(cast: Cast, permissive: bool) -> None:
    """By header and by path: testers get v2, everybody else what they got before; the rest of a header or of a path
    does not count; taken away, all is as before."""
    for name in (cast.shop, cast.v2):
        cast.grant(name)
    cast.world.mesh_config(permissive=permissive)
    cast.world.wait()
    url, shops = cast.url(), {pod.name for pod in cast.shops()}
    o_allowed(cast.caller, url)
    cast.apply(
        routes(
            cast.servers,
            "testers",
            match("by-header", headers=[{"x-tester": "yes"}]),
            match("by-path", "/new", ["GET"]),
        ),
        _split(cast, cast.shop, {cast.v2: 1}, matches=[{"kind": "HTTPRouteGroup", "name": "testers"}]),
    )
    cast.world.wait()
    v2 = f"{cast.v2}-1"

    def pod(path: str = "", **headers: str) -> str:
        reply = cast.caller.get(
            url.rstrip("/") + "/" + path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        assert reply.face == "200", reply
        return reply.headers["pod"]

    until(lambda: pod(x_tester="yes") == v2, "testers get v2")
    for _ in range(10):
        assert pod(x_tester="yes") == v2
        assert pod("new") == v2
        assert pod("new?x=1") == v2
        assert pod() in shops
        assert pod(x_tester="yes please") in shops
        assert pod("new/") in shops
    assert cast.caller.get(f"{url}new", method="POST", body="x").headers["pod"] in shops
    cast.world.delete("TrafficSplit", cast.servers, "s")
    cast.world.wait()
    until(lambda: pod(x_tester="yes") in shops, "testers get what all get")
    assert pod("new") in shops
