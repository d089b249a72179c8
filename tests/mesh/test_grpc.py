"""gRPC through the mesh: as HTTP routes, and inside the application's own TLS."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cast import Cast
from cryptography.hazmat.primitives import serialization
from rig import Pod, forge, until
from rig.objects import match, target, tcp_route

pytestmark = pytest.mark.mesh

PROGRAM = str(Path(__file__).resolve().parents[1] / "rig" / "grpc_app.py")


@contextlib.contextmanager
def grpc_program(pod: Pod, *arguments: str) -> Iterator[None]:
    """A server in a pod, until the end of the block."""
    command = (sys.executable, PROGRAM, *arguments)
    with pod.run(*command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            server.kill()


def call(pod: Pod, where: str, method: str, text: str = "hello", roots: str = "") -> str:
    """One call from inside a pod: the answer, or the status."""
    with pod.run(
        sys.executable,
        PROGRAM,
        "call",
        where,
        method,
        text,
        *([roots] if roots else []),
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout
        return client.stdout.read().strip()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_rte_07_grpc_by_its_methods(cast: Cast, protocol: str) -> None:
    """A route is a method of a service; HTTP/2 goes all the way; what is not granted has gRPC's own face."""
    world, name = cast.world, cast.names.name()
    pod = world.pod(cast.servers, name, account=name, labels={"app": name}, ports=[{"containerPort": cast.target}])
    ports = [{"name": f"{protocol}-a", "port": cast.port, "targetPort": cast.target}]
    world.service(cast.servers, name, ports, {"app": name})
    cast.grant(name, match("say", "/shop[.]Greeter/Say.*", ["POST"]))
    world.wait()
    where = f"{name}.{cast.servers}:{cast.port}"
    with grpc_program(pod, "serve", str(cast.target)):
        good = "/shop.Greeter/SayHello hello"
        until(lambda: call(cast.caller, where, "/shop.Greeter/SayHello") == good, "the call is answered")
        for _ in range(3):
            assert call(cast.caller, where, "/shop.Greeter/SayHello") == good
        assert call(cast.caller, where, "/shop.Greeter/Listen").startswith("UNIMPLEMENTED")  # 404 of HTTP
        assert call(cast.other, where, "/shop.Greeter/SayHello").startswith("UNAVAILABLE")
    local = pod.envoy.stats(rf"^cluster\.{cast.servers}/{name}\|{cast.target}\|local\.upstream_cx_http2_total$")
    assert sum(local.values()) > 0, "the application was not reached by HTTP/2"


def test_a_rte_07_grpc_in_the_applications_own_tls(cast: Cast, tmp_path: Path) -> None:
    """A TCP port and a TCPRoute: the application's TLS goes through the mesh's, end to end."""
    world, name = cast.world, cast.names.name()
    pod = world.pod(cast.servers, name, account=name, labels={"app": name}, ports=[{"containerPort": cast.target}])
    ports = [{"name": "s", "port": cast.port, "targetPort": cast.target, "appProtocol": "tcp"}]
    world.service(cast.servers, name, ports, {"app": name})
    root = forge.certificate(None, "root", usage=None, ca=True)
    made = forge.certificate(root, "server", dns=[f"{name}.{cast.servers}"], usage=[forge.SERVER]).credentials()
    roots = root.certificate.public_bytes(serialization.Encoding.PEM)
    for file, content in (("chain", made.chain), ("key", made.key), ("roots", roots)):
        (tmp_path / file).write_bytes(content or b"")
    rule = {"kind": "TCPRoute", "name": "t"}
    source = f"{cast.clients}/{cast.caller.account}"
    cast.apply(
        tcp_route(cast.servers, "t", cast.target),
        target(cast.servers, "to", f"{cast.servers}/{name}", [source], rule),
    )
    world.wait()
    where, trusted = f"{name}.{cast.servers}:{cast.port}", str(tmp_path / "roots")
    with grpc_program(pod, "serve", str(cast.target), str(tmp_path / "chain"), str(tmp_path / "key")):
        until(lambda: call(cast.caller, where, "/a.B/C", roots=trusted) == "/a.B/C hello", "the call is answered")
        assert call(cast.other, where, "/a.B/C", roots=trusted).startswith("UNAVAILABLE")
