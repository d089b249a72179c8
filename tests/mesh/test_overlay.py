"""An operator's directory over the shipped policies: the daemon serves what it says, and says what to look after."""

from __future__ import annotations

import json
from pathlib import Path

from rig import World
from rig.daemon import ROOT

TIMEOUT = """
return { api = 1, extends = { cluster = { run = function(_, cluster, at)
  if at.direction == "outbound" then cluster.connect_timeout = "7s" end
end } } }
"""


def test_the_daemon_takes_several_directories(tmp_path: Path) -> None:
    """An added file changes every cluster, a replaced one is served; log and `osm status` say what was not written."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "timeout.lua").write_text(TIMEOUT)
    (tmp_path / "smi").mkdir()
    (tmp_path / "smi" / "split.lua").write_text((ROOT / "policies/smi/split.lua").read_text() + "\n")
    with World(real=False, permissive=True, policies=[ROOT / "policies", tmp_path]) as world:
        world.namespace("red")
        world.pod("red", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("red", "shop", [{"port": 80, "targetPort": 8080}], {"app": "shop"})
        world.wait()
        served = world.daemon.osm("proxy", "get", "config", "red/shop", "CDS", "-o", "json")
        clusters = {each["name"]: each for each in json.loads(served)["CDS"]}
        assert clusters["red/shop|8080"]["connect_timeout"] == "7s"
        assert "connect_timeout" not in clusters["red/shop|8080|local"]
        status = world.daemon.osm("status")
        assert "smi/split.lua: replaces the file of " in status
        warning = next(json.loads(line) for line in world.daemon.log().splitlines() if "-- replaces: " in line)
        assert (warning["level"], warning["module"]) == ("warn", "smi/split.lua")


WRITES = """
return { api = 1, wraps = { grants = function(mesh, original, namespace, account)
  local target = mesh.TrafficTarget("blue", "t")
  if target then table.insert(target.spec.sources, { kind = "ServiceAccount", name = "mallory", namespace = "red" }) end
  return original(namespace, account)
end } }
"""

TARGET = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: any, namespace: blue}
spec: {matches: [{name: any}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: any}]
"""


def test_a_rule_that_writes_into_an_object_is_told_at_once(tmp_path: Path) -> None:
    """In the very run: it may have granted what nobody wrote."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "writes.lua").write_text(WRITES)
    with World(real=False, permissive=False, policies=[ROOT / "policies", tmp_path]) as world:
        world.namespace("blue")
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", [{"port": 80, "targetPort": 8080}], {"app": "shop"})
        world.apply(TARGET)
        world.wait()
        assert "was changed by one of its readers; what mesh answers is read-only" in world.daemon.osm("status")
        (tmp_path / "target.yaml").write_text(TARGET)
        preview = json.loads(world.daemon.osm("diff", "-f", str(tmp_path / "target.yaml"), "-o", "json"))
        assert (preview["errors"], preview["fixed"]) == ([], [])  # a preview finds what the daemon has found
