"""The Kubernetes source against the real API server: what is there before and after the start, kinds that come and go,
who may not read, credentials that rotate, and a server that is away, killed, frozen or set forward."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_meshes import MONITORED_BY, Object, granted, kind, metric, paper_shop, revoke, running, source, until_state
from rig import CommandError, until
from rig.daemon import ROOT, Daemon
from rig.kube import Kube
from rig.kube_crds import definition, mesh_kinds
from rig.kubelet import Kubelet
from rig.objects import grant_all, routes


@pytest.fixture(scope="module")
def kinds(kube: Kube) -> Kube:
    """The server with the kinds of the mesh."""
    for each in mesh_kinds():
        kube.crd(each)
    return kube


@pytest.fixture
def meshed(kinds: Kube, kubelet: Kubelet, ns: str) -> str:
    """A namespace with the shop."""
    paper_shop(kinds, kubelet, ns)
    return ns


def said(daemon: Daemon, *question: str) -> Any:
    """The answer, as JSON, to a question that is answered with the exit status 3: no, or something would change."""
    with pytest.raises(CommandError) as raised:
        daemon.osm(*question, "-o", "json")
    assert raised.value.exit == 3, raised.value
    return json.loads(raised.value.stdout)


def test_kube_objects_from_before_and_after_the_start_count_A_K8S_01(kube: Kube, meshed: str, tmp_path: Path) -> None:
    """A grant that was there, one that comes, one that goes; each is in force when `osm wait` says so."""
    with running(tmp_path, kube.kubeconfig, meshed) as daemon:
        daemon.applied()
        assert granted(daemon, meshed)
        for n in range(5):
            revoke(kube, meshed)
            daemon.applied()
            assert not granted(daemon, meshed), n
            for obj in grant_all(meshed, "shop", f"{meshed}/caller"):
                kube.api.apply(obj)
            daemon.applied()
            assert granted(daemon, meshed), n
        assert metric(daemon, "osm_kube_request_total", verb="watch", resource="traffictargets") == 1
        assert source(daemon)["server"] == kube.api.request("GET", "/version")["gitVersion"]


def test_kube_namespace_that_joins_and_leaves_A_K8S_12(kube: Kube, meshed: str, tmp_path: Path) -> None:
    """Its pods' configuration appears and disappears with the label."""
    with running(tmp_path, kube.kubeconfig, meshed) as daemon:
        daemon.applied()
        assert granted(daemon, meshed)
        kube.api.patch("v1", "Namespace", "", meshed, {"metadata": {"labels": {MONITORED_BY: None}}})
        daemon.applied()
        with pytest.raises(CommandError, match="no proxy"):
            granted(daemon, meshed)
        kube.api.patch("v1", "Namespace", "", meshed, {"metadata": {"labels": {MONITORED_BY: meshed}}})
        daemon.applied()
        assert granted(daemon, meshed)


def test_kube_objects_outside_of_the_mesh_are_kept_aside(
    kinds: Kube, kubelet: Kubelet, ns: str, tmp_path: Path
) -> None:
    """Of a namespace that is not in the mesh nothing is told to policies, and it is still there for questions: it
    joins without one request, whoever asks what would be if it joined is told, and it leaves the same way."""
    mesh, tests = f"{ns}-mesh", {"metadata": {"labels": {MONITORED_BY: f"{ns}-mesh"}}}
    paper_shop(kinds, kubelet, ns)
    with running(tmp_path, kinds.kubeconfig, mesh, osm_ns="osm-elsewhere") as daemon:
        daemon.applied()
        aside = source(daemon)
        assert aside["outside"] >= 5
        assert daemon.status()["proxies"] == []
        denied = said(daemon, "policy", "why-not", f"{ns}/caller", f"{ns}/shop")
        assert "its namespace is not of the mesh" in denied["text"]
        joins = tmp_path / "joins.yaml"
        joins.write_text(
            yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, **tests["metadata"]}})
        )
        told = said(daemon, "diff", "-f", str(joins))
        assert told["appear"] == [f"{ns}/caller-1", f"{ns}/shop-1"]
        kinds.api.patch("v1", "Namespace", "", ns, tests)
        daemon.applied()
        assert granted(daemon, ns)
        assert source(daemon)["outside"] < aside["outside"]
        assert source(daemon)["objects"] > aside["objects"]
        kinds.api.patch("v1", "Namespace", "", ns, {"metadata": {"labels": {MONITORED_BY: None}}})
        daemon.applied()
        with pytest.raises(CommandError, match="its namespace has no label"):
            granted(daemon, ns)
        assert (source(daemon)["outside"], source(daemon)["objects"]) == (aside["outside"], aside["objects"])
        revoke(kinds, ns)  # outside it is kept up to date too
        kinds.api.patch("v1", "Namespace", "", ns, tests)
        daemon.applied()
        assert not granted(daemon, ns)
        assert kind(daemon, "Pod")["lists"] == 1


def served(daemon: Daemon, ns: str) -> dict[tuple[str, str, str], Any]:
    """What the two pods are served: by pod, type and name of the resource."""
    return {
        (pod, type_name, each.get("name") or each["cluster_name"]): each
        for pod in (f"{ns}/shop-1", f"{ns}/caller-1")
        for type_name, resources in json.loads(daemon.osm("proxy", "get", "config", pod, "-o", "json")).items()
        for each in resources
    }


@pytest.mark.parametrize("change", ["selector", "port", "pod"])
def test_kube_preview_knows_what_becomes_of_endpoints(kube: Kube, meshed: str, tmp_path: Path, change: str) -> None:
    """The slices that are there are of the selector, the ports and the pods as they are. The preview went by them, and
    said that the shop keeps what it then lost."""
    manifest: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": meshed}}
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]
    if change == "selector":
        manifest["spec"] = {"selector": {"app": "caller"}, "ports": ports}
    elif change == "port":
        manifest["spec"] = {"selector": {"app": "shop"}, "ports": [{**ports[0], "targetPort": 9090}]}
    else:
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "shop-1", "namespace": meshed, "labels": {"app": "other"}},
        }
    file = tmp_path / "change.yaml"
    file.write_text(yaml.safe_dump(manifest))
    with running(tmp_path, kube.kubeconfig, meshed) as daemon:
        daemon.applied()
        before = served(daemon, meshed)
        diff = said(daemon, "diff", "-f", str(file))
        told = {
            (pod, each["type"], each["name"]): each["change"]
            for group in diff["groups"]
            for pod in group["proxies"]
            for each in group["resources"]
        }
        kube.api.patch("v1", manifest["kind"], meshed, manifest["metadata"]["name"], manifest)

        def comes() -> bool:
            after = served(daemon, meshed)
            real = {
                key: "added" if key not in before else "removed" if key not in after else "changed"
                for key in before.keys() | after.keys()
                if before.get(key) != after.get(key)
            }
            return bool(real) and real == told

        until(comes, f"what was told comes: {told}")


def test_kube_what_was_deleted_while_it_was_cut_off_grants_no_longer_A_K8S_08(
    kube: Kube, meshed: str, tmp_path: Path
) -> None:
    """The daemon hears nothing for a while; then it knows."""
    with running(tmp_path, kube.kubeconfig, meshed) as daemon:
        daemon.applied()
        os.kill(daemon.pid, signal.SIGSTOP)
        revoke(kube, meshed)
        kube.api.apply(routes(meshed, "more"))
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.applied()
        assert not granted(daemon, meshed)


def test_kube_kind_that_is_installed_later_and_removed(kube: Kube, meshed: str, tmp_path: Path, overlay: Path) -> None:
    """A bundle names a kind that the cluster lacks: it loads and says so. Installed, its objects count; removed, they
    are gone."""
    group = f"{meshed}.example"
    (overlay / "widgets.lua").write_text(
        f"""
local M = {{ api = 1 }}
M.kinds = {{ ["acme.Widget"] = {{ group = "{group}", versions = {{ "v1" }} }} }}
M.rules = {{ ["acme.size"] = function(mesh, namespace, name)
  local widget = mesh.acme.Widget(namespace, name)
  return widget and widget.spec.size or 0
end }}
M.extends = {{ cluster = {{ run = function(mesh, cluster, at)
  local size = mesh.acme.size("{meshed}", "w")
  if size > 0 and at.direction == "outbound" then cluster.connect_timeout = size .. "s" end
end }} }}
return M
"""
    )
    with running(tmp_path / "d", kube.kubeconfig, meshed, policies=[ROOT / "policies", overlay]) as daemon:
        daemon.applied()
        assert kind(daemon, "Widget")["state"] == "absent"
        assert source(daemon)["state"] == "ok"
        kube.crd(definition(group, "Widget", "widgets", ["v1"]))
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": meshed}}
        kube.api.apply(widget | {"spec": {"size": 77}})
        until(lambda: kind(daemon, "Widget")["state"] == "watched", "it is watched")
        daemon.applied()
        assert "77s" in daemon.osm("proxy", "get", "config", f"{meshed}/caller-1", "CDS")
        kube.api.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", f"widgets.{group}")
        until(lambda: kind(daemon, "Widget")["state"] == "absent", "it is gone", 40)
        daemon.applied()
        assert kind(daemon, "Widget")["objects"] == 0
        assert "77s" not in daemon.osm("proxy", "get", "config", f"{meshed}/caller-1", "CDS")


def may_read(kube: Kube, ns: str, name: str, *, without: str = "") -> None:
    """An account that may read all that the mesh reads, but for one kind."""
    resources: dict[str, list[str]] = {
        "": ["namespaces", "services", "pods", "endpoints"],
        "discovery.k8s.io": ["endpointslices"],
        "apiextensions.k8s.io": ["customresourcedefinitions"],
        "config.openservicemesh.io": ["meshconfigs"],
        "access.smi-spec.io": ["traffictargets"],
        "specs.smi-spec.io": ["httproutegroups", "tcproutes", "udproutes"],
        "split.smi-spec.io": ["trafficsplits"],
    }
    role = f"{ns}-{name}"
    rules = [
        {"apiGroups": [group], "resources": [r for r in names if r != without], "verbs": ["list", "watch"]}
        for group, names in resources.items()
        if names != [without]
    ]
    rbac = "rbac.authorization.k8s.io"
    kube.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": ns}})
    kube.api.apply({"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": rules})
    kube.api.apply(
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": ns}],
        }
    )
    reader = kube.as_account(ns, name)
    until(lambda: reader.raw("GET", "/api/v1/namespaces")[0] == 200, "the role is in force")


def test_kube_kind_that_may_not_be_read_is_told_and_the_rest_works(kube: Kube, meshed: str, tmp_path: Path) -> None:
    """RBAC without one kind; with the right given later it is read without a restart."""
    may_read(kube, meshed, "reader", without="trafficsplits")
    with running(tmp_path, kube.account_kubeconfig(meshed, "reader"), meshed) as daemon:
        daemon.applied()
        assert granted(daemon, meshed)
        split = kind(daemon, "TrafficSplit")
        assert split["state"] == "denied"
        assert "HTTP 403: trafficsplits.split.smi-spec.io is forbidden" in split["reason"]
        assert source(daemon)["state"] == "degraded"
        assert metric(daemon, "osm_source_kind_up", kind="TrafficSplit.split.smi-spec.io", state="denied") == 0
        assert "TrafficSplit.split.smi-spec.io: denied since 20" in daemon.osm("status")
        revoke(kube, meshed)
        daemon.applied()
        assert not granted(daemon, meshed)
        may_read(kube, meshed, "reader")
        until_state(daemon, "ok", 60)
        assert kind(daemon, "TrafficSplit")["state"] == "watched"


def test_kube_pod_reads_as_its_service_account_and_its_token_rotates(
    kube: Kube, meshed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster: server, CA and token from where Kubernetes puts them, read again when they change."""
    may_read(kube, meshed, "reader")
    folder = tmp_path / "account"
    folder.mkdir()
    for key, value in kube.account_folder(meshed, "reader", folder).items():
        monkeypatch.setenv(key, value)
    with running(tmp_path / "d", None, meshed, extra=[f"--kube-account-dir={folder}"]) as daemon:
        daemon.applied()
        assert source(daemon)["as"] == "in-cluster"
        assert granted(daemon, meshed)
        good = (folder / "token").read_text()
        (folder / "token").write_text("revoked")
        with pytest.raises(CommandError, match="HTTP 401"):
            until(lambda: daemon.applied() is not None, "a request is refused", 40)
        assert granted(daemon, meshed)
        (folder / "token").write_text(good)
        daemon.applied()
        revoke(kube, meshed)
        daemon.applied()
        assert not granted(daemon, meshed)


def test_kube_kubeconfig_with_a_certificate_and_with_a_plugin(kube: Kube, meshed: str, tmp_path: Path) -> None:
    """Whom the server knows by certificate, and by the token of a program that is asked."""
    plugin = tmp_path / "plugin"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    credential["status"] = {"token": kube.admin_token}  # type: ignore[assignment]
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(credential)}\nEND\n")
    plugin.chmod(0o700)
    config = yaml.safe_load(kube.kubeconfig.read_text())
    config["users"][0]["user"] = {"exec": {"apiVersion": credential["apiVersion"], "command": "./plugin"}}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    for each in (kube.user("root", "system:masters"), tmp_path / "kubeconfig"):
        with running(tmp_path / f"as-{each.stem}", each, meshed) as daemon:
            daemon.applied()
            assert granted(daemon, meshed)


def test_kube_all_watches_share_one_connection(kube: Kube, meshed: str, tmp_path: Path) -> None:
    """HTTP/2: a dozen watches and the lists beside them."""
    with running(tmp_path, kube.kubeconfig, meshed) as daemon:
        daemon.applied()
        daemon.applied()
        assert sum(each["state"] == "watched" for each in source(daemon)["kinds"]) >= 11
        assert len(connections(daemon.pid, kube.port)) == 1


def connections(pid: int, port: int) -> list[str]:
    """The established TCP connections of a process to a port of the loopback."""
    inodes = {
        os.readlink(fd)[8:-1]
        for fd in (f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd"))
        if os.path.exists(fd) or os.path.islink(fd)
        if os.readlink(fd).startswith("socket:[")
    }
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[2] == f"0100007F:{port:04X}" and row[3] == "01" and row[9] in inodes]


def test_kube_two_versions_of_one_kind_are_one_object(kube: Kube, meshed: str, tmp_path: Path) -> None:
    """Served at once in several versions, the kind is watched in the one that the policies prefer."""
    with running(tmp_path, kube.kubeconfig, meshed) as daemon:
        daemon.applied()
        assert kind(daemon, "HTTPRouteGroup")["version"] == "v1alpha4"
        older = {"apiVersion": "specs.smi-spec.io/v1alpha3", "kind": "HTTPRouteGroup"}
        older["metadata"] = {"name": "older", "namespace": meshed}  # type: ignore[assignment]
        before = kind(daemon, "HTTPRouteGroup")["objects"]
        kube.api.apply(older | {"spec": {"matches": [{"name": "m", "pathRegex": "/"}]}})
        daemon.applied()
        assert kind(daemon, "HTTPRouteGroup")["objects"] == before + 1


# --- bad days: a server of their own ---


def test_kube_server_that_is_killed_and_comes_back_A_K8S_14(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """What was known serves; afterwards nothing is listed that can be resumed, and changes come again."""
    with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
        daemon.applied()
        fragile.kill_apiserver()
        failed = until_state(daemon, "failed")
        assert failed["since"] > 1_700_000_000
        assert granted(daemon, fragile_mesh)
        with pytest.raises(CommandError, match="the source has failed"):
            daemon.applied()
        fragile.start_apiserver()
        until_state(daemon, "ok", 60)
        daemon.applied()
        revoke(fragile, fragile_mesh)
        daemon.applied()
        assert not granted(daemon, fragile_mesh)


def test_kube_server_that_is_restarted_in_peace(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """It says good-bye: watches end, and are resumed."""
    with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
        daemon.applied()
        fragile.stop_apiserver()
        fragile.start_apiserver()
        until_state(daemon, "ok", 60)
        revoke(fragile, fragile_mesh)
        daemon.applied()
        assert not granted(daemon, fragile_mesh)


def test_kube_past_that_is_compacted_is_listed_anew_A_K8S_05(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """The store has forgotten where the daemon was, and the server that remembered is gone: a real 410."""
    with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
        daemon.applied()
        lists = kind(daemon, "TrafficTarget")["lists"]
        os.kill(daemon.pid, signal.SIGSTOP)
        revoke(fragile, fragile_mesh)
        old = fragile.api.request("GET", "/api/v1/namespaces")["metadata"]["resourceVersion"]
        for n in range(20):
            fragile.api.apply(routes(fragile_mesh, f"churn-{n}"))
        path = f"/api/v1/namespaces?resourceVersion={old}&resourceVersionMatch=Exact"
        until(lambda: fragile.api.raw("GET", path)[0] == 410, "the past is compacted", 60)
        fragile.kill_apiserver()
        fragile.start_apiserver()
        os.kill(daemon.pid, signal.SIGCONT)
        until(lambda: kind(daemon, "TrafficTarget")["lists"] > lists, "it is listed anew", 60)
        daemon.applied()
        assert not granted(daemon, fragile_mesh)


def restart_store(kube: Kube, replace: Callable[[Path], None]) -> None:
    """Ends the server and its store, does something with the store's folder, and starts both again."""
    kube.kill_apiserver()
    kube.etcd.end(signal.SIGTERM)
    replace(kube.folder / "etcd")
    kube.etcd.start()
    kube.start_apiserver()


def test_kube_store_that_is_restored_from_a_copy(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """What was made since is gone, and a watch from a version that the store has yet to reach is told nothing of what
    is revoked there: neither is granted on."""
    copy = tmp_path / "copy"
    with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
        daemon.applied()
        restart_store(fragile, lambda store: shutil.copytree(store, copy, ignore=shutil.ignore_patterns("*.sock")))
        for n in range(200):
            fragile.api.apply(routes(fragile_mesh, f"since-{n % 20}", {"name": "m", "pathRegex": f"/{n}"}))
        until_state(daemon, "ok", 60)
        daemon.applied()
        before = kind(daemon, "HTTPRouteGroup")["objects"]

        def restore(store: Path) -> None:
            shutil.rmtree(store)
            shutil.copytree(copy, store)

        restart_store(fragile, restore)
        revoke(fragile, fragile_mesh)
        until(lambda: not granted(daemon, fragile_mesh), "the revocation has come", 60)
        until(lambda: kind(daemon, "HTTPRouteGroup")["objects"] == before - 20, "what was made since is gone", 60)
        daemon.applied()


def test_kube_server_that_is_frozen_holds_nobody_up(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """It answers nothing, and its connections stay open: the daemon answers, and ends; a wait ends in its time."""
    with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
        daemon.applied()
        fragile.freeze_apiserver()
        try:
            with pytest.raises(CommandError, match="not everything that is in the source is known yet"):
                daemon.applied(timeout=1.0)
            assert granted(daemon, fragile_mesh)
        finally:
            fragile.thaw_apiserver()
        revoke(fragile, fragile_mesh)
        daemon.applied()
        assert not granted(daemon, fragile_mesh)
        fragile.freeze_apiserver()
        try:
            assert daemon.stop() == 0
        finally:
            fragile.thaw_apiserver()


def test_kube_daemon_that_starts_before_its_server(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """It waits, says for what, and serves when it can."""
    fragile.kill_apiserver()
    try:
        with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
            until_state(daemon, "failed")
            assert daemon.status()["snapshot"] == 0
            fragile.start_apiserver()
            until_state(daemon, "ok", 60)
            daemon.applied()
            assert granted(daemon, fragile_mesh)
    finally:
        if not fragile.apiserver.alive():
            fragile.start_apiserver()
