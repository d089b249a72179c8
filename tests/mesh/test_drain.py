"""What becomes of a connection that is open when its permission is withdrawn: real Envoys end it within their drain
time, and with it all others of the same filter chain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rig import Pod, World, o_allowed, o_blocked, o_clean, until
from rig.objects import HTTP_8080, grant_all, target, tcp_route
from worlds import tracked

pytestmark = pytest.mark.mesh

PORT = 9000
CEILING_S = 120.0  # far above any drain time here: only a connection that is never closed reaches it


class _Open:
    """A TCP connection of an application, which stays open."""

    def __init__(self, pod: Pod, address: str, port: int = PORT) -> None:
        self._socket = pod.netns.socket()
        self._socket.settimeout(CEILING_S)
        self._socket.connect((address, port))

    def echoes(self) -> bool:
        """Whether a line comes back: the connection carries data both ways."""
        self._socket.sendall(b"are you there\n")
        with self._socket.makefile("rb") as reader:
            return reader.readline() == b"echo response: are you there\n"

    def wait_for_end(self) -> None:
        """Until the other side closes or resets it."""
        with contextlib.suppress(ConnectionResetError):
            assert self._socket.recv(1) == b""

    def close(self) -> None:
        """Ends it."""
        self._socket.close()


@pytest.fixture
def world() -> Iterator[World]:
    """Two callers of a TCP server with two ports, each by grants of its own, on sidecars that drain for two seconds."""
    with tracked(World(drain_time_s=2)) as made:
        made.namespace("red")
        made.namespace("blue")
        for name in ("caller", "caller2"):
            made.pod("red", name, account=name)
        made.pod("blue", "echo-1", account="echo", labels={"app": "echo"}, app=[f"echo={PORT}", f"echo={PORT + 1}"])
        made.service("blue", "echo", [_port(PORT), _port(PORT + 1)], {"app": "echo"})
        for port in (PORT, PORT + 1):
            made.apply(tcp_route("blue", f"tcp-{port}", port))
            for name in ("caller", "caller2"):
                rule = {"kind": "TCPRoute", "name": f"tcp-{port}"}
                made.apply(target("blue", f"{name}-{port}", "blue/echo", [f"red/{name}"], rule))
        made.wait()
        yield made
        o_clean(made)


def _port(number: int) -> dict[str, Any]:
    return {"name": f"tcp-{number}", "port": number, "targetPort": number, "appProtocol": "tcp"}


def _address(world: World) -> str:
    return str(world.objects["Service", "blue", "echo"]["spec"]["clusterIP"])


@pytest.fixture
def connections(world: World) -> Iterator[dict[str, _Open]]:
    """One of each caller."""
    opened = {name: _Open(world.pods[f"red/{name}"], _address(world)) for name in ("caller", "caller2")}
    assert all(each.echoes() for each in opened.values())
    yield opened
    for each in opened.values():
        each.close()


def test_a_withdrawn_permission_ends_open_connections(world: World, connections: dict[str, _Open]) -> None:
    """Open before, closed after; a new one is refused at once. What others have in the server's chain ends with it, and
    they open another."""
    world.delete("TrafficTarget", "blue", f"caller-{PORT}")
    world.wait()
    o_blocked(world.pods["red/caller"], f"http://{_address(world)}:{PORT}/", "no chain")
    connections["caller"].wait_for_end()
    connections["caller2"].wait_for_end()
    again = _Open(world.pods["red/caller2"], _address(world))
    assert again.echoes()
    again.close()


def test_the_server_ends_what_a_client_would_keep(world: World, connections: dict[str, _Open]) -> None:
    """A caller's sidecar that hears nothing of it cannot hold on to its connection."""
    rule = ("INPUT", "-p", "tcp", "--sport", str(world.ads_port), "-j", "DROP")
    deaf = world.pods["red/caller"]
    assert deaf.run("iptables", "-w", "-I", *rule).wait() == 0
    world.delete("TrafficTarget", "blue", f"caller-{PORT}")
    connections["caller"].wait_for_end()
    assert f"blue/echo|{PORT}" in deaf.envoy.get("/config_dump?resource=dynamic_listeners")  # it has heard nothing
    assert deaf.run("iptables", "-w", "-D", *rule).wait() == 0
    world.wait()


def test_what_has_nothing_to_do_with_it_stays_open(world: World, connections: dict[str, _Open]) -> None:
    """A grant of another port goes, and a connection there with it. By then the other caller's to the first port would
    have ended too. The caller's own ends: its outbound listener knows by number for which ports it must not wait for
    first words, so it is another one without that port."""
    others = [_Open(world.pods[f"red/{name}"], _address(world), PORT + 1) for name in ("caller", "caller2")]
    assert all(other.echoes() for other in others)
    world.delete("TrafficTarget", "blue", f"caller-{PORT + 1}")
    for each in (*others, connections["caller"]):
        each.wait_for_end()
        each.close()
    assert connections["caller2"].echoes()


def test_a_request_that_outlasts_the_drain_time_is_cut_off(world: World) -> None:
    """Requests end well within it; one that takes longer is lost when its chain changes, with whatever it was for."""
    web = world.pod("blue", "web-1", account="web", labels={"app": "web"}, app="http=8080")
    world.service("blue", "web", HTTP_8080, {"app": "web"})
    for each in grant_all("blue", "web", "red/caller"):
        world.apply(each)
    world.wait()
    caller = world.pods["red/caller"]
    o_allowed(caller, "http://web.blue/")
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(caller.face, "http://web.blue/delay/60", timeout=CEILING_S)
        until(lambda: web.envoy.stat("cluster.blue/web|8080|local.upstream_rq_active"), "it has arrived")
        world.mesh_config(observability={"tracing": {"enable": True, "address": "collector.blue", "port": 9411}})
        assert outcome.result() != "200"
    world.wait()
    o_allowed(caller, "http://web.blue/")
