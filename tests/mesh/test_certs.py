"""Certificates: what they say, and that a server with another's is refused."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import World, until
from rig.objects import HTTP_8080, grant_all
from rig.xds import SDS, Sotw


def _openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def test_a_crt_03_proxy_certificate_names_pod_account_and_namespace(plain: World) -> None:
    """CN <uuid>.sidecar.<account>.<namespace>.<trust domain>, the marker of a proxy, for clients only, signed by
    our root."""
    pod = plain.pods["red/caller-1"]
    certificate = pod.etc / "sds_cert.pem"
    subject = _openssl("x509", "-in", str(certificate), "-noout", "-subject", "-nameopt", "multiline")
    assert f"= {pod.uuid}.sidecar.caller.red.cluster.local\n" in subject
    extensions = _openssl(
        "x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName,extendedKeyUsage,basicConstraints"
    )
    assert f"URI:spiffe://cluster.local/osm/proxy/{pod.uuid}" in extensions
    assert "TLS Web Client Authentication" in extensions
    assert "TLS Web Server Authentication" not in extensions
    assert "CA:TRUE" not in extensions
    _openssl("verify", "-CAfile", str(pod.etc / "cacert.pem"), str(certificate))
    assert (pod.etc / "sds_key.pem").stat().st_mode & 0o077 == 0


class _TlsServer:
    """An HTTP server over TLS in a pod, with a certificate of our choice, as a sidecar would offer it."""

    def __init__(self, listener: socket.socket, chain: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain)
        self._context.set_alpn_protocols(["osm"])
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            with contextlib.suppress(OSError), self._context.wrap_socket(connection, server_side=True) as tls:
                if tls.recv(65536):
                    tls.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")

    def close(self) -> None:
        """Stops listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def _serving_as(world: World, identity: str, port: int) -> Iterator[None]:
    """blue/odd-1 (account odd) answers with the service certificate of another pod's account."""
    with Sotw(world, world.pods[identity]) as client:
        secret = client.fetch_all(SDS, ["service-cert"])["service-cert"].tls_certificate
    chain = world.folder / "odd.pem"
    chain.write_bytes(secret.certificate_chain.inline_bytes + secret.private_key.inline_bytes)
    chain.chmod(0o600)
    listener = world.pods["blue/odd-1"].netns.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(16)
    server = _TlsServer(listener, chain)
    try:
        yield
    finally:
        server.close()


@pytest.mark.mesh
def test_a_crt_06_server_with_anothers_certificate_is_refused(mesh: World) -> None:
    """The service's accounts are pinned: a valid certificate of the mesh for another account gives 503 and a TLS
    statistic."""
    # No sidecar of ours in that pod, so that it can show what it likes; its object says that it has one.
    mesh.pod("blue", "odd-1", account="odd", labels={"app": "odd"}, sidecar=False, ports=[{"containerPort": 8080}])
    mesh.service("blue", "odd", HTTP_8080, {"app": "odd"})
    mesh.pod("blue", "odd-twin", account="odd", envoy=False)
    mesh.apply(grant_all("blue", "odd", "red/caller"))
    mesh.wait()
    caller = mesh.pods["red/caller-1"]
    validation = caller.envoy.section("Secrets")
    names = [
        [n["matcher"]["exact"] for n in s["secret"]["validation_context"]["match_typed_subject_alt_names"]]
        for s in validation["dynamic_active_secrets"]
        if s["name"] == "root-cert-for-mtls-outbound:blue/odd"
    ]
    assert names == [["odd.blue.cluster.local"]]
    with _serving_as(mesh, "blue/odd-twin", 8080):
        until(lambda: caller.face("http://odd.blue/") == "200", "the service's own certificate is accepted")
    fails = r"^cluster\.blue/odd\|8080\.ssl\.fail_verify_san$"
    before = sum(caller.envoy.stats(fails).values())
    with _serving_as(mesh, "red/caller2-1", 8080):
        faces = set()

        def refused_by_tls() -> bool:
            faces.add(caller.face("http://odd.blue/"))
            return sum(caller.envoy.stats(fails).values()) >= before + 3

        until(refused_by_tls, "another account's certificate is refused")
    assert faces == {"503"}
