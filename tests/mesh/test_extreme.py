"""Objects that are allowed and extreme, or that say strange things, beside a healthy pair of pods under load: the pair
loses no request, and no Envoy refuses anything."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from cast import Cast
from rig import o_allowed, o_blocked, until
from rig.objects import match, routes, split, target, tcp_route

pytestmark = pytest.mark.mesh

Object = dict[str, Any]
LONG = ("x" * 62 + ".") * 3 + "x" * 60  # 249 characters, as DNS allows


def _service(ns: str, name: str, address: str, *ports: Object, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": ns}
    listed = [{"protocol": "TCP", **port} for port in ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": address, "ports": listed, **spec},
    }


def _many_matches(cast: Cast) -> list[Object]:
    """As many matches as there are, all kinds of methods, long and deep expressions."""
    ns = cast.servers
    deep = "(a|" * 40 + "b" + ")" * 40
    matches = [match(f"m{n}", f"/path/{n}/.*", ["GET", "POST", "PUT"]) for n in range(500)]
    matches += [
        match("long", "/" + "y" * 2000),
        match("deep", deep),
        match("classes", r"/[\p{Greek}\d]{1,50}(?i)[a-z]*"),
    ]
    matches += [match("any", ".*"), match("root", "/"), match("nothing", "^$"), match("spaces", "/a b%20c")]
    matches += [match("headers", "", [], [{f"x-h{n}": f"v{n}.*"} for n in range(50)])]
    source = f"{cast.clients}/{cast.other.account}"
    return [routes(ns, "many", *matches), target(ns, "many", f"{ns}/{cast.v1}", [source], group="many")]


def _many_sources(cast: Cast) -> list[Object]:
    """Thousands of accounts that do not exist, twice, and namespaces that nobody has."""
    ns = cast.servers
    sources = [f"ns-{n % 7}/account-{n}" for n in range(2000)] * 2
    return [routes(ns, "of-many", match("m")), target(ns, "of-many", f"{ns}/{cast.v1}", sources, group="of-many")]


def _odd_names(cast: Cast) -> list[Object]:
    """Names as long as they may be, and such that look like other things."""
    ns, source = cast.servers, f"{cast.clients}/{cast.other.account}"
    out: list[Object] = []
    for name in (LONG, "0", "true", "null", "1e3", "a.b.c", "x--y"):
        out += [routes(ns, name, match("m", "/odd")), target(ns, name, f"{ns}/{cast.v1}", [source], group=name)]
    odd = routes(ns, "odd-inside", match("", "/a"), match("m", "/b"), match("m", "/c"), match("ключ", "/d"))
    return [
        *out,
        odd,
        target(ns, "odd-inside", f"{ns}/{cast.v1}", [source], group="odd-inside", matches=["m", "", "ключ"]),
    ]


def _ports(cast: Cast) -> list[Object]:
    """The lowest and the highest; all protocols; UDP beside TCP; several on one target port; none at all."""
    ns = cast.servers
    selector = {"app": cast.v1}
    pairs = [(1, "http"), (65535, "grpc"), (1023, "tcp"), (3306, "tcp-server-first"), (443, "HTTP"), (8443, "gRPC")]
    listed = [{"name": f"p{n}", "port": n, "targetPort": 20000 + n % 40000, "appProtocol": p} for n, p in pairs]
    listed += [{"name": "udp", "port": 443, "protocol": "UDP"}, {"name": "sctp", "port": 9, "protocol": "SCTP"}]
    listed += [{"name": "unknown", "port": 27017, "appProtocol": "mongo"}, {"name": "https-x", "port": 8444}]
    same = [{"name": f"same{n}", "port": 100 + n, "targetPort": cast.target} for n in range(20)]
    named = [{"name": "n", "port": 200, "targetPort": "nobody-has-it"}]
    many = [{"name": f"m{n}", "port": 10000 + n, "targetPort": 10000 + n} for n in range(300)]
    return [
        _service(ns, "all-kinds", "10.96.250.1", *listed, selector=selector),
        _service(ns, "same-target", "10.96.250.2", *same, selector=selector),
        _service(ns, "named-nowhere", "10.96.250.3", *named, selector=selector),
        _service(ns, "many-ports", "10.96.250.4", *many, selector=selector),
        _service(ns, "no-ports", "10.96.250.5", selector=selector),
        _service(ns, "no-selector", "10.96.250.6", {"name": "a", "port": 80}),
        _service(ns, "empty-selector", "10.96.250.7", {"name": "a", "port": 80}, selector={}),
        _service(ns, "external", "", type="ExternalName", externalName="example.org"),
        _service(ns, "six", "fd00::1", {"name": "a", "port": 80}, selector=selector),
        _service(ns, "headless", "None", {"name": "a", "port": 80}, selector={"app": "nobody"}),
    ]


def _same_address(cast: Cast) -> list[Object]:
    """A Service that claims the shop's own address: the older one has it."""
    shop = cast.world.objects["Service", cast.servers, cast.shop]["spec"]
    ports = [{"name": "http", "port": cast.port, "targetPort": cast.target}]
    return [_service(cast.servers, "zz-claims-it", shop["clusterIP"], *ports, selector={"app": cast.v1})]


def _splits(cast: Cast) -> list[Object]:
    """Hundreds of one apex, hundreds of backends, circles, weights to the limit, matches that take each other's
    requests, and what names nothing."""
    ns = cast.servers
    out: list[Object] = []
    for n in range(100):
        o = split(ns, f"apex-{n}", cast.apex)
        o["spec"]["backends"] = [{"service": cast.v1, "weight": n + 1}]
        out.append(o)
    wide = split(ns, "wide", cast.v2)
    wide["spec"]["backends"] = [{"service": f"gone-{n}", "weight": n} for n in range(300)] + [
        {"service": cast.v2, "weight": 1}
    ]
    limit = split(ns, "limit", "all-kinds")
    limit["spec"]["backends"] = [{"service": cast.v1, "weight": 4294967294}, {"service": cast.v2, "weight": 1}]
    circle = [split(ns, f"circle-{n}", f"c{n}") for n in range(5)]
    for n, o in enumerate(circle):
        o["spec"]["backends"] = [{"service": f"c{(n + 1) % 5}", "weight": 1}]
    some = copy.deepcopy(limit)
    some.update(apiVersion="split.smi-spec.io/v1alpha4", metadata={"name": "some", "namespace": ns})
    some["spec"].update(
        service=cast.v1, matches=[{"kind": "HTTPRouteGroup", "name": name} for name in ("many", "gone", "many")]
    )
    return [*out, wide, limit, *circle, some]


def _targets(cast: Cast) -> list[Object]:
    """Destinations without pods, sources that are destinations, the same rule twice, TCP and HTTP mixed, every port."""
    ns, source = cast.servers, f"{cast.clients}/{cast.other.account}"
    tcp = [{"kind": "TCPRoute", "name": "every"}]
    return [
        tcp_route(ns, "every", *range(1, 2000)),
        tcp_route(ns, "none"),
        target(ns, "no-pods", f"{ns}/nobody", [source], *tcp),
        target(ns, "itself", f"{ns}/{cast.v1}", [f"{ns}/{cast.v1}"], *tcp, group="many"),
        target(ns, "twice", f"{ns}/{cast.v1}", [source, source], *tcp, *tcp, {"kind": "TCPRoute", "name": "none"}),
        target(ns, "elsewhere", f"{cast.clients}/{cast.caller.account}", [source], *tcp),
        target(ns, "gone", f"{ns}/{cast.v1}", [source], {"kind": "TCPRoute", "name": "gone"}, group="gone"),
    ]


EXTREMES = [_many_matches, _many_sources, _odd_names, _ports, _same_address, _splits, _targets]


@pytest.fixture
def healthy(cast: Cast) -> Iterator[Any]:
    """The caller and the shop, granted to each other, under load; every request must have succeeded at the end."""
    cast.grant()
    cast.world.wait()
    o_allowed(cast.caller, cast.url())
    load = cast.caller.load(cast.url(), rate=20)
    try:
        yield load
        sent = load.sent
        until(lambda: load.sent >= sent + 20, "twenty more requests have been sent")
    finally:
        load.stop()
    assert load.failures == []


def _come_and_go(cast: Cast, objects: list[Object]) -> None:
    world = cast.world
    cast.apply(objects)
    world.wait()
    o_allowed(cast.caller, cast.url(), times=3)
    o_blocked(cast.other, cast.url(), "no chain", times=1)  # whoever was shut out still is
    assert not world.status()["errors"], world.status()["errors"]
    for o in objects:
        world.delete(o["kind"], o["metadata"]["namespace"], o["metadata"]["name"])
    world.wait()
    o_allowed(cast.caller, cast.url(), times=3)
    o_blocked(cast.other, cast.url(), "no outbound", times=1)


@pytest.mark.parametrize(
    "extreme",
    [
        pytest.param(f, id=f.__name__.lstrip("_"), marks=[pytest.mark.files] if f in (_ports, _same_address) else [])
        for f in EXTREMES
    ],
)
def test_extreme_objects_beside_a_healthy_pair(cast: Cast, healthy: Any, extreme: Any) -> None:
    """Come, are applied by every Envoy, and go."""
    _come_and_go(cast, extreme(cast))


@pytest.mark.files
def test_all_extremes_at_once_beside_a_healthy_pair(cast: Cast, healthy: Any) -> None:
    """All of them, with permissive mode switched over them. Without the thousands of callers: times hundreds of
    ports they are over what a rule may take, which is reported of that one Service."""
    objects = [o for extreme in EXTREMES if extreme is not _many_sources for o in extreme(cast)]
    _come_and_go(cast, objects)
    cast.apply(objects)
    for permissive in (True, False):
        cast.world.mesh_config(permissive=permissive)
        cast.world.wait(60)
        o_allowed(cast.caller, cast.url(), times=3)
