"""Figures of the Kubernetes source: tests/bench/run kube [--services N] [--runs N].

The API server is real, and so is one Envoy; pods of the crowd are of paper.

* start: a daemon that starts on N Services with their slices and 2N Pods: until everything is listed, until the first
  snapshot, resident memory; beside it the same crowd in a namespace that is not in the mesh;
* change -> applied: a HTTPRouteGroup is applied by kubectl, and the Envoy that serves it has acknowledged it: from
  kubectl's start, and of that what is ours: from the moment when the watch told the daemon;
* pods: eight clients make pods at the same time in a namespace where each gets a sidecar, and in one that is not in
  the mesh: how many a second, how long one takes, the daemon's processor time for each;
* stream: 200 changes of endpoints a second, for some seconds: the daemon's processor time, how many snapshots there
  were, and how old the last of the changes was when the Envoy had it.

Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mesh"))

from kube_meshes import kind, kube_daemon
from mesh import Control, group, machine, percentile, target
from rig import isolate, net, until
from rig.kube import Kube
from rig.kube_crds import mesh_kinds
from rig.kubelet import Kubelet
from rig.world_kube import KubeWorld

STREAM_S, STREAM_PER_S = 15.0, 200
WRITERS = 8
Object = dict[str, Any]


def _service(ns: str, name: str) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 8080, "appProtocol": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def _pod(ns: str, name: str, app: str) -> Object:
    container = {"name": "app", "image": "app", "ports": [{"name": "web", "containerPort": 8080}]}
    container["env"] = [{"name": f"VARIABLE_{n}", "value": "what a pod of an application says"} for n in range(6)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": ns, "labels": {"app": app, "version": "v1"}},
        "spec": {"nodeName": "node-1", "containers": [container]},
    }


def crowd(kube: Kube, ns: str, services: int) -> float:
    """N Services of two ready Pods each, with their slices; the seconds that took."""
    begin = time.monotonic()
    objects = [_service(ns, f"s{n}") for n in range(services)]
    objects += [_pod(ns, f"s{n}-{i}", f"s{n}") for n in range(services) for i in range(2)]
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(kube.api.create, objects, chunksize=50):
            pass

    def ready() -> bool:
        slices = kube.api.list("discovery.k8s.io/v1", "EndpointSlice", ns)
        addresses = [e for s in slices for e in s.get("endpoints") or [] if e["conditions"].get("ready")]
        return len(addresses) == 2 * services

    until(ready, "all pods are ready, and in slices", 1800.0, poll=15.0)
    return time.monotonic() - begin


def start(kube: Kube, ns: str, mesh: str, folder: Path) -> str:
    """A daemon of this mesh from its start to its first snapshot, and to the barrier."""
    begin = time.monotonic()
    daemon = kube_daemon(folder, kube.kubeconfig, mesh_name=mesh, ns="osm-system").start()
    try:
        control = Control(daemon.socket)
        until(lambda: control.ask("status")["source"]["state"] == "ok", "all is listed", 300.0, poll=0.05)
        listed = time.monotonic() - begin
        until(lambda: control.ask("status")["snapshot"] > 0, "the first snapshot", 300.0, poll=0.05)
        served = time.monotonic() - begin
        figures, status = daemon.figures(), control.ask("status")
        daemon.applied(120.0)
        waited = time.monotonic() - begin - served
        source = status["source"]
        return (
            f"listed after {listed:.1f} s, first snapshot after {served:.1f} s, "
            f"resident {figures['rss_kb'] / 1024:.0f} MiB; "
            f"then `osm wait` {waited:.1f} s; {source['objects']} objects, {source['outside']} outside, "
            f"{kind(daemon, 'Pod')['objects']} pods"
        )
    finally:
        daemon.stop()


@contextlib.contextmanager
def world_of(kube: Kube, kubelet: Kubelet, folder: Path):
    """One real Envoy that serves the account `shop`, whom `caller` may call."""
    with KubeWorld(kube, kubelet, folder, injects=True) as world:
        world.namespace("red")
        world.namespace("bare", monitored=False)
        world.service("red", "shop", 8080, {"app": "shop"})
        world.pod("red", "shop", account="shop", labels={"app": "shop"}, app="http=8080")
        world.apply([group("red", "routes", "/0"), target("red", "t", "shop", "caller", "routes")])
        world.wait()
        yield world


def latency(world: KubeWorld, runs: int, folder: Path) -> None:
    """kubectl apply to the Envoy's acknowledgement."""
    control = Control(world.daemon.socket)
    values: dict[str, list[float]] = {"kubectl starts -> the Envoy has applied it": []}
    values |= {"of that: the watch tells it -> the response is handed to gRPC": []}
    values |= {"         the watch tells it -> the Envoy has applied it": []}
    path = folder / "routes.yaml"
    for run in range(runs):
        before = control.ask("status")["snapshot"]
        path.write_text(json.dumps(group("red", "routes", f"/{run + 1}")))
        begin_us = time.time_ns() // 1000
        world.kube.kubectl("apply", "-f", str(path))

        def done(before: int = before) -> Object | None:
            status = control.ask("status")
            return status if status["snapshot"] > before and status["applied_us"] else None

        status = until(done, "the change is applied", 10.0)
        for name, us in zip(
            values,
            (
                status["applied_us"] - begin_us,
                status["published_us"] - status["heard_us"],
                status["applied_us"] - status["heard_us"],
            ),
            strict=True,
        ):
            values[name].append(us / 1000)
    for name, each in values.items():
        p50, p99 = statistics.median(each), percentile(each, 0.99)
        print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(each):.1f} ms ({runs} runs)", flush=True)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stream(world: KubeWorld) -> None:
    """Endpoints that change 200 times a second, of twenty Services that one Envoy has clusters for."""
    names = [f"moving-{n}" for n in range(20)]
    world.mesh_config(permissive=True)
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    for name in names:
        world.service("red", name, 8080, None)

    def slice_of(name: str, n: int) -> Object:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "red", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [f"10.20.{n // 200 % 200}.{n % 200 + 1}"], "conditions": {"ready": True}}],
        }

    for name in names:
        world.kube.api.apply(slice_of(name, 0))
    world.wait()
    control = Control(world.daemon.socket)
    before, begin, cpu = control.ask("status")["snapshot"], time.monotonic(), _cpu_s(world.daemon.pid)
    written = [0] * 4

    def write(writer: int) -> None:
        n = writer
        while (now := time.monotonic() - begin) < STREAM_S:
            if n <= now * STREAM_PER_S:
                world.kube.api.apply(slice_of(names[n % len(names)], n))
                written[writer] += 1
                n += len(written)
            else:
                time.sleep(0.001)  # its pace

    writers = [threading.Thread(target=write, args=(n,)) for n in range(len(written))]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    took, spent = time.monotonic() - begin, _cpu_s(world.daemon.pid) - cpu
    world.wait()
    status = control.ask("status")
    print(
        f"stream: {sum(written) / took:.0f} changes/s for {took:.0f} s: "
        f"processor time {100 * spent / took:.1f} % of a core, "
        f"{(status['snapshot'] - before) / took:.0f} snapshots/s; the last change was applied "
        f"{(status['applied_us'] - status['heard_us']) / 1000:.1f} ms after the watch told it",
        flush=True,
    )


def pods(world: KubeWorld, count: int) -> None:
    """In turns; the server's own work is the same in both."""
    took: dict[str, list[float]] = {"bare": [], "red": []}
    rates: dict[str, list[float]] = {"bare": [], "red": []}
    cpu = 0.0
    for turn in range(3):
        for ns, each in took.items():

            def make(n: int, ns: str = ns, turn: int = turn) -> float:
                begin = time.monotonic()
                world.kube.api.create(_pod(ns, f"many-{turn}-{n}", "many"))
                return time.monotonic() - begin

            before, begin = _cpu_s(world.daemon.pid), time.monotonic()
            with ThreadPoolExecutor(WRITERS) as pool:
                each += pool.map(make, range(count))
            rates[ns].append(count / (time.monotonic() - begin))
            cpu += _cpu_s(world.daemon.pid) - before if ns == "red" else 0
            world.wait(120.0)
    for ns, what in (("bare", "outside of the mesh"), ("red", "with a sidecar")):
        ms = [1000 * value for value in took[ns]]
        print(
            f"pods {what}: {statistics.median(rates[ns]):.0f} a second ({WRITERS} clients), p50 "
            f"{statistics.median(ms):.0f} ms, p99 {percentile(ms, 0.99):.0f} ms ({len(ms)} pods)",
            flush=True,
        )
    print(
        f"     the daemon's processor time for a pod with a sidecar: {1000 * cpu / len(took['red']):.1f} ms", flush=True
    )


def main() -> None:
    """All figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10000, help="of the crowd, with two pods each (10000); 0: none")
    parser.add_argument("--pods", type=int, default=300, help="made in each turn (300)")
    parser.add_argument("--runs", type=int, default=100, help="of the latency (100)")
    options = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    folder = isolate.enter()
    net.loopback_up()
    with Kube(folder) as kube, Kubelet(kube) as kubelet:
        with world_of(kube, kubelet, folder / "world") as world:
            latency(world, options.runs, folder)
            stream(world)
            pods(world, options.pods)
    if not options.services:
        return
    with Kube(folder) as kube, Kubelet(kube):
        kube.crd(*mesh_kinds())
        kube.namespace("crowd", {"openservicemesh.io/monitored-by": "osm"})
        kube.namespace("osm-system")
        took = crowd(kube, "crowd", options.services)
        print(f"crowd: {options.services} Services, {2 * options.services} Pods, made in {took:.0f} s", flush=True)
        for what, mesh in (("in the mesh", "osm"), ("outside of it", "another")):
            where = Path(tempfile.mkdtemp(prefix="d-", dir=folder))
            print(f"start, {what}: {start(kube, 'crowd', mesh, where)}", flush=True)


if __name__ == "__main__":
    main()
