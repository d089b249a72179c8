"""What our configuration costs the data plane: tests/bench/run dataplane [--runs N] [--seconds S].

Three ways from one pod to another, of one run, one after the other, on one machine: without sidecars; through two
Envoys with the least configuration that does mutual TLS between them, written by hand; through the same Envoys with
ours (a grant of one path: RBAC on the connection and on the request, access logs, route tables by ADS). wrk asks, a
third Envoy that answers by itself stands for the application, so the sidecars are what takes the time. One connection
for the latency, 32 for the throughput. And how large a client's sidecar is with so many Services in view.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh import machine
from rig import Pod, World, forge, isolate, net, until
from rig.net import APP_UID, ENVOY_UID
from rig.objects import HTTP_8080, match, routes, target

PORT = 8080
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}


def _listener(port: int, route: dict[str, Any], tls: dict[str, Any] | None = None) -> dict[str, Any]:
    manager = {
        "@type": f"type.googleapis.com/{_MANAGER}",
        "stat_prefix": "least",
        "http_filters": [_ROUTER],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
        },
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls:
        chain["transport_socket"] = tls
    return {
        "name": str(port),
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": [chain],
    }


def _cluster(address: str, port: int, tls: dict[str, Any] | None = None) -> dict[str, Any]:
    endpoint = {"address": {"socket_address": {"address": address, "port_value": port}}}
    made: dict[str, Any] = {
        "name": "next",
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }
    if tls:
        made["transport_socket"] = tls
    return made


def _tls(kind: str, folder: Path, name: str, **more: Any) -> dict[str, Any]:
    """Mutual TLS from files of this folder."""
    files = {key: {"filename": str(folder / f"{name}.{key}")} for key in ("certificate_chain", "private_key")}
    common = {
        "tls_certificates": [files],
        "validation_context": {"trusted_ca": {"filename": str(folder / "roots")}},
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
    }
    full = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": full, "common_tls_context": common, **more},
    }


def _certificates(folder: Path) -> None:
    root = forge.certificate(None, "root", usage=None, ca=True)
    (folder / "roots").write_bytes(root.credentials().chain or b"")
    for name, usage in (("client", forge.CLIENT), ("server", forge.SERVER)):
        made = forge.certificate(root, name, dns=["server"], usage=[usage]).credentials()
        for key, content in (("certificate_chain", made.chain), ("private_key", made.key)):
            (folder / f"{name}.{key}").write_bytes(content or b"")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def _envoy(world: World, pod: Pod, uid: int, config: dict[str, Any], ready: int) -> Iterator[int]:
    """A hand-configured Envoy in a pod until the end of the block; its process id."""
    path = pod.folder / f"least-{ready}.json"
    path.write_text(json.dumps({"static_resources": config}))
    path.chmod(0o644)
    assert world.site
    words = ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    log = (pod.folder / f"least-{ready}.log").open("wb")
    with (
        log,
        subprocess.Popen(pod.netns.command(uid, str(world.site.envoy), *words), stdout=log, stderr=log) as process,
    ):
        try:

            def listens() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(pod.log(f"least-{ready}.log")[-2000:])
                with pod.netns.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", ready)) == 0

            until(listens, f"Envoy listens on {ready}")
            yield process.pid
        finally:
            process.kill()


def _wrk(pod: Pod, url: str, connections: int, seconds: int) -> dict[str, float]:
    """p50 and p99 in microseconds, and requests per second."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    done = subprocess.run(pod.netns.command(APP_UID, *command), capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    unit = {"us": 1.0, "ms": 1e3, "s": 1e6}
    found = {"rps": float(re.findall(r"Requests/sec: +([\d.]+)", done.stdout)[0])}
    for share in ("50", "99"):
        value, name = re.findall(rf"^ +{share}% +([\d.]+)(us|ms|s)$", done.stdout, re.MULTILINE)[0]
        found[f"p{share}"] = float(value) * unit[name]
    return found


def _measure(pod: Pod, url: str, seconds: int) -> dict[str, float]:
    until(lambda: pod.face(url) == "200", f"{pod} gets 200 from {url}")
    _wrk(pod, url, 8, 1)  # connections are open, caches are warm
    alone, many = _wrk(pod, url, 1, seconds), _wrk(pod, url, 32, seconds)
    return {"p50 us": alone["p50"], "p99 us": alone["p99"], "requests/s": many["rps"], "p99 us of 32": many["p99"]}


def traffic(runs: int, seconds: int) -> None:
    """The three ways, side by side."""
    answer = {"direct_response": {"status": 200, "body": {"inline_string": "x" * 128}}}
    forward = {"route": {"cluster": "next", "timeout": "0s"}}
    results: dict[str, list[dict[str, float]]] = {"none": [], "least": [], "ours": []}
    with World() as world:
        for ns in ("red", "blue"):
            world.namespace(ns)
        for name in ("ours", "least", "none"):
            beside = {"sidecar": name != "none", "envoy": name == "ours"}
            world.pod("red", f"caller-{name}", account="caller", **beside)
            labels = {"app": name}
            world.pod("blue", f"shop-{name}", account="shop", labels=labels, ports=[{"containerPort": PORT}], **beside)
        world.service("blue", "shop", HTTP_8080, {"app": "ours"})
        world.apply(routes("blue", "g", match("m", "/", ["GET"])))
        world.apply(target("blue", "t", "blue/shop", ["red/caller"], group="g"))
        world.wait()
        folder = world.folder / "least"
        folder.mkdir()
        _certificates(folder)
        callers = {name: world.pods[f"red/caller-{name}"] for name in results}
        shops = {name: world.pods[f"blue/shop-{name}"] for name in results}
        upstream = _tls("UpstreamTlsContext", folder, "client", sni="server")
        downstream = _tls("DownstreamTlsContext", folder, "server", require_client_certificate=True)
        client = {
            "listeners": [_listener(15001, forward)],
            "clusters": [_cluster(shops["least"].address, PORT, upstream)],
        }
        server = {"listeners": [_listener(15003, forward, downstream)], "clusters": [_cluster("127.0.0.1", PORT)]}
        with contextlib.ExitStack() as stack:
            for shop in shops.values():
                stack.enter_context(_envoy(world, shop, APP_UID, {"listeners": [_listener(PORT, answer)]}, PORT))
            stack.enter_context(_envoy(world, shops["least"], ENVOY_UID, server, 15003))
            least_pid = stack.enter_context(_envoy(world, callers["least"], ENVOY_UID, client, 15001))
            urls = {name: f"http://{shops[name].address}:{PORT}/" for name in ("none", "least")}
            urls["ours"] = "http://shop.blue/"
            for _ in range(runs):
                for name, url in urls.items():
                    results[name].append(_measure(callers[name], url, seconds))
            size = {"least": least_pid, "ours": callers["ours"].envoy_process.pid}
            sizes = {name: _resident_mb(pid) for name, pid in size.items()}
    print(f"  {'':14} {'no sidecars':>12} {'least':>12} {'ours':>12} {'ours / least':>13}")
    for key in results["none"][0]:
        none, least, ours = (statistics.median(run[key] for run in results[name]) for name in results)
        print(f"  {key:14} {none:12.0f} {least:12.0f} {ours:12.0f} {ours / least:13.2f}", flush=True)
    least_mb, ours_mb = sizes["least"], sizes["ours"]
    print(f"  {'resident, MB':14} {'':12} {least_mb:12.1f} {ours_mb:12.1f} {ours_mb / least_mb:13.2f}")


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def memory(counts: list[int]) -> None:
    """Of a client's sidecar that sees so many Services, each with a port and a pod; in permissive mode it sees all."""
    print("  Services in view   a client's sidecar, resident MB")
    for at, count in enumerate(counts):
        with World(permissive=True) as world:
            for ns in ("red", "blue"):
                world.namespace(ns)
            world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, envoy=False)
            for n in range(count):
                world.service(
                    "blue", f"shop-{n}", HTTP_8080, {"app": "shop"}, address=f"10.{200 + at}.{n // 250}.{n % 250 + 1}"
                )
            caller = world.pod("red", "caller", account="caller")
            world.wait(120)
            seen = len(caller.envoy.clusters())
            print(f"  {count:16} {_resident_mb(caller.envoy_process.pid):12.1f}   ({seen} clusters)", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--services", type=int, nargs="*", default=[10, 100, 1000])
    options = parser.parse_args()
    isolate.enter()
    net.loopback_up()
    print(f"{machine()}; medians of {options.runs} runs of {options.seconds} s, everything on the same machine")
    traffic(options.runs, options.seconds)
    memory(options.services)


if __name__ == "__main__":
    main()
