"""What would change, before it does: other rules, other objects, or both, against what a real daemon serves. Whatever
is asked, what is served stays byte for byte."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from previews import ERROR, NOTHING, SHIPPED, SOMETHING, USAGE, fields, is_ready, run, told, write
from rig import World, until
from rig.daemon import CommandError, build_dir
from rig.objects import HTTP_8080, grant_all, match, routes, split, target
from worlds import tracked

TIMEOUT = """
return { api = 1, extends = { cluster = { run = function(_, cluster, at)
  if at.direction == "outbound" then cluster.connect_timeout = "7s" end
end } } }
"""
WRITES = """
return { api = 1, wraps = { callers = function(mesh, original, ...)
  for _, split in ipairs(mesh.splits_of("blue", "apex")) do split.spec.service = "other" end
  return original(...)
end } }
"""
WEIGHTS = split("blue", "apex", "apex", v1=50, v2=50)
LOOP = "function() while true do end end"
# Rules that are asked for each Service: none of them ends, so each takes its whole budget.
ENDLESS = f"""return {{ api = 1, wraps = {{ reachers = {LOOP}, hosts_at = {LOOP}, endpoint_groups = {LOOP},
  cluster_readers = {LOOP}, inbound_policy = {LOOP}, named_members = {LOOP}, local_cluster_readers = {LOOP} }} }}"""


@pytest.fixture(scope="module")
def raw() -> Iterator[World]:
    """A world without a data plane: two callers, of which one may call; a shop of two pods; a split of two versions."""
    with tracked(World(real=False)) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller", account="caller")
        world.pod("red", "caller2", account="caller2")
        for n in (1, 2):
            world.pod("blue", f"shop-{n}", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
            world.pod("blue", f"v{n}-1", account=f"v{n}", labels={"app": f"v{n}"}, ports=[{"containerPort": 8080}])
            world.service("blue", f"v{n}", HTTP_8080, {"app": f"v{n}"})
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.service("blue", "apex", HTTP_8080, None)
        for each in [*grant_all("blue", "shop", "red/caller"), *grant_all("blue", "v1", "red/caller")]:
            world.apply(each)
        world.apply(split("blue", "apex", "apex", v1=50, v2=50))
        world.wait()
        yield world


@pytest.fixture
def world(raw: World) -> Iterator[World]:
    """The same for one test; nothing live may have changed by what it has asked."""
    before = served(raw)
    yield raw
    assert served(raw) == before


def served(world: World) -> dict[str, Any]:
    """What every proxy is served, the number of the snapshot, and the generations of policies."""
    pods = {name: world.daemon.osm("proxy", "get", "config", name, "-o", "json") for name in sorted(world.pods)}
    return {
        "pods": pods,
        "snapshot": world.status()["snapshot"],
        "policies": world.daemon.osm("policy", "list", "-o", "json"),
    }


# --- rules ---


def test_the_rules_in_force_change_nothing(world: World) -> None:
    """Exit code 0, and a line that says so."""
    done = run(world, "policy", "diff", SHIPPED)
    assert (done.returncode, done.stdout) == (NOTHING, "0 of 6 proxies would change\n"), done.stderr
    diff = told(world, "policy", "diff", SHIPPED, exit=NOTHING)
    assert diff["differs"] is False
    assert diff["groups"] == []


def test_other_rules_are_told_field_by_field(world: World, tmp_path: Path) -> None:
    """Of the proxies that the change reaches, and of no other."""
    diff = told(world, "policy", "diff", SHIPPED, write(tmp_path, timeout=TIMEOUT))
    assert fields(diff, "red/caller", "CDS") == {"connect_timeout": (None, "7s")}
    assert [group["proxies"] for group in diff["groups"]] == [["red/caller"]]
    assert {resource["name"] for group in diff["groups"] for resource in group["resources"]} == {
        "blue/shop|8080",
        "blue/v1|8080",
        "blue/v2|8080",
    }
    text = run(world, "policy", "diff", SHIPPED, tmp_path).stdout
    assert '  CDS blue/shop|8080, blue/v1|8080, blue/v2|8080\n    + connect_timeout: "7s"\n' in text
    assert "1 of 6 proxies would change\n" in text


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("return {", "acme/bad.lua:1: unexpected symbol near <eof>"),
        ("return { api = 1, wraps = { no_such = function() end } }", "acme/bad.lua:1: wraps.no_such"),
    ],
)
def test_rules_that_do_not_load_are_an_error(world: World, tmp_path: Path, module: str, says: str) -> None:
    """With file and line; and so is a directory that is none."""
    done = run(world, "policy", "diff", SHIPPED, write(tmp_path, bad=module))
    assert (done.returncode, done.stdout) == (ERROR, "")
    assert says in done.stderr
    done = run(world, "policy", "diff", tmp_path / "nowhere")
    assert done.returncode == ERROR
    assert "nowhere" in done.stderr


def test_rules_in_error_are_told_with_their_lines(world: World, tmp_path: Path) -> None:
    """And what would be lost by it."""
    overlay = write(tmp_path, bad='return { api = 1, wraps = { callers = function() error("ouch") end } }')
    diff = told(world, "policy", "diff", SHIPPED, overlay, exit=ERROR)
    assert {(error["module"], error["line"]) for error in diff["errors"]} == {("acme/bad.lua", 1)}
    assert fields(diff, "red/caller", "CDS")["blue/shop|8080"] == "removed"
    assert any("red/caller loses all its listeners" in guard for guard in diff["guards"])
    text = run(world, "policy", "diff", SHIPPED, overlay).stdout
    assert "error: acme/bad.lua:1: ouch (" in text


def test_other_rules_that_write_into_an_answer_are_told(world: World, tmp_path: Path) -> None:
    """Though the rules in force are known not to, and the question before was about those."""
    assert told(world, "diff", "-f", "-", exit=NOTHING, text=yaml.safe_dump(WEIGHTS))["errors"] == []
    overlay = write(tmp_path, writes=WRITES)
    for _ in range(2):
        diff = told(world, "policy", "diff", SHIPPED, overlay, exit=ERROR)
        assert "was changed by one of its readers" in diff["errors"][0]["message"]


def test_rules_are_laid_over_the_shipped_ones(world: World, tmp_path: Path) -> None:
    """As `osm policy apply` lays them; a whole bundle is --policies, as for the daemon. What was probably forgotten
    there is told."""
    overlay = write(tmp_path, timeout=TIMEOUT)
    alone, behind = (told(world, "policy", "diff", *dirs) for dirs in ([overlay], [SHIPPED, overlay]))
    assert alone["groups"] == behind["groups"] != []
    done = run(world, "diff", "--policies", write(tmp_path, timeout="return { api = 1, rules = {} }"))
    assert done.returncode in (ERROR, SOMETHING), done.stderr
    assert f"the policies hold no file of {SHIPPED}" in done.stderr


# --- objects ---


def test_an_object_is_applied_over_the_live_one(world: World) -> None:
    """A split's other weights are a change of two numbers; from a file, a directory and standard input alike."""
    manifest = yaml.safe_dump(split("blue", "apex", "apex", v1=70, v2=30))
    diff = told(world, "diff", "-f", "-", text=manifest)
    host = "virtual_hosts[name=outbound_virtual-host|apex.blue.svc.cluster.local]"
    weighted = f"{host}.routes[0].route.weighted_clusters.clusters"
    assert fields(diff, "red/caller", "RDS") == {
        f"{weighted}[name=blue/v1|8080].weight": (50, 70),
        f"{weighted}[name=blue/v2|8080].weight": (50, 30),
    }
    counts = {"created": 0, "configured": 1, "unchanged": 0, "deleted": 0, "outside": 0, "unaddressed": 0}
    assert diff["objects"] == counts


def test_manifests_come_from_files_and_directories(world: World, tmp_path: Path) -> None:
    """Those of a directory in the order of their names; what is in force already is no change."""
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(split("blue", "apex", "apex", v1=70, v2=30)))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(split("blue", "apex", "apex", v1=50, v2=50)))
    (tmp_path / "c.txt").write_text("no manifest: [")
    assert told(world, "diff", "-f", tmp_path, exit=NOTHING)["objects"]["unchanged"] == 1
    assert told(world, "diff", "-f", tmp_path / "a.yaml")["objects"]["configured"] == 1
    done = run(world, "diff", "-f", tmp_path / "c.txt")
    assert done.returncode == ERROR
    assert f"{tmp_path}/c.txt:2:1: " in done.stderr


def test_who_would_be_let_in_is_named(world: World) -> None:
    """The guard of a reload speaks here too."""
    diff = told(world, "diff", "-f", "-", text=yaml.safe_dump_all(grant_all("blue", "shop", "red/caller2")))
    assert [g for g in diff["guards"] if 'caller2.red.cluster.local -> chain "inbound_blue/shop_8080_http"' in g]
    assert fields(diff, "red/caller2", "CDS") == {"blue/shop|8080": "added"}
    assert fields(diff, "red/caller", "CDS") == {"blue/shop|8080": "removed"}
    text = run(world, "diff", "-f", "-", text=yaml.safe_dump_all(grant_all("blue", "shop", "red/caller2"))).stdout
    assert "look first: lets in who is denied today: caller2.red.cluster.local" in text


def test_deleted_objects(world: World) -> None:
    """By kind in any case, with or without its group; what is not there is an error."""
    diff = told(world, "diff", "--delete", "traffictarget.access.smi-spec.io/blue/to-shop")
    assert fields(diff, "red/caller", "CDS") == {"blue/shop|8080": "removed"}
    assert diff["objects"]["deleted"] == 1
    diff = told(world, "diff", "--delete", "Pod/blue/shop-2", "--delete", "Pod/blue/shop-1")
    assert diff["leave"] == ["blue/shop-1", "blue/shop-2"]
    done = run(world, "diff", "--delete", "TrafficTarget/blue/nobody")
    assert done.returncode == ERROR
    assert "there is no such object" in done.stderr
    assert run(world, "diff").returncode == USAGE


def test_what_would_be_rejected_and_what_no_longer(raw: World) -> None:
    """With the reason and the place in the manifest."""
    broken = target("blue", "broken", "blue/shop", ["red/caller2"], group="nowhere")
    manifest = "# a line\n" + yaml.safe_dump(broken)
    diff = told(raw, "diff", "-f", "-", text=manifest)
    assert [(r["object"], r["path"], r["origin"]) for r in diff["rejected"]] == [
        ("TrafficTarget blue/broken", "spec.rules[0].name", "stdin:2")
    ]
    assert diff["groups"] == []
    raw.apply(broken)
    raw.wait()
    try:
        diff = told(raw, "diff", "-f", "-", text=yaml.safe_dump(routes("blue", "nowhere", match("m", "/a", ["GET"]))))
        assert [r["object"] for r in diff["accepted"]] == ["TrafficTarget blue/broken"]
        assert diff["rejected"] == []
        assert fields(diff, "red/caller2", "CDS") == {"blue/shop|8080": "added"}
    finally:
        raw.delete("TrafficTarget", "blue", "broken")
        raw.wait()


def test_objects_that_no_policy_sees(world: World) -> None:
    """A namespace that is not of the mesh is a trap worth a word."""
    done = run(world, "diff", "-f", "-", text=yaml.safe_dump(routes("grey", "any", match("m", "/a", ["GET"]))))
    assert done.returncode == NOTHING
    assert "no policy sees 1 of the objects" in done.stderr


def test_a_new_pod_appears(world: World) -> None:
    """A proxy that does not run yet."""
    pod = yaml.safe_load(world.path("Pod", "blue", "shop-1").read_text())
    pod["metadata"]["name"] = "shop-3"
    pod["metadata"]["labels"]["osm-proxy-uuid"] = "00000000-0000-4000-8000-0000000000ff"
    pod["status"]["podIP"] = "10.244.7.7"
    pod["status"]["podIPs"] = [{"ip": "10.244.7.7"}]
    diff = told(world, "diff", "-f", "-", text=yaml.safe_dump(pod))
    assert diff["appear"] == ["blue/shop-3"]
    endpoints = fields(diff, "red/caller", "EDS")
    assert list(endpoints) == ["endpoints[zone=local].lb_endpoints[address=10.244.7.7]"]


# --- both, and more than one ---


def test_rules_and_objects_together(world: World, tmp_path: Path) -> None:
    """The one is evaluated on the other."""
    write(tmp_path, timeout=TIMEOUT)
    manifest = yaml.safe_dump_all(grant_all("blue", "shop", "red/caller2"))
    diff = told(world, "diff", "-f", "-", "--policies", SHIPPED, "--policies", tmp_path, text=manifest)
    added = next(
        resource
        for group in diff["groups"]
        for resource in group["resources"]
        if "red/caller2" in group["proxies"] and resource["name"] == "blue/shop|8080" and resource["type"] == "CDS"
    )
    assert added["fields"][0]["after"]["connect_timeout"] == "7s"


def test_large_requests(world: World) -> None:
    """Over what any other command may send; and over what this one may, too."""
    many = [routes("blue", f"g{n}", match("m", f"/{n}", ["GET"])) for n in range(2000)]
    text = yaml.safe_dump_all(many)
    assert len(text) > 200 * 1024
    assert told(world, "diff", "-f", "-", exit=NOTHING, text=text)["objects"]["created"] == 2000
    done = run(world, "diff", "-f", "-", text="#" * (8 * 1024 * 1024 + 1))
    assert done.returncode == ERROR
    assert "standard input: more than 8388608 bytes" in done.stderr


def test_two_at_once_are_both_answered(world: World) -> None:
    """One after the other."""
    manifests = [yaml.safe_dump(split("blue", "apex", "apex", v1=weight, v2=50)) for weight in (10, 20, 30)]
    command = [str(build_dir() / "osm"), "--socket", str(world.daemon.socket), "diff", "-f", "-", "-o", "json"]
    asked = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE)
        for _ in manifests
    ]
    for process, manifest in zip(asked, manifests, strict=True):
        assert process.stdin
        process.stdin.write(manifest)
        process.stdin.close()
    for process, weight in zip(asked, (10, 20, 30), strict=True):
        assert process.stdout
        diff = json.loads(process.stdout.read())
        assert process.wait() == SOMETHING
        assert weight in [after for _, after in fields(diff, "red/caller", "RDS").values()]


def test_previews_of_bundles_wait_for_each_other(world: World, tmp_path: Path) -> None:
    """Each is a large request; whoever came while another was being read was turned away."""
    write(tmp_path, timeout=TIMEOUT)
    command = [str(build_dir() / "osm"), "--socket", str(world.daemon.socket), "policy", "diff", str(tmp_path)]
    asked = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    for process in asked:
        text, errors = process.communicate(timeout=60)
        assert (process.returncode, "1 of 6 proxies would change" in text) == (SOMETHING, True), errors


def test_one_preview_leaves_nothing_to_the_next(world: World, tmp_path: Path) -> None:
    """They share an engine, which is given the rules that each asks about: what it says does not depend on what it was
    asked before, and is what an engine of its own says. Rules that do not load, or need another engine, between."""
    weights = yaml.safe_dump(split("blue", "apex", "apex", v1=1, v2=2))
    grant = yaml.safe_dump_all(grant_all("blue", "shop", "red/caller2"))
    timeout = write(tmp_path / "timeout", timeout=TIMEOUT)
    fails = write(tmp_path / "fails", fails="return { api = 1, wraps = { backends = function() error('no') end } }")
    broken = write(tmp_path / "broken", broken="return {")
    kind = write(tmp_path / "kind", kind="return { api = 1, kinds = { ['acme.Link'] = { versions = { 'v1' } } } }")
    below = ["--policies", SHIPPED, "--policies"]
    questions: list[tuple[list[str | Path], str]] = [
        (["diff", "-f", "-"], weights),
        (["diff", "-f", "-"], grant),
        (["diff", "--delete", "Service/blue/v1"], ""),
        (["diff", "-f", "-", "--delete", "Pod/red/caller"], weights),
        (["policy", "diff", timeout], ""),
        (["diff", "-f", "-", *below, timeout], weights),
        (["policy", "diff", fails], ""),
        (["diff", "-f", "-", *below, fails], grant),
        (["policy", "diff", broken], ""),
        (["policy", "diff", kind], ""),
        (["policy", "diff", timeout, fails], ""),
    ]

    def asked(arguments: list[str | Path], text: str, *more: str) -> tuple[int, dict[str, Any] | str]:
        done = run(world, *arguments, *more, "-o", "json", text=text)
        if not done.stdout:
            return done.returncode, done.stderr
        diff = json.loads(done.stdout)
        diff.pop("times_us")
        assert diff.pop("ready") in ([False] if more else [False, True])
        return done.returncode, diff

    fresh = [asked(*question, "--fresh") for question in questions]
    assert [code for code, _ in fresh] == [3, 3, 3, 3, 3, 3, 1, 1, 1, 0, 1]
    for start in range(len(questions)):
        for number in range(len(questions)):
            at = (start + number * (start + 1)) % len(questions)
            assert asked(*questions[at]) == fresh[at], questions[at]
    assert told(world, "policy", "diff", SHIPPED, exit=NOTHING)["groups"] == []


def test_an_engine_is_ready_before_anybody_asks(tmp_path: Path) -> None:
    """Also one that has taken other policies into force; not where the option says so."""

    def small(world: World) -> None:
        world.namespace("blue")
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.wait()

    overlay = write(tmp_path, timeout=TIMEOUT)
    with tracked(World(real=False)) as world:
        small(world)
        until(lambda: is_ready(world), "an engine is ready")
        assert told(world, "policy", "diff", SHIPPED, exit=NOTHING)["ready"] is True
        assert told(world, "policy", "diff", SHIPPED, "--fresh", exit=NOTHING)["ready"] is False
        assert is_ready(world)
        world.daemon.osm("policy", "apply", overlay)
        world.wait()
        assert told(world, "policy", "diff", overlay, exit=NOTHING)["ready"] is True
        assert told(world, "policy", "diff", write(tmp_path / "none", none="return {}"), exit=NOTHING)["ready"]
    with tracked(World(real=False, permissive=True, flags=["--preview-memory=1Mi"])) as world:
        for n in range(10):
            world.pod("blue", f"s{n}", account=f"s{n}", labels={"app": f"s{n}"}, ports=[{"containerPort": 8080}])
            world.service("blue", f"s{n}", HTTP_8080, {"app": f"s{n}"})
        small(world)
        until(lambda: "no engine is kept ready for previews" in world.daemon.log(), "it is known to be too large")
        assert told(world, "policy", "diff", SHIPPED, exit=NOTHING)["ready"] is False
    with tracked(World(real=False, flags=["--preview-memory=0"])) as world:
        small(world)
        assert told(world, "policy", "diff", SHIPPED, exit=NOTHING)["ready"] is False
        assert told(world, "policy", "diff", SHIPPED, exit=NOTHING)["ready"] is True  # kept for a minute


def test_a_kept_engine_follows_what_is_live(raw: World) -> None:
    """The next preview begins with the objects of its own time."""
    weights = split("blue", "apex", "apex", v1=5, v2=95)
    assert told(raw, "diff", "-f", "-", text=yaml.safe_dump(weights))["differs"]
    raw.apply(weights)
    raw.wait()
    try:
        diff = told(raw, "diff", "-f", "-", exit=NOTHING, text=yaml.safe_dump(weights))
        assert diff["objects"]["unchanged"] == 1
        assert told(raw, "policy", "diff", SHIPPED, exit=NOTHING)["groups"] == []
    finally:
        raw.apply(split("blue", "apex", "apex", v1=50, v2=50))
        raw.wait()


def test_rules_that_never_end_delay_nothing_live(tmp_path: Path) -> None:
    """An endpoint moves, and is served, while the preview is still at it; that one ends in time, and names the rule."""
    overlay = write(tmp_path / "overlay", endless=ENDLESS)
    with tracked(World(real=False)) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller", account="caller")
        for n in range(200):
            world.pod("blue", f"s{n}", account=f"a{n}", labels={"app": f"s{n}"}, ports=[{"containerPort": 8080}])
            world.service("blue", f"s{n}", HTTP_8080, {"app": f"s{n}"})
        world.apply(routes("blue", "any", match("any", ".*", ["*"])))
        world.apply(target("blue", "t", "blue/a0", ["red/caller"], group="any"))
        world.wait()
        command = [str(build_dir() / "osm"), "--socket", str(world.daemon.socket), "policy", "diff"]
        asked = subprocess.Popen([*command, str(SHIPPED), str(overlay)], stderr=subprocess.PIPE, text=True)
        try:
            path = world.path("Pod", "blue", "s0")
            for n in range(1, 6):
                address = f"10.244.9.{n}"
                pod = yaml.safe_load(path.read_text())
                pod["status"]["podIP"] = address
                pod["status"]["podIPs"] = [{"ip": address}]
                world.write(path, yaml.safe_dump(pod))
                world.daemon.applied()
                assert address in world.daemon.osm("proxy", "get", "config", "red/caller", "EDS")
                assert asked.poll() is None, "the preview is over already: the test shows nothing"
            assert asked.stderr
            error = asked.stderr.read()
            assert asked.wait(30) == ERROR
        finally:
            asked.kill()
        assert "has taken too long" in error
        assert re.search(r"acme/endless.lua:[12]: over its budget of 5000000 instructions", error)
        # and the next one is answered
        until(lambda: run(world, "policy", "diff", SHIPPED).returncode == NOTHING, "the next is answered", 30.0)


@pytest.mark.parametrize("memory", ["256Mi", "0"])
def test_a_daemon_stops_while_it_previews(tmp_path: Path, memory: str) -> None:
    """At once, not when the preview is over; who has asked is told. By the engine that is ready, and by another."""
    overlay = write(tmp_path / "overlay", endless=ENDLESS)
    with tracked(World(real=False, flags=[f"--preview-memory={memory}"])) as world:
        world.namespace("blue")
        for n in range(100):
            world.pod("blue", f"s{n}", account=f"a{n}", labels={"app": f"s{n}"}, ports=[{"containerPort": 8080}])
            world.service("blue", f"s{n}", HTTP_8080, {"app": f"s{n}"})
        world.wait()
        if memory != "0":
            until(lambda: is_ready(world), "an engine is ready")
        threads = world.daemon.figures()["threads"]
        command = [str(build_dir() / "osm"), "--socket", str(world.daemon.socket), "policy", "diff"]
        asked = subprocess.Popen([*command, str(SHIPPED), str(overlay)], stderr=subprocess.PIPE, text=True)
        try:
            begun = {
                "0": lambda: world.daemon.figures()["threads"] > threads,
                "256Mi": lambda: not is_ready(world),
            }
            until(begun[memory], "it has begun")
            assert world.daemon.stop(3.0) == 0
            assert asked.stderr
            assert "closed the connection" in asked.stderr.read()
            assert asked.wait(10) == ERROR
        finally:
            asked.kill()
        assert '"open_handles":0' in world.daemon.log()
        world.daemon.start()


def test_nothing_is_compared_where_nothing_is_served(tmp_path: Path) -> None:
    """A daemon whose policies do not load says so."""
    with tracked(World(real=False, policies=[SHIPPED, write(tmp_path, bad="return {")])) as world:
        world.namespace("blue")
        with pytest.raises(CommandError, match="nothing is served yet"):
            world.daemon.osm("policy", "diff", str(SHIPPED))


# --- why: one field ---

EXTENDED = """
return { api = 1, extends = {
  cluster = { run = function(_, cluster, at)
    if at.direction == "outbound" then cluster.connect_timeout = "7s" end
  end },
  http_filters = { run = function(_, filters, at)
    if at.direction == "inbound" then
      filters:insert_before("http_router", { name = "acme", typed_config = {
        ["@type"] = "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes = 100 } })
    end
  end },
  listener = { run = function(_, listener) listener.per_connection_buffer_limit_bytes = 1000 end },
} }
"""
LATER = """
return { api = 1, extends = { cluster = { after = { "acme/first" }, run = function(_, cluster)
  if cluster.connect_timeout then cluster.connect_timeout = "8s" end
end } } }
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shop under policies that two modules extend."""
    overlay = write(tmp_path_factory.mktemp("overlay"), first=EXTENDED, later=LATER)
    with tracked(World(real=False, policies=[SHIPPED, overlay])) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller", account="caller")
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        for each in grant_all("blue", "shop", "red/caller"):
            world.apply(each)
        world.wait()
        yield world


def line_of(module: str, text: str) -> str:
    """`module:LINE` of the first line of a shipped module that holds a text."""
    lines = (SHIPPED / module).read_text().splitlines()
    return f"{module}:{next(n for n, line in enumerate(lines, 1) if text in line)}"


CHAIN = "filter_chains[name=inbound_blue/shop_8080_http]"
MANAGER = f"{CHAIN}.filters[name=http_connection_manager].typed_config"


@pytest.mark.parametrize(
    ("pod", "resource", "field", "value", "steps"),
    [
        ("red/caller", "blue/shop|8080", "type", "EDS", [None]),
        (
            "red/caller",
            "blue/shop|8080",
            "connect_timeout",
            "8s",
            [None, ("acme/first.cluster", None, "7s"), ("acme/later.cluster", "7s", "8s")],
        ),
        ("red/caller", "rds-outbound.80", "virtual_hosts[0].routes[0].route.timeout", "0s", [None]),
        ("red/caller", "rds-outbound.80", "validate_clusters", False, [None]),
        ("blue/shop", "inbound-listener", f"{MANAGER}.http_filters[name=http_router].name", "http_router", [None]),
        (
            "blue/shop",
            "inbound-listener",
            f"{MANAGER}.http_filters[1].name",
            "acme",
            [None, ("acme/first.http_filters", None, "acme")],
        ),
        (
            "blue/shop",
            "inbound-listener",
            "per_connection_buffer_limit_bytes",
            1000,
            [None, ("acme/first.listener", None, 1000)],
        ),
        (
            "red/caller",
            "outbound-listener",
            "per_connection_buffer_limit_bytes",
            1000,
            [None, ("acme/first.listener", None, 1000)],
        ),
        ("red/caller", "outbound-listener", "listener_filters[0].name", "original_dst", [None]),
    ],
)
def test_why_a_field_has_its_value(
    extended: World, pod: str, resource: str, field: str, value: Any, steps: list[Any]
) -> None:
    """The emitter's line, and each extension that has changed that very field, in the order of their runs."""
    before = served(extended)
    answer = json.loads(extended.daemon.osm("policy", "why", pod, resource, field, "-o", "json"))
    told_field = answer["field"]
    assert told_field["value"] == value
    assert (told_field["host"], told_field["changed"]) == (False, False)
    assert [step["by"] and (step["by"], step.get("before"), step.get("after")) for step in told_field["steps"]] == steps
    assert told_field["steps"][0]["place"].startswith("envoy/")
    assert len(answer["items"]) == 1
    assert served(extended) == before


def test_why_a_field_says_lines_that_are_there(extended: World) -> None:
    """For people: the emitter's own line, the extension's, and the objects behind the item."""
    text = extended.daemon.osm("policy", "why", "red/caller", "blue/shop|8080", "connect_timeout")
    assert 'connect_timeout = "8s"\n' in text
    assert f"said at {line_of('envoy/clusters.lua', 'out.cluster {')}: absent\n" in text
    assert 'changed by acme/first.cluster at acme/first.lua:3: "7s"\n' in text
    assert 'changed by acme/later.cluster at acme/later.lua:2: "7s" -> "8s"\n' in text
    assert "because of Service blue/shop" in text
    text = extended.daemon.osm("policy", "why", "red/caller", "blue/shop|8080", "name")
    assert "filled in by the daemon itself" in text


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        ("blue/shop|8080", "endpoints[0].lb_endpoints[0].endpoint.address"),
        ("root-cert-for-mtls-outbound:blue/shop", "validation_context.trusted_ca"),
    ],
)
def test_why_of_what_the_host_fills_in(extended: World, resource: str, field: str) -> None:
    """Addresses and roots never enter Lua; what is in the cluster's name is that of its endpoints too."""
    answer = json.loads(extended.daemon.osm("policy", "why", "red/caller", resource, field, "-o", "json"))
    assert answer["field"]["host"] is True
    assert answer["field"]["steps"] == []
    assert answer["items"][0]["place"].startswith("envoy/")


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("transport_socket.nowhere", "the resource has no field transport_socket.nowhere; there are name typed_config"),
        ("transport_socket..name", "is no path of fields"),
    ],
)
def test_why_of_a_field_that_is_not_there(extended: World, field: str, says: str) -> None:
    """What there is instead; and of a list of elements, which of them."""
    with pytest.raises(CommandError, match=says):
        extended.daemon.osm("policy", "why", "red/caller", "blue/shop|8080", field)
    with pytest.raises(CommandError, match=r"which of the 1\? filter_chains\[name=inbound_blue/shop_8080_http\]"):
        extended.daemon.osm("policy", "why", "blue/shop", "inbound-listener", "filter_chains")
    with pytest.raises(CommandError, match=r"no field filter_chains\[3\].name; it has 1 elements"):
        extended.daemon.osm("policy", "why", "blue/shop", "inbound-listener", "filter_chains[3].name")
