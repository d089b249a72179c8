"""Previews by an engine that is kept: what it was asked before leaves nothing to the next, and it says what a fresh one
says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from previews import ERROR, NOTHING, SHIPPED, fields, is_ready, run, told, write
from rig import World, until
from rig.objects import HTTP_8080, grant_all, split
from worlds import tracked


@pytest.fixture
def world() -> Iterator[World]:
    """A caller, and a split of two versions."""
    with tracked(World(real=False)) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller", account="caller")
        for version in ("v1", "v2"):
            world.pod("blue", version, account=version, labels={"app": version}, ports=[{"containerPort": 8080}])
            world.service("blue", version, HTTP_8080, {"app": version})
        world.service("blue", "apex", HTTP_8080, None)
        for each in [*grant_all("blue", "v1", "red/caller"), split("blue", "apex", "apex", v1=50, v2=50)]:
            world.apply(each)
        world.wait()
        yield world


def test_rules_that_keep_state_are_told_each_time(world: World, tmp_path: Path) -> None:
    """Though an engine that has met them is given nothing that changes them."""
    counts = "function(_, original, ...) n = n + 1; return original(...) end"
    state = f"local n = 0\nreturn {{ api = 1, wraps = {{ callers = {counts} }} }}"
    rule = "return {{ api = 1, rules = {{ ['acme.number'] = function() return {} end }} }}"
    for number in (1, 2, 1, 2):
        overlay = write(tmp_path, state=state, number=rule.format(number))
        errors = told(world, "policy", "diff", overlay, exit=ERROR)["errors"]
        assert [(error["module"], error["line"]) for error in errors] == [("acme/state.lua", 1)]
    assert told(world, "policy", "diff", SHIPPED, exit=NOTHING)["groups"] == []


def test_how_directories_lie_over_each_other_counts(world: World, tmp_path: Path) -> None:
    """The same files, as a whole bundle and as one over the shipped one: there, names that it adds hold a dot."""
    whole, overlay = tmp_path / "whole", tmp_path / "overlay"
    shutil.copytree(SHIPPED, whole)
    for folder in (whole, overlay):
        write(folder, number="return { api = 1, rules = { number = function() return 1 end } }")
    for _ in range(2):
        assert told(world, "diff", "--policies", whole, exit=NOTHING)["errors"] == []
        done = run(world, "policy", "diff", SHIPPED, overlay)
        assert done.returncode == ERROR
        assert "a name that this directory adds holds a dot" in done.stderr


def test_what_an_object_makes_rules_write_is_told_and_forgotten(world: World, tmp_path: Path) -> None:
    """Rules that are in force, and had no reason to write into an answer until then."""
    writes = """return { api = 1, wraps = { callers = function(mesh, original, ...)
      for _, split in ipairs(mesh.splits_of("blue", "apex")) do
        if split.spec.backends[1].weight == 5 then split.spec.service = "other" end
      end
      return original(...)
    end } }"""
    world.daemon.osm("policy", "apply", write(tmp_path, writes=writes))
    world.wait()
    until(lambda: is_ready(world), "an engine is ready")
    quiet = yaml.safe_dump(split("blue", "apex", "apex", v1=60, v2=40))
    before = told(world, "diff", "-f", "-", text=quiet)
    for more in ([], ["--fresh"]):
        text = yaml.safe_dump(split("blue", "apex", "apex", v1=5, v2=95))
        errors = told(world, "diff", "-f", "-", *more, exit=ERROR, text=text)["errors"]
        assert "was changed by one of its readers" in errors[0]["message"]
        assert told(world, "diff", "-f", "-", text=quiet)["groups"] == before["groups"]


def test_what_is_served_on_while_a_rule_fails_does_not_go(world: World, tmp_path: Path) -> None:
    """Of an emitter that fails, what grants nothing is served on: neither the rules in force nor other objects take it
    away, while a new generation would begin without it. Asked of an engine that has met it while it did not fail, and
    of one that has not."""
    marked = """return { api = 1, emit = { marks = { each = "Service", run = function(mesh, out, namespace, name)
      if (mesh.Service(namespace, name).metadata.labels or {}).mark then error("is marked") end
      out.cluster { name = "marks " .. name, audience = "everyone", message = {} }
    end } } }"""
    overlay = write(tmp_path / "marked", marked=marked)
    other = write(tmp_path / "other", marked=marked, other="return {}")
    world.daemon.osm("policy", "apply", overlay)
    world.wait()
    weights = yaml.safe_dump(split("blue", "apex", "apex", v1=60, v2=40))
    served = set()
    for name in ("v1", "v2"):
        service = yaml.safe_load(world.path("Service", "blue", name).read_text())
        service["metadata"]["labels"] = {"mark": "x"}
        world.apply(service)
        world.wait()
        served.add(f"marks {name}")
        for more in ([], ["--fresh"]):
            assert told(world, "policy", "diff", overlay, *more, exit=NOTHING)["groups"] == []
            objects = told(world, "diff", "-f", "-", *more, text=weights)
            assert fields(objects, "red/caller", "CDS") == {}
            assert len(fields(objects, "red/caller", "RDS")) == 2
            rules = told(world, "policy", "diff", other, *more)
            assert fields(rules, "red/caller", "CDS") == dict.fromkeys(served, "removed")
