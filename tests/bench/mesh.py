"""Figures of the engine and of the daemon, each printed with the machine and the number of runs.

tests/bench/run builds the release preset and starts this inside a network of its own. Nothing here asserts a time.

* engine: the policy engine alone on a mesh in memory, for 100, 1,000 and 10,000 services, beside the same answers by a
  loop in C (engine.c).
* change -> snapshot, change -> applied: a file is replaced (a HTTPRouteGroup that one real Envoy serves) while the mesh
  has N services; the daemon's own wall-clock marks say when it handed the snapshot to gRPC and when the proxy had
  acknowledged all of it. Same machine, same clock.
* from scratch: a daemon started on N services with an account, a pod and a target each; its first policy run.
* memory: resident, of the daemon alone, with no object and with 100 connected, configured proxies.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig import World, isolate, until, xds


class Control:
    """One session on the control socket: cheaper than a process per question."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw")

    def ask(self, cmd: str, **args: Any) -> dict[str, Any]:
        """The answer's data; an error raises."""
        self._file.write(json.dumps({"id": 1, "cmd": cmd, "args": args}) + "\n")
        self._file.flush()
        answer = json.loads(self._file.readline())
        if not answer["ok"]:
            raise RuntimeError(answer["err"]["msg"])
        return answer["data"]


def machine() -> str:
    """Processor, cores, memory, kernel."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) // 1048576
    return f"{cpu}, {os.cpu_count()} cores, {memory} GiB, Linux {platform.release()}"


def percentile(values: list[float], share: float) -> float:
    """The value below which this share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def group(ns: str, name: str, path: str) -> dict[str, Any]:
    """A HTTPRouteGroup with one match `get`."""
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": name, "namespace": ns},
        "spec": {"matches": [{"name": "get", "pathRegex": path, "methods": ["GET"]}]},
    }


def target(ns: str, name: str, account: str, source: str, routes: str) -> dict[str, Any]:
    """A TrafficTarget from an account of the same namespace."""
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name, "namespace": ns},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": account, "namespace": ns},
            "sources": [{"kind": "ServiceAccount", "name": source, "namespace": ns}],
            "rules": [{"kind": "HTTPRouteGroup", "name": routes, "matches": ["get"]}],
        },
    }


def services(world: World, n: int, ns: str = "blue", first: int = 0) -> None:
    """n services, each with an account, a pod, a route group and a target that lets the next account call it."""
    world.namespace(ns)
    for i in range(first, first + n):
        world.service(ns, f"s{i}", 8080, {"app": f"s{i}"})
        world.pod(ns, f"s{i}", account=f"a{i}", labels={"app": f"s{i}"}, app="http=8080")
        world.apply(
            [group(ns, f"g{i}", "/a"), target(ns, f"t{i}", f"a{i}", f"a{first + (i - first + 1) % n}", f"g{i}")]
        )


def latency(n: int, runs: int) -> None:
    """A changed file to the snapshot, and to what a real Envoy has acknowledged."""
    with World() as world:
        world.namespace("red")
        world.service("red", "shop", 8080, {"app": "shop"})
        shop = world.pod("red", "shop", account="shop", labels={"app": "shop"}, app="http=8080")
        world.wait()
        world.until_connected([shop])
        world.pods, real = {}, dict(world.pods)
        services(world, n)  # their pods are objects only
        world.pods = real
        world.apply([group("red", "routes", "/0"), target("red", "t", "shop", "caller", "routes")])
        world.wait()
        control = Control(world.daemon.socket)
        snapshot: list[float] = []
        applied: list[float] = []
        for i in range(runs):
            before = control.ask("status")["snapshot"]
            path = world.path("HTTPRouteGroup", "red", "routes")
            text = path.read_text().replace(f"pathRegex: /{i}\n", f"pathRegex: /{i + 1}\n")
            start = time.time_ns() // 1000
            world.write(path, text)

            def done(before: int = before) -> dict[str, Any] | None:
                status = control.ask("status")
                return status if status["snapshot"] > before and status["applied_us"] else None

            status = until(done, "the change is applied", 10.0)
            snapshot.append((status["published_us"] - start) / 1000)
            applied.append((status["applied_us"] - start) / 1000)
        policy = control.ask("status")["policy"]
    for name, values in (
        ("change -> snapshot handed to gRPC", snapshot),
        ("change -> real Envoy has applied it", applied),
    ):
        print(
            f"{name}, {n} services: p50 {statistics.median(values):.1f} ms, p99 {percentile(values, 0.99):.1f} ms, "
            f"max {max(values):.1f} ms ({runs} runs)"
        )
    print(f"  the last run: {json.dumps(policy)}")


def from_scratch(n: int, runs: int) -> None:
    """The first policy run of a daemon that starts on n services."""
    spent, counted = [], {}
    for _ in range(runs):
        with World(real=False) as world:
            world.daemon.stop()
            services(world, n)
            world.daemon.start()
            until(lambda world=world: world.status()["settled"], "the first run has ended", 120.0)
            counted = world.status()["policy"]
            spent.append(counted["run_us"] / 1000)
            world.pods.clear()
    print(
        f"from scratch, {n} services, accounts, pods and targets: median {statistics.median(spent):.0f} ms, "
        f"min {min(spent):.0f}, max {max(spent):.0f} ({runs} runs); {json.dumps(counted)}"
    )


def memory(proxies: int) -> None:
    """Resident memory: idle, and with connected proxies (raw delta clients that ask for what an Envoy asks for)."""
    with World(real=False) as world:
        world.daemon.applied()
        idle = world.daemon.figures()["rss_kb"]
        services(world, proxies)
        world.daemon.applied()
        loaded = world.daemon.figures()["rss_kb"]
        world.start()
        streams = []
        for pod in world.pods.values():
            stream = xds.Delta(world, pod).__enter__()
            streams.append(stream)
            clusters = stream.fetch(xds.CDS, ["*"])
            stream.fetch(xds.EDS, [name for name in clusters.resources if not name.endswith("|local")] or ["none"])
            stream.fetch(xds.LDS, ["*"])
            stream.fetch(xds.SDS, ["service-cert"])
        world.daemon.applied()
        full = world.daemon.figures()["rss_kb"]
        for stream in streams:
            stream.__exit__(None, None, None)
        world.pods.clear()
    print(
        f"memory: idle {idle / 1024:.1f} MiB; {proxies} services {loaded / 1024:.1f} MiB; "
        f"with {proxies} connected proxies {full / 1024:.1f} MiB, {(full - loaded) / proxies:.0f} kB each (1 run)"
    )


def engine() -> None:
    """The program of engine.c, which measures by itself."""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([Path(os.environ["OSM_BUILD"]) / "engine_bench"], cwd=root, check=True)


def main() -> None:
    """All figures, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["engine", "latency", "scratch", "memory"], help="one of these")
    parser.add_argument("--runs", type=int, default=200, help="of the latency measurement (default 200)")
    options = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    if "engine" in options.what:
        engine()
    if options.what == ["engine"]:
        return
    isolate.enter()
    if "latency" in options.what:
        latency(100, options.runs)
    if "scratch" in options.what:
        from_scratch(1000, 5)
    if "memory" in options.what:
        memory(100)


if __name__ == "__main__":
    main()
