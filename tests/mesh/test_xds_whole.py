"""What is served is whole: nothing in it refers to what is not served as well."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from rig import World
from rig.objects import HTTP_8080, match, routes, split, target, tcp_route
from rig.xds import CDS, EDS, LDS, RDS, SDS, Answer, Delta, Sotw

Message = dict[str, Any]


def _values(value: Any, key: str) -> Iterator[Any]:
    """Everything under a key, anywhere in a message as JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from _values(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)


def _texts(value: Any, key: str) -> set[str]:
    return {found for found in _values(value, key) if isinstance(found, str)}


def _clusters_named(message: Message) -> set[str]:
    """By routes and TCP proxies, alone or by weight."""
    weighted = {each["name"] for w in _values(message, "weighted_clusters") for each in w.get("clusters", [])}
    return _texts(message, "cluster") | weighted


def _secrets_named(message: Message) -> set[str]:
    certificates = {
        config["name"] for list_ in _values(message, "tls_certificate_sds_secret_configs") for config in list_
    }
    return certificates | {config["name"] for config in _values(message, "validation_context_sds_secret_config")}


def _dumps(answer: Answer) -> dict[str, Message]:
    return {name: answer.as_dict(name) for name in answer.resources}


def _eds_names(clusters: dict[str, Message]) -> set[str]:
    """What clusters ask EDS for."""
    return {
        cluster.get("eds_cluster_config", {}).get("service_name") or name
        for name, cluster in clusters.items()
        if cluster.get("type") == "EDS"
    }


def _check(client: Sotw | Delta) -> dict[str, int]:
    """Asks as Envoy does, name by name; how much there was of each type."""
    clusters = _dumps(client.fetch(CDS))
    listeners = _dumps(client.fetch(LDS))
    eds, tables = _eds_names(clusters), _texts(list(listeners.values()), "route_config_name")
    if eds:
        assert client.fetch(EDS, sorted(eds)).resources.keys() == eds
    tables_served = _dumps(client.fetch(RDS, sorted(tables))) if tables else {}
    assert tables_served.keys() == tables
    for message in [*listeners.values(), *tables_served.values()]:
        assert _clusters_named(message) <= clusters.keys()
    secrets = {name for message in [*listeners.values(), *clusters.values()] for name in _secrets_named(message)}
    if secrets:
        assert client.fetch_all(SDS, sorted(secrets)).keys() == secrets
    return {CDS: len(clusters), EDS: len(eds), LDS: len(listeners), RDS: len(tables), SDS: len(secrets)}


def _check_nothing_over(client: Delta) -> None:
    """Under a wildcard for every type: no endpoints without their cluster, no routes without a listener."""
    clusters, listeners = _dumps(client.fetch(CDS, ["*"])), _dumps(client.fetch(LDS, ["*"]))
    assert client.fetch(EDS, ["*"]).resources.keys() == _eds_names(clusters)
    assert client.fetch(RDS, ["*"]).resources.keys() == _texts(list(listeners.values()), "route_config_name")


@pytest.mark.parametrize("form", [Sotw, Delta])
@pytest.mark.parametrize("pod", ["red/caller-1", "blue/shop-1"])
def test_a_xds_24_what_is_served_refers_to_nothing_that_is_not(plain: World, pod: str, form: type) -> None:
    """Clusters, endpoints, routes and secrets that are named exist, in a mesh with splits and TCP beside HTTP."""
    plain.service("blue", "other", [{**HTTP_8080[0], "port": 81}], {"app": "shop"})
    plain.service("blue", "raw", [{"name": "tcp-raw", "port": 9000, "targetPort": 9000}], {"app": "shop"})
    plain.service("blue", "apex", HTTP_8080, None)
    plain.apply(split("blue", "halves", "apex", shop=50, other=50))
    plain.wait()
    with form(plain, plain.pods[pod]) as client:
        counts = _check(client)
    assert all(counts.values()), counts
    with Delta(plain, plain.pods[pod]) as client:
        _check_nothing_over(client)


SPACES = ("red", "blue", "green")
PORTS: list[Message] = [
    {"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"},
    {"name": "http-more", "port": 81, "targetPort": 8081},
    {"name": "grpc", "port": 50051, "targetPort": 50051, "appProtocol": "grpc"},
    {"name": "tcp-raw", "port": 9000, "targetPort": 9000},
    {"name": "https", "port": 443, "targetPort": 8443, "appProtocol": "tcp"},
]


def _generate(world: World, rng: random.Random) -> None:
    """A mesh in which much refers to what is not there: accounts, backends, groups, selectors."""
    accounts = [f"{ns}/a{n}" for ns in SPACES for n in range(3)]
    for account in accounts:
        ns, _, name = account.partition("/")
        for n in range(rng.choice([1, 1, 2])):
            ports = [{"containerPort": p["targetPort"]} for p in rng.sample(PORTS, rng.randint(0, 4))]
            world.pod(ns, f"{name}-{n}", account=name, labels={"app": name}, ports=ports)
    for ns in SPACES:
        for n in range(5):
            selector = rng.choice([{"app": f"a{rng.randrange(3)}"}] * 4 + [{"app": "nobody"}, None])
            world.service(ns, f"s{n}", rng.sample(PORTS, rng.randint(1, 3)), selector)
        for n in range(3):
            weights = {f"s{k}": rng.choice([0, 1, 50]) for k in rng.sample(range(7), rng.randint(1, 3))}
            world.apply(split(ns, f"split{n}", f"s{rng.randrange(6)}", **weights))
        world.apply(routes(ns, "g0", match("all", ".*", ["*"]), match("get", "/get/.*", ["GET"])))
        world.apply(routes(ns, "g1", match("headed", "/x", ["POST"], [{"client": "v[12]"}])))
        world.apply(tcp_route(ns, "t0"))
        world.apply(tcp_route(ns, "t1", 9000, 8443))
        for n in range(6):
            rules = [
                rng.choice(
                    [
                        {"kind": "HTTPRouteGroup", "name": "g0"},
                        {"kind": "HTTPRouteGroup", "name": "g0", "matches": ["get"]},
                        {"kind": "HTTPRouteGroup", "name": "g1"},
                        {"kind": "HTTPRouteGroup", "name": "gone"},
                        {"kind": "TCPRoute", "name": "t0"},
                        {"kind": "TCPRoute", "name": "t1"},
                    ]
                )
                for _ in range(rng.randint(1, 3))
            ]
            sources = rng.sample([*accounts, "red/nobody"], rng.randint(1, 4))
            world.apply(target(ns, f"target{n}", f"{ns}/a{rng.randrange(4)}", sources, *rules))


def _thin_out(world: World, rng: random.Random) -> None:
    """Takes a third of the policies and services away."""
    keys = sorted(
        key for key in world.objects if key[0] in {"Service", "TrafficSplit", "TrafficTarget", "HTTPRouteGroup"}
    )
    for key in rng.sample(keys, len(keys) // 3):
        world.delete(*key)


@pytest.mark.parametrize("permissive", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_xds_24_whatever_the_mesh_is(plain: World, seed: int, permissive: bool) -> None:
    """In meshes that are drawn at random, before and after much of each has gone."""
    rng = random.Random(seed)
    plain.namespace("green")
    plain.mesh_config(permissive=permissive, egress=bool(seed % 2))
    _generate(plain, rng)
    for step in (lambda: None, lambda: _thin_out(plain, rng)):
        step()
        plain.wait()
        total = dict.fromkeys((CDS, EDS, LDS, RDS, SDS), 0)
        for n, pod in enumerate(plain.pods.values()):
            with (Sotw, Delta)[n % 2](plain, pod) as client:
                for kind, count in _check(client).items():
                    total[kind] += count
            with Delta(plain, pod) as client:
                _check_nothing_over(client)
        assert all(total.values()), total
