"""The rig itself: what it promises to the other tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import dns, isolate, until
from rig.client import curl, tally
from rig.net import APP_UID, ENVOY_UID, Netns
from rig.pod import copy_apps
from rig.world import Site

RIG = Path(isolate.__file__).resolve().parent


# --- isolation ---


@pytest.fixture
def tmp(run_folder: Path) -> Path:
    """A folder for temporary files that every user can enter, as a run wants it."""
    made = Path(tempfile.mkdtemp(prefix="tmp-", dir=run_folder))
    made.chmod(0o711)
    return made


def _isolated(code: str, tmp: Path) -> subprocess.Popen[str]:
    """A program that enters isolation and then runs some code; independent of the isolation of this test run."""
    env = {k: v for k, v in os.environ.items() if k != "OSM_RIG_RUN"} | {"TMPDIR": str(tmp)}
    script = f"import sys; sys.path.insert(0, {str(RIG)!r})\nimport isolate, os, subprocess, time\n"
    # a run in the background of a script is deaf to these, and so is what it starts
    script += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    script += f"folder = isolate.enter()\n{code}"
    return subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.mesh
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_isolation_ends_every_process_with_the_outermost(number: signal.Signals, tmp: Path) -> None:
    """Whatever signal ends the run, a process deep inside it ends too, and only a killed run leaves its folder."""
    marker = f"osm-rig-test-{os.getpid()}-{number.name}"
    run = _isolated(
        f"subprocess.Popen(['sh', '-c', 'while :; do sleep 60; done', {marker!r}], start_new_session=True)\n"
        "print(folder, flush=True)\ntime.sleep(60)",
        tmp,
    )
    assert run.stdout
    folder = Path(run.stdout.readline().strip())
    assert folder.is_dir()
    until(lambda: _running(marker), "the inner process runs")
    run.send_signal(number)
    run.wait(10)
    run.stdout.close()
    until(lambda: not _running(marker), "the inner process has ended")
    assert run.returncode != 0
    assert folder.exists() == (number == signal.SIGKILL)


def _running(marker: str) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in entry.read_bytes().split(b"\0"):
                return True
    return False


@pytest.mark.mesh
def test_isolation_passes_the_exit_status_on_and_removes_its_folder(tmp: Path) -> None:
    """The caller sees the inner status; nothing stays."""
    run = _isolated("print(folder, os.getpid(), flush=True)\nsys.exit(7)", tmp)
    out, _ = run.communicate(timeout=10)
    folder, pid = out.split()
    assert run.returncode == 7
    assert pid == "1"
    assert not Path(folder).exists()
    assert list(tmp.iterdir()) == []


@pytest.mark.mesh
def test_isolation_ends_as_an_inner_half_that_is_killed(tmp: Path) -> None:
    """A run that does not end within its grace is killed by its supervisor, which then tried to set a handler for
    SIGKILL and went on as if it were the run."""
    run = _isolated("print(folder, flush=True)\ntime.sleep(60)\nprint('outside')", tmp)
    assert run.stdout
    folder = Path(run.stdout.readline().strip())
    (inner,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(inner), signal.SIGKILL)
    out, _ = run.communicate(timeout=10)
    assert (run.returncode, out) == (-signal.SIGKILL, "")
    assert not folder.exists()


@pytest.mark.mesh
def test_isolation_removes_the_folder_of_a_dead_run_only(tmp: Path) -> None:
    """The next run sweeps what a killed one left, and leaves a living one alone."""
    dead, alive = (_isolated("print(folder, flush=True)\ntime.sleep(60)", tmp) for _ in range(2))
    assert dead.stdout and alive.stdout
    folders = [Path(p.stdout.readline().strip()) for p in (dead, alive)]
    dead.kill()
    dead.wait()
    until(lambda: not _locked(folders[0]), "the dead run's lock is free")
    third = _isolated("pass", tmp)
    assert third.wait(10) == 0
    assert [f.exists() for f in folders] == [False, True]
    alive.terminate()
    alive.wait(10)
    for process in (dead, alive, third):
        process.stdout.close()


def _locked(folder: Path) -> bool:
    fd = isolate._lock(folder)
    if fd is None:
        return True
    os.close(fd)
    return False


# --- names ---


def _query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 77, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def _outcome(packet: bytes) -> tuple[int, int, bytes]:
    """(response code, number of answers, the last four bytes)."""
    _, flags, _, answers, _, _ = struct.unpack_from("!HHHHHH", packet)
    return flags & 15, answers, packet[-4:]


def test_dns_answers_by_name_and_by_who_asks() -> None:
    """A known name has its address for those who may see it; AAAA is empty; the rest does not exist."""
    names = {("10.244.0.5", "shop.blue.svc.cluster.local"): ["10.96.0.9"]}

    def lookup(who: str, name: str) -> list[str] | None:
        return names.get((who, name))

    ask = "Shop.blue.svc.cluster.LOCAL"
    assert _outcome(dns.answer(_query(ask), "10.244.0.5", lookup)) == (0, 1, socket.inet_aton("10.96.0.9"))
    assert _outcome(dns.answer(_query(ask, 28), "10.244.0.5", lookup))[:2] == (0, 0)
    assert _outcome(dns.answer(_query(ask), "10.244.0.6", lookup))[:2] == (3, 0)
    for bad in (b"", b"\0" * 11, _query(ask)[:20], b"\xff" * 40):
        with pytest.raises(ValueError, match=r"malformed|question"):
            dns.parse_query(bad)


# --- pods: two Envoys with a static configuration and redirection by hand ---

_RULES = """*nat
:IN - [0:0]
:OUT - [0:0]
-A PREROUTING -p tcp -j IN
-A IN -p tcp -j REDIRECT --to-ports 15003
-A OUTPUT -p tcp -j OUT
-A OUT -o lo -j RETURN
-A OUT -m owner --uid-owner 1500 -j RETURN
-A OUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""

_STATIC = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 15000}}}}}}
static_resources:
  listeners:
  - name: {name}
    address: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: next}}}}]}}]
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: next
    type: {discovery}
    load_assignment: {{cluster_name: next, endpoints: [{{lb_endpoints: [
      {{endpoint: {{address: {{socket_address: {{address: {address}, port_value: {target}}}}}}}}}]}}]}}
"""


class _HandMade:
    """A pod without a control plane."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "resolv.conf").write_text("nameserver 10.244.0.1\n")
        self.netns = Netns(folder / "resolv.conf")
        self.netns.ready()
        Site.get().network.plug(self.netns, address)
        subprocess.run(self.netns.command(0, "iptables-restore", "--noflush"), input=_RULES, text=True, check=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, uid: int, *command: str, env: dict[str, str] | None = None) -> None:
        """Starts a process in the pod."""
        log = (self.folder / "log").open("ab")
        self.processes.append(subprocess.Popen(self.netns.command(uid, *command), stdout=log, stderr=log, env=env))
        log.close()

    def envoy(self, **values: object) -> None:
        """Starts an Envoy with a static configuration."""
        config = self.folder / "envoy.yaml"
        config.write_text(_STATIC.format(**values))
        config.chmod(0o644)
        self.run(ENVOY_UID, str(Site.get().envoy), "-c", str(config), "--disable-hot-restart", "--concurrency", "1")

    def close(self) -> None:
        """Ends everything."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.netns.close()


@pytest.fixture(scope="module")
def two_pods(run_folder: Path) -> Iterator[tuple[_HandMade, _HandMade]]:
    """A client and a server, each with an Envoy on its own redirected ports."""
    Site.get()
    folder = Path(tempfile.mkdtemp(prefix="two-", dir=run_folder))
    folder.chmod(0o711)
    apps = copy_apps(folder)
    client, server = (_HandMade(folder / str(n), f"10.244.50.{n}") for n in (1, 2))
    server.run(APP_UID, os.path.realpath(sys.executable), str(apps), "http=8080", env={"POD_NAME": "server-1"})
    server.envoy(name="inbound", port=15003, discovery="STATIC", address="127.0.0.1", target=8080)
    client.envoy(name="outbound", port=15001, discovery="STATIC", address=server.address, target=8080)
    yield client, server
    client.close()
    server.close()


@pytest.mark.mesh
def test_pod_traffic_to_a_cluster_ip_passes_both_sidecars(two_pods: tuple[_HandMade, _HandMade]) -> None:
    """curl to an address that nobody owns reaches the application through the two Envoys, whose statistics tell so."""
    from rig.envoy import Envoy

    client, server = two_pods
    until(
        lambda: curl(client.netns, "http://10.96.0.50/status/204").face == "204", "the path through both Envoys works"
    )
    before = Envoy(server.netns).stat("http.inbound.downstream_rq_2xx")
    reply = curl(client.netns, "http://10.96.0.50/anything?x=1", headers={"x-test": "yes"})
    assert (reply.face, reply.headers["pod"]) == ("200", "server-1")
    assert '"x-test": "yes"' in reply.body
    assert Envoy(server.netns).stat("http.inbound.downstream_rq_2xx") == before + 1
    assert curl(client.netns, "http://127.0.0.1:9/").face == "exit 7"


@pytest.mark.mesh
def test_pod_tally_counts_every_request_once(two_pods: tuple[_HandMade, _HandMade]) -> None:
    """The fast client makes exactly the requests that it counts."""
    from rig.envoy import Envoy

    client, _ = two_pods
    until(lambda: curl(client.netns, "http://10.96.0.50/").face == "200", "the path through both Envoys works")
    before = Envoy(client.netns).stat("http.outbound.downstream_rq_2xx")
    assert tally(client.netns, "10.96.0.50", "http://10.96.0.50/anything", 500) == {"server-1": 500}
    assert Envoy(client.netns).stat("http.outbound.downstream_rq_2xx") == before + 500


@pytest.mark.mesh
def test_pod_has_names_only_of_its_own_world(two_pods: tuple[_HandMade, _HandMade]) -> None:
    """A pod that no world knows gets no address."""
    client, _ = two_pods
    assert curl(client.netns, "http://osm-controller.osm-system.svc.cluster.local/").face == "exit 6"
