"""Certificates in time: renewed before they end, made as the MeshConfig says, and one root after another, while
traffic runs."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from rig import Pod, World, holds, o_clean, until
from rig.client import Connection
from rig.daemon import ROOT, CommandError
from rig.objects import HTTP_8080, grant_all
from rig.xds import SDS, Credentials, Sotw


def _openssl(*arguments: str, data: bytes | None = None) -> str:
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True)
    return done.stdout.decode()


def _life(pem: bytes) -> timedelta:
    """From now to its end."""
    end = _openssl("x509", "-noout", "-enddate", "-dateopt", "iso_8601", data=pem).strip().partition("=")[2]
    return datetime.fromisoformat(end) - datetime.now(UTC)


def _leaf(world: World, pod: Pod) -> bytes:
    """A pod's service certificate, as it is served."""
    with Sotw(world, pod) as client:
        secret = client.fetch_all(SDS, ["service-cert"])["service-cert"]
    return secret.tls_certificate.certificate_chain.inline_bytes


@contextlib.contextmanager
def _mesh(
    *flags: str,
    certificate: dict[str, object] | None = None,
    sidecar: dict[str, object] | None = None,
    drain_time_s: int | None = None,
) -> Iterator[World]:
    """One caller, one server with an HTTP and a TCP port, and leave to call it; sidecars start by this MeshConfig."""
    with World(flags=flags, drain_time_s=drain_time_s) as world:
        world.mesh_config(certificate=certificate or {}, sidecar=sidecar or {})
        world.daemon.applied()
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller-1", account="caller")
        world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app=["http=8080", "http=8081"])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.service(
            "blue", "raw", [{"name": "tcp-raw", "port": 81, "targetPort": 8081, "appProtocol": "tcp"}], {"app": "shop"}
        )
        world.apply(grant_all("blue", "shop", "red/caller"))
        world.wait()
        yield world
        o_clean(world)


class _Kept:
    """One connection that is used again and again: through the TCP chains, so that it breaks where theirs does."""

    def __init__(self, world: World) -> None:
        caller = world.pods["red/caller-1"]
        self._connection = Connection(caller.netns, world.resolve("raw.blue", "red"), 81, "raw.blue")
        self.answered = 0
        self.failure = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                status, _, _ = self._connection.get("/")
            except OSError as error:
                self.failure = f"{type(error).__name__}: {error}"
                return
            if status != 200:
                self.failure = str(status)
                return
            self.answered += 1

    def stop(self) -> None:
        """Ends it; the figures stand."""
        self._stop.set()
        self._thread.join()
        self._connection.close()


@contextlib.contextmanager
def _under_traffic(world: World) -> Iterator[None]:
    """Requests on fresh connections, and one connection that stays: none fails."""
    caller = world.pods["red/caller-1"]
    until(lambda: caller.face("http://shop.blue/") == "200", "the mesh lets requests through")
    load, kept = caller.load("http://shop.blue/", 20), _Kept(world)
    try:
        until(lambda: load.sent > 5 and kept.answered > 5, "traffic runs")
        yield
        sent, answered = load.sent, kept.answered
        until(lambda: load.sent > sent + 20 and (kept.failure or kept.answered > answered + 5), "traffic goes on")
    finally:
        load.stop()
        kept.stop()
    assert load.failures == [], f"{len(load.failures)} of {load.sent}"
    assert kept.failure == "", f"the connection that stays broke after {kept.answered} requests"


def _own_certificate(pod: Pod) -> dict[str, str]:
    """The service certificate in use: what /certs says of the chain whose name is the account's."""
    name = f"{pod.account}.{pod.ns}.cluster.local"
    for certificate in pod.envoy.certs():
        for link in certificate["cert_chain"]:
            if {"dns": name} in link["subject_alt_names"]:
                return link
    raise LookupError(f"{pod.ns}/{pod.name} has no service certificate")


@pytest.mark.mesh
def test_a_crt_04_service_certificates_are_renewed_before_they_end_and_nobody_notices() -> None:
    """A new serial on both sides, twice, before the old one has ended: no failed request, no cut connection."""
    with _mesh("--service-cert-lead", "4s", certificate={"serviceCertValidityDuration": "10s"}) as world:
        pods = [world.pods["red/caller-1"], world.pods["blue/shop-1"]]
        with _under_traffic(world):
            for _ in range(2):
                old = [_own_certificate(pod) for pod in pods]
                for pod, had in zip(pods, old, strict=True):
                    until(
                        lambda pod=pod, had=had: _own_certificate(pod)["serial_number"] != had["serial_number"],
                        f"{pod.name} has a new certificate",
                    )
                    now = _own_certificate(pod)
                    begun = datetime.fromisoformat(now["valid_from"]) + timedelta(minutes=1)  # set back for slow clocks
                    assert begun < datetime.fromisoformat(had["expiration_time"])


def test_a_crt_05_a_changed_validity_counts_for_new_certificates() -> None:
    """No restart, and what has been given out stays."""
    with World(real=False) as world:
        world.namespace("red")
        first, second = (world.pod("red", name, account=name) for name in ("first", "second"))
        world.wait()
        before = _leaf(world, first)
        assert timedelta(hours=23) < _life(before) <= timedelta(hours=24)
        world.mesh_config(certificate={"serviceCertValidityDuration": "1h"})
        world.wait()
        assert timedelta(minutes=59) < _life(_leaf(world, second)) <= timedelta(hours=1)
        assert _leaf(world, first) == before


def test_a_crt_02_service_certificate_is_for_both_ends_of_its_account() -> None:
    """Names, usage, chain."""
    with World(real=False) as world:
        world.namespace("red")
        pod = world.pod("red", "caller-1", account="caller")
        world.wait()
        leaf = world.folder / "leaf.pem"
        leaf.write_bytes(_leaf(world, pod))
        extensions = "subjectAltName,extendedKeyUsage,basicConstraints"
        said = _openssl("x509", "-in", str(leaf), "-noout", "-subject", "-ext", extensions)
        assert "CN = caller.red.cluster.local" in said
        assert "DNS:caller.red.cluster.local" in said
        assert "TLS Web Server Authentication, TLS Web Client Authentication" in said
        assert "CA:TRUE" not in said
        _openssl("verify", "-CAfile", str(world.daemon.state / "ca.crt"), str(leaf))


@pytest.mark.parametrize(
    ("flags", "bits", "expected"),
    [((), 2048, "id-ecPublicKey"), ((), 3072, "(3072 bit)"), (("--service-cert-key", "rsa"), 2048, "(2048 bit)")],
)
def test_keys_are_of_the_kind_that_is_asked_for(flags: tuple[str, ...], bits: int, expected: str) -> None:
    """P-256 unless the MeshConfig wants larger RSA keys, or the flag RSA at all."""
    with World(real=False, flags=flags) as world:
        world.mesh_config(certificate={"certKeyBitSize": bits})
        world.namespace("red")
        pod = world.pod("red", "caller-1", account="caller")
        world.wait()
        assert expected in _openssl("x509", "-noout", "-text", data=_leaf(world, pod))


def test_the_barrier_waits_for_keys_of_another_kind() -> None:
    """The MeshConfig asks for larger ones: when everything is applied, a connected proxy has its own."""
    with World(real=False) as world:
        world.namespace("red")
        pod = world.pod("red", "caller-1", account="caller")
        world.wait()
        with Sotw(world, pod) as client:
            client.fetch_all(SDS, ["service-cert"])
            answers = client.record()
            for bits, expected in ((4096, "(4096 bit)"), (2048, "id-ecPublicKey")):
                world.mesh_config(certificate={"certKeyBitSize": bits})
                world.wait()
                leaf = answers[-1].resources["service-cert"].tls_certificate.certificate_chain.inline_bytes
                assert expected in _openssl("x509", "-noout", "-text", data=leaf)


def _server_serial(world: World, pod: Pod) -> str:
    """The serial number of what the control plane shows to a proxy that connects now."""
    context = ssl.create_default_context(cafile=str(pod.etc / "cacert.pem"))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(pod.etc / "sds_cert.pem", pod.etc / "sds_key.pem")
    host, _, port = world.daemon.ads.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="ads.cluster.local") as tls,
    ):
        got = tls.getpeercert()
    assert got
    return str(got["serialNumber"])


def test_the_servers_own_certificate_is_renewed_while_it_serves() -> None:
    """A connection after its end is made with the next one; streams that are open go on."""
    with World(real=False, flags=("--ads-cert-validity", "6s")) as world:
        world.namespace("red")
        pod = world.pod("red", "caller-1", account="caller")
        world.wait()
        with Sotw(world, pod) as client:
            client.fetch_all(SDS, ["service-cert"])
            seen = {_server_serial(world, pod)}

            def third() -> bool:
                seen.add(_server_serial(world, pod))  # a certificate that has ended would raise
                return len(seen) >= 3

            until(third, "the third certificate serves")
            client.silent()


def test_proxies_over_the_limit_are_refused_and_the_others_stay() -> None:
    """maxDataPlaneConnections counts proxies, not streams: one that comes again replaces its own stream."""
    with World(real=False) as world:
        world.mesh_config(sidecar={"maxDataPlaneConnections": 1})
        world.namespace("red")
        first, second = (world.pod("red", name, account=name) for name in ("first", "second"))
        world.wait()
        with Sotw(world, first) as stays:
            stays.fetch_all(SDS, ["service-cert"])
            with Sotw(world, second) as refused:
                error = refused.ended()
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "too many connections" in error.details()
            with Sotw(world, first) as again:
                again.fetch_all(SDS, ["service-cert"])
            stays.silent()
        until(lambda: not world.status()["proxies"], "the first proxy has gone")
        with Sotw(world, second) as admitted:
            admitted.fetch_all(SDS, ["service-cert"])


def _heavy_service(n: int) -> str:
    """A Service that weighs most of a megabyte."""
    note = "x" * 900_000
    return (
        "apiVersion: v1\nkind: Service\n"
        f"metadata: {{name: heavy-{n}, namespace: red, annotations: {{note: {note}}}}}\n"
        "spec: {clusterIP: None, ports: [{port: 80}]}\n"
    )


def test_proxies_are_refused_while_the_memory_is_full_and_admitted_after() -> None:
    """--memory-limit: who is connected stays, and nobody dies."""
    with World(real=False, flags=("--memory-limit", "64Mi")) as world:
        world.namespace("red")
        first, second = (world.pod("red", name, account=name) for name in ("first", "second"))
        world.wait()
        with Sotw(world, first) as stays:
            stays.fetch_all(SDS, ["service-cert"])
            for n in range(100):
                world.write(world.files / "ballast" / f"{n}.yaml", _heavy_service(n))
            until(lambda: world.daemon.figures()["rss_kb"] > 80 << 10, "the daemon holds more")

            def refused() -> bool:
                with Sotw(world, second) as client:
                    try:
                        client.fetch_all(SDS, ["service-cert"])
                    except grpc.RpcError as error:
                        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                        assert "memory is full" in error.details()
                        return True
                return False

            until(refused, "a further proxy is refused")
            shutil.rmtree(world.files / "ballast")
            until(lambda: not refused(), "a further proxy is admitted again", 60)
            stays.silent()


@pytest.mark.mesh
@pytest.mark.parametrize("maximum", ["TLSv1_2", "TLSv1_3"])
def test_a_crt_09_sidecars_of_a_tls_version_that_the_control_plane_takes_work(maximum: str) -> None:
    """The MeshConfig bounds what sidecars speak, towards each other and the control plane."""
    with World() as world:
        world.mesh_config(permissive=True, sidecar={"tlsMaxProtocolVersion": maximum})
        world.namespace("red")
        world.pod("red", "caller-1", account="caller")
        world.pod("red", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
        world.service("red", "shop", HTTP_8080, {"app": "shop"})
        world.wait()
        caller = world.pods["red/caller-1"]
        until(lambda: caller.face("http://shop.red/") == "200", "the request gets through")
        spoken = caller.envoy.stats(r"^cluster\.red/shop\|8080\.ssl\.versions\.")
        assert {name.partition(".versions.")[2] for name, n in spoken.items() if n} == {maximum.replace("_", ".")}
        o_clean(world)


@pytest.mark.mesh
@pytest.mark.parametrize(
    ("ciphers", "used"),
    [
        (["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"], "ECDHE-RSA-AES128-GCM-SHA256"),
        (["ECDHE-ECDSA-AES256-GCM-SHA384"], "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (["NO-CIPHER", "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_128_GCM_SHA256"], "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ],
    ids=["rsa", "ecdsa", "partly unknown"],
)
def test_a_crt_09_ciphers_of_the_mesh_config_are_spoken(ciphers: list[str], used: str) -> None:
    """Up to TLS 1.2, by new sidecars to the control plane and to each other; keys are of the kind that goes with them.
    A name that no proxy knows is left out: it would make them refuse everything."""
    with _mesh(sidecar={"cipherSuites": ciphers, "tlsMaxProtocolVersion": "TLSv1_2"}) as world:
        caller = world.pods["red/caller-1"]
        until(lambda: caller.face("http://shop.blue/") == "200", "the call is answered")
        for cluster in ("osm-controller", "blue/shop|8080"):
            spoken = caller.envoy.stats(rf"^cluster\.{cluster.replace('|', '.')}\.ssl\.ciphers\.")
            assert {name.rpartition(".ssl.ciphers.")[2] for name, count in spoken.items() if count} == {used}


def test_a_crt_09_ciphers_change_while_traffic_runs() -> None:
    """To such as are for RSA keys only, and back: every account gets a key that goes with them, at once. Connections of
    the old kind end; new ones work."""
    with _mesh(sidecar={"tlsMaxProtocolVersion": "TLSv1_2"}, drain_time_s=1) as world:
        caller = world.pods["red/caller-1"]
        until(lambda: caller.face("http://shop.blue/") == "200", "the call is answered")
        for ciphers, used in (
            (["ECDHE-RSA-AES256-GCM-SHA384"], "ECDHE-RSA-AES256-GCM-SHA384"),
            (["ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ):
            world.mesh_config(sidecar={"tlsMaxProtocolVersion": "TLSv1_2", "cipherSuites": ciphers})
            world.wait()

            def spoken(name: str = used) -> bool:
                good = caller.face("http://shop.blue/") == "200"
                return good and caller.envoy.stat(f"cluster.blue/shop|8080.ssl.ciphers.{name}") > 0

            until(spoken, f"{used} is spoken", 30)
            holds(lambda: caller.face("http://shop.blue/") == "200", "calls are answered", 10)


def test_a_crt_09_sidecar_of_an_older_tls_version_never_connects() -> None:
    """The control plane takes TLS 1.2 at least: a sidecar that may not speak it gets nothing, its pod no answer."""
    with World() as world:
        world.mesh_config(
            permissive=True, sidecar={"tlsMinProtocolVersion": "TLSv1_0", "tlsMaxProtocolVersion": "TLSv1_1"}
        )
        world.namespace("red")
        old = world.pod("red", "old-1", account="old", sidecar=True, envoy=True)
        shop = world.pod("red", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080", sidecar=False)
        world.service("red", "shop", HTTP_8080, {"app": "shop"})
        world.daemon.applied()
        for pod in (old, shop):
            pod.prepare()
            pod.launch()
        fails = r"^cluster\.osm-controller\.ssl\.connection_error$|^cluster\.osm-controller\.upstream_cx_connect_fail$"

        def tried() -> bool:
            with contextlib.suppress(OSError):
                return sum(old.envoy.stats(fails).values()) >= 2
            return False

        until(tried, "the sidecar has been turned away")
        assert not old.envoy.connected()
        assert world.status()["proxies"] == []
        assert old.face("http://shop.red/").startswith("exit 7"), old.face("http://shop.red/")


# --- one root after another ---


def _new_root(folder: Path) -> None:
    """A pair of ca.crt and private.key, as an operator makes one."""
    folder.mkdir(mode=0o700)
    key, certificate = folder / "private.key", folder / "ca.crt"
    # fmt: off
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
        "-subj", "/CN=the next root", "-keyout", str(key), "-out", str(certificate),
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )
    # fmt: on
    key.chmod(0o600)


def _put(state: Path, *, signs: Path, trusts: Path | None) -> None:
    """Writes a state directory: who signs, and who else is trusted."""
    for name in ("private.key", "ca.crt"):
        aside = state / f".{name}.put"
        shutil.copy2(signs / name, aside)
        os.replace(aside, state / name)
    passive = state / "passive.crt"
    if trusts:
        shutil.copy2(trusts / "ca.crt", passive)
    else:
        passive.unlink(missing_ok=True)


def _refresh_sidecars(world: World) -> None:
    """New bootstrap files for every pod, readable by its sidecar from the moment when they have their names."""
    for pod in world.sidecars():
        aside = pod.folder / "refreshed"
        world.daemon.osm(
            "proxy", "bootstrap", f"{pod.ns}/{pod.name}", "--out", str(aside), "--mount-path", str(pod.etc)
        )
        pod.give_files()
        for file in sorted(aside.iterdir()):
            os.replace(file, pod.etc / file.name)


def _serials(pem: bytes) -> set[str]:
    """Of all certificates in it."""
    ends = b"-----END CERTIFICATE-----\n"
    each = [part + ends for part in pem.split(ends) if part.strip()]
    return {_openssl("x509", "-noout", "-serial", data=part).strip().partition("=")[2].lower() for part in each}


def _trusted_for_peers(pod: Pod) -> set[str]:
    """Serial numbers of the roots by which a sidecar checks other sidecars."""
    secrets = pod.envoy.section("Secrets").get("dynamic_active_secrets", [])
    roots = [
        base64.b64decode(s["secret"]["validation_context"]["trusted_ca"]["inline_bytes"])
        for s in secrets
        if s["name"].startswith("root-cert-for-mtls-")
    ]
    assert roots
    return set.union(*(_serials(each) for each in roots))


def _trusted_for_ads(pod: Pod) -> set[str]:
    """The same for the control plane: what /certs shows, which in older Envoys is one root of each bundle."""
    roots = set()
    for certificate in pod.envoy.certs():
        chain = [n.get("dns", "") for link in certificate["cert_chain"] for n in link["subject_alt_names"]]
        if any(".sidecar." in name for name in chain):
            roots |= {root["serial_number"] for root in certificate["ca_cert"]}
    return roots


@pytest.mark.mesh
def test_one_root_follows_another_by_hand_and_no_request_fails() -> None:
    """A signs; A signs and B is trusted; B signs and A is trusted; B alone. Then the control plane starts anew."""
    with _mesh() as world:
        state, a, b = world.daemon.state, world.folder / "a", world.folder / "b"
        a.mkdir(mode=0o700)
        for name in ("ca.crt", "private.key"):
            shutil.copy2(state / name, a / name)
        _new_root(b)
        pods = world.sidecars()

        def everywhere(trusted: set[Path], signed_by: Path) -> None:
            wanted = set.union(*(_serials((root / "ca.crt").read_bytes()) for root in trusted))
            name = _openssl("x509", "-in", str(signed_by / "ca.crt"), "-noout", "-fingerprint", "-sha256")
            assert world.status()["root"]["fingerprint"] == name.strip().partition("=")[2].replace(":", "").lower()
            for pod in pods:
                until(lambda p=pod: _trusted_for_peers(p) == wanted, f"{pod.name} trusts its peers by {wanted}")
                until(
                    lambda p=pod: (ads := _trusted_for_ads(p)) == wanted or (len(ads) == 1 and ads <= wanted),
                    f"{pod.name} trusts the control plane by {wanted}",
                )
                chain = _leaf(world, pod)
                _openssl("verify", "-CAfile", str(signed_by / "ca.crt"), "/dev/stdin", data=chain)

        everywhere({a}, a)
        with _under_traffic(world):
            for signs, trusts in ((a, b), (b, a), (b, None)):
                old = {pod.name: _own_certificate(pod)["serial_number"] for pod in pods}
                before = world.status()["root"]["fingerprint"]
                _put(state, signs=signs, trusts=trusts)
                world.daemon.osm("ca", "reload")
                world.wait()
                if world.status()["root"]["fingerprint"] != before:
                    for pod in pods:
                        until(
                            lambda p=pod, had=old: _own_certificate(p)["serial_number"] != had[p.name],
                            f"{pod.name} has a certificate of the new root",
                        )
                _refresh_sidecars(world)
                everywhere({signs, trusts} - {None}, signs)
            world.daemon.stop()
            world.daemon.start()
            until(lambda: len(world.status()["proxies"]) == len(pods), "all sidecars are back", 60)
            world.wait()


def test_a_root_that_nobody_trusts_yet_is_not_taken() -> None:
    """Nor is one let go whose certificates are in use: what serves goes on, and the command says what to do."""
    with World(real=False) as world:
        state, a, b = world.daemon.state, world.folder / "a", world.folder / "b"
        a.mkdir(mode=0o700)
        for name in ("ca.crt", "private.key"):
            shutil.copy2(state / name, a / name)
        _new_root(b)
        world.namespace("red")
        pod = world.pod("red", "caller-1", account="caller")
        world.wait()
        serves = world.status()["root"]

        def refused(text: str) -> None:
            with pytest.raises(CommandError) as error:
                world.daemon.osm("ca", "reload")
            assert text in error.value.stderr
            assert world.status()["root"] == serves
            _leaf(world, pod)

        _put(state, signs=b, trusts=None)
        refused("no proxy trusts the new root")
        _put(state, signs=b, trusts=a)
        refused("no proxy trusts the new root")
        _put(state, signs=a, trusts=b)
        (state / "passive.crt").write_text("nonsense\n")
        refused("passive.crt: no certificate in PEM")
        _put(state, signs=a, trusts=b)
        world.daemon.osm("ca", "reload")
        assert [root["fingerprint"] for root in world.status()["root"]["passive"]] != []
        serves = world.status()["root"]
        _put(state, signs=b, trusts=None)
        refused("certificates of the old root")
        leaf_key = state / "private.key"
        leaf_key.chmod(0o644)
        refused("others may use it")


def test_roots_are_not_changed_before_anything_is_served(tmp_path: Path) -> None:
    """With policies that do not load nobody has been given the roots of today, and the command says that."""
    (tmp_path / "bad.lua").write_text("return {")
    with World(real=False, policies=[ROOT / "policies", tmp_path]) as world:
        state, a, b = world.daemon.state, world.folder / "a", world.folder / "b"
        a.mkdir(mode=0o700)
        for name in ("ca.crt", "private.key"):
            shutil.copy2(state / name, a / name)
        _new_root(b)
        _put(state, signs=a, trusts=b)
        with pytest.raises(CommandError) as error:
            world.daemon.osm("ca", "reload")
        assert "no policies are in force yet" in error.value.stderr
        assert world.status()["root"]["passive"] == []


def test_a_client_of_either_root_is_admitted_while_both_are_trusted() -> None:
    """A proxy's certificate of the old root counts until that root is let go, and not a moment longer."""
    with World(real=False) as world:
        state, a, b = world.daemon.state, world.folder / "a", world.folder / "b"
        a.mkdir(mode=0o700)
        for name in ("ca.crt", "private.key"):
            shutil.copy2(state / name, a / name)
        _new_root(b)
        world.namespace("red")
        pod = world.pod("red", "caller-1", account="caller")
        world.wait()
        old = Credentials.of(pod.etc)
        both = (a / "ca.crt").read_bytes() + (b / "ca.crt").read_bytes()
        for signs, trusts in ((a, b), (b, a)):
            _put(state, signs=signs, trusts=trusts)
            world.daemon.osm("ca", "reload")
            with Sotw(world, pod, credentials=Credentials(old.chain, old.key, both)) as client:
                client.fetch_all(SDS, ["service-cert"])
            until(lambda: not world.proxy_known(pod), "its stream is forgotten: the next step waits for what it has")
        _put(state, signs=b, trusts=None)
        world.daemon.osm("ca", "reload")
        with Sotw(world, pod, credentials=Credentials(old.chain, old.key, both)) as client:
            client.send(SDS, ["service-cert"])
            assert client.ended().code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)
