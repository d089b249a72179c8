"""What the daemon answers over HTTP: health, metrics, versions, and the debug server that MeshConfig switches. Values
are held to `osm status`; no answer holds a key; peers that do not keep to the rules harm nobody."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rig import CommandError, Daemon, World, free_port, until
from rig.daemon import ROOT
from rig.metrics import Metrics
from rig.objects import HTTP_8080, grant_all
from rig.web import ask, dial, get, is_cut_within, is_refused, read_answer
from rig.xds import CDS, LDS, SDS, Credentials, Delta, Sotw, channel
from worlds import tracked

SHIPPED = ROOT / "policies"
PLAIN = ["/health/ready", "/health/alive", "/healthz", "/metrics", "/version", "/smi/version"]
DEBUG = [
    "/debug",
    "/debug/certs",
    "/debug/xds",
    "/debug/proxy",
    "/debug/policies",
    "/debug/config",
    "/debug/namespaces",
    "/debug/feature-flags",
    "/debug/generations",
    "/debug/source",
    "/debug/rejects",
    "/debug/pprof/cmdline",
]


def _furnish(world: World) -> None:
    world.namespace("red")
    world.namespace("blue")
    world.namespace("grey", monitored=False)
    world.pod("red", "caller-1", account="caller")
    world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
    world.service("blue", "shop", HTTP_8080, {"app": "shop"})


@pytest.fixture(scope="module")
def web() -> Iterator[World]:
    """A world without a data plane, whose debug server is on."""
    with tracked(World(real=False, permissive=True, flags=["--debug-address=127.0.0.1:0"])) as world:
        _furnish(world)
        world.apply(grant_all("blue", "shop", "red/caller"))
        world.wait()
        yield world


def _metrics(world: World) -> Metrics:
    return Metrics(get(world.daemon.http(), "/metrics").text)


def _debug(world: World, path: str) -> Any:
    return get(world.status()["debug"], path).json()


# --- the plain server ---


def test_health_and_versions(web: World) -> None:
    """In the words that probes of Open Service Mesh know."""
    address = web.daemon.http()
    assert get(address, "/health/ready").text == "Service is ready\n"
    assert get(address, "/health/alive").text == "Service is alive\n"
    assert get(address, "/healthz").text == "Health OK\n"
    version = get(address, "/version").json()
    assert version.keys() == {"version", "git_commit", "build_date"}
    assert version["version"] == web.status()["version"]
    assert get(address, "/smi/version").json() == {
        "TrafficTarget": "access.smi-spec.io/v1alpha3",
        "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
        "TCPRoute": "specs.smi-spec.io/v1alpha4",
        "TrafficSplit": "split.smi-spec.io/v1alpha4",
    }


def test_methods_and_paths(web: World) -> None:
    """HEAD is GET without its body; nothing else is there."""
    for address, paths in ((web.daemon.http(), PLAIN), (web.status()["debug"], DEBUG)):
        for path in paths:
            whole, head = get(address, path), ask(address, path, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-type"] == whole.headers["content-type"]
            refused = ask(address, path, "POST")
            assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
        for path in ("/", "/debug/", "/health", "/metrics/x", "/../etc/passwd", "//metrics/.."):
            assert ask(address, path).status in (403, 404), path
    assert ask(web.daemon.http(), "/debug/config").status == 404
    assert ask(web.status()["debug"], "/metrics").status == 404


def test_metrics_say_what_osm_status_says(web: World) -> None:
    """And they are well formed, by a strict reader."""
    shop, caller = web.pods["blue/shop-1"], web.pods["red/caller-1"]
    before = _metrics(web)
    with Delta(web, shop) as one, Sotw(web, caller) as two:
        for client in (one, two):
            for kind in (CDS, LDS):
                client.fetch(kind)
        one.send(SDS, ["service-cert"])
        one.nack(one.expect(SDS), "a test does not like it")
        until(lambda: _metrics(web).get("osm_proxy_nack_total", type="SDS") > 0, "the refusal is counted")
        metrics, status = _metrics(web), web.status()
        policies = status["policies"]
        assert metrics.get("osm_proxy_connect_count") == len(status["proxies"]) == 2
        assert metrics.get("osm_proxies_missing") == len(status["missing"]) == 0
        assert metrics.get("osm_snapshot_number") == status["snapshot"]
        assert metrics.get("osm_policy_rejected_objects") == len(status["rejects"])
        assert metrics.get("osm_policy_rule_errors") == len(status["errors"]) == 0
        assert metrics.get("osm_policy_generation", digest=policies["digest"], state="active") == policies["generation"]
        assert metrics.get("osm_cert_expiry_timestamp_seconds", kind="root") == status["root"]["not_after"]
        assert metrics.get("osm_resource_namespace_count") == 2
        assert metrics.get("osm_ready") == 1
        version = get(web.daemon.http(), "/version").json()
        assert metrics.get("osm_version_info", **version) == 1
        for pod in (shop, caller):
            who = {"proxy_uuid": pod.uuid, "identity": f"{pod.account}.{pod.ns}"}
            for kind in (CDS, LDS):
                assert metrics.get("osm_proxy_response_send_success_count", type=kind, **who) == 1
                assert metrics.get("osm_proxy_xds_request_count", type=kind, **who) == 2  # the subscription, the ACK
        assert metrics.get("osm_proxy_config_update_time_count", resource_type="CDS", success="true") >= 2
        assert metrics.get("osm_proxy_config_update_time_count", resource_type="SDS", success="false") >= 1
        figures = web.daemon.figures()
        assert abs(metrics.get("process_resident_memory_bytes") / 1024 - figures["rss_kb"]) < 8192
        assert abs(metrics.get("process_threads") - figures["threads"]) <= 8  # some come and go
        assert metrics.get("process_open_fds") > 10
    assert metrics.get("osm_cert_issued_count") > before.get("osm_cert_issued_count")
    assert metrics.get("osm_cert_issued_time_count") == metrics.get("osm_cert_issued_count")
    until(lambda: _metrics(web).get("osm_proxy_connect_count") == 0, "they have gone")
    reconnects = _metrics(web).get("osm_proxy_reconnect_count")
    with Sotw(web, caller) as again:
        again.fetch(CDS)
        assert _metrics(web).get("osm_proxy_reconnect_count") == reconnects + 1
    until(lambda: _metrics(web).get("osm_loop_lag_seconds_count") >= 1, "the loop is looked at")


def test_changes_are_counted(web: World) -> None:
    """Objects that come, change and go, and the snapshots that follow."""
    before = _metrics(web)
    with web.scratch():
        web.service("blue", "late", HTTP_8080, {"app": "late"})
        web.wait()
        web.service("blue", "late", [{"name": "http", "port": 81, "targetPort": 8080}], {"app": "late"})
        web.wait()
        web.delete("Service", "blue", "late")
        web.wait()
        after = _metrics(web)
    for what in ("added", "updated", "deleted"):
        name, labels = "osm_k8s_api_event_count", {"type": f"service-{what}", "namespace": "blue"}
        assert after.get(name, **labels) == before.get(name, **labels) + 1, what
    assert after.get("osm_proxy_broadcast_event_count") >= before.get("osm_proxy_broadcast_event_count") + 3
    runs = "osm_policy_run_time_seconds_count"
    assert after.get(runs) >= before.get(runs) + 3
    web.wait()


def test_refused_streams_are_counted_by_code(web: World) -> None:
    """A certificate whose pod has gone is E5002, as Open Service Mesh numbered it."""
    pod = web.pods["red/caller-1"]
    web.start()
    folder = web.folder / "bootstrap-of-the-lost"
    with web.scratch():
        lost = web.pod("red", "lost", account="lost")
        web.daemon.osm("proxy", "bootstrap", "red/lost", "--out", str(folder))
        web.remove_pod(lost)
        web.wait()
        before = _metrics(web).get("osm_error_err_code_count", err_code="E5002")
        with channel(web.daemon.ads, Credentials.of(folder)) as connection:
            stream = connection.stream_stream(
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
            )(iter(()))
            with pytest.raises(Exception, match="no pod"):
                next(stream)
        assert _metrics(web).get("osm_error_err_code_count", err_code="E5002") == before + 1
    assert pod.started
    web.wait()


# --- readiness ---


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """The operator's own directory."""
    path = tmp_path / "overlay"
    path.mkdir()
    return path


def test_readiness_from_the_start_through_bad_policies(overlay: Path) -> None:
    """Not ready before it can serve, with the reason; ready from then on, whatever is saved."""
    bad = overlay / "denies.lua"
    bad.write_text("return {")
    with World(real=False, permissive=True, policies=[SHIPPED, overlay]) as world:
        _furnish(world)
        address = world.daemon.http()
        until(lambda: world.status()["policy_error"], "the bundle is rejected")
        answer = ask(address, "/health/ready?verbose")
        assert answer.status == 503
        assert "denies.lua:1: unexpected symbol" in answer.text.splitlines()[-1]
        assert "[ok] source" in answer.text
        assert ask(address, "/health/alive").status == 200
        assert _metrics(world).get("osm_ready") == 0
        bad.unlink()
        until(lambda: ask(address, "/health/ready").status == 200, "it is ready")
        world.wait()
        assert "[!!]" not in get(address, "/health/ready?verbose").text
        bad.write_text("return {")
        with pytest.raises(CommandError):
            world.daemon.osm("policy", "reload")
        answer = ask(address, "/health/ready?verbose")
        assert answer.status == 200
        assert "[!!] policies in the directories: rejected: denies.lua:1: unexpected symbol" in answer.text
        metrics = _metrics(world)
        assert metrics.get("osm_policy_reload_total", outcome="rejected") >= 2
        assert [v for k, v in metrics.all("osm_policy_generation").items() if ("state", "rejected") in k]


def test_readiness_is_answered_from_the_first_moment(tmp_path: Path) -> None:
    """Whoever asks while it starts hears that, and no error of HTTP's."""
    source = tmp_path / "objects"
    source.mkdir()
    for n in range(200):
        pod = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"a{n}", "namespace": "red"}}
        (source / f"{n}.json").write_text(json.dumps(pod))
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    daemon = Daemon(
        tmp_path / "controller",
        source,
        ads=f"127.0.0.1:{free_port('127.0.0.1')}",
        extra=(f"--http-address={address}",),
    )
    daemon.start(ready=False)
    try:
        until(lambda: not is_refused(address), "it listens")
        heard = []

        def is_ready() -> bool:
            answer = ask(address, "/health/ready")
            heard.append((answer.status, answer.text))
            return answer.status == 200

        until(is_ready, "it is ready")
        for status, text in heard[:-1]:
            assert status == 503
            assert text.startswith("Service is not ready: starting: ")
    finally:
        daemon.stop()
    assert 'open_handles":0' in daemon.log()


# --- the debug server ---


def test_debug_endpoints_say_what_osm_says(web: World) -> None:
    """Each of them, in JSON."""
    shop = web.pods["blue/shop-1"]
    with Delta(web, shop) as client:
        client.fetch(CDS)
        client.fetch(SDS, ["service-cert"])
        web.wait()
        status = web.status()
        assert set(_debug(web, "/debug")) >= set(DEBUG)
        by_uuid = {each["uuid"]: each for each in _debug(web, "/debug/proxy")["proxies"]}
        assert by_uuid.keys() == {pod.uuid for pod in web.pods.values() if pod.sidecar}
        mine = next(each for each in status["proxies"] if each["uuid"] == shop.uuid)
        assert by_uuid[shop.uuid].pop("connected") is True
        assert by_uuid[shop.uuid]["types"] == mine["types"]
        one = _debug(web, f"/debug/proxy?uuid={shop.uuid}&cfg=true")
        assert one["config"] == json.loads(web.daemon.osm("proxy", "get", "config", "blue/shop-1", "-o", "json"))
        assert "config" not in _debug(web, f"/debug/proxy?uuid={shop.uuid}")
        assert ask(status["debug"], "/debug/proxy?uuid=nobody").status == 404
        sent = next(each for each in _debug(web, "/debug/xds")["proxies"] if each["uuid"] == shop.uuid)
        assert sent["identity"] == "shop.blue"
        assert sent["types"]["CDS"]["sent"] >= 1
        assert 1 <= len(sent["types"]["CDS"]["sent_at"]) <= 20
        certs = _debug(web, "/debug/certs")
        assert certs["roots"] == [status["root"]]
        assert "shop.blue.cluster.local" in {each["common_name"] for each in certs["service"]}
        assert certs["ads"][0]["common_name"] == "ads.cluster.local"
    assert _debug(web, "/debug/namespaces") == {"namespaces": ["blue", "red"]}
    assert _debug(web, "/debug/generations") == json.loads(web.daemon.osm("policy", "list", "-o", "json"))
    assert _debug(web, "/debug/source") == status["source"]
    assert _debug(web, "/debug/rejects")["rejects"] == status["rejects"]
    policies = _debug(web, "/debug/policies")
    assert policies.keys() == {"traffic_splits", "service_accounts", "route_groups", "traffic_targets"}
    assert [each["metadata"]["name"] for each in policies["traffic_targets"]] == ["to-shop"]
    assert {"Namespace": "blue", "Name": "shop"} in policies["service_accounts"]
    assert _debug(web, "/debug/config")["spec"]["traffic"]["enablePermissiveTrafficPolicyMode"] is True
    assert "--debug-address=127.0.0.1:0" in get(status["debug"], "/debug/pprof/cmdline").text


def test_feature_flags_are_those_that_count(web: World) -> None:
    """One that is not honoured is off, whatever the MeshConfig says."""
    with web.scratch():
        web.mesh_config(
            featureFlags={
                "enableEnvoyActiveHealthChecks": True,
                "enableMulticlusterMode": True,
                "enableAsyncProxyServiceMapping": False,
            }
        )
        web.wait()
        expected = {
            "enableEnvoyActiveHealthChecks": True,
            "enableMulticlusterMode": False,
            "enableAsyncProxyServiceMapping": False,
        }
        assert _debug(web, "/debug/feature-flags") == expected
        flags = {dict(k)["feature_flag"]: v for k, v in _metrics(web).all("osm_feature_flag_enabled").items()}
        assert flags == {name: float(value) for name, value in expected.items()}
    web.wait()


def _secrets(world: World) -> list[bytes]:
    """What must be in no answer: of every private key of this mesh, the lines of its PEM text."""
    files = [world.daemon.state / "private.key", *world.folder.rglob("sds_key.pem")]
    assert len(files) >= 2
    lines = [line for path in files for line in path.read_bytes().splitlines() if b"-----" not in line]
    return [line for line in lines if len(line) >= 16]


def test_no_answer_holds_a_key(web: World) -> None:
    """Neither a word of PEM nor a line of any key."""
    with Delta(web, web.pods["blue/shop-1"]) as client:
        client.fetch(CDS)
        answer = client.fetch(SDS, ["service-cert"])
        key = answer.resources["service-cert"].tls_certificate.private_key.inline_bytes
        assert b"PRIVATE KEY" in key
        secrets = [*_secrets(web), *(line for line in key.splitlines() if len(line) >= 16 and b"-----" not in line)]
        debug = web.status()["debug"]
        pages = [(web.daemon.http(), path) for path in [*PLAIN, "/health/ready?verbose"]]
        pages += [(debug, path) for path in DEBUG]
        pages += [(debug, f"/debug/proxy?uuid={pod.uuid}&cfg=true") for pod in web.pods.values()]
        for address, path in pages:
            body = get(address, path).body
            assert b"PRIVATE KEY" not in body, path
            for secret in secrets:
                assert secret not in body, path
                assert secret.decode().encode("unicode_escape") not in body, path
        assert "service-cert" in get(debug, pages[-1][1]).text  # what was looked through had it


def test_mesh_config_switches_the_debug_server_under_a_connected_proxy() -> None:
    """It comes and goes, and with it its connections; the proxy notices nothing."""
    with tracked(World(real=False, permissive=True)) as world:
        _furnish(world)
        world.wait()
        with Sotw(world, world.pods["red/caller-1"]) as client:
            client.fetch(CDS)
            client.fetch(LDS)
            for _ in range(3):
                assert world.status()["debug"] == "off"
                assert is_refused("127.0.0.1:9092")
                world.mesh_config(observability={"enableDebugServer": True})
                world.wait()
                assert world.status()["debug"] == "127.0.0.1:9092"
                assert set(_debug(world, "/debug")) >= set(DEBUG)
                assert world.status()["rejects"] == []
                with dial("127.0.0.1:9092") as kept:
                    kept.sendall(b"GET /debug HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert read_answer(kept).status == 200
                    world.mesh_config()
                    world.wait()
                    assert read_answer(kept).status == 0
            client.silent()
            metrics = _metrics(world)
            assert metrics.get("osm_proxy_connect_count") == 1
            assert metrics.get("osm_proxy_reconnect_count") == 0


def test_the_flag_decides_before_the_mesh_config() -> None:
    """off is never; an address is always."""
    with World(real=False, permissive=True, flags=["--debug-address=off", "--http-address=off"]) as world:
        world.mesh_config(observability={"enableDebugServer": True})
        world.wait()
        assert (world.status()["http"], world.status()["debug"]) == ("off", "off")
        assert is_refused("127.0.0.1:9092")


def test_the_debug_server_waits_for_its_port() -> None:
    """Somebody else has it: that is said, and it comes when they have gone."""
    with socket.create_server(("127.0.0.1", 9092)) as other, World(real=False, permissive=True) as world:
        world.mesh_config(observability={"enableDebugServer": True})
        world.wait()
        assert world.status()["debug"] == "off"
        assert "cannot listen on 127.0.0.1:9092: Address already in use" in world.daemon.log()
        other.close()
        until(lambda: world.status()["debug"] == "127.0.0.1:9092", "it listens")


def test_a_browser_that_was_led_here_learns_nothing(web: World) -> None:
    """Whoever's name points to this machine is not asked for by it."""
    debug = web.status()["debug"]
    assert ask(debug, "/debug", Host="evil.example:9092").status == 403
    assert ask(debug, "/debug", Host="localhost:9092").status == 200
    assert ask(web.daemon.http(), "/health/alive", Host="osm-controller.osm-system:9091").status == 200


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--http-address=127.0.0.1", "expected ADDRESS:PORT"),
        ("--http-address=example.org:9091", "expected ADDRESS:PORT"),
        ("--debug-address=0.0.0.0:0", "only an address of the loopback is allowed"),
        ("--debug-address=[::]:0", "only an address of the loopback is allowed"),
    ],
)
def test_bad_addresses_are_named_at_the_start(tmp_path: Path, flag: str, says: str) -> None:
    """The flag, what is wrong, and what is right."""
    (tmp_path / "objects").mkdir()
    ads = f"127.0.0.1:{free_port('127.0.0.1')}"
    daemon = Daemon(tmp_path / "controller", tmp_path / "objects", ads=ads, extra=(flag,))
    daemon.start(ready=False)
    assert daemon.wait_exit(10) == 1
    fatal = [json.loads(line) for line in daemon.log().splitlines() if '"fatal"' in line]
    assert fatal[-1]["error"].startswith(flag.replace("=", " "))
    assert says in fatal[-1]["error"]


def test_a_port_in_use_is_named_at_the_start(web: World, tmp_path: Path) -> None:
    """With the flag to choose another."""
    (tmp_path / "objects").mkdir()
    ads = f"127.0.0.1:{free_port('127.0.0.1')}"
    taken = web.daemon.http()
    daemon = Daemon(tmp_path / "controller", tmp_path / "objects", ads=ads, extra=(f"--http-address={taken}",))
    daemon.start(ready=False)
    assert daemon.wait_exit(10) == 1
    assert f"cannot listen on {taken}: Address already in use; choose another with --http-address" in daemon.log()


# --- the profile ---


def test_a_profile_names_functions(web: World) -> None:
    """Of what the daemon does meanwhile; one at a time."""
    debug, plain = web.status()["debug"], web.daemon.http()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            get(plain, "/metrics")

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        with ThreadPoolExecutor(2) as two:
            answers = list(two.map(lambda _: ask(debug, "/debug/profile?seconds=2"), range(2)))
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    taken, busy = sorted(answers, key=lambda answer: answer.status)
    assert (taken.status, busy.status) == (200, 409)
    lines = taken.text.splitlines()
    assert all(re.fullmatch(r"\S.* \d+", line) for line in lines)
    assert any(";osm_app_run;" in line and "osm_metrics_write" in line for line in lines), taken.text[:2000]
    for seconds in ("0", "61", "x", "-1", "1x"):
        assert ask(debug, f"/debug/pprof/profile?seconds={seconds}").status == 400


def test_a_daemon_that_is_stopped_ends_a_profile() -> None:
    """At once, and cleanly."""
    with World(real=False, permissive=True, flags=["--debug-address=127.0.0.1:0"]) as world:
        world.wait()
        with dial(world.status()["debug"]) as connection:
            connection.sendall(b"GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(
                lambda: ask(world.status()["debug"], "/debug/pprof/profile?seconds=1").status == 409,
                "it is taken",
            )
            assert world.daemon.stop() == 0
            assert 'open_handles":0' in world.daemon.log()


# --- peers ---


def test_requests_may_be_split_and_pipelined(web: World) -> None:
    """At every byte, and many in one piece."""
    one = b"GET /health/alive HTTP/1.1\r\nHost: localhost\r\n\r\n"
    address = web.daemon.http()
    with dial(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):
            for at in range(len(one)):
                connection.sendall(one[at : at + 1])
            assert read_answer(connection).body == b"Service is alive\n"
        for cut in range(1, len(one)):
            connection.sendall(one[:cut])
            ask(address, "/healthz")  # what has been sent so far has been looked at
            connection.sendall(one[cut:])
            assert read_answer(connection).body == b"Service is alive\n"
    with dial(address) as connection:
        connection.sendall(one * 50)
        connection.shutdown(socket.SHUT_WR)
        everything = b"".join(iter(lambda: connection.recv(65536), b""))
        assert everything.count(b"HTTP/1.1 200 OK\r\n") == 50


def test_oversize_headers_end_the_connection_and_nothing_else(web: World) -> None:
    """Whatever is too long."""
    address = web.daemon.http()
    for begin in (b"GET /health/alive HTTP/1.1\r\nX-Long: ", b"GET /health/alive?", b"GET /"):
        with dial(address) as connection:
            connection.sendall(begin + b"x" * 10000)
            assert read_answer(connection).status in (0, 431)
    assert get(address, "/health/alive")


def test_garbage_harms_nobody(web: World) -> None:
    """TLS, HTTP/2, nothing that is HTTP, and bodies where none belong."""
    address = web.daemon.http()
    for said in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(range(256)) * 8,
        b"GET /health/alive HTTP/1.1\r\nHost: a\r\n\r\nPOST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde",
        b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"GET /version%00 HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ):
        with dial(address) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert get(address, "/health/alive")
    cpu = _metrics(web).get("process_cpu_seconds_total")
    web.wait()
    assert _metrics(web).get("process_cpu_seconds_total") - cpu < 2.0  # nothing goes round in there


def test_a_slow_reader_is_dropped_and_delays_nobody(tmp_path: Path) -> None:
    """It gets what its buffers hold, and costs the daemon no more than a piece of the answer."""
    with World(real=False, permissive=True, flags=["--debug-address=127.0.0.1:0"]) as world:
        world.namespace("red")
        for n in range(120):
            world.apply(
                {
                    "apiVersion": "specs.smi-spec.io/v1alpha4",
                    "kind": "HTTPRouteGroup",
                    "metadata": {"name": f"r{n}", "namespace": "red", "annotations": {"x": "y" * 120_000}},
                    "spec": {"matches": [{"name": "all", "pathRegex": ".*", "methods": ["*"]}]},
                }
            )
        world.wait()
        debug = world.status()["debug"]
        assert len(get(debug, "/debug/policies").body) > 14_000_000
        before = world.daemon.figures()["rss_kb"]
        with dial(debug, receive_buffer=4096) as slow:
            slow.sendall(b"GET /debug/policies HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: len(get(debug, "/debug/policies").body) > 14_000_000, "others are answered")
            assert world.daemon.figures()["rss_kb"] - before < 8192
            assert is_cut_within(slow, 25.0)
        assert "answer not read in time" in world.daemon.log()
        world.wait()
