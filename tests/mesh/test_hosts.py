"""By which names and ports a Service is reached, on real Envoys."""

from __future__ import annotations

import base64
import copy
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cast import Cast
from rig import o_allowed, o_blocked, until
from rig.objects import match

pytestmark = pytest.mark.mesh

_WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455


def _forms(cast: Cast) -> list[str]:
    """A Service's host names without the bare one."""
    name = f"{cast.shop}.{cast.servers}"
    return [name, f"{name}.svc", f"{name}.svc.cluster", f"{name}.svc.cluster.local"]


def test_a_rte_01_host_forms(cast: Cast) -> None:
    """All ten from the same namespace; from another one the eight with a namespace."""
    world, address = cast.world, cast.world.lookup(f"{cast.shop}.{cast.servers}.svc.cluster.local")
    assert address
    near = world.pod(cast.servers, "near", account="near")
    world.mesh_config(permissive=True)
    world.wait()
    url = f"http://{address[0]}:{cast.port}/"
    for client, names in ((near, [cast.shop, *_forms(cast)]), (cast.caller, _forms(cast))):
        for name in names:
            for host in (name, f"{name}:{cast.port}"):
                o_allowed(client, url, times=1, headers={"host": host})
    for host in (cast.shop, f"{cast.shop}:{cast.port}"):
        o_blocked(cast.caller, url, "no route", headers={"host": host})
    o_allowed(near, f"http://{cast.shop}:{cast.port}/", times=2)  # as DNS finds it


def test_a_rte_02_unknown_host_is_not_forwarded(cast: Cast) -> None:
    """A known address with a Host that is no name of it: 404 at the client, nothing arrives."""
    cast.grant()
    cast.world.wait()
    o_allowed(cast.caller, cast.url())
    before = [pod.counters(cast.target)["total"] for pod in cast.shops()]
    for host in (
        "unknown",
        "example.org",
        f"x{cast.shop}.{cast.servers}",
        f"{cast.shop}.{cast.servers}.svc.other",
        "*",
    ):
        o_blocked(cast.caller, cast.url(), "no route", times=2, headers={"host": host})
    assert [pod.counters(cast.target)["total"] for pod in cast.shops()] == before


def test_a_rte_03_named_target_port(cast: Cast) -> None:
    """The Service's port is another one than the pods', which is given by its name."""
    world, name = cast.world, cast.names.name()
    listed = [{"name": "web", "containerPort": cast.target}]
    world.pod(cast.servers, name, account=name, labels={"app": name}, app=f"http={cast.target}", ports=listed)
    ports = [{"name": "http", "port": cast.port, "targetPort": "web", "appProtocol": "http"}]
    world.service(cast.servers, name, ports, {"app": name})
    cast.grant(name)
    world.wait()
    o_allowed(cast.caller, cast.url(name))
    assert f"{cast.servers}/{name}|{cast.target}" in cast.caller.envoy.clusters()


def test_a_rte_03_named_target_port_that_moves(cast: Cast) -> None:
    """An application's next version listens elsewhere: pods of both answer, and none asks for a grant of its own."""
    world, name, account = cast.world, cast.names.name(), cast.names.name()
    numbers = [cast.target, cast.names.port(1024)]
    pods = [
        world.pod(
            cast.servers,
            f"{name}-{n}",
            account=account,
            labels={"app": name},
            app=f"http={number}",
            ports=[{"name": "web", "containerPort": number}],
        )
        for n, number in enumerate(numbers)
    ]
    ports = [{"name": "http", "port": cast.port, "targetPort": "web", "appProtocol": "http"}]
    world.service(cast.servers, name, ports, {"app": name})
    cast.grant(account)
    world.wait()
    o_allowed(cast.caller, cast.url(name), times=10)
    for pod, number in zip(pods, numbers, strict=True):
        assert pod.counters(number)["total"] > 0
    o_blocked(cast.other, cast.url(name), "no outbound")


def test_a_rte_04_two_ports_of_one_service(cast: Cast) -> None:
    """Each leads to its own application."""
    world, name = cast.world, cast.names.name()
    numbers = [cast.names.port() for _ in range(2)] if cast.seed is not None else [81, 90]
    targets = [cast.names.port(1024) for _ in range(2)] if cast.seed is not None else [8081, 9090]
    pod = world.pod(
        cast.servers, name, account=name, labels={"app": name}, app=[f"http={target}" for target in targets]
    )
    ports = [{"name": f"http-{n}", "port": n, "targetPort": t} for n, t in zip(numbers, targets, strict=True)]
    world.service(cast.servers, name, ports, {"app": name})
    cast.grant(name)
    world.wait()
    for number, target in zip(numbers, targets, strict=True):
        before = pod.counters(target)["total"]
        url = f"http://{name}.{cast.servers}:{number}/"
        o_allowed(cast.caller, url)
        assert pod.counters(target)["total"] >= before + 5


def test_a_rte_05_two_services_on_one_pod_and_port(cast: Cast) -> None:
    """Both names work, from before and after the second one came."""
    world, second = cast.world, cast.names.name()
    cast.grant()
    world.wait()
    o_allowed(cast.caller, cast.url())
    world.service(cast.servers, second, cast.ports(), {"app": cast.shop})
    world.wait()
    for name in (cast.shop, second):
        o_allowed(cast.caller, cast.url(name))
    world.delete("Service", cast.servers, second)
    world.wait()
    o_allowed(cast.caller, cast.url())


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ({"name": "http-x", "appProtocol": "tcp"}, "tcp"),
        ({"name": "tcp-x", "appProtocol": "HTTP"}, "http"),
        ({"name": "tcp-x"}, "tcp"),
        ({"name": "http-x"}, "http"),
        ({"name": "grpc-x"}, "grpc"),
        ({"name": "x"}, "http"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_a_rte_06_protocol_choice(cast: Cast, port: dict[str, str], protocol: str) -> None:
    """appProtocol, else the port's name, else http: a port that is http counts requests, one that is not connections,
    and only the former answers 404 to a name that is not its own."""
    world, name = cast.world, cast.names.name()
    world.pod(cast.servers, name, account=name, labels={"app": name}, app=f"http={cast.target}")
    world.service(cast.servers, name, [{"port": cast.port, "targetPort": cast.target, **port}], {"app": name})
    world.mesh_config(permissive=True)
    world.wait()
    o_allowed(cast.caller, cast.url(name), times=2)
    face = cast.caller.face(cast.url(name), headers={"host": "somebody.else"})
    assert face == ("200" if protocol == "tcp" else "404")
    chains = cast.caller.envoy.get("/config_dump?resource=dynamic_listeners")
    assert f'"outbound_{cast.servers}/{name}_{cast.port}_{protocol}"' in chains


def test_a_rte_09_websocket(cast: Cast) -> None:
    """101 through both sidecars, and then bytes both ways."""
    cast.grant()
    cast.world.wait()
    o_allowed(cast.caller, cast.url(), times=1)
    address = cast.world.resolve(f"{cast.shop}.{cast.servers}", cast.clients)
    key = base64.b64encode(b"0123456789abcdef").decode()
    with cast.caller.netns.socket() as connection:
        connection.settimeout(10)
        connection.connect((address, cast.port))
        lines = ["GET /socket HTTP/1.1", f"host: {cast.shop}.{cast.servers}:{cast.port}", "connection: Upgrade"]
        lines += ["upgrade: websocket", "sec-websocket-version: 13", f"sec-websocket-key: {key}", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(4096)
        head, _, rest = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        proof = hashlib.sha1((key + _WEBSOCKET).encode(), usedforsecurity=False).digest()
        assert b"sec-websocket-accept: " + base64.b64encode(proof) in head
        sent = b"\x82\xfe" + os.urandom(20000)
        connection.sendall(sent)
        while len(rest) < len(sent):
            piece = connection.recv(65536)
            assert piece, "closed"
            rest += piece
        assert rest == sent


def test_a_rte_10_headless_service(cast: Cast) -> None:
    """Clients find the pods' own addresses by DNS; it works, and by mutual TLS."""
    world, name, target = cast.world, cast.names.name(), cast.target
    pods = [
        world.pod(cast.servers, f"{name}-{n}", account=name, labels={"app": name}, app=f"http={target}") for n in (1, 2)
    ]
    ports = [{"name": "http", "port": target, "appProtocol": "http"}]
    world.service(cast.servers, name, ports, {"app": name}, headless=True)
    cast.grant(name)
    world.wait()
    for pod in pods:
        url = f"http://{pod.address}:{target}/"
        o_allowed(cast.caller, url, headers={"host": f"{name}.{cast.servers}:{target}"})
    o_allowed(cast.caller, f"http://{name}.{cast.servers}:{target}/", times=2)
    handshakes = cast.caller.envoy.stats(rf"^cluster\.{cast.servers}/{name}\|{target}\.ssl\.handshake$")
    assert sum(handshakes.values()) > 0


def test_a_rte_11_names_of_single_pods(cast: Cast) -> None:
    """pod-0.db reaches exactly pod-0; the Service's own name reaches all."""
    world, name, target = cast.world, cast.names.name(12), cast.target
    hosts = [f"{name}-{n}" for n in range(3)]
    for host in hosts:
        named = {"hostname": host, "subdomain": name}
        world.pod(cast.servers, host, account=name, labels={"app": name}, app=f"http={target}", spec=named)
    ports = [{"name": "http", "port": target, "appProtocol": "http"}]
    world.service(cast.servers, name, ports, {"app": name}, headless=True)
    cast.grant(name)
    world.wait()
    for host in hosts:
        for form in (f"{host}.{name}.{cast.servers}", f"{host}.{name}.{cast.servers}.svc.cluster.local"):
            url = f"http://{form}:{target}/"
            o_allowed(cast.caller, url, times=1)
            assert cast.caller.tally(url, 20) == {host: 20}
    everybody = cast.caller.tally(f"http://{name}.{cast.servers}:{target}/", 60)
    assert everybody.keys() == set(hosts)
    world.remove_pod(world.pods[f"{cast.servers}/{hosts[2]}"])
    world.wait()
    o_blocked(
        cast.caller,
        f"http://{world.pods[f'{cast.servers}/{hosts[0]}'].address}:{target}/",
        "no route",
        headers={"host": f"{hosts[2]}.{name}.{cast.servers}:{target}"},
    )
    assert cast.caller.tally(f"http://{hosts[0]}.{name}.{cast.servers}:{target}/", 20) == {hosts[0]: 20}


def test_a_rte_11_connections_to_single_pods(cast: Cast) -> None:
    """A TCP connection to the address of one pod ends at that pod, each time."""
    world, name, target = cast.world, cast.names.name(12), cast.target
    pods = []
    for n in range(3):
        named = {"hostname": f"{name}-{n}", "subdomain": name}
        pods.append(
            world.pod(cast.servers, f"{name}-{n}", account=name, labels={"app": name}, app=f"echo={target}", spec=named)
        )
    ports = [{"name": "tcp-db", "port": target, "appProtocol": "tcp"}]
    world.service(cast.servers, name, ports, {"app": name}, headless=True)
    cast.grant(name)
    world.wait()
    for pod in pods:
        for _ in range(5):
            assert cast.caller.speak(pod.address, target, b"who\n")[0].decode().strip() == pod.name


@pytest.mark.parametrize("mode", ["PodIP", "Localhost"])
def test_a_rte_11_applications_that_are_bound_to_one_address(cast: Cast, mode: str) -> None:
    """Mode PodIP reaches an application that is bound to the pod's address, and none that is bound to loopback; mode
    Localhost the other way round."""
    world, target = cast.world, cast.target
    world.mesh_config(sidecar={"localProxyMode": mode})
    world.daemon.applied()
    names = {}
    for where in ("own", "loopback"):
        names[where] = name = cast.names.name()
        pod = world.pod(cast.servers, name, account=name, labels={"app": name}, app=f"http={target}")
        pod.env["BIND"] = pod.address if where == "own" else "127.0.0.1"
        world.service(cast.servers, name, cast.ports(), {"app": name})
        cast.grant(name)
    world.wait()
    works, fails = ("own", "loopback") if mode == "PodIP" else ("loopback", "own")
    o_allowed(cast.caller, cast.url(names[works]))
    o_blocked(cast.caller, cast.url(names[fails]), "no backend")
    rejected = [r for r in world.status()["rejects"] if "localProxyMode" in str(r)]
    assert not rejected


@pytest.mark.files
def test_a_service_of_two_families_is_reached_at_its_ipv4_address(cast: Cast) -> None:
    """Also where the IPv6 one is the first, and by a MeshConfig of the older version."""
    world, name = cast.world, f"{cast.shop}.{cast.servers}"
    service = copy.deepcopy(world.objects["Service", cast.servers, cast.shop])
    address = service["spec"]["clusterIP"]
    service["spec"].update(clusterIP="fd00:10:96::1", clusterIPs=["fd00:10:96::1", address])
    world.apply(service)
    cast.grant()
    world.wait()
    url = f"http://{address}:{cast.port}/"
    o_allowed(cast.caller, url, headers={"host": name})
    o_blocked(cast.other, url, "no outbound", headers={"host": name})
    config = copy.deepcopy(world.objects["MeshConfig", world.osm_namespace, "osm-mesh-config"])
    config["apiVersion"] = "config.openservicemesh.io/v1alpha1"
    config["spec"]["traffic"]["enablePermissiveTrafficPolicyMode"] = True
    world.apply(config)
    world.wait()
    o_allowed(cast.other, url, headers={"host": name})
    assert world.status()["rejects"] == []


def test_a_rte_12_no_request_timeout(cast: Cast) -> None:
    """Twenty seconds are fine: how long a request may take is the application's business."""
    if cast.seed is not None:
        pytest.skip("twenty seconds, once")
    cast.grant()
    cast.world.wait()
    o_allowed(cast.caller, cast.url(), times=1)
    assert cast.caller.get(cast.url(path="/delay/20"), timeout=40).face == "200"


def test_a_rte_13_many_clients_of_one_server(cast: Cast) -> None:
    """Fresh pods, each with an account of its own: all get through."""
    world = cast.world
    clients = [world.pod(cast.clients, f"many-{n}", account=f"many-{n}") for n in range(5)]
    for client in clients:
        cast.grant("", match("all"), to=client)
    world.wait(60)
    with ThreadPoolExecutor(5) as pool:
        list(
            pool.map(lambda client: until(lambda: client.face(cast.url()) == "200", f"{client} gets 200", 60), clients)
        )
    for client in clients:
        o_allowed(client, cast.url(), times=3)
