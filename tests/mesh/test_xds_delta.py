"""The incremental form against the daemon, said word by word by a raw client."""

from __future__ import annotations

import pytest
from rig import World
from rig.daemon import CommandError
from rig.objects import HTTP_8080
from rig.xds import CDS, EDS, LDS, RDS, SDS, Delta

SHOP, OTHER, LATE = "blue/shop|8080", "blue/other|8080", "blue/late|8080"


def _other(world: World, name: str = "other") -> None:
    """One more Service with a pod of its own."""
    labels = {"app": name}
    world.pod("blue", f"{name}-1", account=name, labels=labels, ports=[{"containerPort": 8080}])
    world.service("blue", name, HTTP_8080, labels)


def _one_pod_more(world: World, service: str, name: str) -> None:
    """Changes the endpoints of one Service only."""
    world.pod("blue", name, account=service, labels={"app": service}, ports=[{"containerPort": 8080}])


def test_a_xds_15_names_are_subscribed_to_one_by_one(plain: World) -> None:
    """Each request is answered with what it asks for, and with nothing that came before."""
    _other(plain)
    plain.wait()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        for name in (SHOP, OTHER):
            answer = client.fetch(EDS, [name])
            assert answer.resources.keys() == {name}
            assert answer.removed == []
            client.silent()


def test_a_xds_16_only_what_changes_comes(plain: World) -> None:
    """One of two names that are subscribed to, one of two that a wildcard holds."""
    _other(plain)
    plain.wait()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        before = client.fetch(EDS, [SHOP, OTHER])
        assert before.resources.keys() == {SHOP, OTHER}
        assert client.fetch(CDS).resources.keys() == {SHOP, OTHER}
        client.ack(client.expect(EDS))  # clusters that are sent make their endpoints due
        _one_pod_more(plain, "other", "other-2")
        changed = client.expect(EDS)
        assert changed.resources.keys() == {OTHER}
        assert changed.versions[OTHER] != before.versions[OTHER]
        client.ack(changed)
        client.silent()
        _other(plain, "late")
        new = client.expect(CDS)
        assert new.resources.keys() == {LATE}
        client.ack(new)
        client.silent()


@pytest.mark.parametrize("kind", [CDS, EDS])
def test_a_xds_17_what_does_not_exist_is_told_removed_and_sent_once_it_does(plain: World, kind: str) -> None:
    """Once, and again when it is asked for again."""
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        for _ in range(2):
            absent = client.fetch(kind, [LATE])
            assert absent.removed == [LATE]
            assert not absent.resources
            client.silent()
        _other(plain)
        client.silent()
        _other(plain, "late")
        assert client.expect(kind).resources.keys() == {LATE}


@pytest.mark.parametrize("kind", [CDS, EDS])
def test_a_xds_18_what_is_deleted_is_told_removed(plain: World, kind: str) -> None:
    """By name alone; what comes back is sent."""
    _other(plain)
    plain.wait()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        first = client.fetch(kind, [SHOP, OTHER])
        service = plain.objects["Service", "blue", "other"]
        plain.delete("Service", "blue", "other")
        gone = client.expect(kind)
        assert gone.removed == [OTHER]
        assert not gone.resources
        client.ack(gone)
        client.silent()
        plain.apply(service)
        back = client.expect(kind)
        assert back.resources.keys() == {OTHER}
        assert back.versions[OTHER] == first.versions[OTHER]
        client.ack(back)
        client.silent()


def test_a_xds_19_what_is_unsubscribed_from_is_forgotten(plain: World) -> None:
    """Its changes are not told, nor its end; who subscribes again gets it in full."""
    _other(plain)
    plain.wait()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(EDS, [SHOP, OTHER]).resources.keys() == {SHOP, OTHER}
        client.send(EDS, unsubscribe=[OTHER])
        client.heard()
        _one_pod_more(plain, "other", "other-2")
        client.silent()
        _one_pod_more(plain, "shop", "shop-3")
        changed = client.expect(EDS)
        assert changed.resources.keys() == {SHOP}
        client.ack(changed)
        again = client.fetch(EDS, [OTHER])
        assert len(again.resources[OTHER].endpoints[0].lb_endpoints) == 2
        client.send(EDS, unsubscribe=[SHOP, OTHER])
        client.heard()
        plain.delete("Service", "blue", "other")
        client.silent()


def test_a_xds_19_a_wildcard_goes_and_names_stay(plain: World) -> None:
    """A name given up under the wildcard is answered, whether it exists or not; without it, only names are told."""
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(CDS, ["*", SHOP, LATE]).removed == [LATE]
        client.send(CDS, unsubscribe=[SHOP, LATE])
        answer = client.expect(CDS)
        assert answer.resources.keys() == {SHOP}
        assert answer.removed == [LATE]
        client.ack(answer)
        client.fetch(CDS, [SHOP])
        client.send(CDS, unsubscribe=["*"])
        client.heard()
        _other(plain)
        client.silent()
        plain.delete("Service", "blue", "shop")
        assert client.expect(CDS).removed == [SHOP]


def test_a_xds_20_services_on_one_stream_do_not_mix(plain: World) -> None:
    """Each of the five answers for itself, and a change is told by those that it touches."""
    secrets = ["service-cert", "root-cert-for-mtls-outbound:blue/shop"]
    names = {EDS: [SHOP], RDS: ["rds-outbound.80"]}
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        for kind in (CDS, EDS, LDS, RDS):
            got = client.fetch(kind, names.get(kind, []))
            assert got.type == kind
            assert got.resources
        assert client.fetch_all(SDS, secrets).keys() == set(secrets)
        assert len(set(client.nonces)) == len(client.nonces)
        client.silent()
        _one_pod_more(plain, "shop", "shop-3")
        client.ack(client.expect(EDS))
        client.silent()
        client.send(EDS, unsubscribe=[SHOP])
        client.heard()
        _one_pod_more(plain, "shop", "shop-4")
        client.silent()
        _other(plain)
        client.ack(client.expect(CDS))
        touched = set()
        while touched != {LDS, RDS}:
            answer = client.receive()
            client.ack(answer)
            touched.add(answer.type)
        client.silent()


def test_who_refused_something_is_not_believed_when_it_comes_again(plain: World) -> None:
    """A client applies the good parts of what it refuses: the versions that it names may not be what it has."""
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        good = client.fetch(CDS)
        _other(plain)
        client.nack(client.expect(CDS))
        with pytest.raises(CommandError, match="refused"):
            plain.daemon.applied()
    plain.delete("Service", "blue", "other")
    plain.wait()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        client.send(CDS, known=good.versions)
        again = client.expect(CDS)
        assert again.versions == good.versions
        client.ack(again)
        client.silent()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        client.send(CDS, known=good.versions)
        client.heard()
        client.silent()


def test_what_is_to_blame_for_a_refusal_is_found(plain: World) -> None:
    """A client that says no to whatever holds one of seven clusters has all others in the end, and the status
    names that one; another that comes later is not refused along with it."""
    bad, services = "blue/s4|8080", [f"s{n}" for n in range(6)]
    for name in services:
        _other(plain, name)
    plain.wait()
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        client.send(CDS)
        accepted: set[str] = set()
        answers, alone = 0, False
        while len(accepted) < 6 or not alone:
            answer = client.receive()
            answers += 1
            if bad in answer.resources:
                client.nack(answer, f"{bad} does not please")
                alone = answer.resources.keys() == {bad}
            else:
                client.ack(answer)
                accepted |= answer.resources.keys()
        assert accepted == {SHOP, *(f"blue/{name}|8080" for name in services)} - {bad}
        assert answers <= 1 + 2 * 3  # halves of seven: 4, 3; 2, 2; 1, 1 (or the like)
        with pytest.raises(CommandError, match="refused"):
            plain.daemon.applied()
        client.nothing_queued()
        assert client.blamed(CDS) == [bad]
        assert f'red/caller-1 refused CDS "{bad}": {bad} does not please' in plain.daemon.osm("status")
        _other(plain, "late")
        late = client.expect(CDS)
        assert late.resources.keys() == {LATE}
        client.ack(late)
        again = client.expect(CDS)
        assert again.resources.keys() == {bad}
        client.ack(again)
        client.silent()
    assert "refused" not in plain.daemon.osm("status")


def test_endpoints_of_a_cluster_that_was_sent_are_sent_whatever_is_claimed_later(plain: World) -> None:
    """The client that comes again names its endpoints after its clusters were answered: it waits for them."""
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        endpoints = client.fetch(EDS, [SHOP])
    with Delta(plain, plain.pods["red/caller-1"]) as client:
        client.send(CDS, known={SHOP: "of another time"})
        clusters = client.expect(CDS)
        assert clusters.resources.keys() == {SHOP}
        client.send(EDS, [SHOP], known=endpoints.versions)
        warm = client.expect(EDS)
        assert warm.versions == endpoints.versions
        client.ack(warm)
        client.ack(clusters)
        client.silent()


def test_endpoints_that_were_lost_with_a_stream_are_sent_again(plain: World) -> None:
    """Its cluster may wait for them, and the client names those that it has from before."""
    pod = plain.pods["red/caller-1"]
    with Delta(plain, pod) as client:
        clusters = client.fetch(CDS)
        endpoints = client.fetch(EDS, [SHOP])
        client.send(EDS, [SHOP])
        client.expect(EDS)  # as lost: no answer
    with Delta(plain, pod) as client:
        client.send(CDS, known=clusters.versions)
        client.send(EDS, [SHOP], known=endpoints.versions)
        warm = client.expect(EDS)
        assert warm.versions == endpoints.versions
        client.ack(warm)
        client.silent()
    with Delta(plain, pod) as client:  # all is answered, so it is believed again
        client.send(EDS, [SHOP], known=endpoints.versions)
        client.silent()


@pytest.mark.parametrize(
    ("spec", "account"),
    [
        ({"serviceAccount": "billing"}, "billing"),
        ({"serviceAccountName": "", "serviceAccount": "billing"}, "billing"),
        ({"serviceAccountName": ""}, "default"),
        ({}, "default"),
    ],
)
def test_an_account_by_the_fields_old_name_is_one(plain: World, spec: dict[str, str], account: str) -> None:
    """The certificate, who is let in, and the configuration are of the same account, however the Pod says it."""
    pod = plain.pod("blue", "old-1", account=account, labels={"app": "old"})
    manifest = pod.manifest()
    del manifest["spec"]["serviceAccountName"]
    manifest["spec"].update(spec)
    plain.apply(manifest)
    plain.service("blue", "old", HTTP_8080, {"app": "old"})
    plain.wait()
    with Delta(plain, pod) as client:
        assert "inbound_blue/old_8080_http" in str(client.fetch(LDS, ["*"]).resources)
    assert plain.status()["rejects"] == []
