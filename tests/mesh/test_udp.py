"""Why the mesh carries no UDP, shown on the rig; and that what it does not carry is left alone."""

from __future__ import annotations

import socket
import struct
import subprocess

import pytest
from rig import World, o_allowed
from rig.net import ENVOY_UID, run
from rig.objects import grant_all, target

pytestmark = pytest.mark.mesh

_SO_ORIGINAL_DST, _IP_PKTINFO, _IP_TRANSPARENT = 80, 8, 19
SIDECAR_PORT = 15004


def _datagram(pod_socket: socket.socket, where: tuple[str, int], words: bytes = b"hello") -> None:
    pod_socket.settimeout(5)
    pod_socket.sendto(words, where)


def test_udp_of_a_meshed_pod_passes_its_sidecar_by(mesh: World) -> None:
    """From pod to pod, both with sidecars and nothing granted: it arrives as it was sent."""
    caller, shop = mesh.pods["red/caller-1"], mesh.pods["blue/shop-1"]
    with shop.netns.socket(socket.SOCK_DGRAM) as server, caller.netns.socket(socket.SOCK_DGRAM) as client:
        server.settimeout(5)
        server.bind((shop.address, 5353))
        _datagram(client, (shop.address, 5353))
        words, sender = server.recvfrom(100)
        assert (words, sender[0]) == (b"hello", caller.address)


def test_redirected_udp_does_not_tell_where_it_was_meant_to_go(mesh: World) -> None:
    """Two datagrams for two Services arrive at the port of a sidecar: neither its socket's original destination nor the
    packet's own address tells them apart."""
    pod = mesh.pod("red", "udp-1", account="caller", envoy=False)
    mesh.start()
    rule = ["OUTPUT", "-p", "udp", "-d", "10.96.0.0/16", "-j", "REDIRECT", "--to-ports", str(SIDECAR_PORT)]
    run(*pod.netns.command(0, "iptables", "-t", "nat", "-A", *rule))
    with pod.netns.socket(socket.SOCK_DGRAM) as sidecar, pod.netns.socket(socket.SOCK_DGRAM) as client:
        sidecar.settimeout(5)
        sidecar.setsockopt(socket.SOL_IP, _IP_PKTINFO, 1)
        sidecar.bind(("0.0.0.0", SIDECAR_PORT))
        found = set()
        for service in ("10.96.0.51", "10.96.0.52"):
            _datagram(client, (service, 53))
            _, ancillary, _, _ = sidecar.recvmsg(100, 256)
            packed = next(data for level, kind, data in ancillary if (level, kind) == (socket.SOL_IP, _IP_PKTINFO))
            found.add(socket.inet_ntoa(struct.unpack_from("=I4s4s", packed)[2]))
        assert len(found) == 1, f"the packets are told apart by their address: {found}"
        assert not found & {"10.96.0.51", "10.96.0.52"}
        with pytest.raises(OSError, match=r"Protocol not available|not available|No such file"):
            sidecar.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)


def test_sockets_that_would_know_are_not_for_sidecars(mesh: World) -> None:
    """TPROXY keeps the destination, for transparent sockets; a sidecar's user may not make one."""
    pod = mesh.pods["red/caller-1"]
    script = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(0, {_IP_TRANSPARENT}, 1)"
    for uid, allowed in ((0, True), (ENVOY_UID, False)):
        command = pod.netns.command(uid, "/usr/bin/python3", "-c", script)
        assert (subprocess.run(command, capture_output=True, check=False).returncode == 0) == allowed, f"uid {uid}"


def test_udp_route_is_refused_and_says_why(mesh: World) -> None:
    """So is a rule that names one; the grants beside it stay."""
    mesh.apply(grant_all("blue", "shop", "red/caller"))
    kind = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "UDPRoute",
        "metadata": {"name": "u", "namespace": "blue"},
    }
    mesh.apply({**kind, "spec": {"matches": {"name": "dns", "ports": [53]}}})
    mesh.apply(target("blue", "t", "blue/shop-v1", ["red/caller"], {"kind": "UDPRoute", "name": "u"}))
    mesh.wait()
    said = {(r["object"], r["path"]): r["reason"] for r in mesh.status()["rejects"]}
    assert "passes the sidecars by" in said["UDPRoute blue/u", "spec"]
    assert "UDPRoute" in said["TrafficTarget blue/t", "spec.rules[0].kind"]
    o_allowed(mesh.pods["red/caller-1"], "http://shop.blue/")
