"""To which port of which pods a Service's port leads: by a number, by a name that is another number in each pod, by
what the endpoints of a Service without selector say, at an address that two headless Services share."""

from __future__ import annotations

from typing import Any

import pytest
from cast import Cast
from rig import o_allowed, o_blocked, o_clean

pytestmark = pytest.mark.mesh

Object = dict[str, Any]
WEB = (8081, 8082)


def _movers(cast: Cast, name: str) -> None:
    """Two pods that both listen at both ports; what they call "web" is another one in each."""
    for number, web in enumerate(WEB, 1):
        cast.world.pod(
            cast.servers,
            f"{name}-{number}",
            account=name,
            labels={"app": name},
            app=[f"http={port}" for port in WEB],
            ports=[{"name": "web", "containerPort": web}],
        )


def _requests(cast: Cast, name: str) -> dict[str, int]:
    """By "pod number:port", what has arrived there."""
    return {f"{number}:{port}": cast.pod(name, number).counters(port)["total"] for number in (1, 2) for port in WEB}


@pytest.mark.parametrize("named, numbered", [(80, 81), (81, 80)])
def test_a_number_and_a_name_that_moves(cast: Cast, named: int, numbered: int) -> None:
    """One port of the Service means 8081 of each pod, the other "web", which is 8081 in one pod and 8082 in the other:
    requests for each arrive at its own port of both pods, and nowhere else."""
    world, name = cast.world, cast.names.name()
    _movers(cast, name)
    listed = [(named, "web"), (numbered, WEB[0])]
    ports = [{"name": f"http-{port}", "port": port, "targetPort": to} for port, to in listed]
    world.service(cast.servers, name, ports, {"app": name})
    cast.grant(name)
    world.wait()
    for port, meant in ((named, {"1:8081", "2:8082"}), (numbered, {"1:8081", "2:8081"})):
        url = f"http://{name}.{cast.servers}:{port}/"
        o_allowed(cast.caller, url)
        before = _requests(cast, name)
        assert set(cast.caller.tally(url, 40)) == {f"{name}-1", f"{name}-2"}
        after = _requests(cast, name)
        assert {at for at, total in after.items() if total > before[at]} == meant
        o_blocked(cast.other, url, "no outbound")
    o_clean(world)


def test_a_pod_whose_port_is_the_sidecars_own_costs_no_request(cast: Cast) -> None:
    """It calls the administration of its sidecar "web": nobody is led there, and the other pod answers all requests."""
    world, name = cast.world, cast.names.name()
    for number, web in enumerate((15000, 8081), 1):
        ports = [{"name": "web", "containerPort": web}]
        world.pod(cast.servers, f"{name}-{number}", account=name, labels={"app": name}, app="http=8081", ports=ports)
    world.service(cast.servers, name, [{"name": "http", "port": 80, "targetPort": "web"}], {"app": name})
    cast.grant(name)
    world.wait()
    url = f"http://{name}.{cast.servers}/"
    o_allowed(cast.caller, url)
    assert cast.caller.tally(url, 20) == {f"{name}-2": 20}
    assert [f"{each['object']} {each['path']}" for each in world.status()["rejects"]] == [
        f"Service {cast.servers}/{name} spec.ports[0].targetPort"
    ]
    o_clean(world)


def _slice(ns: str, service: str, port: int, *addresses: str) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-1", "namespace": ns, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def _endpoints(ns: str, service: str, port: int, *addresses: str) -> Object:
    subset = {"addresses": [{"ip": address} for address in addresses], "ports": [{"name": "http", "port": port}]}
    metadata = {"name": service, "namespace": ns}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}


@pytest.mark.parametrize("target", [{}, {"targetPort": 1}, {"targetPort": "web"}], ids=str)
def test_a_service_without_selector_leads_where_its_endpoints_say(cast: Cast, target: Object) -> None:
    """Their port counts, whatever the Service's targetPort is; by an EndpointSlice, and by an Endpoints object."""
    world, ns, name = cast.world, cast.servers, cast.names.name()
    shop = cast.shops()[0]
    world.service(ns, name, [{"name": "http", "port": cast.port, "appProtocol": "http", **target}], None)
    cast.grant()
    for number, form in enumerate((_slice, _endpoints)):
        made = form(ns, name, cast.target, shop.address)
        world.apply(made)
        world.wait()
        before = shop.counters(cast.target)["total"]
        o_allowed(cast.caller, cast.url(name))
        assert shop.counters(cast.target)["total"] >= before + 5, number
        o_blocked(cast.other, cast.url(name), "no outbound")
        world.delete(made["kind"], ns, made["metadata"]["name"])
    o_clean(world)


def test_two_headless_services_of_one_pod(cast: Cast) -> None:
    """By HTTP both names work; by TCP both lead to the pod as the lesser one by name, which is said of the other. None
    of it is an error of the rules."""
    world, ns, name = cast.world, cast.servers, cast.names.name()
    world.pod(ns, f"{name}-1", account=name, labels={"app": name}, app=[f"http={port}" for port in WEB])
    for protocol, port in zip(("http", "tcp"), WEB, strict=True):
        for first in ("a", "b"):
            listed = [{"name": protocol, "port": port, "appProtocol": protocol}]
            world.service(ns, f"{first}-{protocol}", listed, {"app": name}, headless=True)
    cast.grant(name)
    world.wait()
    for service, port in (("a-http", 8081), ("b-http", 8081), ("a-tcp", 8082), ("b-tcp", 8082)):
        url = f"http://{service}.{ns}:{port}/"
        o_allowed(cast.caller, url)
        o_blocked(cast.other, url, "no outbound")
    status = world.status()
    assert status["errors"] == []
    told = [reject["object"] for reject in status["rejects"]]
    assert told == [f"Service {ns}/b-tcp"], status["rejects"]
    world.delete("Service", ns, "a-tcp")
    world.wait()
    o_allowed(cast.caller, f"http://b-tcp.{ns}:8082/")
    assert world.status()["rejects"] == []
    o_clean(world)
