"""Policies change while the daemon runs: what is saved takes over, what is bad never does, and what proxies refuse is
taken back. Raw worlds for the life of a bundle, real Envoys under load where traffic must not notice."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import OPENS, REFUSED, SHIPPED, TIMEOUT, clusters, furnish, generations, reload, states, write
from rig import World, o_clean, until
from rig.daemon import CommandError
from rig.objects import HTTP_8080, grant_all, split
from worlds import tracked


@pytest.fixture
def raw(overlay: Path) -> Iterator[World]:
    """A world without a data plane, with the overlay over the shipped policies."""
    with tracked(World(real=False, policies=[SHIPPED, overlay])) as world:
        furnish(world)
        for each in grant_all("blue", "shop", "red/caller"):
            world.apply(each)
        world.wait()
        yield world


# --- the life of a bundle ---


def test_what_is_saved_takes_over(raw: World, overlay: Path) -> None:
    """Without a word, and by command; the generation before stands by, then is retired."""
    first = generations(raw)["digest"]
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    until(lambda: clusters(raw, "red/caller")["blue/shop|8080"].get("connect_timeout") == "7s", "it is served")
    status = generations(raw)
    assert status["digest"] != first
    assert [each["state"] for each in status["generations"]] == ["active", "standing by"]
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=8))
    assert reload(raw)["state"] == "active"
    assert clusters(raw, "red/caller")["blue/shop|8080"]["connect_timeout"] == "8s"
    assert [each["state"] for each in generations(raw)["generations"]] == ["active", "standing by", "retired"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("return {", "acme/bad.lua:1: unexpected symbol near <eof>"),
        (TIMEOUT.format(seconds=7)[:90], "acme/bad.lua:"),
        ("return { api = 1, wraps = { no_such = function() end } }", "no_such"),
        ('return { api = 1, wraps = { callers = function() error("ouch") end } }', "acme/bad.lua:1: ouch"),
        ("return { api = 1, wraps = { callers = function() while true do end end } }", "instructions"),
        (
            "return { api = 1, extends = { cluster = { run = function(_, c) c.connect_timeout = 1 end } } }",
            "connect_timeout: expected a duration",
        ),
    ],
    ids=["syntax", "cut-off", "unknown", "error", "endless", "message"],
)
def test_what_is_bad_is_rejected_and_changes_nothing(raw: World, overlay: Path, text: str, says: str) -> None:
    """Named with its line; what is served stays byte for byte, and the next good one takes over."""
    before = raw.daemon.osm("proxy", "get", "config", "red/caller", "-o", "json")
    bad = write(overlay, "acme/bad.lua", text)
    outcome = reload(raw)
    assert outcome["state"] == "rejected"
    assert says in outcome["reason"]
    assert raw.daemon.osm("proxy", "get", "config", "red/caller", "-o", "json") == before
    assert says in generations(raw)["problem"]
    assert reload(raw)["state"] == "rejected"
    assert states(raw) == {"active": 1, "rejected": 1}  # and it is not tried again and again
    bad.unlink()
    assert reload(raw)["state"] == "active"
    assert generations(raw)["problem"] is None


def test_ten_saves_in_a_second_are_one_reload(raw: World, overlay: Path) -> None:
    """The last one counts."""
    for seconds in range(1, 11):
        write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=seconds))
    until(lambda: clusters(raw, "red/caller")["blue/shop|8080"].get("connect_timeout") == "10s", "it is served")
    assert generations(raw)["generation"] <= 3  # the machine may have paused for a quiet window, once


def test_a_mounted_config_map_is_swapped_by_its_link(tmp_path: Path) -> None:
    """As the kubelet does it: files are links into a folder that a link names, and only that one is replaced."""
    mount = tmp_path / "mount"
    for version, seconds in (("v1", 3), ("v2", 4)):
        write(mount / f"..{version}", "timeout.lua", TIMEOUT.format(seconds=seconds))
    (mount / "..data").symlink_to("..v1")
    (mount / "acme").mkdir()
    (mount / "acme" / "timeout.lua").symlink_to("../..data/timeout.lua")
    with World(real=False, permissive=True, policies=[SHIPPED, mount]) as world:
        furnish(world)
        world.wait()
        assert clusters(world, "red/caller")["blue/shop|8080"]["connect_timeout"] == "3s"
        (mount / "..data_tmp").symlink_to("..v2")
        os.rename(mount / "..data_tmp", mount / "..data")
        until(lambda: clusters(world, "red/caller")["blue/shop|8080"]["connect_timeout"] == "4s", "it is served")


def test_what_was_rejected_for_the_objects_is_tried_again(raw: World, overlay: Path) -> None:
    """A rule that fails on one object passes when that has gone."""
    write(
        overlay,
        "acme/picky.lua",
        "return { api = 1, wraps = { callers = function(mesh, original, ns, service, target)\n"
        '  if mesh.Service("blue", "other") then error("not with other") end\n'
        "  return original(ns, service, target) end } }",
    )
    raw.service("blue", "other", HTTP_8080, {"app": "other"})
    raw.wait()
    outcome = reload(raw)
    assert (outcome["state"], "not with other" in outcome["reason"]) == ("rejected", True)
    raw.delete("Service", "blue", "other")
    until(lambda: states(raw).get("active") == 1 and generations(raw)["problem"] is None, "it is tried again")


def test_two_daemons_on_one_overlay(raw: World, overlay: Path) -> None:
    """Each takes over what is saved."""
    with World(real=False, permissive=True, policies=[SHIPPED, overlay]) as other:
        furnish(other)
        other.wait()
        write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
        for world in (raw, other):
            until(
                lambda world=world: clusters(world, "red/caller")["blue/shop|8080"].get("connect_timeout") == "7s",
                "it is served",
            )
        assert generations(raw)["digest"] == generations(other)["digest"]


# --- guards ---


def test_who_would_be_let_in_is_named_and_waits(raw: World, overlay: Path) -> None:
    """A pair that was denied: nothing changes until somebody has said yes."""
    write(overlay, "acme/opens.lua", OPENS)
    outcome = reload(raw)
    assert outcome["state"] == "held"
    assert 'lets in who is denied today: caller2.red.cluster.local -> chain "inbound_blue/shop_' in outcome["reason"]
    assert "blue/shop|8080" not in clusters(raw, "red/caller2")
    with pytest.raises(CommandError, match="what is held is"):
        raw.daemon.osm("policy", "activate", "feed")
    table = raw.daemon.osm("policy", "activate", outcome["digest"][:8])
    assert "held" not in table
    assert "blue/shop|8080" in clusters(raw, "red/caller2")


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (  # whoever may connect may ask for anything
            """extends = { http_filters = { run = function(_, filters, at)
              if at.direction == "inbound" then filters:remove("envoy.filters.http.rbac") end
            end } }""",
            "whom virtual hosts turn away",
        ),
        (
            """extends = { virtual_host = { run = function(_, host, at)
              if at.direction == "inbound" then host.typed_per_filter_config = nil end
            end } }""",
            'anybody -> virtual host "inbound_virtual-host|shop.blue.svc.cluster.local"',
        ),
        (  # a way around the chains
            """extends = { listener = { run = function(_, listener, at)
              if at.direction == "inbound" then listener.default_filter_chain = { filters = { {
                name = "tcp", typed_config = { ["@type"] = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                  stat_prefix = "x", cluster = "blue/shop|8080|local" } } } } end
            end } }""",
            'anybody -> chain "of all the rest"',
        ),
        (  # the same chain for other connections
            """extends = { filter_chain = { run = function(_, chain, at)
              if at.direction == "inbound" then chain.filter_chain_match = { destination_port = 22 } end
            end } }""",
            'caller.red.cluster.local -> chain "inbound_blue/shop_8080_http"',
        ),
        (
            """extends = { filter_chain = { run = function(_, chain, at)
              if at.direction == "inbound" then chain.transport_socket.typed_config.common_tls_context
                .validation_context_sds_secret_config = nil end
            end } }""",
            "whoever has no certificate of the mesh",
        ),
        ("wraps = { permissive = function() return true end }", 'anybody -> chain "inbound_blue/shop_8080_http"'),
    ],
    ids=["request-rules", "virtual-host", "default-chain", "match", "roots", "permissive"],
)
def test_no_way_in_is_opened_unseen(raw: World, overlay: Path, module: str, says: str) -> None:
    """Not only by a principal more: whatever was asked of callers, and is asked no more, is named."""
    before = raw.daemon.osm("proxy", "get", "config", "blue/shop", "-o", "json")
    write(overlay, "acme/opens.lua", f"return {{ api = 1, {module} }}")
    outcome = reload(raw)
    assert outcome["state"] == "held", outcome
    assert any(says in reason for reason in generations(raw)["candidate"]["reasons"]), generations(raw)["candidate"]
    assert raw.daemon.osm("proxy", "get", "config", "blue/shop", "-o", "json") == before


def test_a_bundle_that_takes_most_away_waits(raw: World, overlay: Path) -> None:
    """And so does one that leaves a proxy without listeners; --force does not wait."""
    write(
        overlay,
        "kubernetes/services.lua",
        (SHIPPED / "kubernetes/services.lua")
        .read_text()
        .replace(
            "local service = mesh.Service(namespace, name)\n  if not service or",
            "local service = nil\n  if not service or",
        ),
    )
    outcome = reload(raw)
    assert outcome["state"] == "held"
    assert "takes away" in outcome["reason"]
    reasons = generations(raw)["candidate"]["reasons"]
    assert [each for each in reasons if "lose all their listeners, the first is " in each]
    assert "blue/shop|8080" in clusters(raw, "red/caller")
    assert reload(raw)["state"] == "held"
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert reload(raw, "--force")["state"] == "active"
    assert "blue/shop|8080" not in clusters(raw, "red/caller")


# --- restarts ---


def test_a_restart_begins_with_what_was_active(raw: World, overlay: Path) -> None:
    """Whatever lies in the directories now; and it says so."""
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert reload(raw)["state"] == "active"
    digest = generations(raw)["digest"]
    until(lambda: digest in (raw.daemon.state / "policies/active.json").read_text(), "it is stored")
    raw.daemon.stop()
    write(overlay, "acme/timeout.lua", "return {")
    raw.daemon.start()
    raw.wait()
    status = generations(raw)
    assert status["digest"] == digest
    assert "acme/timeout.lua:1: unexpected symbol" in status["problem"]
    assert clusters(raw, "red/caller")["blue/shop|8080"]["connect_timeout"] == "7s"


def test_a_restart_does_not_begin_with_what_is_saved_meanwhile(raw: World, overlay: Path) -> None:
    """A bundle that would be held does not slip in because nothing is in force yet."""
    before = generations(raw)["digest"]
    until(lambda: before in (raw.daemon.state / "policies/active.json").read_text(), "it is stored")
    for _ in range(5):
        raw.daemon.stop()
        (overlay / "acme/opens.lua").unlink(missing_ok=True)
        raw.daemon.start(ready=False)
        until(lambda: "policies staged" in raw.daemon.log().rpartition("root ready")[2], "the stored ones are staged")
        write(overlay, "acme/opens.lua", OPENS)
        until(raw.daemon.socket.exists, "it answers")
        raw.wait()
        assert reload(raw)["state"] == "held"
        assert generations(raw)["digest"] == before
        assert "blue/shop|8080" not in clusters(raw, "red/caller2")


def test_without_anything_stored_a_broken_overlay_serves_nothing(overlay: Path) -> None:
    """The shipped rules alone would drop what the operator denies. Mended, it serves."""
    bad = write(overlay, "acme/denies.lua", "return {")
    with World(real=False, permissive=True, policies=[SHIPPED, overlay]) as world:
        furnish(world)
        with pytest.raises(CommandError, match="the policy run fails"):
            world.daemon.osm("wait", "--applied", "--timeout", "1s")
        assert world.status()["snapshot"] == 0
        assert "acme/denies.lua:1: unexpected symbol" in world.status()["policy_error"]
        with pytest.raises(CommandError, match="has no proxy"):
            clusters(world, "red/caller")
        bad.unlink()
        world.wait()
        assert "blue/shop|8080" in clusters(world, "red/caller")


def test_a_damaged_store_is_reported_and_not_used(raw: World) -> None:
    """The directories count then."""
    stored = raw.daemon.state / "policies/active.json"
    until(stored.exists, "it is stored")
    raw.daemon.stop()
    text = stored.read_text()
    stored.write_text(text.replace("local M", "local N", 1))
    raw.daemon.start()
    raw.wait()
    assert "do not have the digest" in raw.daemon.log()
    assert generations(raw)["problem"] is None


def test_policies_that_cannot_be_stored_are_told_and_tried_again(raw: World, overlay: Path) -> None:
    """A restart would begin with older ones, which may grant more. A full disk looked like any other day."""
    folder = raw.daemon.state / "policies"
    until((folder / "active.json").exists, "it is stored")
    shutil.rmtree(folder)
    folder.write_text("no room")
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert reload(raw)["state"] == "active"
    until(lambda: "Not a directory" in (generations(raw)["unstored"] or ""), "it is told")
    assert "not stored, a restart begins with older policies: " in raw.daemon.osm("policy", "list")
    with urllib.request.urlopen(f"http://{raw.daemon.http()}/health/ready?verbose") as answer:
        assert "[!!] policies not stored: " in answer.read().decode()
    folder.unlink()
    until(lambda: generations(raw)["unstored"] is None, "it is stored without being asked")
    assert generations(raw)["digest"] in (folder / "active.json").read_text()


# --- real Envoys ---


@pytest.fixture
def real(overlay: Path) -> Iterator[World]:
    """A mesh with sidecars: two callers, a shop in two versions behind an apex."""
    with tracked(World(policies=[SHIPPED, overlay], permissive=True)) as world:
        world.namespace("red")
        world.namespace("blue")
        for name in ("caller", "caller2"):
            world.pod("red", name, account=name)
        for n in (1, 2):
            labels = {"app": f"shop-v{n}"}
            world.pod("blue", f"shop-v{n}-1", account=f"shop-v{n}", labels=labels, app="http=8080")
            world.service("blue", f"shop-v{n}", HTTP_8080, labels)
        world.service("blue", "shop-apex", HTTP_8080, None)
        world.apply(split("blue", "apex", "shop-apex", **{"shop-v1": 100, "shop-v2": 0}))
        world.wait()
        yield world


SWAPPED = ("+ math.tointeger(backend.weight)", "+ 100 - math.tointeger(backend.weight)")


@pytest.mark.mesh
def test_a_rule_is_edited_under_load_and_no_request_fails(real: World, overlay: Path) -> None:
    """The operator's copy of smi/split.lua turns the shares around; five ways of breaking it lose nothing either."""
    caller = real.pods["red/caller"]
    shipped = (SHIPPED / "smi/split.lua").read_text()
    assert SWAPPED[0] in shipped
    load = caller.load("http://shop-apex.blue/", rate=200)
    try:
        until(lambda: load.pods["shop-v1-1"] > 100, "the first version answers")
        write(overlay, "smi/split.lua", shipped.replace(*SWAPPED))
        assert reload(real)["state"] == "active"
        real.wait()
        sent = load.pods["shop-v2-1"]
        until(lambda: load.pods["shop-v2-1"] > sent + 200, "the other version answers")
        first = load.pods["shop-v1-1"]
        for broken in (
            shipped[: len(shipped) // 2],
            shipped.replace("return M", "return nil"),
            shipped.replace(SWAPPED[0], "+ nil"),
            shipped.replace(SWAPPED[0], "- 1"),
            shipped.replace("function M.rules.backends", "function M.rules.back_ends"),
        ):
            assert broken != shipped
            write(overlay, "smi/split.lua", broken)
            outcome = reload(real)
            assert outcome["state"] == "rejected", outcome
            sent = load.sent
            until(lambda sent=sent: load.sent > sent + 50, "fifty more requests")
        assert load.pods["shop-v1-1"] == first
        write(overlay, "smi/split.lua", shipped)
        assert reload(real)["state"] == "active"
        real.wait()
        until(lambda: load.pods["shop-v1-1"] > first + 50, "the first version answers again")
    finally:
        load.stop()
    assert load.failures == []
    o_clean(real)


@pytest.mark.mesh
def test_what_envoys_refuse_is_rolled_back_and_quarantined(real: World, overlay: Path) -> None:
    """With the line in the report; not a request is lost; a restart does not try it again, --force does."""
    caller = real.pods["red/caller"]
    before = generations(real)["digest"]
    load = caller.load("http://shop-apex.blue/", rate=100)
    try:
        until(lambda: load.sent > 50, "requests are sent")
        write(overlay, "acme/log.lua", REFUSED)
        until(lambda: states(real).get("rolled back") == 1, "it is rolled back")
        real.wait()  # nobody refuses anything any more
        sent = load.sent
        until(lambda: load.sent > sent + 100, "a hundred more requests")
    finally:
        load.stop()
    assert load.failures == []
    until(lambda: "said at" in (generations(real)["problem"] or ""), "the line is found")
    status = generations(real)
    assert status["digest"] == before
    rolled_back = next(each for each in status["generations"] if each["state"] == "rolled back")
    assert "proxies refuse LDS" in rolled_back["reason"]
    assert "NO_SUCH_WORD" in rolled_back["reason"]
    assert "extended by acme/log" in rolled_back["reason"]
    assert "envoy/listeners.lua:" in rolled_back["reason"]
    assert reload(real)["state"] == "quarantined"
    until(lambda: rolled_back["digest"] in (real.daemon.state / "policies/quarantine.json").read_text(), "it is stored")
    o_clean_but_for_refusals(real)
    real.daemon.stop()
    real.daemon.start()
    real.wait()
    assert generations(real)["digest"] == before
    assert reload(real)["state"] == "quarantined"
    write(overlay, "acme/log.lua", "return { api = 1 }")
    assert reload(real)["state"] == "active"


def o_clean_but_for_refusals(world: World) -> None:
    """Connected, and no error is left in anybody's configuration: refusals are counted for ever."""
    for pod in world.sidecars():
        assert pod.envoy.stat("control_plane.connected_state") == 1
        assert "error_state" not in pod.envoy.get("/config_dump")


@pytest.mark.mesh
def test_a_roll_back_does_not_grant_again_what_was_revoked(real: World, overlay: Path) -> None:
    """The generation before has followed the objects while the other one was in force."""
    caller, caller2 = real.pods["red/caller"], real.pods["red/caller2"]
    for each in grant_all("blue", "shop-v1", "red/caller", "red/caller2"):
        real.apply(each)
    real.mesh_config(permissive=False)
    real.wait()
    until(lambda: caller2.face("http://shop-v1.blue/") == "200", "it is granted")
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert reload(real)["state"] == "active"
    for each in grant_all("blue", "shop-v1", "red/caller"):
        real.apply(each)
    real.wait()
    until(lambda: caller2.face("http://shop-v1.blue/") == "exit 7", "it is revoked")
    real.daemon.osm("policy", "rollback", "just so")
    real.wait()
    assert states(real)["rolled back"] == 1
    assert caller2.face("http://shop-v1.blue/") == "exit 7"
    assert caller.face("http://shop-v1.blue/") == "200"
    shutil.rmtree(overlay / "acme")
    assert reload(real)["state"] == "active"


# --- why ---


def test_why_names_lines_and_objects(raw: World, overlay: Path) -> None:
    """Of a chain that authorises: the emitter's line, the extension, and the grant with its file."""
    write(overlay, "acme/timeout.lua", TIMEOUT.format(seconds=7))
    assert reload(raw)["state"] == "active"
    told = raw.daemon.osm("policy", "why", "blue/shop", "inbound-listener", "inbound_blue/shop_")
    assert "said at envoy/listeners.lua:" in told
    assert "authorises" in told
    assert "because of TrafficTarget blue/to-shop at " in told
    assert "rule grants(" in told
    told = raw.daemon.osm("policy", "why", "red/caller", "blue/shop|8080")
    assert "changed by acme/timeout" in told
    assert "because of Service blue/shop" in told
    with pytest.raises(CommandError, match="the policies say nothing of it for this proxy"):
        raw.daemon.osm("policy", "why", "red/caller2", "blue/shop|8080")
    with pytest.raises(CommandError, match="no pod red/nobody"):
        raw.daemon.osm("policy", "why", "red/nobody", "x")


def test_why_names_who_changed_a_header_that_a_rule_makes(raw: World, overlay: Path) -> None:
    """The outbound listener is made by a rule that knows the tags of its chains; an extension changes its answer."""
    write(
        overlay,
        "acme/outbound.lua",
        """return { api = 1, extends = { listener = { run = function(_, listener, at)
          if at.name == "outbound-listener" then listener.per_connection_buffer_limit_bytes = 4096 end
        end } } }""",
    )
    assert reload(raw)["state"] == "active"
    told = raw.daemon.osm("policy", "why", "red/caller", "outbound-listener")
    line = next(
        n
        for n, text in enumerate((SHIPPED / "envoy/listeners.lua").read_text().splitlines(), 1)
        if "function M.rules.outbound_listener_header" in text
    )
    assert f"said at envoy/listeners.lua:{line}, changed by acme/outbound.listener" in told
