"""The discovery protocol against the daemon, said word by word by a raw client. The state machine has its table of
cases in the unit tests; here is what only the whole server can show."""

from __future__ import annotations

import grpc
import pytest
from rig import CommandError, World, until
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
def test_a_xds_05_a_name_that_comes_later_is_pushed_without_asking_again(plain: World, form: type) -> None:
    """Subscriptions grow one by one; what does not exist yet is waited for."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(EDS, [SHOP]).resources.keys() == {SHOP}
        if form is Sotw:
            client.send(EDS, [SHOP, OTHER], version="x", nonce=client.nonces[-1])
        else:
            client.send(EDS, [OTHER])
            answer = client.expect(EDS)
            assert answer.removed == [OTHER]
            client.ack(answer)
        client.silent()
        _other(plain)
        late = client.expect(EDS)
        assert OTHER in late.resources
        client.ack(late)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_06_what_is_unsubscribed_is_not_told(plain: World, form: type) -> None:
    """From one of two names, then from all."""
    _other(plain)
    plain.wait()

    def one_pod_more(name: str) -> None:
        plain.pod("blue", name, account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])

    with form(plain, plain.pods["red/caller-1"]) as client:
        first = client.fetch(EDS, [SHOP, OTHER])
        assert first.resources.keys() == {SHOP, OTHER}
        if form is Sotw:
            client.send(EDS, [OTHER], version=first.version, nonce=first.nonce)
        else:
            client.send(EDS, unsubscribe=[SHOP])
        client.fetch(SDS, ["service-cert"])  # requests are taken in order; clusters would ask for endpoints again
        one_pod_more("shop-7")
        second = client.expect(EDS)
        assert second.resources.keys() == {OTHER}
        client.ack(second)
        if form is Sotw:
            client.send(EDS, [], version=second.version, nonce=second.nonce)
        else:
            client.send(EDS, unsubscribe=[OTHER])
        client.fetch(LDS)
        one_pod_more("shop-8")
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_07_types_on_one_stream_do_not_mix(plain: World, form: type) -> None:
    """Each type has its own nonces: an answer to one says nothing of another."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        client.send(CDS)
        client.send(LDS)
        got = {answer.type: answer for answer in (client.receive(), client.receive())}
        assert got.keys() == {CDS, LDS}
        assert len({answer.nonce for answer in got.values()}) == 2
        client.ack(got[LDS])
        client.ack(got[CDS])
        client.silent()
        _other(plain)
        changed = client.expect(CDS)
        client.nothing_queued()  # listeners wait for the answer to the clusters
        client.ack(changed)
        client.ack(client.expect(LDS))
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_10_a_stale_nonce_is_ignored(plain: World, form: type) -> None:
    """An answer to what is not the last response neither accepts nor refuses anything."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        first = client.fetch(CDS)
        _other(plain)
        second = client.expect(CDS)
        if form is Sotw:
            client.send(CDS, [], version=first.version, nonce=first.nonce)
        else:
            client.send(CDS, nonce=first.nonce)
        client.nothing_queued()
        client.ack(second)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_12_who_reconnects_gets_the_full_state(plain: World, form: type) -> None:
    """The last version and no nonce: all of it again. Delta says what it has, and gets the rest."""
    caller = plain.pods["red/caller-1"]
    _other(plain)
    plain.wait()
    with form(plain, caller) as client:
        before = client.fetch(CDS)
    with form(plain, caller) as client:
        if form is Sotw:
            client.send(CDS, [], version=before.version)
        else:
            client.send(CDS, known={SHOP: before.versions[SHOP], "blue/gone|1": "x"})
        again = client.expect(CDS)
        if form is Sotw:
            assert again.resources == before.resources
            assert again.version == before.version
        else:
            assert again.resources.keys() == {OTHER}
            assert again.removed == ["blue/gone|1"]
        client.ack(again)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_14_a_client_that_cancels_is_forgotten(plain: World, form: type) -> None:
    """`osm status` counts it while it is there."""

    def connected() -> list[str]:
        return [proxy["uuid"] for proxy in plain.status()["proxies"]]

    caller = plain.pods["red/caller-1"]
    with form(plain, caller) as client:
        client.fetch(CDS)
        assert connected() == [caller.uuid]
    until(lambda: not connected(), "the stream is forgotten")


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_22_cluster_without_endpoints_gets_an_empty_assignment(plain: World, form: type) -> None:
    """Silence would keep the cluster warming for ever."""
    plain.pod("blue", "slow-1", account="shop", labels={"app": "slow"}, ports=[{"containerPort": 8080}])
    pod = plain.pods["blue/slow-1"]
    plain.apply(pod.manifest(ready=False))
    plain.service("blue", "slow", HTTP_8080, {"app": "slow"})
    plain.wait()
    with form(plain, plain.pods["red/caller-1"]) as client:
        assert "blue/slow|8080" in client.fetch(CDS).resources
        empty = client.fetch(EDS, ["blue/slow|8080"])
        assert not empty.resources["blue/slow|8080"].endpoints
        plain.apply(pod.manifest())
        assert client.expect(EDS).resources["blue/slow|8080"].endpoints[0].lb_endpoints


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
        assert proxy["types"]["CDS"]["error"] == "refused by the test"
        assert OTHER in proxy["types"]["CDS"]["refused"]
        _other(plain, "third")
        third = client.expect(CDS)
        assert "blue/third|8080" in third.resources
        client.ack(third)
        if form is Delta:  # what was refused comes alone: it must not spoil the rest
            assert third.resources.keys() == {"blue/third|8080"}
            alone = client.expect(CDS)
            assert alone.resources.keys() == {OTHER}
            client.ack(alone)
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


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_13_an_unknown_type_is_ignored(plain: World, form: type) -> None:
    """The stream goes on: other types are served before and after."""
    with form(plain, plain.pods["red/caller-1"]) as client:
        client.send(CDS, url="type.googleapis.com/envoy.service.runtime.v3.Runtime")
        first = client.fetch(CDS)
        client.send(CDS, url="type.googleapis.com/envoy.service.runtime.v3.Runtime")
        client.silent()
        _other(plain)
        second = client.expect(CDS)
        assert second.nonce != first.nonce
        client.ack(second)
        client.silent()


@pytest.mark.parametrize("form", [Sotw, Delta])
def test_a_xds_13_a_missing_type_ends_this_stream_only(plain: World, form: type) -> None:
    """It says what is missing; nobody else notices."""
    with form(plain, plain.pods["blue/shop-1"]) as witness:
        witness.fetch(CDS)
        with form(plain, plain.pods["red/caller-1"]) as client:
            client.fetch(CDS)
            client.send(CDS, url="")
            error = client.ended()
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "type_url" in error.details()
        witness.silent()
        _other(plain)
        assert OTHER in witness.expect(CDS).resources


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
