"""The discovery protocol against the daemon, said word by word by a raw client. The state machine has its table of
cases in the unit tests; here is what only the whole server can show."""

from __future__ import annotations

import grpc
import pytest
from rig import CommandError, World
from rig.objects import HTTP_8080
from rig.xds import CDS, EDS, LDS, ORDER, RDS, SDS, Delta, Sotw

SHOP, OTHER = "blue/shop|8080", "blue/other|8080"
OTHER_PORT = [{"name": "http", "port": 81, "targetPort": 8080, "appProtocol": "http"}]


def _other(world: World, name: str = "other", ports: list | None = None) -> None:
    """One more Service, on the shop's pods."""
    world.service("blue", name, ports or HTTP_8080, {"app": "shop"})


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_01_wildcard_gets_all_in_one_response_and_then_silence(plain: World, form: type) -> None:
    """CDS and LDS without names: everything, once; an acknowledgement is not answered."""
    with form(plain, plain.pods["blue/shop-1"]) as client:
        clusters = client.fetch(CDS)
        assert clusters.resources.keys() == {SHOP, f"{SHOP}|local"}
        listeners = client.fetch(LDS)
        assert listeners.resources.keys() == {"inbound-listener", "outbound-listener"}
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_02_one_changed_resource_is_one_new_response(plain: World, form: type) -> None:
    """A Service more changes the caller's one listener: one response, new version, new nonce."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        first = client.fetch(LDS)
        assert first.resources.keys() == {"outbound-listener"}
        _other(plain, ports=OTHER_PORT)
        second = client.expect(LDS)
        assert second.resources.keys() == {"outbound-listener"}
        assert second.resources["outbound-listener"] != first.resources["outbound-listener"]
        if form is Sotw:
            assert second.version != first.version
        else:
            assert second.versions["outbound-listener"] != first.versions["outbound-listener"]
        client.ack(second)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_03_a_new_resource_reaches_a_wildcard_client(plain: World, form: type) -> None:
    """State of the world tells all again; delta only what is new; what goes is left out, or named as removed."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(CDS).resources.keys() == {SHOP}
        _other(plain)
        second = client.expect(CDS)
        assert second.resources.keys() == ({SHOP, OTHER} if form is Sotw else {OTHER})
        client.ack(second)
        plain.delete("Service", "blue", "other")
        third = client.expect(CDS)
        assert third.resources.keys() == ({SHOP} if form is Sotw else set())
        assert third.removed == ([] if form is Sotw else [OTHER])
        client.ack(third)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_04_named_subscriptions_get_only_their_names(plain: World, form: type) -> None:
    """EDS and RDS answer what was asked for; what happens to the rest is not told."""
    _other(plain, ports=OTHER_PORT)
    plain.wait()
    with form(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(EDS, [SHOP]).resources.keys() == {SHOP}
        assert client.fetch(RDS, ["rds-outbound.80"]).resources.keys() == {"rds-outbound.80"}
        plain.pod("blue", "third-1", account="third", labels={"app": "third"})
        _other(plain, "third", [{"name": "http", "port": 82, "targetPort": 8080}])
        plain.objects["Service", "blue", "third"]["spec"]["selector"] = {"app": "third"}
        plain.apply(plain.objects["Service", "blue", "third"])
        plain.delete("Service", "blue", "other")
        client.silent()
        # the subscriptions live: their own resources are told
        plain.pod("blue", "shop-3", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        changed = client.expect(EDS)
        assert changed.resources.keys() == {SHOP}
        client.ack(changed)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_08_a_full_push_goes_in_the_order_of_make_before_break(plain: World, form: type) -> None:
    """Permissive off takes everything away, on brings it back: clusters, endpoints, listeners, routes, secrets."""
    secrets = ["root-cert-for-mtls-outbound:blue/shop"]
    with form(plain, plain.pods["red/caller-1"]) as client:
        for kind, names in ((CDS, []), (EDS, [SHOP]), (LDS, []), (RDS, ["rds-outbound.80"]), (SDS, secrets)):
            client.fetch(kind, names)
        answers = client.record()
        plain.mesh_config(permissive=False)
        plain.wait()
        gone = len(answers)
        assert {a.type for a in answers} >= {CDS, LDS}
        plain.mesh_config(permissive=True)
        plain.wait()
        types = [a.type for a in answers[gone:] if a.resources]
        assert set(types) >= {CDS, EDS, LDS, RDS}
        if SDS in types:
            # a secret that the client lacks may overtake listeners and routes: those wait for clusters, clusters for it
            assert types.index(SDS) > types.index(CDS)
            types.remove(SDS)
        assert types == [kind for kind in ORDER if kind in types], types


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_09_a_refused_response_is_not_sent_again_but_the_next_change_is(plain: World, form: type) -> None:
    """After a NACK: silence, also when something else changes, until this type has something new."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        first = client.fetch(CDS)
        _other(plain)
        second = client.expect(CDS)
        if form is Sotw:
            client.nack(second, version=first.version)
        else:
            client.nack(second)
        with pytest.raises(CommandError, match="refused"):
            plain.daemon.applied()
        client.nothing_queued()
        _, proxy = plain.status(), next(p for p in plain.status()["proxies"] if p["uuid"] == client.pod.uuid)
        assert "refused by the test" in str(proxy)
        _other(plain, "third")
        third = client.expect(CDS)
        assert "blue/third|8080" in third.resources
        client.ack(third)
        if form is Delta:
            assert client.nonces[-1] == third.nonce
        plain.delete("Service", "blue", "other")
        fourth = client.expect(CDS)
        client.ack(fourth)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_11_the_node_is_needed_in_the_first_request_only(plain: World, form: type) -> None:
    """Later requests come without it, of other types too."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        for kind, names in ((CDS, []), (EDS, [SHOP]), (LDS, []), (RDS, ["rds-outbound.80"]), (SDS, ["service-cert"])):
            assert client.fetch(kind, names).resources
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_identity_comes_from_the_certificate_not_from_the_node(plain: World, form: type) -> None:
    """A client that calls itself another pod is served what its own certificate stands for."""
    shop = plain.pods["blue/shop-1"]
    with form(plain, plain.pods["red/caller-1"], node_id=shop.uuid) as client:
        assert client.fetch(CDS).resources.keys() == {SHOP}
        assert client.fetch(LDS).resources.keys() == {"outbound-listener"}


def test_unknown_and_missing_types_leave_the_stream_alone(plain: World) -> None:
    """A request for a type that we do not serve is ignored, or ends this stream; nobody else's."""
    with Sotw(plain, plain.pods["blue/shop-1"]) as witness:
        witness.fetch(CDS)
        for url in ("type.googleapis.com/envoy.service.runtime.v3.Runtime", ""):
            with Sotw(plain, plain.pods["red/caller-1"]) as client:
                client.send(CDS, url=url)
                client.send(CDS)
                try:
                    assert client.expect(CDS).resources
                except grpc.RpcError as error:
                    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)
        witness.silent()


def test_proxy_is_ended_with_its_pod(plain: World) -> None:
    """The stream of a pod that is deleted ends, and its certificate opens no other."""
    pod = plain.pod("red", "gone-1", account="caller")
    plain.wait()
    with Sotw(plain, pod) as client:
        client.fetch(CDS)
        plain.delete("Pod", "red", "gone-1")
        plain.wait()
        assert client.ended().code() == grpc.StatusCode.PERMISSION_DENIED
    with Sotw(plain, pod) as client:
        client.send(CDS)
        assert client.ended().code() == grpc.StatusCode.PERMISSION_DENIED
    plain.apply(pod.manifest())
