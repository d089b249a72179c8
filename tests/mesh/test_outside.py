"""What the MeshConfig switches on around the mesh: global egress, external authorization, tracing, health
checks, log levels. All of it while it runs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from cast import Cast, seed_of_run
from rig import Pod, World, o_allowed, o_blocked, o_clean, until
from rig.listening import Listener
from rig.objects import match
from test_grpc import grpc_program
from worlds import tracked

pytestmark = pytest.mark.mesh


def _outsider(cast: Cast, *app: str) -> Pod:
    """A pod without a sidecar, in a namespace that is not in the mesh."""
    ns = cast.names.name()
    cast.world.namespace(ns, monitored=False)
    return cast.world.pod(ns, "outside", account="default", sidecar=False, app=app)


def _traffic(world: World, **fields: Any) -> None:
    """The MeshConfig with more below spec.traffic."""
    config = world.objects["MeshConfig", world.osm_namespace, "osm-mesh-config"]
    config["spec"]["traffic"].update(fields)
    world.apply(config)


def test_global_egress_opens_and_closes(cast: Cast) -> None:
    """Off: no way out. On: what is no Service is reached, what is one and is not granted is not. Off again: closed."""
    world = cast.world
    outside = _outsider(cast, "http=8080")
    world.wait()
    url = f"http://{outside.address}:8080/"
    o_blocked(cast.caller, url, "no outbound")
    for _ in range(2):
        world.mesh_config(egress=True)
        world.wait()
        o_allowed(cast.caller, url)
        before = [pod.counters(cast.target)["total"] for pod in cast.shops()]
        for pod in cast.shops():  # past its own sidecar's rules, into the server's
            o_blocked(cast.caller, f"http://{pod.address}:{cast.target}/", "unmeshed")
        assert [pod.counters(cast.target)["total"] for pod in cast.shops()] == before
        world.mesh_config(egress=False)
        world.wait()
        o_blocked(cast.caller, url, "no outbound")
    assert not [r for r in world.status()["rejects"] if "enableEgress" in json.dumps(r)]


@pytest.fixture
def quick() -> Iterator[Cast]:
    """A world of its own, drawn, whose sidecars end the connections of a chain that has gone after a second: what is in
    a chain counts for new connections, and sidecars keep theirs."""
    with tracked(World(drain_time_s=1)) as world:
        cast = Cast(world, seed_of_run())
        cast.build()
        world.wait()
        yield cast
        o_clean(world)


def _until_always(pod: Pod, face: str, url: str, **options: Any) -> None:
    """Twenty requests in a row have this outcome: over each connection that a sidecar has kept."""
    until(lambda: all(pod.face(url, **options) == face for _ in range(20)), f"{pod} gets {face} from {url}", 30)


def test_external_authorization_is_asked_after_the_grants(quick: Cast) -> None:
    """Who is granted and has the word gets through; the word alone opens nothing; a server that is gone lets nobody in,
    unless failures are to be let through."""
    cast, world = quick, quick.world
    authority = _outsider(cast)
    cast.grant()
    world.wait()
    o_allowed(cast.caller, cast.url())
    asked = {"enable": True, "address": authority.address, "port": 9191, "timeout": "2s", "failureModeAllow": False}
    word = {"x-word": "sesame-open"}
    with grpc_program(authority, "authorize", "9191", word["x-word"]):
        _traffic(world, inboundExternalAuthorization=asked)
        world.wait()
        _until_always(cast.caller, "403", cast.url())
        o_allowed(cast.caller, cast.url(), headers=word)
        o_blocked(cast.other, cast.url(), "no outbound", headers=word)
    for pod in cast.shops():  # its connection has ended
        until(
            lambda pod=pod: pod.envoy.stat("cluster.inbound-ext-authz.upstream_cx_active") == 0, "the authority is gone"
        )
    assert cast.caller.face(cast.url(), headers=word) == "403"
    _traffic(world, inboundExternalAuthorization={**asked, "failureModeAllow": True})
    world.wait()
    _until_always(cast.caller, "200", cast.url())
    _traffic(world, inboundExternalAuthorization={"enable": True, "port": 9191})
    world.wait()
    _until_always(cast.caller, "403", cast.url())
    assert "inboundExternalAuthorization.address" in json.dumps(world.status()["rejects"])
    _traffic(world, inboundExternalAuthorization={**asked, "enable": False})
    world.wait()
    _until_always(cast.caller, "200", cast.url())


class _Collector:
    """Takes Zipkin's spans."""

    def __init__(self, pod: Pod, port: int) -> None:
        self.spans: list[dict[str, Any]] = []
        self._listener = Listener(pod, port, self._take)

    def _take(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as reader:
            while line := reader.readline():
                headers, path = {}, line.split(b" ")[1].decode()
                while (header := reader.readline()) not in (b"\r\n", b""):
                    key, _, value = header.decode().partition(":")
                    headers[key.lower()] = value.strip()
                for span in json.loads(self._body(reader, headers) or b"[]"):
                    self.spans.append({"posted": path, **span})
                connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    @staticmethod
    def _body(reader: Any, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return reader.read(int(headers.get("content-length", "0")))
        body = b""
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
        return body

    def close(self) -> None:
        """Stops."""
        self._listener.close()


def test_tracing_reaches_the_collector(cast: Cast) -> None:
    """Both sidecars of a call send a span of one trace; switched off, none comes any more."""
    world = cast.world
    outside = _outsider(cast)
    cast.grant()
    world.wait()
    collector = _Collector(outside, 9411)
    try:
        tracing = {"enable": True, "address": outside.address, "endpoint": "/spans/in"}
        world.mesh_config(observability={"tracing": tracing})
        world.wait()

        def both() -> bool:
            assert cast.caller.face(cast.url(path="/traced")) == "200"
            traces: dict[str, set[str]] = {}
            for span in collector.spans:
                traces.setdefault(span["traceId"], set()).add(span["kind"])
            return any(kinds == {"CLIENT", "SERVER"} for kinds in traces.values())

        until(both, "a trace with both ends has come")
        assert {span["posted"] for span in collector.spans} == {"/spans/in"}
        world.mesh_config(observability={"tracing": {**tracing, "enable": False}})
        world.wait()
        for pod in (cast.caller, *cast.shops()):
            assert "envoy-tracing-cluster" not in pod.envoy.clusters()
    finally:
        collector.close()


def test_active_health_checks_are_answered(cast: Cast) -> None:
    """The servers' sidecars answer, also to a caller that is granted one path only; nothing of it reaches the
    application; connections and requests go on."""
    world = cast.world
    cast.grant("", match("one", "/one", ["GET"]))
    world.mesh_config(featureFlags={"enableEnvoyActiveHealthChecks": True})
    world.wait()
    cluster = f"cluster.{cast.servers}/{cast.shop}|{cast.target}"

    def healthy() -> bool:
        stat = cast.caller.envoy.stat
        asked = stat(f"{cluster}.health_check.success") >= cast.replicas
        return asked and stat(f"{cluster}.membership_healthy") == cast.replicas

    until(healthy, "each server has answered", 30)
    o_allowed(cast.caller, cast.url(path="/one"))
    for pod in cast.shops():
        assert "/healthz/osm" not in pod.counters(cast.target)["paths"]
    o_blocked(cast.caller, cast.url(path="/healthz/osm"), "no route")


def test_log_levels_follow_the_mesh_config(cast: Cast) -> None:
    """The daemon's at once; a sidecar's when it starts."""
    world = cast.world
    world.mesh_config(observability={"osmLogLevel": "debug"}, sidecar={"logLevel": "warn"})
    world.daemon.applied()
    pod = world.pod(cast.clients, cast.names.name(), account="verbose")
    world.wait()
    arguments = pod.envoy_arguments()
    assert arguments[arguments.index("--log-level") + 1] == "warning"
    assert '"level":"debug"' in world.daemon.log()
    world.mesh_config(observability={"osmLogLevel": "loud"})
    world.daemon.applied()
    assert "osmLogLevel" in json.dumps(world.status()["rejects"])
    at = len(world.daemon.log())
    world.daemon.applied()
    assert '"level":"debug"' not in world.daemon.log()[at:]
