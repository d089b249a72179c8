"""Clients of the discovery port that are no good: each is refused, and the good ones do not notice."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest
from rig import Pod, World, until
from rig.objects import HTTP_8080
from rig.xds import CDS, SDS, Credentials, Sotw


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], capture_output=True, check=True)


SHORT = "c", "r"  # account and namespace: openssl's own commands write no common name over 64 characters


def _forge(folder: Path, uuid: str, *, ca: Path | None = None, start: str = "", end: str = "") -> Credentials:
    """A proxy certificate as ours look, signed by a CA of its own, or by the given one (its state directory)."""
    folder.mkdir()
    extensions = folder / "extensions.cnf"
    name = f"{uuid}.sidecar.{'.'.join(SHORT)}.cluster.local"
    extensions.write_text(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\nnew_certs_dir=.\nserial=serial\ndefault_md=sha256\npolicy=p\nunique_subject=no\n"
        "[p]\ncommonName=supplied\n[x]\nbasicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n"
        f"subjectAltName=DNS:{name},URI:spiffe://cluster.local/osm/proxy/{uuid}\n"
    )
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    key, request, chain = folder / "leaf.key", folder / "leaf.csr", folder / "leaf.crt"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    if ca is None:
        ca = folder
        _openssl(
            "req",
            "-x509",
            *curve,
            "-days",
            "2",
            "-subj",
            "/CN=another",
            "-keyout",
            str(folder / "private.key"),
            "-out",
            str(folder / "ca.crt"),
        )
    _openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
    dates = ["-startdate", start, "-enddate", end] if end else ["-days", "1"]
    subprocess.run(
        ["openssl", "ca", "-batch", "-notext", "-config", "extensions.cnf", "-extensions", "x", *dates,
         "-cert", str(ca / "ca.crt"), "-keyfile", str(ca / "private.key"), "-in", "leaf.csr", "-out", "leaf.crt"],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    return Credentials(chain.read_bytes(), key.read_bytes(), None)


def _pod(world: World) -> Pod:
    """The pod for which certificates are forged."""
    account, ns = SHORT
    world.namespace(ns)
    return world.pod(ns, "victim", account=account)


def _refused(world: World, pod: Pod, credentials: Credentials) -> grpc.RpcError:
    """The error with which a client with these credentials is turned away."""
    credentials.roots = credentials.roots or (world.daemon.state / "ca.crt").read_bytes()
    with Sotw(world, pod, credentials=credentials) as client:
        client.send(CDS)
        return client.ended()


@pytest.fixture
def witness(plain: World):
    """A good client beside the bad one: connected before, silent meanwhile, served after."""
    with Sotw(plain, plain.pods["blue/shop-1"]) as client:
        client.fetch(CDS)
        yield client
        client.silent()
        plain.service("blue", "after", HTTP_8080, {"app": "shop"})
        after = client.expect(CDS)
        assert "blue/after|8080" in after.resources
        client.ack(after)


def test_certificate_of_another_ca_is_refused(plain: World, witness: Sotw, tmp_path: Path) -> None:
    """The right names, signed by somebody else."""
    pod = _pod(plain)
    forged = _forge(tmp_path / "forged", pod.uuid)
    assert _refused(plain, pod, forged).code() == grpc.StatusCode.UNAVAILABLE
    assert plain.daemon.alive()


def test_expired_certificate_is_refused(plain: World, witness: Sotw, tmp_path: Path) -> None:
    """Ours, but its time is over; the same with a time to come is no better, and a valid one works."""
    pod, state = _pod(plain), plain.daemon.state
    for name, start, end in (
        ("old", "20200101000000Z", "20200102000000Z"),
        ("early", "20980101000000Z", "20980102000000Z"),
    ):
        forged = _forge(tmp_path / name, pod.uuid, ca=state, start=start, end=end)
        assert _refused(plain, pod, forged).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
    valid = _forge(tmp_path / "valid", pod.uuid, ca=state)
    valid.roots = (state / "ca.crt").read_bytes()
    with Sotw(plain, pod, credentials=valid) as client:
        assert client.fetch(CDS).version


def test_client_without_a_certificate_is_refused(plain: World, witness: Sotw) -> None:
    """TLS alone is not enough."""
    assert (
        _refused(plain, plain.pods["red/caller-1"], Credentials(None, None, None)).code() == grpc.StatusCode.UNAVAILABLE
    )


def test_service_certificate_is_no_proxy_certificate(plain: World, witness: Sotw) -> None:
    """A workload's own certificate, valid in the mesh, does not open the discovery port."""
    with Sotw(plain, plain.pods["red/caller-1"]) as client:
        secret = client.fetch_all(SDS, ["service-cert"])["service-cert"].tls_certificate
    stolen = Credentials(secret.certificate_chain.inline_bytes, secret.private_key.inline_bytes, None)
    error = _refused(plain, plain.pods["red/caller-1"], stolen)
    assert error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    )


def test_certificate_of_a_pod_that_does_not_exist_is_refused(plain: World, witness: Sotw, tmp_path: Path) -> None:
    """Ours and valid, for a uuid that no pod has."""
    forged = _forge(tmp_path / "ghost", "00000000-0000-4000-8000-000000000000", ca=plain.daemon.state)
    error = _refused(plain, _pod(plain), forged)
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "00000000-0000-4000-8000-000000000000" in (error.details() or "")


def test_garbage_on_the_port_disturbs_nobody(plain: World, witness: Sotw) -> None:
    """Plain HTTP, random bytes, a handshake that stops half-way, a connection that says nothing; all at once, many
    times."""
    host, port = plain.daemon.ads.split(":")
    before = plain.daemon.figures()
    held = []
    for n in range(200):
        connection = socket.create_connection((host, int(port)), 5)
        if n % 4 == 0:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        elif n % 4 == 1:
            connection.sendall(os.urandom(3000))
        elif n % 4 == 2:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        held.append(connection)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
        with socket.create_connection((host, int(port)), 5) as plain_socket, context.wrap_socket(plain_socket) as tls:
            tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(500))
            if not tls.recv(100):
                raise ConnectionResetError
    with Sotw(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(CDS).resources
    for connection in held:
        connection.close()
    assert plain.daemon.alive()
    now = plain.daemon.figures()
    assert now["threads"] <= before["threads"] + 4
    until(lambda: plain.daemon.figures()["rss_kb"] <= 2 * before["rss_kb"] + 8192, "memory stays in bounds")
