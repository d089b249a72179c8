"""Permissive mode on real Envoys: everybody reaches everybody, still with mutual TLS."""

from __future__ import annotations

import ssl

import pytest
from cast import Cast
from rig import World, holds, o_allowed, o_blocked, until
from rig.objects import grant_all

pytestmark = pytest.mark.mesh

SHOP = "http://shop.blue/anything"


def test_a_per_01_everybody_reaches_everybody_with_mutual_tls(mesh: World) -> None:
    """Any pod reaches any service; the server saw a client certificate each time; who has none is not served."""
    mesh.mesh_config(permissive=True)
    mesh.wait()
    for caller in ("red/caller-1", "red/caller2-1", "blue/shop-v1-1"):
        for service in ("shop", "shop-v1", "shop-v2"):
            o_allowed(mesh.pods[caller], f"http://{service}.blue/anything", times=2)
    servers = [mesh.pods[f"blue/shop-{n}"] for n in (1, 2)]

    def sums() -> dict[str, int]:
        out = {"handshake": 0, "no_certificate": 0, "fail_verify_no_cert": 0}
        for server in servers:
            found = server.envoy.stats(rf"^listener\.0\.0\.0\.0_15003\.ssl\.({'|'.join(out)})$")
            for name, value in found.items():
                out[name.rpartition(".")[2]] += value
        return out

    before = sums()
    assert before["handshake"] > 0
    outsider = mesh.pods["grey/outsider-1"]
    for server in servers:
        o_blocked(outsider, f"http://{server.address}:8080/anything", "unmeshed")
        assert _answers_without_certificate(mesh, server.address) is False
    after = sums()
    assert after["no_certificate"] == before["no_certificate"], "a client without a certificate was let in"
    assert after["fail_verify_no_cert"] == before["fail_verify_no_cert"] + len(servers)


def _answers_without_certificate(world: World, address: str) -> bool:
    """Whether a server talks to a TLS client of the right form that shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["osm"])
    with world.pods["grey/outsider-1"].netns.socket() as plain:
        plain.settimeout(5)
        plain.connect((address, 8080))
        try:
            with context.wrap_socket(plain, server_hostname="shop.blue.svc.cluster.local") as tls:
                assert tls.selected_alpn_protocol() is None  # offered, not chosen: HTTP/2 is found by its first words
                tls.sendall(b"GET /anything HTTP/1.1\r\nhost: shop.blue\r\n\r\n")
                return tls.recv(100) != b""
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            return False


def test_a_per_02_off_blocks_and_on_opens(mesh: World) -> None:
    """On, off, on, off: each state holds."""
    caller = mesh.pods["red/caller-1"]
    for permissive in (True, False, True, False):
        mesh.mesh_config(permissive=permissive)
        mesh.wait()
        wanted = "200" if permissive else "exit 7"
        until(lambda wanted=wanted: caller.face(SHOP) == wanted, f"{wanted} with permissive {permissive}")
        holds(lambda wanted=wanted: caller.face(SHOP) == wanted, f"{wanted} with permissive {permissive}", 15)


def test_a_per_03_switching_to_policies_leaves_no_gap(mesh: World) -> None:
    """Permissive, then policies beside it, then policies alone: the granted call succeeds throughout, others stop."""
    caller, caller2 = mesh.pods["red/caller-1"], mesh.pods["red/caller2-1"]
    mesh.mesh_config(permissive=True)
    mesh.wait()
    o_allowed(caller, SHOP)
    o_allowed(caller2, SHOP)
    load = caller.load(SHOP, rate=50)
    try:
        mesh.apply(grant_all("blue", "shop", "red/caller"))
        mesh.wait()
        holds(lambda: caller.face(SHOP) == "200", "200 with both", 15)
        mesh.mesh_config(permissive=False)
        mesh.wait()
        holds(lambda: caller.face(SHOP) == "200", "200 by the policies alone", 15)
        sent = load.sent
        until(lambda: load.sent >= sent + 50, "fifty more requests have been sent")
    finally:
        load.stop()
    assert load.failures == []
    o_blocked(caller2, SHOP, "no outbound")


def test_a_per_03_switching_to_and_fro_leaves_no_gap(cast: Cast) -> None:
    """Whoever is granted loses no request, five times on and off; whoever is not gets in only while it is on."""
    cast.grant()
    cast.world.wait()
    o_allowed(cast.caller, cast.url())
    load = cast.caller.load(cast.url(), rate=50)
    try:
        for _ in range(5):
            for permissive in (True, False):
                cast.world.mesh_config(permissive=permissive)
                cast.world.wait()
                wanted = "200" if permissive else "exit 7"
                until(
                    lambda wanted=wanted: cast.other.face(cast.url()) == wanted,
                    f"{wanted} with permissive {permissive}",
                )
                sent = load.sent
                until(lambda sent=sent: load.sent >= sent + 10, "ten more requests have been sent")
    finally:
        load.stop()
    assert load.failures == []


def test_a_per_04_a_new_service_is_known_to_every_proxy(cast: Cast) -> None:
    """Its cluster and its host names are with every sidecar as soon as the barrier is passed, and calls succeed."""
    world, name = cast.world, cast.names.name()
    world.mesh_config(permissive=True)
    world.wait()
    tables = "/config_dump?resource=dynamic_route_configs"
    cluster, host = f"{cast.servers}/{name}|{cast.target}", f"outbound_virtual-host|{name}.{cast.servers}."
    sidecars = list(world.sidecars())
    for pod in sidecars:
        assert cluster not in pod.envoy.clusters()
    cast.backend(name)
    world.wait()
    for pod in world.sidecars():
        until(lambda pod=pod: cluster in pod.envoy.clusters(), f"{pod} has the cluster")
        until(lambda pod=pod: host in pod.envoy.get(tables), f"{pod} knows the name")
    assert len(sidecars) == 4 + cast.replicas
    o_allowed(cast.caller, cast.url(name))
    o_allowed(cast.other, cast.url(name))
