"""Pods that carry the label of another pod's sidecar."""

from __future__ import annotations

import grpc
import pytest
from rig import Pod, World, until
from rig.objects import HTTP_8080
from rig.xds import CDS, Delta


@pytest.fixture
def victim(plain: World) -> Pod:
    """A live pod."""
    plain.namespace("prod")
    pod = plain.pod("prod", "victim-1", account="team.payments")
    plain.wait()
    return pod


def test_a_uuid_copied_into_another_namespace_cuts_nobody_off(plain: World, victim: Pod) -> None:
    """Labels can be read, and written on pods of one's own: who is served has its namespace in the certificate."""
    plain.namespace("thieves")
    with Delta(plain, victim) as client:
        client.fetch(CDS, ["*"])
        copy = victim.manifest()
        copy["metadata"].update(name="copy-1", namespace="thieves")
        plain.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "team.payments", "namespace": "thieves"},
            }
        )
        plain.apply(copy)
        plain.service("blue", "late", HTTP_8080, {"app": "shop"})
        late = client.expect(CDS)
        assert "blue/late|8080" in late.resources
        client.ack(late)
        client.silent()
    assert "thieves/copy-1" in plain.status()["missing"]
    with Delta(plain, victim) as client:  # and it comes again
        assert "blue/late|8080" in client.fetch(CDS, ["*"]).resources
    assert not plain.status()["rejects"]
    plain.delete("Pod", "thieves", "copy-1")


def test_a_uuid_twice_in_one_namespace_is_nobodys_and_reported(plain: World, victim: Pod) -> None:
    """Nobody can know whose it is."""
    copy = victim.manifest()
    copy["metadata"]["name"] = "copy-1"
    plain.apply(copy)
    until(lambda: len(plain.status()["rejects"]) == 2, "both are reported")
    assert {each["object"] for each in plain.status()["rejects"]} == {"Pod prod/victim-1", "Pod prod/copy-1"}
    with Delta(plain, victim) as client:
        client.send(CDS, ["*"])
        assert client.ended().code() == grpc.StatusCode.PERMISSION_DENIED
    plain.delete("Pod", "prod", "copy-1")
    until(lambda: not plain.status()["rejects"], "it is over")
    with Delta(plain, victim) as client:
        client.fetch(CDS, ["*"])
