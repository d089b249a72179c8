"""What one namespace writes does not lead the traffic of another one's Services to it."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Pod, World, until
from rig.objects import target, tcp_route
from worlds import tracked

ECHO = [{"name": "tcp", "port": 9000, "targetPort": 9000, "appProtocol": "tcp"}]


def _slice(service: str, *addresses: str) -> dict[str, Any]:
    """Endpoints by hand, as whoever may write EndpointSlices can claim them."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-1", "namespace": "alpha", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "tcp", "port": 9000}],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
    }


def _who(caller: Pod, address: str) -> str:
    """Who answers a connection to the address."""
    try:
        return caller.speak(address, 9000, b"who\n")[0].decode().strip()
    except ConnectionResetError:
        return "reset"


@pytest.mark.mesh
@pytest.mark.parametrize("permissive", [True, False])
def test_addresses_of_others_in_an_endpoint_slice_lead_nowhere(permissive: bool) -> None:
    """A ClusterIP, a StatefulSet's pod, an address outside: the thief's own headless Service lists them all."""
    with tracked(World(permissive=permissive)) as world:
        for each in ("red", "blue", "alpha"):
            world.namespace(each)
        caller = world.pod("red", "caller", account="caller")
        world.pod("blue", "db-1", account="db", labels={"app": "db"}, app="echo=9000")
        address = world.service("blue", "db", ECHO, {"app": "db"})
        named = {"hostname": "set-0", "subdomain": "set"}
        member = world.pod("blue", "set-0", account="set", labels={"app": "set"}, app="echo=9000", spec=named)
        world.service("blue", "set", ECHO, {"app": "set"}, headless=True)
        thief = world.pod("alpha", "thief-1", account="thief", labels={"app": "thief"}, app="echo=9000")
        grants = {"blue": ("db", "set"), "alpha": ("thief",)}
        for ns, accounts in grants.items():
            world.apply(tcp_route(ns, "any"))
            for each in accounts:
                world.apply(target(ns, each, f"{ns}/{each}", ["red/caller"], {"kind": "TCPRoute", "name": "any"}))
        world.wait()
        until(lambda: _who(caller, address) == "db-1", "the Service answers")
        until(lambda: _who(caller, member.address) == "set-0", "the pod answers")
        world.service("alpha", "evil", ECHO, None, headless=True)
        world.apply(_slice("evil", address, member.address, "198.51.100.77", thief.address))
        world.wait()
        until(lambda: _who(caller, thief.address) == "thief-1", "its own address is its own")
        assert [_who(caller, address) for _ in range(8)] == ["db-1"] * 8
        assert [_who(caller, member.address) for _ in range(8)] == ["set-0"] * 8
        assert "198.51.100.77" not in world.daemon.osm("proxy", "get", "config", "red/caller", "LDS")
        assert world.status()["errors"] == []
