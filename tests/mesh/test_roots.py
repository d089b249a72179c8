"""Which roots are taken, when the next one is, and what comes of certificates while nobody is there to have them
renewed; with raw clients."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from rig import World, forge, until
from rig.daemon import CommandError
from rig.objects import HTTP_8080
from rig.xds import CDS, SDS, Answer, Sotw


@contextlib.contextmanager
def _raw(root: forge.Signer | None = None, **certificate: object) -> Iterator[World]:
    """A world without a data plane: one proxy; its root, where it is to be another one."""
    with tempfile.TemporaryDirectory(prefix="osm-state-") as folder:
        state = Path(folder)
        if root:
            _write_pair(state, root)
        with World(real=False, state=state) as world:
            world.mesh_config(certificate=dict(certificate))
            world.namespace("red")
            world.pod("red", "caller-1", account="caller")
            world.service("red", "caller", HTTP_8080, {"app": "caller-1"})
            world.wait()
            yield world


def _first(client: Sotw) -> Answer:
    """The first response with the certificate in it: it may be signed only when it is asked for."""
    client.send(SDS, ["service-cert"])
    while "service-cert" not in (answer := client.expect(SDS)).resources:
        client.ack(answer)
    return answer


def _ends(answer: Answer) -> datetime:
    """When the certificate in it does."""
    pem = answer.resources["service-cert"].tls_certificate.certificate_chain.inline_bytes
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def _write_pair(state: Path, root: forge.Signer) -> None:
    made = root.credentials()
    for name, content in (("ca.crt", made.chain), ("private.key", made.key)):
        (state / name).write_bytes(content or b"")
        (state / name).chmod(0o600)


@pytest.mark.parametrize(
    ("root", "why"),
    [
        ({"usage": [forge.CLIENT]}, "for servers and clients both"),
        ({"usage": [forge.SERVER]}, "for servers and clients both"),
        ({"usage": None, "only_below": "example.org"}, "name constraints"),
    ],
    ids=["for clients", "for servers", "for some names"],
)
def test_a_root_that_proxies_would_refuse_is_refused(root: dict[str, object], why: str) -> None:
    """At the start, with the reason: every certificate that it signs would be in vain."""
    made = forge.certificate(None, "root", ca=True, **root)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=why), _raw(made):
        pass


@pytest.mark.parametrize("key_id", [False, True])
def test_two_roots_of_one_name_are_told_apart_by_their_key_ids(key_id: bool) -> None:
    """Without ids the second one is not even trusted: a verifier would take whichever it finds first."""
    first, second = (forge.certificate(None, "same", usage=None, ca=True, key_id=key_id) for _ in range(2))
    with _raw(first) as world:
        (world.daemon.state / "passive.crt").write_bytes(second.credentials().chain or b"")
        if key_id:
            world.daemon.osm("ca", "reload")
            return
        with pytest.raises(CommandError, match="could not tell them apart"):
            world.daemon.osm("ca", "reload")


def test_the_next_step_of_a_rotation_waits_for_the_one_before() -> None:
    """While a connected proxy has not accepted the roots of a step, the next one is refused."""
    with _raw() as world, Sotw(world, world.pods["red/caller-1"]) as client:
        client.fetch(SDS, ["root-cert-for-mtls-inbound:red/caller"])
        world.daemon.applied()
        (world.daemon.state / "passive.crt").write_bytes(
            forge.certificate(None, "next", usage=None, ca=True).credentials().chain or b""
        )
        world.daemon.osm("ca", "reload")
        answer = client.expect(SDS)
        (world.daemon.state / "passive.crt").unlink()
        with pytest.raises(CommandError, match="of the step before"):
            world.daemon.osm("ca", "reload")
        client.ack(answer)
        world.daemon.applied()
        world.daemon.osm("ca", "reload")


def test_an_account_that_was_away_gets_no_certificate_that_has_ended() -> None:
    """Its last pod goes, its certificate ends, a new pod comes: the first certificate that this one gets is good."""
    with _raw(serviceCertValidityDuration="5s") as world:
        pod = world.pods["red/caller-1"]
        with Sotw(world, pod) as client:
            ends = _ends(_first(client))
        world.remove_pod(pod)
        world.daemon.applied()
        until(lambda: datetime.now(UTC) > ends, "the certificate has ended")
        pod = world.pod("red", "caller-2", account="caller")
        world.wait()
        with Sotw(world, pod) as client:
            assert _ends(_first(client)) > datetime.now(UTC)


def test_a_sidecar_whose_pod_is_nowhere_holds_up_nobody() -> None:
    """Its namespace has left the mesh and it comes again: the barrier does not wait for it, and its stream ends, so
    that it takes nobody's place."""
    with _raw() as world:
        pod = world.pods["red/caller-1"]
        world.namespace("red", monitored=False)
        world.daemon.applied()
        with Sotw(world, pod) as client:
            client.send(CDS)
            until(lambda: world.proxy_known(pod), "it is connected")
            world.daemon.applied()
            with pytest.raises(grpc.RpcError) as ended:
                client.receive(60)
        assert ended.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "no pod of the mesh" in (ended.value.details() or "")
