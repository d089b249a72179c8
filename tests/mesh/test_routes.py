"""What a TrafficTarget's routes take and leave, on real Envoys: methods, paths, headers, groups, ports."""

from __future__ import annotations

import pytest
from cast import Cast
from rig import o_allowed, o_blocked
from rig.objects import grant_all, match, routes, target, tcp_route

pytestmark = pytest.mark.mesh

GO = {"user-agent": "Go-http-client/1.1", "client-app": "bookbuyer"}


def test_a_acc_07_method(cast: Cast) -> None:
    """GET of any path is granted, POST of none."""
    cast.grant("", match("get", ".*", ["GET"]))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(path="/any/path"))
    for method in ("POST", "PUT", "DELETE"):
        o_blocked(cast.caller, cast.url(path="/any/path"), "no route", method=method, body="x")


def test_a_acc_08_path_is_the_whole_path_without_the_query(cast: Cast) -> None:
    """/metrics is no prefix, no suffix and not /echo; a query does not count."""
    cast.grant("", match("metrics", "/metrics", ["GET"]))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(path="/metrics"))
    o_allowed(cast.caller, cast.url(path="/metrics?a=/echo"), times=2)
    for path in ("/echo", "/metrics/", "/a/metrics", "/metricsx", "/Metrics", "/echo?/metrics"):
        o_blocked(cast.caller, cast.url(path=path), "no route", times=2)


def test_a_acc_09_headers_must_all_match(cast: Cast) -> None:
    """Two headers in a list of one-key maps: both, and each whole."""
    cast.grant("", match("m", ".*", ["GET"], [{"user-agent": ".*-http-client/*.*"}, {"client-app": "bookbuyer"}]))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(), headers=GO)
    for headers in (
        {"user-agent": GO["user-agent"]},
        {"client-app": "bookbuyer"},
        {**GO, "client-app": "bookthief"},
        {**GO, "client-app": "bookbuyer2"},
        {**GO, "user-agent": "curl/8"},
    ):
        o_blocked(cast.caller, cast.url(), "no route", times=2, headers=headers)


def test_a_acc_10_host_is_the_authority(cast: Cast) -> None:
    """A match on `host` looks at what HTTP/2 calls :authority."""
    wanted = cast.url().removeprefix("http://").rstrip("/")
    cast.grant("", match("m", ".*", [], [{"host": wanted.replace(".", "[.]")}]))
    cast.world.wait()
    o_allowed(cast.caller, cast.url())
    full = f"{cast.shop}.{cast.servers}.svc.cluster.local:{cast.port}"
    o_blocked(cast.caller, cast.url(), "no route", headers={"host": full})


@pytest.mark.parametrize(
    ("methods", "allowed", "blocked"),
    [
        (["GET", "GET", "POST"], ["GET", "POST"], ["PUT", "DELETE"]),
        (["GET", "*"], ["GET", "POST", "PUT", "DELETE"], []),
        ([], ["GET", "POST"], []),
    ],
)
def test_a_acc_11_lists_of_methods(cast: Cast, methods: list[str], allowed: list[str], blocked: list[str]) -> None:
    """Twice is once; `*` beside others is any; none is any."""
    cast.grant("", match("m", ".*", methods))
    cast.world.wait()
    for method in allowed:
        o_allowed(cast.caller, cast.url(), times=2, method=method, body="x")
    for method in blocked:
        o_blocked(cast.caller, cast.url(), "no route", times=2, method=method, body="x")


def test_a_acc_12_groups_and_targets_add_up(cast: Cast) -> None:
    """Two groups of one target; the same routes for two callers by two targets."""
    ns, account = cast.servers, f"{cast.servers}/{cast.shop}"
    rules = [{"kind": "HTTPRouteGroup", "name": name} for name in ("one", "two")]
    caller, other = (f"{cast.clients}/{pod.account}" for pod in (cast.caller, cast.other))
    cast.apply(
        routes(ns, "one", match("a", "/a", ["GET"])),
        routes(ns, "two", match("b", "/b", ["GET"]), match("c", "/c/.*")),
        target(ns, "both", account, [caller], *rules),
        target(ns, "only-b", account, [other], group="two", matches=["b"]),
    )
    cast.world.wait()
    for path in ("/a", "/b", "/c/x"):
        o_allowed(cast.caller, cast.url(path=path), times=2)
    o_allowed(cast.other, cast.url(path="/b"))
    for path in ("/a", "/c/x"):
        o_blocked(cast.other, cast.url(path=path), "not granted")
    for pod in (cast.caller, cast.other):
        o_blocked(pod, cast.url(path="/d"), "no route")


def test_a_acc_13_a_rule_names_some_of_a_groups_matches(cast: Cast) -> None:
    """Only the named one; a name that is not there adds nothing, and takes nothing away."""
    ns, account, caller = cast.servers, f"{cast.servers}/{cast.shop}", f"{cast.clients}/{cast.caller.account}"
    cast.apply(routes(ns, "g", match("a", "/a"), match("b", "/b")))
    cast.apply(target(ns, "t", account, [caller], group="g", matches=["a", "gone"]))
    cast.world.wait()
    o_allowed(cast.caller, cast.url(path="/a"))
    o_blocked(cast.caller, cast.url(path="/b"), "no route")
    cast.apply(target(ns, "t", account, [caller], group="g", matches=["gone"]))
    cast.world.wait()
    o_blocked(cast.caller, cast.url(path="/a"), "no outbound")


def test_a_acc_15_only_the_listed_port_is_open(cast: Cast) -> None:
    """A server listens on two ports; the TCPRoute lists one of them."""
    ns, world, name = cast.servers, cast.world, cast.names.name()
    first, second = (cast.names.port(1024), cast.names.port(1024)) if cast.seed is not None else (1080, 1024)
    world.pod(ns, name, account=name, labels={"app": name}, app=[f"echo={first}", f"echo={second}"])
    ports = [{"name": f"tcp-{p}", "port": p, "appProtocol": "tcp"} for p in (first, second)]
    address = world.service(ns, name, ports, {"app": name})
    cast.apply(
        tcp_route(ns, "one", first),
        target(ns, "t", f"{ns}/{name}", [f"{cast.clients}/{cast.caller.account}"], {"kind": "TCPRoute", "name": "one"}),
    )
    world.wait()
    assert cast.caller.speak(address, first, b"hello\n")[0] == b"echo response: hello\n"
    for where in (address, world.pods[f"{ns}/{name}"].address):
        o_blocked(cast.caller, f"http://{where}:{second}/", "no chain")
    cast.apply(tcp_route(ns, "one"))
    world.wait()
    for port in (first, second):
        assert cast.caller.speak(address, port, b"hello\n")[0] == b"echo response: hello\n"
    cast.apply(tcp_route(ns, "one", second + 1 if second + 1 not in (first, 15000, 15001, 15003) else 1))
    world.wait()
    for port in (first, second):
        o_blocked(cast.caller, f"http://{address}:{port}/", "no outbound")


@pytest.mark.parametrize("permissive", [False, True])
def test_a_acc_16_unmeshed_client_never_gets_an_answer(cast: Cast, permissive: bool) -> None:
    """Straight to a pod's address: granted to everybody of the mesh or not, plaintext is refused."""
    world = cast.world
    outsider = world.pod("grey", "stranger", account="default", sidecar=False) if cast.seed is None else None
    if outsider is None:
        ns = cast.names.name()
        world.namespace(ns, monitored=False)
        outsider = world.pod(ns, "stranger", account="default", sidecar=False)
    cast.grant()
    world.mesh_config(permissive=permissive)
    world.wait()
    before = [pod.counters(cast.target)["total"] for pod in cast.shops()]
    for pod in cast.shops():
        o_blocked(outsider, f"http://{pod.address}:{cast.target}/", "unmeshed", times=5)
    assert [pod.counters(cast.target)["total"] for pod in cast.shops()] == before
    o_allowed(cast.caller, cast.url(), times=2)


def test_a_acc_17_a_caller_needs_no_service(cast: Cast) -> None:
    """No Service selects the caller, and its namespace has none; with one it is the same."""
    world = cast.world
    assert not any(kind == "Service" and ns == cast.clients for kind, ns, _ in world.objects)
    cast.apply(grant_all(cast.servers, cast.shop, f"{cast.clients}/{cast.caller.account}"))
    world.wait()
    o_allowed(cast.caller, cast.url())
    world.service(cast.clients, "of-mine", cast.ports(), cast.caller.labels)
    world.wait()
    o_allowed(cast.caller, cast.url())
