"""The redirection that the product writes, in a pod where listeners of ours stand for the sidecar: who lands where."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator

import pytest
from rig import Pod, World
from rig.client import Connection, curl
from rig.listening import Listener
from rig.net import APP_UID, ENVOY_UID

pytestmark = pytest.mark.mesh

_SO_ORIGINAL_DST = 80


def _stub(pod: Pod, port: int, address: str = "0.0.0.0") -> Listener:
    """Answers each connection with the port on which it arrived, and where it was meant to go."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(5)
        connection.recv(65536)
        body = json.dumps({"landed": port, "meant": _meant(connection)}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    return Listener(pod, port, serve, address)


def _meant(connection: socket.socket) -> str:
    try:
        raw = connection.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    except OSError:
        return ""  # not redirected
    port, address = struct.unpack_from("!2xH4s", raw)
    return f"{socket.inet_ntoa(address)}:{port}"


@contextlib.contextmanager
def _listeners(pod: Pod, *ports: int) -> Iterator[None]:
    made = [_stub(pod, port) for port in ports]
    try:
        yield
    finally:
        for listener in made:
            listener.close()


def _from(pod: Pod, uid: int, url: str) -> tuple[int, str]:
    """(where a connection from inside lands, where it was meant to go)."""
    reply = curl(pod.netns, url, uid=uid, timeout=3)
    assert reply.face == "200", f"uid {uid} {url}: {reply}"
    said = json.loads(reply.body)
    return said["landed"], said["meant"]


def _from_host(pod: Pod, port: int) -> int:
    """Where a connection from the bridge lands."""
    connection = socket.create_connection((pod.address, port), 3)
    with connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return json.loads(answer.partition(b"\r\n\r\n")[2])["landed"]


def test_a_ipt_02_redirection_of_the_default_rules(mesh: World) -> None:
    """Applications go out through 15001, what comes in lands on 15003, the sidecar's own traffic and loopback pass."""
    pod = mesh.pod("red", "stub-1", account="caller", envoy=False)
    other = mesh.pods["blue/shop-1"]
    mesh.start()
    with _listeners(pod, 8080, 15000, 15001, 15003, 15010, 15901, 15902, 15903, 15904):
        for uid in (0, APP_UID):
            assert _from(pod, uid, "http://10.96.0.50/") == (15001, "10.96.0.50:80")
        assert _from(pod, APP_UID, f"http://{other.address}:8080/") == (15001, f"{other.address}:8080")
        # the rule that would except port 15000 stands behind the one that takes all
        assert _from(pod, APP_UID, f"http://{other.address}:15000/") == (15001, f"{other.address}:15000")
        assert _from_host(pod, 8080) == 15003
        assert _from_host(pod, 15003) == 15003
        for port in (15010, 15901, 15902, 15903, 15904):
            assert _from_host(pod, port) == port
        # to itself: the application straight, the sidecar through its inbound side
        assert _from(pod, APP_UID, f"http://{pod.address}:8080/")[0] == 8080
        assert _from(pod, ENVOY_UID, f"http://{pod.address}:8080/")[0] == 15003
        for uid in (0, APP_UID, ENVOY_UID):
            assert _from(pod, uid, "http://127.0.0.1:8080/")[0] == 8080
        # what the sidecar sends out is not caught again
        reply = curl(pod.netns, "http://10.96.0.50/", uid=ENVOY_UID, timeout=3)
        assert reply.exit in (7, 28), reply


def test_a_ipt_02_pod_ip_mode_sends_the_sidecars_loopback_to_the_pods_address(mesh: World) -> None:
    """localProxyMode PodIP: 127.0.0.1 from the sidecar reaches an application that is bound to the pod's address."""
    mesh.mesh_config(sidecar={"localProxyMode": "PodIP"})
    mesh.daemon.applied()
    pod = mesh.pod("red", "stub-2", account="caller", envoy=False)
    mesh.start()
    listener = _stub(pod, 8080, pod.address)
    try:
        assert _from(pod, ENVOY_UID, "http://127.0.0.1:8080/")[0] == 8080
        assert curl(pod.netns, "http://127.0.0.1:8080/", uid=APP_UID, timeout=3).face == "exit 7"
    finally:
        listener.close()


def test_a_ipt_02_excluded_ports_and_ranges_pass(mesh: World) -> None:
    """Annotations of the pod: an excluded outbound port and range are not caught, an excluded inbound port neither."""
    other = mesh.pods["grey/outsider-1"]
    key = "openservicemesh.io/"
    pod = mesh.pod(
        "red",
        "stub-3",
        account="caller",
        envoy=False,
        annotations={
            f"{key}outbound-port-exclusion-list": "6379,7000",
            f"{key}inbound-port-exclusion-list": "9090",
            f"{key}outbound-ip-range-exclusion-list": f"{other.address}/32",
        },
    )
    mesh.start()
    with _listeners(pod, 8080, 9090, 15001, 15003), _listeners(other, 6379, 80):
        assert _from(pod, APP_UID, f"http://{other.address}:6379/")[0] == 6379
        assert _from(pod, APP_UID, f"http://{other.address}/")[0] == 80
        assert _from(pod, APP_UID, "http://10.96.0.50/") == (15001, "10.96.0.50:80")
        assert _from_host(pod, 9090) == 9090
        assert _from_host(pod, 8080) == 15003


def test_loopback_of_the_application_is_never_seen_by_the_sidecar(mesh: World) -> None:
    """A real sidecar beside it: the counters of the application asked over 127.0.0.1 leave no trace in Envoy."""
    pod = mesh.pods["blue/shop-1"]
    before = pod.envoy.stats(r"^(listener\.0\.0\.0\.0_1500[13]\.downstream_cx_total)$")
    connection = Connection(pod.netns, "127.0.0.1", 8080, "app")
    assert connection.get("/anything")[0] == 200
    connection.close()
    assert pod.envoy.stats(r"^(listener\.0\.0\.0\.0_1500[13]\.downstream_cx_total)$") == before
