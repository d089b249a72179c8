"""What policies cost: osm policy profile, of a daemon while it works and of a directory of manifests without one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import World, until
from rig.daemon import ROOT, CommandError, build_dir
from rig.objects import HTTP_8080, grant_all, split
from test_policy_tools import osm, plant
from worlds import tracked

SHIPPED = ROOT / "policies"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A caller, and a shop in two versions behind an apex; a folder that lies over the shipped policies."""
    (tmp_path / "mine").mkdir()
    with tracked(World(real=False, policies=[SHIPPED, tmp_path / "mine"])) as made:
        made.namespace("red")
        made.namespace("blue")
        made.pod("red", "caller", account="caller")
        for n in (1, 2):
            labels = {"app": f"shop-v{n}"}
            made.pod("blue", f"shop-v{n}", account="shop", labels=labels, ports=[{"containerPort": 8080}])
            made.service("blue", f"shop-v{n}", HTTP_8080, labels)
        made.service("blue", "shop-apex", HTTP_8080, None)
        for each in grant_all("blue", "shop", "red/caller"):
            made.apply(each)
        _weigh(made, 0)
        made.wait()
        yield made


def _weigh(world: World, weight: int) -> None:
    world.apply(split("blue", "apex", "shop-apex", **{"shop-v1": 100, "shop-v2": weight}))
    world.daemon.osm("wait", "--applied")


def _profile(world: World, *flags: str) -> dict[str, Any]:
    return dict(json.loads(world.daemon.osm("policy", "profile", "-o", "json", *flags)))


def _rules(profile: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["name"]: rule for rule in profile["rules"]}


def _start(world: World, seconds: int) -> subprocess.Popen[str]:
    """A profile that goes on while the test does something else."""
    command = [build_dir() / "osm", "--socket", world.daemon.socket, "policy", "profile", "--seconds", str(seconds)]
    return subprocess.Popen(
        [*map(str, command), "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _is_taken(world: World) -> bool:
    """Whether somebody else takes a profile now."""
    try:
        _profile(world, "--seconds", "1")
    except CommandError as error:
        return "a profile is being taken already" in error.stderr
    return False


def _start_alone(world: World) -> subprocess.Popen[str]:
    """One that is under way, and would be for long."""
    while True:
        taking = _start(world, 3000)
        until(lambda taking=taking: taking.poll() is not None or _is_taken(world), "it is under way")
        if taking.poll() is None:
            return taking
        taking.communicate()  # the question whether it is was quicker


def test_a_change_costs_what_it_runs_and_no_more(world: World) -> None:
    """Since the policies took over: another weight runs the rule that reads it, and not the ports of anything."""
    before = _rules(_profile(world))
    assert before["ports"]["runs"] == 3
    assert before["backends"]["module"] == "smi/split.lua"
    for weight in (1, 2, 3):
        _weigh(world, weight)
    after = _rules(_profile(world))
    assert after["backends"]["runs"] == before["backends"]["runs"] + 3
    assert after["backends"]["instructions"] > before["backends"]["instructions"]
    assert after["ports"]["runs"] == before["ports"]["runs"]
    assert after["ports"]["hits"] > before["ports"]["hits"]
    table = world.daemon.osm("policy", "profile", "--top", "1000")
    assert f"backends (smi/split.lua:{before['backends']['line']})" in table
    assert "emitter envoy/routes.outbound_hosts (envoy/routes.lua:" in table


def test_lines_are_told_of_the_time_that_is_looked_at(world: World) -> None:
    """What was before is not in it; whatever runs meanwhile is, with its line and what stands there."""
    weight = 0
    taking = _start(world, 2)
    while taking.poll() is None:
        weight += 1
        _weigh(world, weight)
    told, complaint = taking.communicate()
    assert taking.returncode == 0, complaint
    profile = json.loads(told)
    rules = _rules(profile)
    assert 0 < rules["backends"]["runs"] <= weight
    assert "target" not in rules or rules["target"]["runs"] == 0
    assert profile["digest"] == json.loads(world.daemon.osm("policy", "list", "-o", "json"))["digest"]
    lines = [line for line in profile["lines"] if line["module"] == "smi/split.lua"]
    text = (SHIPPED / "smi/split.lua").read_text().splitlines()
    assert lines
    for line in lines:
        assert line["text"] == text[line["line"] - 1].strip()[:120]
    assert sum(line["us"] for line in profile["lines"]) > 0


def test_nothing_runs_where_nothing_changes(world: World) -> None:
    """And that is no error."""
    assert "0 runs in 0.000 ms" in world.daemon.osm("policy", "profile", "--seconds", "1")


def test_one_profile_at_a_time_and_who_leaves_gives_way(world: World) -> None:
    """The second is refused; when the first has hung up the next one may."""
    taking = _start_alone(world)
    try:
        assert _rules(_profile(world))  # what is counted anyway can still be asked for
    finally:
        taking.kill()
        taking.communicate()
    until(lambda: not _is_taken(world), "the next one is taken")


def test_a_profile_does_not_outlive_its_policies(world: World, tmp_path: Path) -> None:
    """Others have taken over: the command says so. Back again, the first can be looked at again."""
    taking = _start_alone(world)
    plant(tmp_path / "mine", {"acme/none.lua": "return { api = 1 }\n"})
    assert json.loads(world.daemon.osm("policy", "reload", "-o", "json"))["state"] == "active"
    _, complaint = taking.communicate()
    assert taking.returncode == 1
    assert "other policies have taken over" in complaint
    world.daemon.osm("policy", "rollback", "for a test")
    until(lambda: _profile(world, "--seconds", "1")["generation"] == 1, "the first is looked at")


def test_a_daemon_stops_while_a_profile_is_taken(world: World) -> None:
    """At once, and who waits hears it."""
    taking = _start_alone(world)
    assert world.daemon.stop() == 0
    _, complaint = taking.communicate()
    assert taking.returncode == 1
    assert "stopping" in complaint


MODULE = """local M = { api = 1, rules = {}, emit = {} }
local function sum(n)
  local all = 0
  for i = 1, n do
    all = all + i
  end
  return all
end
function M.rules.keys() return { { "a" }, { "b" } } end
function M.rules.heavy() return sum(100000) end
function M.rules.light() return 1 end
M.emit.e = { each = "keys", run = function(mesh, out, name) mesh.heavy() mesh.light() end }
return M
"""


def test_without_a_daemon_one_translation_is_told_line_by_line(tmp_path: Path) -> None:
    """Exact counts; the heavy rule and its line come first; --top cuts, -o json does not."""
    mine = plant(tmp_path / "mine", {"acme/m.lua": MODULE})
    objects = plant(tmp_path / "objects", {"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"})
    done = osm("profile", mine, "--objects", objects, "-o", "json")
    assert done.returncode == 0, done.stderr
    profile = json.loads(done.stdout)
    rules = _rules(profile)
    assert (rules["heavy"]["runs"], rules["heavy"]["hits"]) == (1, 1)
    assert (rules["light"]["runs"], rules["light"]["hits"]) == (1, 1)
    assert (rules["acme/m.e"]["runs"], rules["acme/m.e"]["emitter"]) == (2, True)
    assert 199_900 <= rules["heavy"]["instructions"] <= 201_000
    first = profile["lines"][0]
    assert first["line"] in (4, 5)
    loop = next(line for line in profile["lines"] if line["line"] == 5)
    assert (loop["runs"], loop["text"]) == (100_000, "all = all + i")
    told = osm("profile", "--policies", mine, "--objects", objects, "--top", "1").stdout.splitlines()
    assert told[2].endswith("heavy (acme/m.lua:10)")
    assert told[3] == "  and 3 more rules and emitters; --top N shows them"
    assert "acme/m.lua:" in told[6]


@pytest.mark.parametrize(
    "arguments",
    [
        ("profile", str(SHIPPED)),
        ("profile", str(SHIPPED), "--objects", "absent"),
        ("profile", "absent", "--objects", "."),
        ("profile", "--objects", ".", "--seconds", "3"),
        ("profile", "--seconds", "0"),
        ("profile", "--seconds", "3s"),
        ("profile", "--top", "-1"),
    ],
)
def test_wrong_words_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and why."""
    done = osm(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("osm: ", "absent: "))


def test_the_shipped_policies_need_no_naming(tmp_path: Path) -> None:
    """As for `osm policy test`."""
    objects = plant(tmp_path / "objects", {"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"})
    done = osm("profile", "--objects", objects)
    assert done.returncode == 0, done.stderr
    assert "(osm/mesh_config.lua:" in done.stdout
