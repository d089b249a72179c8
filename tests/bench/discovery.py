"""Figures of the discovery server: tests/bench/run xds [--sidecars N...] [--forms delta,sotw] [--runs N] [--changes N].

A real osm-controller on loopback serves N simulated sidecars (tests/bench/load) of a mesh in which each is told about
60 resources; beside each figure stands that of the transport alone (gRPC core with the same settings, answering with
recorded bytes), of the same run on the same machine. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh import machine
from rig import World
from rig.daemon import build_dir

SERVICES = 19  # 19 clusters, 19 assignments, 19 roots, own certificate, a listener, a route table: 60
PODS_PER_FILE = 100
WORDS = {
    "alone_p50_ms": "a proxy alone: all of it ACKed, p50, ms",
    "alone_p99_ms": "... p99, ms",
    "among_p50_ms": "a proxy anew, all others idle: p50, ms",
    "among_p99_ms": "... p99, ms",
    "all_s": "all at once: last ACKed, s",
    "all_cpu_s": "... processor, s",
    "all_client_cpu_s": "... the load client's own, s",
    "all_responses": "... responses",
    "all_bytes": "... bytes",
    "rss_kb_per_proxy": "resident per proxy, kB",
    "endpoint_first_p50_ms": "an endpoint changes: first ACKed, p50, ms",
    "endpoint_first_max_ms": "... worst, ms",
    "endpoint_all_p50_s": "... last ACKed, p50, s",
    "endpoint_all_max_s": "... worst, s",
    "endpoint_updates": "... updates",
    "endpoint_updates_per_s": "... updates per second",
    "endpoint_cpu_us_per_update": "... processor per update, us",
    "service_first_p50_ms": "a service comes or goes: first ACKed, p50, ms",
    "service_first_max_ms": "... worst, ms",
    "service_all_p50_s": "... last ACKed all, p50, s",
    "service_all_max_s": "... worst, s",
    "service_updates": "... updates",
    "service_updates_per_s": "... updates per second",
    "service_cpu_us_per_update": "... processor per update, us",
    "again_s": "all come again, s",
    "again_cpu_s": "... processor, s",
    "again_bytes": "... bytes re-sent",
}


def _pod(n: int, account: str, app: str) -> tuple[str, str]:
    """A ready pod with a sidecar, and its line for the load client."""
    own = str(uuid.uuid4())
    address = f"10.{100 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}"
    return _manifest(n, account, f"app: {app}, osm-proxy-uuid: {own}", address), f"{own} {account} load\n"


def _manifest(n: int, account: str, labels: str, address: str) -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: load, labels: {{{labels}}}}}\n"
        f"spec: {{serviceAccountName: {account}, containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]}}\n"
        f"status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}], "
        'conditions: [{type: Ready, status: "True"}]}\n'
    )


def _service(name: str, app: str, address: str) -> str:
    port = "{name: http, port: 80, targetPort: 8080, appProtocol: http, protocol: TCP}"
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: load}}\n"
        f"spec: {{clusterIP: {address}, clusterIPs: [{address}], selector: {{app: {app}}}, ports: [{port}]}}\n"
    )


def _fill(world: World, sidecars: int) -> tuple[Path, list[str]]:
    """The objects; the list of proxies, and files to swap: changes that concern all of them."""
    world.namespace("load")
    services = [_service(f"s{n}", f"a{n}", f"10.96.0.{n + 1}") for n in range(SERVICES)]
    made = [_pod(n, f"account{n % SERVICES}", f"a{n}" if n < SERVICES else "client") for n in range(sidecars)]
    world.write(world.files / "services.yaml", "---\n".join(services))
    for at in range(0, sidecars, PODS_PER_FILE):
        world.write(world.files / f"pods-{at}.yaml", "---\n".join(pod for pod, _ in made[at : at + PODS_PER_FILE]))
    proxies = world.folder / "proxies"
    proxies.write_text("".join(line for _, line in made[SERVICES:] + made[:SERVICES]))
    contents = {  # an endpoint that moves: no other resource names its address
        "endpoint": [_manifest(sidecars, "account0", "app: a0", f"10.200.0.{last}") for last in (1, 2)],
        "service": ["# nothing yet\n", _service("extra", "a0", "10.96.1.1")],
    }
    swaps = []
    for name, (first, second) in contents.items():
        file, other = world.files / f"{name}.yaml", world.folder / f"{name}.other"
        world.write(file, first)
        other.write_text(second)
        swaps += ["--swap", f"{file}:{other}"]
    return proxies, swaps


def measure(
    sidecars: int,
    form: str,
    *,
    singles: int = 100,
    changes: int = 10,
    quiet_ms: int = 1000,
    record: Path | None = None,
) -> dict[str, Any]:
    """One run, server and floor. `record`: where what one sidecar was sent is kept."""
    with (
        tempfile.TemporaryDirectory(prefix="osm-load-") as folder,
        World(Path(folder), real=False, permissive=True, flags=["--verbosity", "warn"]) as world,
    ):
        proxies, swaps = _fill(world, sidecars)
        world.daemon.applied(120)
        command = [
            str(build_dir() / "xds-load"),
            *("--target", world.daemon.ads),
            *("--state-dir", str(world.daemon.state)),
            *("--proxies", str(proxies)),
            *("--form", form),
            *("--server-pid", str(world.daemon.pid)),
            *swaps,
            *("--changes", str(changes)),
            *("--singles", str(singles)),
            *("--quiet-ms", str(quiet_ms)),
            *("--timeout-s", "600"),
            *("--record", str(record or world.folder / "record")),
            "--self-test",
            *("-o", "json"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr}" + world.daemon.log()[-2000:])
        return json.loads(done.stdout)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sidecars", type=int, nargs="+", default=[1000])
    parser.add_argument("--forms", default="delta,sotw")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--changes", type=int, default=10, help="of each kind in a run")
    options = parser.parse_args()
    print(f"{machine()}; medians of {options.runs} runs, the load on the same machine")
    for sidecars in options.sidecars:
        for form in options.forms.split(","):
            runs = [measure(sidecars, form, changes=options.changes) for _ in range(options.runs)]
            print(f"{sidecars} sidecars, {form}, {runs[0]['transport']}")
            print(f"  {'':46} {'server':>12} {'transport':>12} {'ratio':>7}")
            for key, words in WORDS.items():
                server = statistics.median(run["server"][key] for run in runs)
                floor = statistics.median(run["floor"][key] for run in runs)
                ratio = f"{server / floor:7.2f}" if floor else ""
                print(f"  {words:46} {server:12.2f} {floor:12.2f} {ratio}", flush=True)


if __name__ == "__main__":
    main()
