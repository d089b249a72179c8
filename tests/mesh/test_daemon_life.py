"""How the daemon talks about itself, and how it ends: without a leak, also after work."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig import World
from rig.daemon import ROOT, build_dir
from rig.waiting import until
from rig.web import get
from rig.xds import CDS, EDS, LDS, SDS, Delta, Sotw


def test_version_and_help_need_no_other_flag() -> None:
    """Both print to standard output and end with 0."""
    for program in ("osm-controller", "osm"):
        usage = subprocess.run([build_dir() / program, "--help"], capture_output=True, text=True, check=True)
        assert program in usage.stdout
        assert not usage.stderr
    version = subprocess.run([build_dir() / "osm-controller", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("osm-controller ")


def test_every_log_record_is_one_line_of_json() -> None:
    """Level, component, time and message in each; nothing else is written."""
    with World(real=False) as world:
        world.namespace("red")
        world.apply("{kind: Broken, apiVersion: v1, metadata: {name: x, namespace: red}, spec: [}".replace("[}", "[]}"))
        world.daemon.applied()
        world.daemon.stop()
        lines = world.daemon.log().splitlines()
    assert len(lines) >= 3
    for line in lines:
        record = json.loads(line)
        assert {"level", "component", "time", "message"} <= record.keys()
    messages = [json.loads(line)["message"] for line in lines]
    assert messages[0] != messages[-1] == "stopped"
    assert "started" in messages


def policies(world: World) -> None:
    """Two workloads, one may call the other, and a split."""
    world.namespace("red")
    for name in ("caller", "shop", "shop-v2"):
        world.service("red", name, 8080, {"app": name})
        world.pod("red", name, account=name, labels={"app": name}, app="http=8080")
    world.apply("""
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: red}
spec: {matches: [{name: all, pathRegex: ".*", methods: ["*"]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: red}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: red}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all, matches: [all]}]
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: s, namespace: red}
spec: {service: shop, backends: [{service: shop, weight: 50}, {service: shop-v2, weight: 50}]}
""")


@pytest.mark.skipif(not (ROOT / "build" / "asan" / "osm-controller").exists(), reason="build/asan is not built")
def test_no_leak_at_exit_after_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Built with address and undefined-behaviour sanitizers: objects come, change, break and go, clients of both forms
    come and go, the CLI and HTTP are asked everything; then SIGTERM. The sanitizers end a process that leaks with an
    error."""
    monkeypatch.setenv("OSM_BUILD", str(ROOT / "build" / "asan"))
    with World(real=False, flags=["--debug-address=127.0.0.1:0"]) as world:
        policies(world)
        world.start()
        caller = world.pods["red/caller"]
        with Delta(world, caller) as delta, Sotw(world, caller) as sotw:
            delta.fetch(CDS, ["*"])
            delta.fetch(LDS, ["*"])
            delta.fetch(SDS, ["service-cert"])
            sotw.fetch(CDS)
            sotw.fetch(EDS, ["red/shop|8080"])
            world.mesh_config(permissive=True)
            world.delete("TrafficSplit", "red", "s")
            world.write(world.files / "broken.yaml", "kind: [")
            world.daemon.osm("status")
            world.daemon.osm("proxy", "get", "config", "red/caller")
            world.daemon.osm("proxy", "bootstrap", "red/caller", "--out", str(tmp_path / "sidecar"))
            for path in ("/metrics", "/health/ready?verbose", "/version", "/smi/version"):
                get(world.daemon.http(), path)
            debug = world.status()["debug"]
            for path in get(debug, "/debug").json():
                get(debug, f"{path}?seconds=1&uuid={caller.uuid}&cfg=true")
        world.delete("Pod", "red", "caller")
        world.daemon.applied()
        status = world.daemon.stop(timeout=30.0)
        log = world.daemon.log()
    assert status == 0, log[-4000:]
    assert "Sanitizer" not in log
    assert json.loads(log.splitlines()[-1])["open_handles"] == 0


GREEDY = """
local M = { api = 1, rules = {}, emit = {} }
M.rules["acme.hoard"] = function(_, name, i)
  return name .. i .. ("x"):rep(1000000)
end
M.emit.hoards = {
  each = "Service",
  run = function(mesh, _, namespace, name)
    local annotations = mesh.Service(namespace, name).metadata.annotations or {}
    for i = 1, tonumber(annotations.hoard or "0") do
      mesh.acme.hoard(name, i)
    end
  end,
}
return M
"""


def test_an_engine_that_is_lost_is_built_anew_and_the_status_says_so(tmp_path: Path) -> None:
    """More memory than the policies may have, from the start: told with the flag's name, tried again, healed."""
    (tmp_path / "greedy.lua").write_text(GREEDY)
    world = World(real=False, policies=[ROOT / "policies", tmp_path])
    world.daemon.command.append("--policy-memory=64Mi")
    objects = """
apiVersion: v1
kind: Namespace
metadata: {name: red, labels: {openservicemesh.io/monitored-by: osm}}
---
apiVersion: v1
kind: Service
metadata: {name: big, namespace: red, annotations: {hoard: "HOARD"}}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}
"""
    world.put("greedy.yaml", objects.replace("HOARD", "200"))
    with world:
        until(lambda: "2 failed in a row" in (world.status()["policy_error"] or ""), "the engine is lost twice", 60)
        said = world.status()["policy_error"]
        assert said.startswith("the policies need more than 67108864 bytes of memory; --policy-memory gives more; ")
        assert "--policy-memory gives more" in world.daemon.osm("status")
        world.put("greedy.yaml", objects.replace("HOARD", "1"))
        world.daemon.applied(60)
        assert world.status()["policy_error"] is None
        assert world.status()["errors"] == []


@pytest.mark.skipif(build_dir().name != "release", reason="a debug build's Lua scatters its blocks over the heap")
def test_memory_of_objects_that_have_gone_goes_back_to_the_system() -> None:
    """What is resident, which a pod's limit counts, falls: the C library alone would keep it for the next. It falls
    again when more goes later."""

    def services(n: int) -> list[dict[str, Any]]:
        ports = [{"name": f"p{port}", "port": port} for port in range(1, 20)]
        named = [{"name": f"s{n}-{i}", "namespace": "red"} for i in range(200)]
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": m, "spec": {"clusterIP": "None", "ports": ports}}
            for m in named
        ]

    with World(real=False, flags=["--preview-memory=0"]) as world:
        world.namespace("red")
        world.wait()
        before = world.daemon.figures()["rss_kb"]
        for n in range(6):
            world.write(
                world.files / "many" / f"{n}.json",
                json.dumps({"kind": "List", "apiVersion": "v1", "items": services(n)}),
            )
        world.wait()
        most = world.daemon.figures()["rss_kb"]
        assert most > before + (60 << 10)
        for n in range(3):
            (world.files / "many" / f"{n}.json").unlink()
        world.wait()
        limit = most - (most - before) // 8
        until(lambda: world.daemon.figures()["rss_kb"] < limit, f"no more than {limit} of {most} kB are resident", 60)
        shutil.rmtree(world.files / "many")
        world.wait()
        limit = most - (most - before) // 3  # the rules' state keeps its share
        until(lambda: world.daemon.figures()["rss_kb"] < limit, f"no more than {limit} of {most} kB are resident", 60)
