"""A daemon on an API server, real or fake, with objects of paper: what it is told, and what it would serve."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rig import until
from rig.daemon import Daemon
from rig.kube import Kube
from rig.kube_fake import FakeKube
from rig.kubelet import Kubelet
from rig.objects import HTTP_8080, grant_all
from rig.world import free_port

Object = dict[str, Any]

MONITORED_BY = "openservicemesh.io/monitored-by"
TARGET = ("access.smi-spec.io/v1alpha3", "TrafficTarget")

SHOP_UUID, CALLER_UUID = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def kube_daemon(
    folder: Path,
    kubeconfig: Path | None,
    *,
    mesh_name: str = "osm",
    ns: str = "osm-system",
    extra: Sequence[str] = (),
    **how: Any,
) -> Daemon:
    """One that reads from an API server; without a kubeconfig, as a pod does."""
    source = ["--source", "kubernetes", *([f"--kubeconfig={kubeconfig}"] if kubeconfig else [])]
    ads = f"127.0.0.1:{free_port('127.0.0.1')}"
    return Daemon(folder, source, ads=ads, mesh_name=mesh_name, osm_namespace=ns, extra=tuple(extra), **how)


def namespace(name: str, mesh_name: str | None = "osm") -> Object:
    labels = {"openservicemesh.io/monitored-by": mesh_name} if mesh_name else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(ns: str, name: str, account: str, uuid: str, address: str = "10.9.0.1") -> Object:
    """One with a sidecar, ready, on paper."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": ns, "labels": {"app": account, "osm-proxy-uuid": uuid}},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "app", "image": "app", "ports": [{"name": "web", "containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def service(ns: str, name: str, app: str) -> Object:
    spec = {"selector": {"app": app}, "ports": HTTP_8080, "clusterIP": "10.96.7.7"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def shop(ns: str, mesh_name: str = "osm") -> list[Object]:
    """A namespace with a shop that a caller may reach."""
    return [
        namespace(ns, mesh_name),
        pod(ns, "shop-1", "shop", SHOP_UUID, "10.9.0.1"),
        pod(ns, "caller-1", "caller", CALLER_UUID, "10.9.0.2"),
        service(ns, "shop", "shop"),
        *grant_all(ns, "shop", f"{ns}/caller"),
    ]


def granted(daemon: Daemon, ns: str) -> bool:
    """Whether the shop's sidecar would let the caller in."""
    config = yaml.safe_load(daemon.osm("proxy", "get", "config", f"{ns}/shop-1", "LDS"))
    return f"caller.{ns}.cluster.local" in json.dumps(config)


def source(daemon: Daemon) -> Object:
    """What `osm status` says of it."""
    return daemon.status()["source"]


def kind(daemon: Daemon, name: str) -> Object:
    """The same of one of its kinds."""
    kinds = source(daemon)["kinds"]
    return next((each for each in kinds if each["kind"] == name), {"state": "unknown", "objects": 0})


def until_state(daemon: Daemon, state: str, timeout: float = 30.0) -> Object:
    """Waits for ok, degraded or failed."""
    until(lambda: source(daemon)["state"] == state, f"the source is {state}", timeout)
    return source(daemon)


def http(daemon: Daemon, path: str) -> str:
    """What the daemon answers over HTTP, whatever the status."""
    try:
        with urllib.request.urlopen(f"http://{daemon.http()}{path}", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def metric(daemon: Daemon, name: str, **labels: str) -> float:
    """The sum of the series of a metric that have these labels."""
    total = 0.0
    for line in http(daemon, "/metrics").splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            total += float(found[2])
    return total


def paper_shop(kube: Kube, kubelet: Kubelet, ns: str) -> None:
    """The shop of kube_meshes, whose pods the kubelet makes ready."""
    made = [obj for obj in shop(ns, ns) if obj["kind"] != "Namespace"]
    kube.api.patch("v1", "Namespace", "", ns, {"metadata": {"labels": {MONITORED_BY: ns}}})
    for obj in made:
        if obj["kind"] == "Pod":
            account = {"apiVersion": "v1", "kind": "ServiceAccount"}
            account["metadata"] = {"name": obj["spec"]["serviceAccountName"], "namespace": ns}
            kube.api.apply(account)
            del obj["status"]
        if obj["kind"] == "Service":
            del obj["spec"]["clusterIP"]
        kube.api.apply(obj)
    kubelet.until_running(ns, 2)


@contextlib.contextmanager
def running(folder: Path, kubeconfig: Path | None, ns: str, **how: object) -> Iterator[Daemon]:
    """A daemon whose mesh has this name, and this namespace for its own unless `osm_ns` is another."""
    osm_ns = how.pop("osm_ns", ns)
    one = kube_daemon(folder, kubeconfig, mesh_name=ns, ns=osm_ns, **how).start()  # type: ignore[arg-type]
    try:
        yield one
        assert one.stop() == 0
        assert '"open_handles":0' in one.log()
    finally:
        one.stop()


def revoke(kube: Kube, ns: str) -> None:
    kube.api.delete(*TARGET, ns, "to-shop")


def revoke_in(fake: FakeKube) -> None:
    """The same in a fake server."""
    fake.delete("TrafficTarget", "blue", "to-shop")
