"""Policies serve some proxies first: only those can be harmed, one refusal ends it, and what passes takes over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bundles import OPENS, REFUSED, SHIPPED, TIMEOUT, clusters, furnish, generations, reload, states, write
from rig import World, until
from rig.daemon import CommandError
from rig.objects import HTTP_8080, grant_all
from rig.xds import CDS, Delta, Sotw
from worlds import tracked

PODS = 10
SHOP = "blue/shop|8080"


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """Other policies than the overlay's, that are going to be applied."""
    path = tmp_path / "trial"
    path.mkdir()
    return path


@pytest.fixture
def raw(overlay: Path) -> Iterator[World]:
    """Ten callers, without a data plane."""
    with tracked(World(real=False, policies=[SHIPPED, overlay])) as world:
        furnish(world)
        for n in range(PODS):
            world.pod("red", f"p{n}", account="caller", labels={"app": "p", "track": "canary" if n < 3 else "stable"})
        for each in grant_all("blue", "shop", "red/caller"):
            world.apply(each)
        world.wait()
        yield world


@pytest.fixture
def clients(raw: World) -> Iterator[list[Delta]]:
    """All of them connected, with their clusters."""
    with ExitStack() as stack:
        made = [stack.enter_context(Delta(raw, raw.pods[f"red/p{n}"])) for n in range(PODS)]
        for client in made:
            client.fetch(CDS)
        raw.daemon.applied()
        yield made


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Commands that answer later."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def _apply(world: World, folder: Path, *flags: str) -> dict[str, Any]:
    """`osm policy apply`; the outcome, whatever it is."""
    try:
        return json.loads(world.daemon.osm("policy", "apply", str(folder), "-o", "json", *flags))
    except CommandError as error:
        assert error.exit == 1, error
        return json.loads(error.stdout)


def _start(
    background: ThreadPoolExecutor, world: World, folder: Path, *flags: str
) -> tuple[Future[dict[str, Any]], dict[str, Any]]:
    """A canary that runs, and what is said of it."""
    outcome = background.submit(_apply, world, folder, *flags)
    until(lambda: (generations(world)["candidate"] or {}).get("canary") or outcome.done(), "the canary runs")
    assert not outcome.done(), outcome.result()
    return outcome, generations(world)["candidate"]["canary"]


def _changed(world: World, seconds: int = 7) -> list[str]:
    """Which callers are served the changed clusters."""
    return [
        f"red/p{n}" for n in range(PODS) if clusters(world, f"red/p{n}")[SHOP].get("connect_timeout") == f"{seconds}s"
    ]


def test_a_share_is_served_first_and_activate_goes_on(
    raw: World, trial: Path, clients: list[Delta], background: ThreadPoolExecutor
) -> None:
    """A fifth of ten is two; the others hear nothing of it until the operator says so."""
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    outcome, canary = _start(background, raw, trial, "--canary", "20%", "--soak", "1h")
    assert canary["count"] == 2
    told = [client for client in clients if f"red/{client.pod.name}" in canary["proxies"]]
    for client in told:
        client.ack(client.expect(CDS))
    raw.daemon.applied()
    assert _changed(raw) == sorted(canary["proxies"])
    for client in clients:
        client.nothing_queued()
    assert "canary: serves 2 proxies for" in raw.daemon.osm("policy", "list")
    raw.daemon.osm("policy", "activate")
    assert outcome.result(30)["state"] == "active"
    for client in clients:
        if client not in told:
            client.ack(client.expect(CDS))
    raw.daemon.applied()
    assert len(_changed(raw)) == PODS


def test_one_refusal_ends_it_and_nobody_else_has_seen_it(
    raw: World, trial: Path, clients: list[Delta], background: ThreadPoolExecutor
) -> None:
    """The labelled three are served; one refuses, and all three are taken back."""
    before = generations(raw)["digest"]
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    outcome, canary = _start(background, raw, trial, "--canary", "label=track=canary", "--soak", "1h")
    assert sorted(canary["proxies"]) == ["red/p0", "red/p1", "red/p2"]
    answers = [client.expect(CDS) for client in clients[:3]]
    clients[0].ack(answers[0])
    clients[1].nack(answers[1], "not with me")
    result = outcome.result(30)
    assert result["state"] == "rolled back"
    assert 'refuse CDS "blue/shop|8080": not with me' in result["reason"]
    assert result["reason"].startswith("1 of 3 proxies")
    clients[2].ack(answers[2])
    for client in clients[:3]:
        back = client.expect(CDS)
        assert back.as_dict(SHOP).get("connect_timeout") != "7s"
        client.ack(back)
    raw.daemon.applied()
    for client in clients:
        client.nothing_queued()
    status = generations(raw)
    assert (status["digest"], status["candidate"], status["applied"]) == (before, None, False)
    until(lambda: "said at" in (generations(raw)["problem"] or ""), "the line is found")
    assert "extended by acme/timeout" in generations(raw)["problem"]
    assert _apply(raw, trial)["state"] == "quarantined"
    assert _apply(raw, trial, "--force")["state"] == "active"


def test_what_soaks_takes_over_and_stays_until_the_directories_change(
    raw: World, overlay: Path, trial: Path, clients: list[Delta]
) -> None:
    """Over a restart too; what lies in the directories comes back when it is changed, or asked for."""
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert _apply(raw, trial, "--canary", "1%", "--soak", "1s")["state"] == "active"
    assert len(_changed(raw)) == PODS
    assert generations(raw)["applied"] is True
    until((raw.daemon.state / "policies/active.json").exists, "it is stored")
    digest = generations(raw)["digest"]
    until(lambda: digest in (raw.daemon.state / "policies/active.json").read_text(), "it is stored")
    raw.daemon.stop()
    raw.daemon.start()
    raw.daemon.applied()
    assert generations(raw)["digest"] == digest
    assert len(_changed(raw)) == PODS
    assert [each["state"] for each in generations(raw)["generations"]] == ["active"]
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=8))
    until(lambda: len(_changed(raw, 8)) == PODS, "the directories have changed")
    assert generations(raw)["applied"] is False
    assert _apply(raw, trial)["state"] == "active"
    assert len(_changed(raw)) == PODS
    assert reload(raw)["state"] == "active"
    assert len(_changed(raw, 8)) == PODS


def test_a_reload_during_a_canary_takes_its_place(
    raw: World, overlay: Path, trial: Path, clients: list[Delta], background: ThreadPoolExecutor
) -> None:
    """The operator's own directories are not kept waiting."""
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    outcome, _ = _start(background, raw, trial, "--canary", "label=track=canary", "--soak", "1h")
    until(lambda: len(_changed(raw)) == 3, "three are served")
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=8))
    until(lambda: len(_changed(raw, 8)) == PODS, "all have what the directories hold")
    assert outcome.result(30)["state"] == "active"
    assert states(raw).get("superseded") == 1
    assert generations(raw)["applied"] is False


def test_a_canary_that_serves_nobody_waits(raw: World, trial: Path, clients: list[Delta]) -> None:
    """Nobody could speak against it."""
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    outcome = _apply(raw, trial, "--canary", "label=track=nobody")
    assert outcome["state"] == "held"
    assert "serves nobody" in outcome["reason"]
    assert _changed(raw) == []
    raw.daemon.osm("policy", "activate")
    until(lambda: len(_changed(raw)) == PODS, "it has taken over")


def test_a_canary_ends_by_roll_back_and_by_an_error_of_its_rules(
    raw: World, trial: Path, clients: list[Delta], background: ThreadPoolExecutor
) -> None:
    """By command; and when objects come with which its rules fail, and those of the active one do not."""
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    outcome, _ = _start(background, raw, trial, "--canary", "50%", "--soak", "1h")
    raw.daemon.osm("policy", "rollback", "just so")
    result = outcome.result(30)
    assert (result["state"], result["reason"]) == ("rolled back", "just so")
    assert _changed(raw) == []
    write(
        trial,
        "acme/fails.lua",
        """return { api = 1, extends = { cluster = { run = function(_, _, at)
          if at.service == "late" then error("not this one") end
        end } } }""",
    )
    outcome, _ = _start(background, raw, trial, "--canary", "50%", "--soak", "1h")
    raw.service("blue", "late", [{"name": "http", "port": 8080}], {"app": "shop"})
    result = outcome.result(30)
    assert result["state"] == "rolled back"
    assert "acme/fails.lua:2: not this one" in result["reason"]


def test_what_is_revoked_meanwhile_is_revoked_for_the_canary_too(
    raw: World, trial: Path, clients: list[Delta], background: ThreadPoolExecutor
) -> None:
    """It follows the objects like the active one."""
    write(trial, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    outcome, canary = _start(background, raw, trial, "--canary", "20%", "--soak", "1h")
    for name in ("TrafficTarget", "HTTPRouteGroup"):
        for each in grant_all("blue", "shop", "red/caller"):
            if each["kind"] == name:
                raw.delete(name, "blue", each["metadata"]["name"])
    until(lambda: not any(clusters(raw, each) for each in canary["proxies"]), "the canary has lost it")
    assert not clusters(raw, "red/p9")
    assert not outcome.done()
    raw.daemon.osm("policy", "rollback")
    assert outcome.result(30)["state"] == "rolled back"


def test_whoever_it_lets_in_later_ends_a_canary(
    raw: World, trial: Path, clients: list[Delta], background: ThreadPoolExecutor
) -> None:
    """What the guard looks at comes with the objects: a bundle that opens nothing today may do so while it soaks."""
    write(trial, "acme/opens.lua", OPENS.replace('"shop"', '"late"'))
    outcome, _ = _start(background, raw, trial, "--canary", "20%", "--soak", "1h")
    raw.pod("blue", "late", account="late", labels={"app": "late"}, ports=[{"containerPort": 8080}])
    raw.service("blue", "late", HTTP_8080, {"app": "late"})
    assert outcome.result(30)["state"] == "held"
    candidate = generations(raw)["candidate"]
    assert not candidate["canary"]
    assert 'caller2.red.cluster.local -> chain "inbound_blue/late_8080_http"' in candidate["reasons"][0]
    assert "caller2" not in raw.daemon.osm("proxy", "get", "config", "blue/late")


@pytest.mark.parametrize("form", [Delta, Sotw])
def test_processes_that_begin_anew_speak_against_what_they_were_told(raw: World, overlay: Path, form: type) -> None:
    """Who comes again with nothing is another process; who comes with what it had has lost a connection only."""
    pods = [raw.pods[f"red/p{n}"] for n in range(2)]

    def told(version: bool) -> None:
        """Both are told of a change, go, and come again: with what they had, or with nothing."""
        with ExitStack() as stack:
            for pod in pods:
                client = stack.enter_context(form(raw, pod))
                had = client.fetch(CDS)
                client.silent()
                said.append((pod, had))
        for pod, had in said[-2:]:
            with form(raw, pod) as client:
                if not version:
                    client.fetch(CDS)
                elif form is Delta:
                    client.send(CDS, known=had.versions)
                else:
                    client.send(CDS, [], version=had.version)
                    client.ack(client.expect(CDS))
                client.silent()

    said: list[tuple[Any, Any]] = []
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert reload(raw)["state"] == "active"
    told(version=True)
    assert states(raw) == {"active": 1, "standing by": 1}
    told(version=False)
    until(lambda: states(raw).get("rolled back") == 1, "it is rolled back")
    assert "began anew right after they were told" in generations(raw)["problem"]


def test_what_one_version_refuses_counts_among_its_like(raw: World, overlay: Path) -> None:
    """Two of the three that are older refuse: of all that are connected they would be too few to matter."""
    with ExitStack() as stack:
        pods = [raw.pods[f"red/p{n}"] for n in range(3)]
        older = [stack.enter_context(Delta(raw, pod, version=(1, 30, 2))) for pod in pods]
        newer = stack.enter_context(Delta(raw, raw.pods["red/p9"], version=(1, 36, 4)))
        for client in (*older, newer):
            client.fetch(CDS)
        raw.daemon.applied()
        write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
        newer.ack(newer.expect(CDS))
        older[0].ack(older[0].expect(CDS))
        older[1].nack(older[1].expect(CDS))
        assert reload(raw)["state"] == "active"
        assert states(raw) == {"active": 1, "standing by": 1}
        older[2].nack(older[2].expect(CDS))
        until(lambda: states(raw).get("rolled back") == 1, "it is rolled back")
        assert "2 of 3 proxies refuse CDS" in generations(raw)["problem"]


def test_every_reload_can_be_a_canary(overlay: Path) -> None:
    """By flags of the daemon: what is saved serves a share first."""
    flags = ["--policy-canary", "50%", "--policy-soak", "1s", "--policy-guard", "90%", "--policy-watch", "1s"]
    with tracked(World(real=False, policies=[SHIPPED, overlay], flags=flags)) as world:
        furnish(world)
        for each in grant_all("blue", "shop", "red/caller"):
            world.apply(each)
        world.wait()
        with Delta(world, world.pods["red/caller"]) as client:
            client.fetch(CDS)
            write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
            assert client.expect(CDS).as_dict(SHOP)["connect_timeout"] == "7s"
            assert reload(world)["state"] == "active"
            until(lambda: states(world).get("retired") == 1, "the watch is over")


@pytest.mark.mesh
def test_envoys_outside_the_canary_never_see_what_envoy_refuses(overlay: Path, trial: Path) -> None:
    """Of four callers under load the one with the label refuses; no request of any fails."""
    with tracked(World(policies=[SHIPPED, overlay], permissive=True)) as world:
        world.namespace("red")
        world.namespace("blue")
        for n in range(4):
            world.pod("red", f"caller-{n}", account="caller", labels={"track": "canary" if n == 3 else "stable"})
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, app="http=8080")
        world.service("blue", "shop", [{"name": "http", "port": 8080, "appProtocol": "http"}], {"app": "shop"})
        world.wait()
        write(trial, "acme/log.lua", REFUSED)
        callers = [world.pods[f"red/caller-{n}"] for n in range(4)]
        loads = [caller.load("http://shop.blue:8080/", rate=20) for caller in callers]
        try:
            until(lambda: all(load.sent > 20 for load in loads), "requests are sent")
            outcome = _apply(world, trial, "--canary", "label=track=canary", "--soak", "1h")
            assert outcome["state"] == "rolled back", outcome
            world.wait()
            sent = [load.sent for load in loads]
            until(lambda: all(load.sent > n + 20 for load, n in zip(loads, sent, strict=True)), "and go on")
        finally:
            for load in loads:
                load.stop()
        assert [load.failures for load in loads] == [[], [], [], []]
        refused = [caller.envoy.stat("listener_manager.lds.update_rejected") for caller in callers]
        assert refused == [0, 0, 0, 1]
        assert world.pods["blue/shop"].envoy.stat("listener_manager.lds.update_rejected") == 0


def test_wrong_words_are_told(raw: World, trial: Path) -> None:
    """Before anything is read."""
    for flags, says in (
        (["--canary", "0%"], "expected a share"),
        (["--canary", "101%"], "expected a share"),
        (["--canary", "app"], "expected a share"),
        (["--soak", "5s"], "without a canary nothing soaks"),
        (["--canary", "5%", "--soak", "x"], "expected a duration"),
    ):
        with pytest.raises(CommandError, match=says):
            raw.daemon.osm("policy", "apply", str(trial), *flags)
    with pytest.raises(CommandError, match="no-such"):
        raw.daemon.osm("policy", "apply", str(trial / "no-such"))
    assert _apply(raw, trial)["state"] == "active"  # an empty one is the shipped rules, which are in force
