"""A control plane that comes back, or another replica in its place: who is current is left alone, and traffic does not
notice."""

from __future__ import annotations

import re
import shutil

import grpc
import pytest
from rig import World, o_clean, until
from rig.daemon import Daemon
from rig.objects import HTTP_8080, grant_all
from rig.world import free_port
from rig.xds import CDS, EDS, LDS, RDS, SDS, Delta, connected

NO_TRUST = r"^cluster\.osm-controller\.ssl\.(fail_verify_error|connection_error)$"
NAMES = {
    CDS: ["*"],
    EDS: ["blue/shop|8080"],
    LDS: ["*"],
    RDS: ["rds-outbound.80"],
    SDS: ["root-cert-for-mtls-outbound:blue/shop", "service-cert"],
}


def _world(world: World) -> World:
    """A caller, a server, and leave to call it."""
    world.namespace("red")
    world.namespace("blue")
    world.pod("red", "caller-1", account="caller")
    world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
    world.service("blue", "shop", HTTP_8080, {"app": "shop"})
    world.apply(grant_all("blue", "shop", "red/caller"))
    world.wait()
    return world


def _learn(client: Delta) -> dict[str, dict[str, str]]:
    """Subscribes to everything and accepts it; the versions by type and name."""
    known: dict[str, dict[str, str]] = {}
    for kind, names in NAMES.items():
        client.send(kind, names)
        known[kind] = {}
        wanted = set(names) - {"*"}
        while not known[kind] or not wanted <= known[kind].keys():
            answer = client.expect(kind)
            client.ack(answer)
            known[kind].update(answer.versions)
    return known


def _come_back(world: World, client: Delta, known: dict[str, dict[str, str]]) -> None:
    """Subscribes as one who has it all: nothing comes."""
    for kind, names in NAMES.items():
        client.send(kind, names, known=known[kind])
    connected(world, client.pod)
    client.silent()


def test_a_killed_control_plane_sends_nothing_to_who_is_current() -> None:
    """Versions are hashes of contents, a certificate's is its root and its end: they outlive the process."""
    with World(real=False) as world:
        _world(world)
        with Delta(world, world.pods["red/caller-1"]) as client:
            known = _learn(client)
        assert world.daemon.process
        world.daemon.process.kill()
        world.daemon.process.wait()
        world.daemon.start()
        world.wait()
        with Delta(world, world.pods["red/caller-1"]) as client:
            _come_back(world, client, known)
        world.service("blue", "other", HTTP_8080, {"app": "shop"})
        world.wait()
        with Delta(world, world.pods["red/caller-1"]) as client:
            client.send(CDS, ["*"], known=known[CDS])
            assert client.expect(CDS).versions.keys() == {"blue/other|8080"}


def test_a_replica_that_stops_hands_its_proxies_to_the_other() -> None:
    """Streams end with UNAVAILABLE, and the other replica, of the same root, has nothing to send."""
    with World(real=False) as world:
        _world(world)
        caller = world.pods["red/caller-1"]
        state = world.folder / "other-state"
        state.mkdir(mode=0o700)
        for name in ("ca.crt", "private.key"):
            shutil.copy2(world.daemon.state / name, state / name)
        first = world.daemon
        other = Daemon(world.folder / "other", world.files, ads=f"127.0.0.1:{free_port('127.0.0.1')}", state=state)
        other.start()
        try:
            with Delta(world, caller) as client:
                known = _learn(client)
                first.stop()
                assert client.ended().code() == grpc.StatusCode.UNAVAILABLE
            world.daemon = other
            with Delta(world, caller) as client:
                _come_back(world, client, known)
        finally:
            world.daemon = first
            other.stop()


def _updates(world: World) -> dict[str, int]:
    """How many updates each sidecar has taken, by type."""
    pattern = r"(cluster_manager\.cds|listener_manager\.lds|\.rds\..*|cluster\..*|sds\..*)\.update_success$"
    return {
        f"{pod.name} {name}": n
        for pod in world.sidecars()
        for name, n in pod.envoy.stats(pattern).items()
        if "osm-controller" not in name
        and "|local." not in name
        and not re.search(r"\.(tls_sds|validation_context_sds)\.", name)
    }


@pytest.mark.mesh
def test_traffic_goes_on_while_the_control_plane_is_killed_and_comes_back() -> None:
    """No request fails, and the sidecars get nothing that they have already."""
    with World() as world:
        _world(world)
        caller = world.pods["red/caller-1"]
        until(lambda: caller.face("http://shop.blue/") == "200", "the mesh lets requests through")
        before = _updates(world)
        assert any(before.values())
        load = caller.load("http://shop.blue/", 20)
        assert world.daemon.process
        world.daemon.process.kill()
        world.daemon.process.wait()
        until(lambda: not any(pod.envoy.connected() for pod in world.sidecars()), "the sidecars have noticed")
        sent = load.sent
        until(lambda: load.sent > sent + 20, "traffic goes on without a control plane")
        world.daemon.start()
        until(lambda: len(world.status()["proxies"]) == 2, "the sidecars are back", 60)
        world.wait()
        sent = load.sent
        until(lambda: load.sent > sent + 20, "traffic goes on")
        assert load.stop().failures == []
        assert _updates(world) == before
        o_clean(world)


@pytest.mark.mesh
def test_a_state_directory_of_an_older_backup_stops_no_traffic() -> None:
    """With the root of before, the control plane is a stranger to sidecars that have gone on: they keep what they
    have, the status says who is missing, and with the right directory they are back."""
    with World() as world:
        _world(world)
        caller, state = world.pods["red/caller-1"], world.daemon.state
        until(lambda: caller.face("http://shop.blue/") == "200", "the mesh lets requests through")
        right, older = world.folder / "right", world.folder / "older"
        for folder in (right, older):
            folder.mkdir(mode=0o700)
        for name in ("ca.crt", "private.key"):
            shutil.copy2(state / name, right / name)
        daemon = Daemon(world.folder / "maker", world.files, ads=f"127.0.0.1:{free_port('127.0.0.1')}", state=older)
        daemon.start().stop()  # makes another root
        load = caller.load("http://shop.blue/", 20)
        for backup, comes_back in ((older, False), (right, True)):
            world.daemon.stop()
            for name in ("ca.crt", "private.key"):
                shutil.copy2(backup / name, state / name)
            world.daemon.start()
            if comes_back:
                until(lambda: len(world.status()["proxies"]) == 2, "the sidecars are back", 60)
            else:
                until(lambda: sum(caller.envoy.stats(NO_TRUST).values()) > 0, "the sidecar trusts no stranger", 60)
                until(lambda: len(world.status()["missing"]) == 2, "the status names who is missing")
                assert world.status()["proxies"] == []
            sent = load.sent
            until(lambda sent=sent: load.sent > sent + 20, "traffic goes on")
        assert load.stop().failures == []
