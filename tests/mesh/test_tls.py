"""Every combination of the MeshConfig's TLS fields: sidecars reach the control plane and each other by it; what of it
is not honoured is in `osm status`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rig import Pod, World, o_clean, until
from rig.objects import HTTP_8080, grant_all

URL = "http://shop.blue/"

# what the MeshConfig says of sidecars | the fields reported | what is spoken between sidecars
COMBINATIONS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"tlsMinProtocolVersion": "TLSv1_3", "tlsMaxProtocolVersion": "TLS_AUTO"}, [], ["versions.TLSv1.3"]),
    ({"tlsMinProtocolVersion": "TLS_AUTO", "tlsMaxProtocolVersion": "TLSv1_2"}, [], ["versions.TLSv1.2"]),
    ({"ecdhCurves": ["X25519"]}, ["ecdhCurves"], ["versions.TLSv1.3", "curves.X25519"]),
    ({"ecdhCurves": ["P-384"]}, ["ecdhCurves"], ["versions.TLSv1.3", "curves.P-384"]),
    ({"ecdhCurves": ["P-256", "prime256v1"]}, [], ["curves.P-256"]),
    (
        {"ecdhCurves": ["X25519"], "tlsMaxProtocolVersion": "TLSv1_2"},
        ["ecdhCurves"],
        ["versions.TLSv1.2", "curves.X25519", "ciphers.ECDHE-RSA-AES128-GCM-SHA256"],
    ),
    (
        {
            "ecdhCurves": ["P-384"],
            "cipherSuites": ["ECDHE-ECDSA-AES256-GCM-SHA384"],
            "tlsMaxProtocolVersion": "TLSv1_2",
        },
        ["ecdhCurves"],
        ["curves.P-384", "ciphers.ECDHE-ECDSA-AES256-GCM-SHA384"],
    ),
    ({"ecdhCurves": ["X25519MLKEM768"], "tlsMaxProtocolVersion": "TLSv1_2"}, ["ecdhCurves"], ["curves.P-256"]),
    (
        {"cipherSuites": ["ECDHE-ECDSA-CHACHA20-POLY1305"], "tlsMaxProtocolVersion": "TLSv1_2"},
        ["cipherSuites"],
        ["ciphers.ECDHE-ECDSA-CHACHA20-POLY1305"],
    ),
    ({"cipherSuites": ["AES128-SHA"], "tlsMaxProtocolVersion": "TLSv1_2"}, ["cipherSuites"], ["ciphers.AES128-SHA"]),
    (
        {"cipherSuites": ["ECDHE-ECDSA-AES128-GCM-SHA256"], "tlsMaxProtocolVersion": "TLSv1_2"},
        [],
        ["ciphers.ECDHE-ECDSA-AES128-GCM-SHA256"],
    ),
]


@pytest.fixture
def world() -> Iterator[World]:
    """A caller, a server, and leave to call it. Chains that have gone end their connections soon."""
    with World(drain_time_s=1) as made:
        made.mesh_config()
        made.namespace("red")
        made.namespace("blue")
        made.pod("red", "caller-1", account="caller")
        made.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
        made.service("blue", "shop", HTTP_8080, {"app": "shop"})
        made.apply(grant_all("blue", "shop", "red/caller"))
        made.wait()
        yield made
        o_clean(made)


def _reported(world: World) -> list[str]:
    """Fields of spec.sidecar that `osm status` names."""
    return sorted({r["path"].rpartition(".")[2].partition("[")[0] for r in world.status()["rejects"]})


def _spoken(pod: Pod) -> set[str]:
    """What a caller has spoken with the server."""
    stats = pod.envoy.stats(r"^cluster\.blue/shop\|8080\.ssl\.(versions|curves|ciphers)\.")
    return {name.partition(".ssl.")[2] for name, count in stats.items() if count}


@pytest.mark.mesh
def test_whatever_the_mesh_config_says_of_tls_sidecars_connect(world: World) -> None:
    """One that starts by it gets to the control plane and the server; one that runs already keeps both. Each of them
    comes back after a restart of the daemon, whose key may then be of another kind than when it started."""
    old = world.pods["red/caller-1"]
    for number, (sidecar, fields, spoken) in enumerate(COMBINATIONS):
        world.mesh_config(sidecar=sidecar)
        world.daemon.applied()
        assert _reported(world) == fields, (sidecar, world.status()["rejects"])
        fresh = world.pod("red", f"fresh-{number}", account="caller")
        world.wait()
        for caller in (old, fresh):
            until(lambda caller=caller: caller.face(URL) == "200", f"{caller.name} gets an answer with {sidecar}")
        assert _spoken(fresh) >= set(spoken), sidecar
    for kind in ("RSA", "ECDSA"):
        world.mesh_config(
            sidecar={"tlsMaxProtocolVersion": "TLSv1_2", "cipherSuites": [f"ECDHE-{kind}-AES128-GCM-SHA256"]}
        )
        world.wait()
        world.daemon.stop()
        world.daemon.start()
        for pod in world.sidecars():
            until(lambda pod=pod: world.proxy_known(pod), f"{pod} is connected again, with {kind} keys", 60)
        until(lambda: old.face(URL) == "200", f"calls are answered with {kind} keys", 30)


@pytest.mark.mesh
def test_a_tls_version_that_is_too_old_leaves_those_that_run_alone(world: World) -> None:
    """New sidecars are turned away by the control plane, as in Open Service Mesh; the mesh goes on and says so."""
    world.mesh_config(sidecar={"tlsMinProtocolVersion": "TLSv1_0", "tlsMaxProtocolVersion": "TLSv1_1"})
    world.wait()
    [reject] = world.status()["rejects"]
    assert reject["path"] == "spec.sidecar.tlsMaxProtocolVersion"
    assert "no new sidecar can connect" in reject["reason"]
    caller = world.pods["red/caller-1"]
    until(lambda: caller.face(URL) == "200" and "versions.TLSv1.2" in _spoken(caller), "calls are answered by TLS 1.2")


@pytest.mark.mesh
def test_keys_go_with_the_ciphers_whatever_the_flag_says() -> None:
    """--service-cert-key rsa, and a MeshConfig whose ciphers are for ECDSA keys only, up to TLS 1.2."""
    with World(flags=("--service-cert-key", "rsa")) as made:
        made.mesh_config(
            permissive=True,
            sidecar={"tlsMaxProtocolVersion": "TLSv1_2", "cipherSuites": ["ECDHE-ECDSA-AES128-GCM-SHA256"]},
        )
        made.namespace("blue")
        caller = made.pod("blue", "caller-1", account="caller")
        made.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
        made.service("blue", "shop", HTTP_8080, {"app": "shop"})
        made.wait()
        until(lambda: caller.face(URL) == "200", "the call is answered")
        assert "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256" in _spoken(caller)
        assert "--service-cert-key rsa has no effect" in made.daemon.log()
        o_clean(made)
