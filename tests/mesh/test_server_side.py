"""A server's sidecar alone, attacked past every client's sidecar: a TLS client of ours speaks straight to the pod's
port, with certificates that are right, another's, or none of the mesh. What the client's sidecar would have stopped
must be stopped here too; the sidecar's own counters say by what."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import World, o_clean, until
from rig.objects import match, routes, target, tcp_route
from rig.oracles import RBAC_BODY
from rig.xds import SDS, Sotw
from swelling import unswollen

pytestmark = pytest.mark.mesh

HTTP, TCP = ("blue/shop-1", 8080), ("blue/echo-1", 9000)  # pod and port
NAMES = {HTTP: "shop.blue.svc.cluster.local", TCP: "echo.blue.svc.cluster.local"}
PORTS = pytest.mark.parametrize("where", [HTTP, TCP], ids=["http", "tcp"])
VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls-1.2", "tls-1.3"]
)

# What a sidecar counts when it turns somebody away, and when it lets somebody in.
_INBOUND = "listener.0.0.0.0_15003."
NO_CERTIFICATE = f"{_INBOUND}ssl.fail_verify_no_cert"
BAD_CERTIFICATE = f"{_INBOUND}ssl.fail_verify_error"
NO_CHAIN = f"{_INBOUND}no_filter_chain_match"
DENIED = "network-.rbac.denied"
ALLOWED = "network-.rbac.allowed"
_COUNTED = r"^(listener\.0\.0\.0\.0_15003\.(ssl\.(handshake|fail_.*)|no_filter_chain_match)|network-\.rbac\..*)$"


@pytest.fixture(scope="module")
def server(w1: World) -> Iterator[World]:
    """The base world with a TCP service; red/caller may GET /mine and connect to the echo, red/caller2 may do
    neither: /other is granted to blue/shop-v1, and caller2 is named by no target."""
    with unswollen(w1), w1.scratch():
        w1.pod("blue", "echo-1", account="echo", labels={"app": "echo"}, app="echo=9000")
        w1.service("blue", "echo", [{"name": "tcp", "port": 9000, "appProtocol": "tcp"}], {"app": "echo"})
        w1.apply(routes("blue", "paths", match("mine", "/mine", ["GET"]), match("other", "/other", ["GET"])))
        w1.apply(target("blue", "mine", "blue/shop", ["red/caller"], group="paths", matches=["mine"]))
        w1.apply(target("blue", "other", "blue/shop", ["blue/shop-v1"], group="paths", matches=["other"]))
        w1.apply(tcp_route("blue", "any"))
        w1.apply(target("blue", "echo", "blue/echo", ["red/caller"], {"kind": "TCPRoute", "name": "any"}))
        w1.wait()
        yield w1
        w1.daemon.applied()
        o_clean(w1)


@pytest.fixture(scope="module")
def shown(server: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a client can show, by a word: a file with chain and key."""
    folder = tmp_path_factory.mktemp("shown")
    files = {name: folder / f"{name}.pem" for name in ("granted", "other path", "stranger", "self-signed", "bootstrap")}
    for name, pod in (("granted", "red/caller-1"), ("other path", "blue/shop-v1-1"), ("stranger", "red/caller2-1")):
        with Sotw(server, server.pods[pod]) as client:
            secret = client.fetch_all(SDS, ["service-cert"])["service-cert"].tls_certificate
        files[name].write_bytes(secret.certificate_chain.inline_bytes + secret.private_key.inline_bytes)
    etc = server.pods["red/caller-1"].etc
    files["bootstrap"].write_bytes((etc / "sds_cert.pem").read_bytes() + (etc / "sds_key.pem").read_bytes())
    granted = subprocess.run(
        ["openssl", "x509", "-in", files["granted"], "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    )
    name = "DNS:caller.red.cluster.local"
    assert name in granted.stdout
    forged = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    forged += ["-subj", "/CN=caller.red.cluster.local", "-addext", f"subjectAltName={name}"]
    forged += ["-keyout", folder / "key", "-out", folder / "certificate"]
    subprocess.run(forged, capture_output=True, check=True)
    files["self-signed"].write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
    return files


def _context(
    certificate: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, alpn: str = "osm"
) -> ssl.SSLContext:
    """A client that accepts any server: it is the server who is under test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols([alpn])
    if certificate:
        context.load_cert_chain(certificate)
    return context


@contextlib.contextmanager
def _connected(
    world: World,
    where: tuple[str, int],
    context: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Iterator[ssl.SSLSocket]:
    """A connection from a pod without a sidecar, under the service's own name unless told otherwise."""
    pod, port = where
    with world.pods["grey/outsider-1"].netns.socket() as plain:
        plain.settimeout(5)
        plain.connect((world.pods[pod].address, port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server_hostname = NAMES[where] if name is None else name or None
        with context.wrap_socket(plain, server_hostname=server_hostname, session=session) as tls:
            yield tls


def _ask(tls: ssl.SSLSocket, where: tuple[str, int], path: str) -> bytes:
    """The answer to one question: the echo's line, or the status and body of an HTTP response. An error where the
    server ends the connection instead."""
    if where == TCP:
        tls.sendall(b"hello\n")
        return tls.makefile("rb").readline()
    tls.sendall(f"GET {path} HTTP/1.1\r\nhost: shop.blue\r\n\r\n".encode())
    response = http.client.HTTPResponse(tls)
    response.begin()
    return b"%d " % response.status + response.read()


def _answer(
    world: World, where: tuple[str, int], context: ssl.SSLContext, path: str = "/mine", name: str | None = None
) -> bytes:
    """What a server says; b"" when it ends the connection, in whatever way. A server that is silent and does not
    end it fails the test."""
    got = b""
    with contextlib.suppress(ssl.SSLError, ConnectionError), _connected(world, where, context, name) as tls:
        got = _ask(tls, where, path)
    return got


def _counts(world: World, where: tuple[str, int]) -> dict[str, int]:
    """What the sidecar of a pod has counted at its door."""
    return world.pods[where[0]].envoy.stats(_COUNTED)


def _turned_away(world: World, where: tuple[str, int], by: str, attack: Callable[[], bytes]) -> None:
    """The attack gets not one byte, and the sidecar has counted it once, as what it is, and let nobody in."""
    before = _counts(world, where)
    assert attack() == b""
    until(lambda: _counts(world, where).get(by, 0) == before.get(by, 0) + 1, f"{where[0]} counts it under {by}", 3)
    assert _counts(world, where).get(ALLOWED, 0) == before.get(ALLOWED, 0)


@VERSIONS
def test_granted_certificate_is_served(server: World, shown: dict[str, Path], version: ssl.TLSVersion) -> None:
    """The control: the way of all attacks below lets in who may come in."""
    assert _answer(server, HTTP, _context(shown["granted"], version)).startswith(b"200 ")
    assert _answer(server, TCP, _context(shown["granted"], version)) == b"echo response: hello\n"


@PORTS
def test_certificate_of_an_account_without_any_grant_gets_no_answer(
    server: World, shown: dict[str, Path], where: tuple[str, int]
) -> None:
    """A valid certificate of the mesh: TLS stands, the rules for connections end it before any request is read."""
    before = _counts(server, where)[f"{_INBOUND}ssl.handshake"]
    for path in ("/mine", "/other", "/nobodys"):
        _turned_away(server, where, DENIED, lambda p=path: _answer(server, where, _context(shown["stranger"]), p))
    assert _counts(server, where)[f"{_INBOUND}ssl.handshake"] == before + 3


def test_certificate_granted_another_path_gets_only_that(server: World, shown: dict[str, Path]) -> None:
    """Each identity its own path: 403 by the rules for requests on the other's, 404 on a path that nobody has."""
    for certificate, own, others in (("granted", "/mine", "/other"), ("other path", "/other", "/mine")):
        context = _context(shown[certificate])
        assert _answer(server, HTTP, context, own).startswith(b"200 ")
        assert _answer(server, HTTP, context, others) == b"403 " + RBAC_BODY.encode()
        assert _answer(server, HTTP, context, "/nobodys") == b"404 "


def test_grant_for_one_service_opens_no_other(server: World, shown: dict[str, Path]) -> None:
    """Who may use the shop may not connect to the echo."""
    context = _context(shown["other path"])
    _turned_away(server, TCP, DENIED, lambda: _answer(server, TCP, context))


@VERSIONS
@PORTS
def test_client_without_certificate_is_refused_by_tls(
    server: World, where: tuple[str, int], version: ssl.TLSVersion
) -> None:
    """Not by the rules that come after: those would not be there in permissive mode."""
    _turned_away(server, where, NO_CERTIFICATE, lambda: _answer(server, where, _context(None, version)))


@VERSIONS
@PORTS
def test_self_signed_certificate_with_a_granted_name_is_refused_by_tls(
    server: World, shown: dict[str, Path], where: tuple[str, int], version: ssl.TLSVersion
) -> None:
    """The right name counts for nothing without the mesh's signature."""
    context = _context(shown["self-signed"], version)
    _turned_away(server, where, BAD_CERTIFICATE, lambda: _answer(server, where, context))


@PORTS
def test_bootstrap_certificate_is_no_identity_of_a_service(
    server: World, shown: dict[str, Path], where: tuple[str, int]
) -> None:
    """What a proxy shows to the control plane has the mesh's signature, but names no account that is granted."""
    _turned_away(server, where, DENIED, lambda: _answer(server, where, _context(shown["bootstrap"])))


@PORTS
@pytest.mark.parametrize("name", ["shop-v1.blue.svc.cluster.local", "blue", ""], ids=["another", "unknown", "none"])
def test_wrong_server_name_finds_no_chain(
    server: World, shown: dict[str, Path], where: tuple[str, int], name: str
) -> None:
    """A granted certificate under another service's name, one that nobody has, or none."""
    context = _context(shown["granted"])
    _turned_away(server, where, NO_CHAIN, lambda: _answer(server, where, context, name=name))


@PORTS
@pytest.mark.parametrize("alpn", ["", "http/1.1"], ids=["none", "another"])
def test_wrong_protocol_finds_no_chain(
    server: World, shown: dict[str, Path], where: tuple[str, int], alpn: str
) -> None:
    """A granted certificate without the mesh's own protocol."""
    context = _context(shown["granted"], alpn=alpn)
    _turned_away(server, where, NO_CHAIN, lambda: _answer(server, where, context))


@VERSIONS
@PORTS
def test_tls_session_is_not_resumed(
    server: World, shown: dict[str, Path], where: tuple[str, int], version: ssl.TLSVersion
) -> None:
    """A resumed session would let a certificate in after its end: each connection shows its certificate anew."""
    context = _context(shown["granted"], version)
    with _connected(server, where, context) as tls:
        assert _ask(tls, where, "/mine")
        session = tls.session  # after the answer: in TLS 1.3 tickets come with it
    with _connected(server, where, context, session=session) as tls:
        assert _ask(tls, where, "/mine")
        assert tls.session_reused is False
    assert session is None or not session.has_ticket
