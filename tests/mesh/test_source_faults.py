"""What must not stop the source: one bad name, one bad branch of its tree. A revocation beside it takes effect; and a
wait never says that something is applied which could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import CommandError, World, until
from rig.objects import HTTP_8080, match, routes, target
from rig.xds import LDS, Sotw

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: dup}\n"


@pytest.fixture
def granted() -> Iterator[World]:
    """A caller that may reach the shop."""
    with World(real=False) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller-1", account="caller", labels={"app": "caller"})
        world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.apply(
            [routes("blue", "all", match("all")), target("blue", "t", "blue/shop", ["red/caller"], group="all")]
        )
        world.wait()
        yield world


def conflict(lead: str) -> Callable[[Path], None]:
    """One object in two files with long names that are not ASCII."""

    def write(files: Path) -> None:
        folder = files / (lead + "é" * 100) / ("é" * 100)
        folder.mkdir(parents=True)
        for n in (0, 1):
            (folder / ("é" * 90 + f"{n}.yaml")).write_text(NAMESPACE)

    return write


def deep(files: Path) -> None:
    """A branch that is deeper than any tree of manifests."""
    (files / Path(*["d"] * 40)).mkdir(parents=True)


def long_kind(files: Path) -> None:
    """An error text that is cut in the middle of a character."""
    (files / "kind.yaml").write_text(f"apiVersion: v1\nkind: {'a' + 'é' * 280}\n")


@pytest.mark.parametrize("fault", [conflict(""), conflict("a"), deep, long_kind], ids=["even", "odd", "deep", "kind"])
def test_one_fault_is_reported_and_a_revocation_beside_it_takes_effect(
    granted: World, fault: Callable[[Path], None]
) -> None:
    """The source goes on; status names the fault."""
    with Sotw(granted, granted.pods["red/caller-1"]) as client:
        assert client.fetch(LDS).resources.keys() == {"outbound-listener"}
        fault(granted.files)
        granted.daemon.applied()
        source = granted.status()["source"]
        assert source["state"] == "degraded"
        assert len(source["errors"]) == 1
        granted.delete("TrafficTarget", "blue", "t")
        revoked = client.expect(LDS)
        client.ack(revoked)
        assert revoked.resources == {}
        granted.daemon.applied()


def test_wait_fails_while_the_source_has_failed(granted: World) -> None:
    """What is deleted cannot be seen: a wait must not say that it is applied."""
    aside = granted.files.with_name("aside")
    granted.files.rename(aside)
    until(lambda: granted.status()["source"]["state"] == "failed", "the source has failed")
    with pytest.raises(CommandError, match="the source has failed"):
        granted.daemon.applied()
    aside.rename(granted.files)
    until(lambda: granted.status()["source"]["state"] == "ok", "the source is back")
    granted.daemon.applied()


@pytest.mark.parametrize("lead", ["", "a"])
def test_refusal_with_a_long_text_is_shown(granted: World, lead: str) -> None:
    """A NACK is in the status whatever its text."""
    with Sotw(granted, granted.pods["red/caller-1"]) as client:
        client.send(LDS)
        client.nack(client.expect(LDS), error=lead + "é" * 3000)
        until(
            lambda: granted.status()["proxies"][0]["types"].get("LDS", {}).get("nacked"),
            "the refusal is in the status",
        )
        assert granted.status()["proxies"][0]["types"]["LDS"]["error"].startswith(lead + "éé")


def test_question_with_a_long_name_is_answered(granted: World) -> None:
    """The command line gets an error, not silence."""
    with pytest.raises(CommandError, match="red/a"):
        granted.daemon.osm("proxy", "get", "config", "red/a" + "é" * 80, timeout=10.0)
