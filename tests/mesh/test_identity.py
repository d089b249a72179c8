"""Who may open a stream: a certificate that is not exactly a live proxy's own is turned away with a reason, whoever has
signed it, and whoever is connected does not notice."""

from __future__ import annotations

import socket
import ssl
import uuid as uuids
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from rig import Pod, World, until
from rig.forge import CLIENT, SERVER, Signer, certificate, marker, now, proxy_name
from rig.objects import HTTP_8080
from rig.xds import CDS, LDS, SDS, Credentials, Delta, Sotw

# At the handshake there is no stream yet that could say why.
HANDSHAKE = grpc.StatusCode.UNAVAILABLE


# Names of any length are the point here.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be")


@pytest.fixture
def victim(plain: World) -> Pod:
    """A live pod, of an account with a dot in its name."""
    plain.namespace("prod")
    pod = plain.pod("prod", "victim-1", account="team.payments")
    plain.wait()
    return pod


@pytest.fixture
def root(plain: World) -> Signer:
    """The mesh's own root: whatever follows is signed by it, unless it says otherwise."""
    return Signer.of(plain.daemon.state)


@pytest.fixture(autouse=True)
def _witness(plain: World) -> Iterator[None]:
    """A good client beside the bad ones: connected before, silent meanwhile, served after."""
    with Sotw(plain, plain.pods["blue/shop-1"]) as client:
        client.fetch(CDS)
        yield
        client.silent()
        plain.service("blue", "after", HTTP_8080, {"app": "shop"})
        after = client.expect(CDS)
        assert "blue/after|8080" in after.resources
        client.ack(after)


def _try(world: World, pod: Pod, shown: Signer) -> grpc.RpcError | None:
    """The error with which a client that shows this is turned away; None: it is served."""
    roots = (world.daemon.state / "ca.crt").read_bytes()
    with Sotw(world, pod, credentials=shown.credentials(roots)) as client:
        client.send(CDS)
        try:
            client.expect(CDS)
        except grpc.RpcError as error:
            return error
    return None


def _refused(world: World, pod: Pod, shown: Signer, *why: str) -> None:
    """With PERMISSION_DENIED, a text that says why, and a line in the log; with no reason given: at the handshake."""
    error = _try(world, pod, shown)
    assert error is not None, "it is served"
    if not why:
        assert error.code() == HANDSHAKE, (error.code(), error.details())
        return
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, (error.code(), error.details())
    for text in why:
        assert text in (error.details() or ""), error.details()
    assert '"stream refused"' in world.daemon.log()


def _proxy(signer: Signer | None, pod: Pod, **changes: object) -> Signer:
    """As `osm proxy bootstrap` makes it, but for the changes."""
    cn = proxy_name(pod.uuid, pod.account, pod.ns)
    options: dict[str, object] = {"dns": [cn], "uri": [marker(pod.uuid)], **changes}
    return certificate(signer, cn, **options)  # type: ignore[arg-type]


def test_a_proxys_own_certificate_opens_the_stream(plain: World, victim: Pod, root: Signer) -> None:
    """What all others differ from; with the marker, and without, as old bootstraps have it (for both ends then)."""
    assert _try(plain, victim, _proxy(root, victim)) is None
    assert _try(plain, victim, _proxy(root, victim, uri=[], usage=[CLIENT, SERVER])) is None


@pytest.mark.parametrize(
    ("account", "ns"),
    [
        ("payments", "prod"),  # another account
        ("team.payments", "blue"),  # another namespace
        ("team", "payments.prod"),  # the same text, cut elsewhere
        ("payments.prod", "cluster"),
        ("sidecar.team.payments", "prod"),
        ("team.payments.prod.cluster.local.team.payments", "prod"),
        ("team..payments", "prod"),
        ("TEAM.payments", "prod"),
        ("", "prod"),
        (".team.payments", "prod"),
    ],
)
def test_names_that_imitate_another_identity(plain: World, victim: Pod, root: Signer, account: str, ns: str) -> None:
    """Dots in account names do not let one account be read as another."""
    cn = proxy_name(victim.uuid, account, ns)
    shown = certificate(root, cn, dns=["x"], uri=[marker(victim.uuid)])
    same_text = cn == proxy_name(victim.uuid, victim.account, victim.ns)
    if same_text:
        assert _try(plain, victim, shown) is None
    else:
        told = "certificate" if ns == victim.ns else "no pod of namespace"
        _refused(plain, victim, shown, told)


def test_an_account_named_like_the_victims_parts_is_not_the_victim(plain: World, victim: Pod, root: Signer) -> None:
    """Account "team" in "payments": its own certificate opens its own stream only."""
    plain.namespace("payments")
    other = plain.pod("payments", "other-1", account="team")
    plain.wait()
    assert _try(plain, other, _proxy(root, other)) is None
    mixed = certificate(root, proxy_name(victim.uuid, "team", "payments"), uri=[marker(victim.uuid)])
    _refused(plain, victim, mixed, "no pod of namespace")


@pytest.mark.parametrize(
    ("what", "common_name", "why"),
    [
        ("trust domain", "{uuid}.sidecar.team.payments.prod.cluster.example", "trust domain"),
        ("a longer trust domain", "{uuid}.sidecar.team.payments.prod.cluster.local.example", "trust domain"),
        ("no kind", "{uuid}.team.payments.prod.cluster.local", "not a proxy's"),
        ("kind of another proxy", "{uuid}.gateway.team.payments.prod.cluster.local", "not a proxy's"),
        ("uuid that is none", "victim-1.sidecar.team.payments.prod.cluster.local", "not a proxy's"),
        ("a service's name", "team.payments.prod.cluster.local", "not a proxy's"),
        ("the server's name", "ads.cluster.local", "not a proxy's"),
        ("nothing", "", "not a proxy's"),
        ("a zero byte", "{uuid}.sidecar.team.payments.prod.cluster.local\0.example", "common name"),
        ("4 kB", "{uuid}.sidecar." + "x" * 4096 + ".prod.cluster.local", "common name"),
        ("a wildcard", "{uuid}.sidecar.*.prod.cluster.local", "not a proxy's"),
        ("a line break", "{uuid}.sidecar.team.payments\n.prod.cluster.local", "not a proxy's"),
    ],
)
def test_malformed_names(plain: World, victim: Pod, root: Signer, what: str, common_name: str, why: str) -> None:
    """Each is named in the status."""
    shown = certificate(root, common_name.format(uuid=victim.uuid), uri=[marker(victim.uuid)])
    _refused(plain, victim, shown, why)


def test_an_upper_case_uuid_is_the_same_proxy(plain: World, victim: Pod, root: Signer) -> None:
    """Its case says nothing."""
    upper = proxy_name(victim.uuid.upper(), victim.account, victim.ns)
    assert _try(plain, victim, certificate(root, upper, uri=[marker(victim.uuid)])) is None


def test_two_common_names(plain: World, victim: Pod, root: Signer) -> None:
    """Which of them would count?"""
    cn = proxy_name(victim.uuid, victim.account, victim.ns)
    _refused(plain, victim, certificate(root, cn, "other", uri=[marker(victim.uuid)]), "one common name")
    _refused(plain, victim, certificate(root, "other", cn, uri=[marker(victim.uuid)]), "one common name")


def test_marker_of_another(plain: World, victim: Pod, root: Signer) -> None:
    """The URI must be this proxy's, and the only one."""
    other = str(uuids.uuid4())
    for uri in (
        [marker(other)],
        [marker(victim.uuid), marker(other)],
        [marker(other), marker(victim.uuid)],
        [marker(victim.uuid), "spiffe://cluster.local/ns/prod/sa/team.payments"],
        [marker(victim.uuid, "cluster.example")],
        [marker(victim.uuid) + "/x"],
    ):
        _refused(plain, victim, _proxy(root, victim, uri=uri), "URI")


def test_wrong_usage(plain: World, victim: Pod, root: Signer) -> None:
    """For servers only, for nothing in particular, for both though it is marked as a proxy's."""
    assert _try(plain, victim, _proxy(root, victim, usage=[SERVER])) is not None
    assert _try(plain, victim, _proxy(root, victim, usage=None)) is not None
    _refused(plain, victim, _proxy(root, victim, usage=[CLIENT, SERVER]), "for servers too")


def test_signers_that_are_none(plain: World, victim: Pod, root: Signer) -> None:
    """Another root, itself, an intermediate that may not sign, a proxy that plays one."""
    another = certificate(None, "osm-ca.openservicemesh.io", usage=None, ca=True)
    _refused(plain, victim, _proxy(another, victim))
    _refused(plain, victim, _proxy(None, victim))
    no_ca = certificate(root, "no ca", usage=None, ca=False)
    _refused(plain, victim, _proxy(no_ca, victim))
    nothing_said = certificate(root, "nothing said", usage=None, ca=None)
    _refused(plain, victim, _proxy(nothing_said, victim))
    proxy = _proxy(root, victim)
    _refused(plain, victim, _proxy(proxy, victim))
    below = certificate(proxy, "an intermediate of a proxy", usage=None, ca=True)
    _refused(plain, victim, _proxy(below, victim))


def test_certificates_of_another_time(plain: World, victim: Pod, root: Signer) -> None:
    """Over, and to come."""
    _refused(plain, victim, _proxy(root, victim, begin=now(days=-3), end=now(days=-2)))
    _refused(plain, victim, _proxy(root, victim, begin=now(days=2), end=now(days=3)))


def test_a_stream_ends_with_its_certificate(plain: World, victim: Pod, root: Signer) -> None:
    """And no other is opened with it, on the same connection or on a new one."""
    shown = _proxy(root, victim, end=now(seconds=4))
    roots = (plain.daemon.state / "ca.crt").read_bytes()
    with Sotw(plain, victim, credentials=shown.credentials(roots)) as client:
        client.fetch(CDS)
        error = client.ended(20)
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert "expired" in (error.details() or "")
    _refused(plain, victim, shown)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(plain: World, victim: Pod, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """A resumed session would skip the check of the certificate: neither by ticket nor by session id is there one."""
    context = ssl.create_default_context(cafile=str(victim.etc / "cacert.pem"))
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(victim.etc / "sds_cert.pem", victim.etc / "sds_key.pem")
    host, _, port = plain.daemon.ads.rpartition(":")
    session = None
    for _ in range(3):
        with (
            socket.create_connection((host, int(port)), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="ads.cluster.local", session=session) as tls,
        ):
            tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            assert tls.recv(9)  # the server's own settings; a ticket would have come before
            assert not tls.session_reused
            assert tls.session is None or not tls.session.has_ticket
            session = tls.session


def test_a_pod_of_the_same_name_with_a_new_uuid_is_another(plain: World, root: Signer) -> None:
    """The old one's certificate opens nothing, though name, account and namespace are the same."""
    plain.namespace("prod")
    old = plain.pod("prod", "again-1", account="team.payments")
    plain.wait()
    shown = Credentials.of(old.etc)
    plain.remove_pod(old)
    new = plain.pod("prod", "again-1", account="team.payments")
    plain.wait()
    assert new.uuid != old.uuid
    with Sotw(plain, new, credentials=shown) as client:
        client.send(CDS)
        error = client.ended()
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        assert old.uuid in (error.details() or "")
    with Sotw(plain, new) as client:
        assert client.fetch(CDS).version


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_node_id_and_secret_names_of_others_give_nothing(plain: World, victim: Pod, form: Callable[..., Sotw]) -> None:
    """Whoever it says it is, and whatever it asks for: no key and no configuration of another's."""
    shop = plain.pods["blue/shop-1"]
    theirs = ["service-cert:blue/shop", "service-cert:red/caller", "root-cert-for-mtls-inbound:blue/shop"]
    with form(plain, victim, node_id=shop.uuid) as client:
        assert "inbound_blue/shop_8080_http" not in str(client.fetch(LDS).resources)
        client.send(SDS, [*theirs, "service-cert"])
        got: dict[str, object] = {}
        while "service-cert" not in got:
            answer = client.expect(SDS)
            client.ack(answer)
            got.update(answer.resources)
        client.silent()
        assert got.keys() == {"service-cert"}
        secret = got["service-cert"].tls_certificate.certificate_chain.inline_bytes  # type: ignore[attr-defined]
    [own] = x509.load_pem_x509_certificate(secret).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert own.value == "team.payments.prod.cluster.local"


def test_a_deleted_pod_is_let_go_and_stays_out(plain: World, victim: Pod) -> None:
    """Its stream ends with the pod; as long as the pod is gone nobody comes with its certificate."""
    with Delta(plain, victim) as client:
        client.fetch(CDS, ["*"])
        plain.delete("Pod", "prod", "victim-1")
        error = client.ended()
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "gone" in (error.details() or "")
    with Delta(plain, victim) as client:
        client.send(CDS, ["*"])
        assert client.ended().code() == grpc.StatusCode.PERMISSION_DENIED
    until(lambda: victim.uuid not in str(plain.status()["proxies"]), "nobody is counted")
    plain.apply(victim.manifest())
