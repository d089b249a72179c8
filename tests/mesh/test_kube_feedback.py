"""What the control plane says back to the API server: Events on objects that the policies refuse and on its own pod,
statuses of kinds that have one, and of several replicas only the one that holds the Lease."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube_meshes import kube_daemon, metric, namespace
from rig import until
from rig.daemon import ROOT, Daemon
from rig.kube import Kube
from rig.kube_crds import definition, mesh_kinds
from rig.kube_fake import FakeKube, Request

Object = dict[str, Any]

GROUP = "policy.openservicemesh.io"
BACKEND = (f"{GROUP}/v1alpha1", "IngressBackend")
SPLIT = ("split.smi-spec.io/v1alpha2", "TrafficSplit")
LEASE = ("coordination.k8s.io/v1", "Lease")
MONITORED_BY = "openservicemesh.io/monitored-by"
COMMITTED = {"currentStatus": "committed", "reason": "successfully committed by the system"}

# Policies that read IngressBackends, and refuse one of a Service that is not there.
RULES = """
local M = { api = 1 }
M.kinds = { ["acme.IngressBackend"] = { group = "policy.openservicemesh.io", versions = { "v1alpha1" } } }
M.rules = {
  ["acme.backends"] = function(mesh, namespace, name)
    local backend = mesh.acme.IngressBackend(namespace, name)
    for index, each in ipairs(backend.spec.backends) do
      if not mesh.Service(namespace, each.name) then
        mesh.reject(backend, { "spec", "backends", index, "name" },
          "endpoints not found for service " .. namespace .. "/" .. each.name)
      end
    end
    return #backend.spec.backends
  end,
}
M.emit = { ["acme.ask"] = { each = "acme.IngressBackend", run = function(mesh, out, namespace, name)
  mesh.acme.backends(namespace, name)
end } }
return M
"""


@pytest.fixture(scope="module")
def kinds(kube: Kube) -> Kube:
    """The server with the kinds of the mesh."""
    kube.crd(*mesh_kinds())
    return kube


@pytest.fixture
def rules(overlay: Path) -> list[Path]:
    """The shipped policies, and those above."""
    (overlay / "acme.lua").write_text(RULES)
    return [ROOT / "policies", overlay]


@contextlib.contextmanager
def running(folder: Path, kubeconfig: Path, ns: str, **how: Any) -> Iterator[Daemon]:
    """A daemon whose mesh, and whose own namespace, is this one."""
    one = kube_daemon(folder, kubeconfig, ns=ns, **({"mesh_name": ns} | how)).start()
    try:
        yield one
        assert one.stop() == 0
        assert '"open_handles":0' in one.log()
    finally:
        one.stop()


def backend(ns: str, name: str, service: str = "shop") -> Object:
    spec = {"backends": [{"name": service, "port": {"number": 80, "protocol": "http"}}], "sources": []}
    return {"apiVersion": BACKEND[0], "kind": BACKEND[1], "metadata": {"name": name, "namespace": ns}, "spec": spec}


def split(ns: str, name: str, service: str) -> Object:
    spec = {"service": service, "backends": [{"service": "v1", "weight": 1}]}
    return {"apiVersion": SPLIT[0], "kind": SPLIT[1], "metadata": {"name": name, "namespace": ns}, "spec": spec}


def service(ns: str, name: str) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns}, "spec": spec}


def status(kube: Kube, ns: str, name: str) -> Object:
    found = kube.api.get(*BACKEND, ns, name)
    assert found
    return found.get("status", {})


def events(kube: Kube, ns: str, **about: str) -> list[Object]:
    """Those of ours in a namespace."""
    listed = kube.api.list("v1", "Event", ns, labelSelector="app.kubernetes.io/name=openservicemesh.io")
    return [each for each in listed if all(each["involvedObject"].get(key) == value for key, value in about.items())]


def leader(*daemons: Daemon) -> Daemon | None:
    """The one that leads."""
    leading = [each for each in daemons if each.alive() and each.status()["feedback"]["leader"]]
    assert len(leading) <= 1
    return leading[0] if leading else None


def told(kube: Kube, ns: str, **about: str) -> list[tuple[str, str, str]]:
    return sorted((each["type"], each["reason"], each["message"]) for each in events(kube, ns, **about))


def joined(kube: Kube, ns: str) -> None:
    kube.api.patch("v1", "Namespace", "", ns, {"metadata": {"labels": namespace(ns, ns)["metadata"]["labels"]}})


def test_kube_status_is_what_the_policies_make_of_an_object(
    kinds: Kube, ns: str, tmp_path: Path, rules: list[Path]
) -> None:
    """Committed, in error with the reason that Open Service Mesh gave, and committed again; no rule runs for it."""
    joined(kinds, ns)
    for each in (service(ns, "shop"), backend(ns, "good"), backend(ns, "bad", "absent")):
        kinds.api.apply(each)
    bad = {"currentStatus": "error", "reason": f"endpoints not found for service {ns}/absent (spec.backends[0].name)"}
    with running(tmp_path, kinds.kubeconfig, ns, policies=rules) as daemon:
        until(lambda: status(kinds, ns, "good") == COMMITTED, "it is committed", 60)
        until(lambda: status(kinds, ns, "bad") == bad, "it is in error")
        daemon.applied()
        ran, snapshot = daemon.status()["policy"]["rules_run"], daemon.status()["snapshot"]
        version = {name: kinds.api.get(*BACKEND, ns, name)["metadata"]["resourceVersion"] for name in ("good", "bad")}
        kinds.api.apply(service(ns, "absent"))
        until(lambda: status(kinds, ns, "bad") == COMMITTED, "it is committed, too")
        kinds.api.delete("v1", "Service", ns, "absent")
        until(lambda: status(kinds, ns, "bad") == bad, "it is in error again")
        daemon.applied()
        assert kinds.api.get(*BACKEND, ns, "good")["metadata"]["resourceVersion"] == version["good"]
        assert daemon.status()["feedback"]["kinds"] == [f"IngressBackend.{GROUP}"]
        assert ran and snapshot
        # Somebody else's word does not last, and what is not ours in a status stays.
        wrong = {"status": {"currentStatus": "committed", "reason": "so there", "other": 7}}
        kinds.api.patch(*BACKEND, ns, "bad", wrong, sub="status")
        until(lambda: status(kinds, ns, "bad") == bad | {"other": 7}, "it is put right")
        until(lambda: daemon.status()["feedback"]["statuses_waiting"] == 0, "nothing waits")
        settled = daemon.status()["snapshot"]
        runs = metric(daemon, "osm_policy_run_time_seconds_count")
        kinds.api.patch(*BACKEND, ns, "bad", {"status": {"other": 8}}, sub="status")
        daemon.applied()
        assert daemon.status()["snapshot"] == settled
        assert metric(daemon, "osm_policy_run_time_seconds_count") == runs


def test_kube_status_is_written_where_the_definition_says_that_it_is_ours(
    kinds: Kube, ns: str, tmp_path: Path, overlay: Path
) -> None:
    """Of two kinds of an operator, both with a status, one names ours in its schema: the other gets Events only."""
    group = f"{ns}.example"
    text = {"type": "string"}
    ours = {"type": "object", "properties": {"currentStatus": text, "reason": text}}
    for kind, plural in (("Widget", "widgets"), ("Gadget", "gadgets")):
        made = definition(group, kind, plural, ["v1"])
        made["spec"]["versions"][0]["subresources"] = {"status": {}}
        if kind == "Gadget":
            made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] = {"status": ours}
        kinds.crd(made)
    lua = """
    local M = { api = 1, kinds = {}, rules = {} }
    for _, kind in ipairs({ "Widget", "Gadget" }) do
      M.kinds["acme." .. kind] = { group = "GROUP", versions = { "v1" },
        accept = function(it, reject)
          if it.metadata.name == "bad" then reject({ "spec", "size" }, "is too much") end
        end }
    end
    M.rules["acme.widgets"] = function(mesh, ns, name) return mesh.acme.Widget(ns, name) ~= nil end
    M.rules["acme.gadgets"] = function(mesh, ns, name) return mesh.acme.Gadget(ns, name) ~= nil end
    return M
    """
    (overlay / "widgets.lua").write_text(lua.replace("GROUP", group))
    joined(kinds, ns)

    def made_of(kind: str, name: str) -> Object:
        return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name, "namespace": ns}}

    for each in (made_of("Widget", "bad"), made_of("Gadget", "bad"), made_of("Gadget", "good")):
        kinds.api.apply(each)
    kinds.api.patch(f"{group}/v1", "Widget", ns, "bad", {"status": {"phase": "Fine"}}, sub="status")

    def status_of(kind: str, name: str) -> Object:
        found = kinds.api.get(f"{group}/v1", kind, ns, name)
        assert found
        return found.get("status", {})

    with running(tmp_path / "d", kinds.kubeconfig, ns, policies=[ROOT / "policies", overlay]) as daemon:
        message = [("Warning", "Rejected", "spec.size: is too much")]
        until(lambda: told(kinds, ns, kind="Widget") == message, "it has an Event", 60)
        until(lambda: told(kinds, ns, kind="Gadget") == message, "so has the other")
        bad = {"currentStatus": "error", "reason": "is too much (spec.size)"}
        until(lambda: status_of("Gadget", "bad") == bad, "and a status")
        until(lambda: status_of("Gadget", "good") == COMMITTED, "and the good one")
        assert daemon.status()["feedback"]["kinds"] == [f"Gadget.{group}"]
        assert status_of("Widget", "bad") == {"phase": "Fine"}


def test_kube_events_say_what_is_refused_and_then_that_it_is_not(kinds: Kube, ns: str, tmp_path: Path) -> None:
    """One for each object, with field and reason, as kubectl shows them; a second cause is no second Event."""
    joined(kinds, ns)
    for name in ("shop", "v1"):
        kinds.api.apply(service(ns, name))
    kinds.api.apply(split(ns, "s", "shop.elsewhere"))
    first = f'spec.service: "shop.elsewhere" is not a Service of namespace "{ns}"'
    with running(tmp_path, kinds.kubeconfig, ns):
        until(lambda: told(kinds, ns, kind="TrafficSplit") == [("Warning", "Rejected", first)], "it is told", 60)
        shown = kinds.kubectl("describe", "trafficsplits.split.smi-spec.io", "s", "-n", ns)
        assert "Warning" in shown and "Rejected" in shown and first in shown and "osm-controller" in shown
        kinds.api.apply(split(ns, "s", "shop.nowhere"))
        second = first.replace("elsewhere", "nowhere")
        until(lambda: told(kinds, ns, kind="TrafficSplit") == [("Warning", "Rejected", second)], "the newest is told")
        kinds.api.apply(split(ns, "s", "shop"))
        fine = [("Normal", "Accepted", "is not refused any more")]
        until(lambda: told(kinds, ns, kind="TrafficSplit") == fine, "that it is well again is told")
        (event,) = events(kinds, ns, kind="TrafficSplit")
        assert event["count"] == 3
        assert event["firstTimestamp"] <= event["lastTimestamp"]
        kinds.api.apply(split(ns, "s", "shop.elsewhere"))
        until(lambda: told(kinds, ns, kind="TrafficSplit") == [("Warning", "Rejected", first)], "and again")


def test_kube_next_leader_takes_over_what_was_told(kinds: Kube, ns: str, tmp_path: Path) -> None:
    """While nobody leads one object is mended, one stays refused: the next leader tells of the first only."""
    joined(kinds, ns)
    for name in ("shop", "v1"):
        kinds.api.apply(service(ns, name))
    for name in ("mended", "stays"):
        kinds.api.apply(split(ns, name, "shop.elsewhere"))
    with running(tmp_path / "a", kinds.kubeconfig, ns):
        until(lambda: len(told(kinds, ns, kind="TrafficSplit")) == 2, "both are told", 60)
    (before,) = events(kinds, ns, name="stays")
    kinds.api.apply(split(ns, "mended", "shop"))
    with running(tmp_path / "b", kinds.kubeconfig, ns):
        until(lambda: told(kinds, ns, name="mended")[0][1] == "Accepted", "it is told", 60)
        (after,) = events(kinds, ns, name="stays")
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def lease(kube: Kube, ns: str) -> Object:
    found = kube.api.get(*LEASE, ns, "osm-controller")
    assert found
    return found["spec"]


class Cut:
    """A relay to the API server that can be cut: then nothing passes, and connections stay open."""

    def __init__(self, kube: Kube, folder: Path) -> None:
        self.port, self.cut, self.open = kube.port, threading.Event(), True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.kubeconfig = folder / "through.kubeconfig"
        own = self.listener.getsockname()[1]
        self.kubeconfig.write_text(kube.kubeconfig.read_text().replace(kube.url, f"https://127.0.0.1:{own}"))
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                self.sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                while self.cut.is_set() and self.open:
                    threading.Event().wait(0.02)
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False
        self.listener.close()
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_kube_one_of_three_replicas_leads_whoever_is_killed_or_cut_off(kinds: Kube, ns: str, tmp_path: Path) -> None:
    """Never two. One that ends lets go; one that is killed, stopped or cut off is followed when its time is over, and
    does not lead when it comes back."""
    joined(kinds, ns)
    with contextlib.ExitStack() as stack:
        cuts = [stack.enter_context(Cut(kinds, tmp_path_of(tmp_path, n))) for n in range(3)]
        daemons = [
            kube_daemon(tmp_path / f"d{n}", cut.kubeconfig, mesh_name=ns, ns=ns).start() for n, cut in enumerate(cuts)
        ]
        for each in daemons:
            stack.callback(each.stop)
        until(lambda: all(each.status()["feedback"]["holder"] for each in daemons), "all know the leader", 60)
        first = until(lambda: leader(*daemons), "one leads")
        holder = lease(kinds, ns)["holderIdentity"]
        assert [each.status()["feedback"]["holder"] for each in daemons] == [holder] * 3

        # It ends in peace: another leads at once.
        assert first.stop() == 0
        rest = [each for each in daemons if each is not first]
        second = until(lambda: leader(*rest), "another leads", 10)
        assert lease(kinds, ns)["leaseTransitions"] == 1

        # It is cut off: it ends by itself before the last one begins.
        cuts[daemons.index(second)].cut.set()
        (third,) = [each for each in rest if each is not second]
        until(lambda: leader(*rest) is None, "it leads no longer", 30)
        until(lambda: leader(*rest) is third, "the last one leads", 40)
        kinds.api.apply(split(ns, "s", "shop.elsewhere"))
        until(lambda: told(kinds, ns, kind="TrafficSplit"), "the last one tells")
        cuts[daemons.index(second)].cut.clear()
        until(lambda: second.status()["feedback"]["holder"] == lease(kinds, ns)["holderIdentity"], "it has heard", 60)
        assert leader(*rest) is third
        assert len(told(kinds, ns, kind="TrafficSplit")) == 1

        # It is stopped, and goes on when another leads: it has not written in between.
        os.kill(third.pid, signal.SIGSTOP)
        try:
            until(lambda: second.status()["feedback"]["leader"], "another leads", 40)
        finally:
            os.kill(third.pid, signal.SIGCONT)
        assert leader(*rest) is second
        second.process.kill()  # type: ignore[union-attr]
        second.process.wait()  # type: ignore[union-attr]
        until(lambda: third.status()["feedback"]["leader"], "the last one leads again", 40)


def tmp_path_of(folder: Path, n: int) -> Path:
    """A folder of its own."""
    path = folder / f"cut{n}"
    path.mkdir()
    return path


def test_kube_reload_and_roll_forward_are_events_on_the_own_pod(
    kinds: Kube, ns: str, tmp_path: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activated, rejected with its line, activated again: kubectl shows them of the pod; each is counted."""
    joined(kinds, ns)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "osm-controller-1", "namespace": ns}}
    kinds.api.apply(pod | {"spec": {"containers": [{"name": "c", "image": "i"}]}})
    monkeypatch.setenv("CONTROLLER_POD_NAME", "osm-controller-1")
    with running(tmp_path / "d", kinds.kubeconfig, ns, policies=[ROOT / "policies", overlay]) as daemon:
        daemon.applied()
        until(lambda: "PolicyActivated" in [each[1] for each in told(kinds, ns, kind="Pod")], "it is told", 60)
        (overlay / "bad.lua").write_text("return {\n  api = 1,\n  rules = 5 }\n")
        until(lambda: "PolicyRejected" in [each[1] for each in told(kinds, ns, kind="Pod")], "the rejection is told")
        (rejected,) = [each for each in told(kinds, ns, kind="Pod") if each[1] == "PolicyRejected"]
        assert rejected[0] == "Warning" and "bad.lua" in rejected[2]
        assert metric(daemon, "osm_policy_reload_total", outcome="rejected") == 1
        shown = kinds.kubectl("describe", "pod", "osm-controller-1", "-n", ns)
        assert "PolicyRejected" in shown and "PolicyActivated" in shown
        assert "PolicyRejected" in kinds.kubectl("get", "events", "-n", ns)
        (overlay / "bad.lua").unlink()
        daemon.applied()
        active = daemon.status()["policies"]["digest"]
        (overlay / "good.lua").write_text("return { api = 1 }\n")
        until(lambda: daemon.status()["policies"]["digest"] != active, "others are in force")
        daemon.osm("policy", "rollback")
        until(lambda: "PolicyRolledBack" in [each[1] for each in told(kinds, ns, kind="Pod")], "the roll-back is told")
        assert metric(daemon, "osm_policy_reload_total", outcome="rolled back") == 1


def account(kube: Kube, ns: str, name: str, rules: list[Object]) -> Path:
    """The kubeconfig of one that may do this, and read all that the mesh reads."""
    rbac = "rbac.authorization.k8s.io"
    role = f"{ns}-{name}"
    reads = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["list", "watch"]}
    kube.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": ns}})
    made = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": role}}
    kube.api.apply(made | {"rules": [reads, *rules]})
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
    return kube.account_kubeconfig(ns, name)


LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "patch"]}
STATUSES = {"apiGroups": [GROUP], "resources": ["ingressbackends/status"], "verbs": ["patch"]}
EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}


def test_kube_events_that_may_not_be_written_are_said_once_and_the_rest_works(
    kinds: Kube, ns: str, tmp_path: Path, rules: list[Path]
) -> None:
    """RBAC without Events: statuses are written, the mesh works; with the right given later they follow."""
    joined(kinds, ns)
    kinds.api.apply(backend(ns, "bad", "absent"))
    for n in range(5):
        kinds.api.apply(split(ns, f"s{n}", "shop.elsewhere"))
    config = account(kinds, ns, "writer", [LEASES, STATUSES])
    with running(tmp_path, config, ns, policies=rules) as daemon:
        until(lambda: status(kinds, ns, "bad").get("currentStatus") == "error", "it has a status", 60)
        daemon.applied()
        until(lambda: len(daemon.status()["feedback"]["failures"]) == 2, "both kinds of Events are denied", 60)
        assert all('cannot patch resource "events"' in each for each in daemon.status()["feedback"]["failures"])
        until(lambda: metric(daemon, "osm_kube_write_total", what="event", outcome="denied") >= 4, "it was tried")
        log = daemon.log()
        assert log.count('"what":"Events about objects"') == 1
        assert log.count('"what":"Events about this replica"') == 1
        account(kinds, ns, "writer", [LEASES, STATUSES, EVENTS])
        until(lambda: len(told(kinds, ns, kind="TrafficSplit")) >= 1, "they are told", 150)


def test_kube_lease_that_may_not_be_had_leaves_the_mesh_alone(kinds: Kube, ns: str, tmp_path: Path) -> None:
    """Nobody leads, nothing is written about objects, and it is said once."""
    joined(kinds, ns)
    kinds.api.apply(split(ns, "s", "shop.elsewhere"))
    with running(tmp_path, account(kinds, ns, "reader", []), ns) as daemon:
        daemon.applied()
        until(lambda: daemon.status()["feedback"]["failures"], "it is said", 30)
        assert "leases.coordination.k8s.io" in daemon.status()["feedback"]["failures"][0]
        assert metric(daemon, "osm_leader") == 0
        assert not told(kinds, ns, kind="TrafficSplit")
        assert daemon.log().count("the Lease of the control plane cannot be read or written") == 1


def test_kube_thousands_of_refused_objects_are_no_storm(kinds: Kube, ns: str, tmp_path: Path) -> None:
    """Each write has its turn, one Event says so of all, and what is mended before its turn is never told."""
    joined(kinds, ns)
    made = [split(ns, f"s{n}", "shop.elsewhere") for n in range(1500)]
    kinds.api.create_all(made)
    with running(tmp_path, kinds.kubeconfig, ns) as daemon:
        daemon.applied(timeout=60)
        until(lambda: metric(daemon, "osm_kube_writes_waiting", what="event") > 1000, "they wait", 60)
        until(
            lambda: [each for each in told(kinds, ns, kind="MeshConfig") if each[1] == "ObjectsRejected"], "one for all"
        )
        assert len(told(kinds, ns, kind="TrafficSplit")) < 500
        for each in made:
            kinds.api.delete(*SPLIT, ns, each["metadata"]["name"])
        daemon.applied(timeout=60)
        until(lambda: metric(daemon, "osm_kube_writes_waiting", what="event") == 0, "nothing waits any more", 60)
        until(
            lambda: [each for each in told(kinds, ns, kind="MeshConfig") if each[1] == "ObjectsAccepted"], "all is well"
        )
        assert len(told(kinds, ns, kind="TrafficSplit")) < 500


def test_kube_object_whose_namespace_ends_or_which_is_another_now(
    kinds: Kube, ns: str, tmp_path: Path, rules: list[Path]
) -> None:
    """Nothing can be written to a namespace that ends, and that is no failure; an object that has the name of another
    gets its own Event and status."""
    joined(kinds, ns)
    other = f"{ns}-other"
    kinds.namespace(other, namespace(other, ns)["metadata"]["labels"])
    held = split(other, "held", "shop.elsewhere")
    with running(tmp_path, kinds.kubeconfig, ns, policies=rules) as daemon:
        until(lambda: leader(daemon), "it leads", 30)
        held["metadata"]["finalizers"] = ["test.example/hold"]
        held["spec"]["service"] = "shop"
        kinds.api.apply(held)
        kinds.api.delete("v1", "Namespace", "", other)
        until(
            lambda: (kinds.api.get(*SPLIT, other, "held") or {"metadata": {}})["metadata"].get("deletionTimestamp"),
            "it is being deleted",
            60,
        )
        kinds.api.patch(*SPLIT, other, "held", {"spec": {"service": "shop.elsewhere"}})
        until(lambda: metric(daemon, "osm_kube_write_total", what="event", outcome="gone") >= 1, "it was tried")
        assert daemon.status()["feedback"]["failures"] == []
        kinds.api.patch(*SPLIT, other, "held", {"metadata": {"finalizers": None}})

        kinds.api.apply(backend(ns, "b", "absent"))
        until(lambda: status(kinds, ns, "b").get("currentStatus") == "error", "it has a status")
        until(lambda: len(events(kinds, ns, name="b")) == 1, "and an Event")
        kinds.api.delete(*BACKEND, ns, "b")
        kinds.api.apply(backend(ns, "b", "absent"))
        until(lambda: status(kinds, ns, "b").get("currentStatus") == "error", "so has the other")
        until(lambda: len(events(kinds, ns, name="b")) == 2, "and an Event of its own")
        assert len({each["involvedObject"]["uid"] for each in events(kinds, ns, name="b")}) == 2


def test_kube_object_whose_namespace_leaves_the_mesh_is_refused_no_longer(kinds: Kube, ns: str, tmp_path: Path) -> None:
    """Nothing goes on saying that it is; when the namespace comes back, it is said again."""
    joined(kinds, ns)
    other = f"{ns}-other"
    kinds.namespace(other, namespace(other, ns)["metadata"]["labels"])
    kinds.api.apply(split(other, "s", "shop.elsewhere"))
    with running(tmp_path, kinds.kubeconfig, ns):
        until(lambda: [each[1] for each in told(kinds, other)] == ["Rejected"], "it is told", 60)
        kinds.api.patch("v1", "Namespace", "", other, {"metadata": {"labels": {MONITORED_BY: None}}})
        gone = [("Normal", "Accepted", "is not in the mesh any more")]
        until(lambda: told(kinds, other) == gone, "that it has left is told")
        kinds.api.patch("v1", "Namespace", "", other, {"metadata": {"labels": {MONITORED_BY: ns}}})
        until(lambda: [each[1] for each in told(kinds, other)] == ["Rejected"], "it is told again")
    kinds.forget_namespace(other)


def test_kube_leader_gives_up_while_its_server_is_away(run_folder: Path, tmp_path: Path) -> None:
    """Killed, the server takes no renewal; when it is back the same replica leads, and what changed is told."""
    with Kube(run_folder) as kube:
        for each in mesh_kinds():
            kube.crd(each)
        kube.namespace("osm-system", namespace("osm-system")["metadata"]["labels"])
        kube.api.apply(split("osm-system", "s", "shop.elsewhere"))
        with running(tmp_path, kube.kubeconfig, "osm-system", mesh_name="osm") as daemon:
            until(lambda: leader(daemon), "it leads", 30)
            kube.kill_apiserver()
            until(lambda: leader(daemon) is None, "it leads no longer", 30)
            assert daemon.status()["feedback"]["failures"][0].startswith("Lease: ")
            kube.start_apiserver()
            until(lambda: leader(daemon), "it leads again", 60)
            until(lambda: told(kube, "osm-system", kind="TrafficSplit"), "it is told", 60)
            # Each kind of write waits its own time before it tries again.
            until(lambda: daemon.status()["feedback"]["failures"] == [], "nothing fails any more", 60)


def test_kube_server_that_answers_writes_with_anything_but_sense(tmp_path: Path) -> None:
    """429 with Retry-After, 500, garbage, HTML with 200, a dropped connection: tried again with patience until it is
    taken, and nothing else is held up."""
    with FakeKube(tmp_path) as fake:
        for obj in (namespace("blue"), split("blue", "s", "shop.elsewhere")):
            obj["metadata"]["uid"] = f"uid-{obj['metadata']['name']}"
            fake.put(obj)
        held: dict[str, Object] = {}
        asked: list[int] = []
        written: list[Object] = []

        def lease_hook(request: Request) -> None:
            if request.method == "GET" and not held:
                request.status(404, "NotFound", "there is none")
                return
            if request.method != "GET":
                held["lease"] = json.loads(request.body)
                held["lease"]["metadata"] = {"resourceVersion": str(len(fake.requests))}
            request.send(200, json.dumps(held["lease"]).encode())

        def hook(request: Request) -> bool:
            if "/leases" in request.path:
                lease_hook(request)
            elif request.method == "PATCH" and "/namespaces/blue/events/" in request.path:
                asked.append(1)
                faults[len(asked) - 1](request) if len(asked) <= len(faults) else taken(request)
            elif request.method == "PATCH":
                request.send(200, request.body)
            else:
                return False
            return True

        def taken(request: Request) -> None:
            written.append(json.loads(request.body))
            request.send(201, request.body)

        def dropped(request: Request) -> None:
            request.handler.close_connection = True
            request.handler.connection.shutdown(socket.SHUT_RDWR)

        faults = [
            lambda request: request.status(429, "TooManyRequests", "slow down", ("Retry-After", "1")),
            lambda request: request.status(500, "InternalError", "etcd"),
            lambda request: request.send(503, b"<html>no</html>", content_type="text/html"),
            lambda request: request.send(200, b"<html>log in first</html>", content_type="text/html"),
            lambda request: request.send(500, b"\xff\xfe{", content_type="application/json"),
            dropped,
        ]
        fake.hook = hook
        with running(tmp_path / "d", fake.kubeconfig, "osm-system", mesh_name="osm") as daemon:
            daemon.applied()
            until(lambda: written, "it is taken in the end", 90)
            assert len(asked) == len(faults) + 1
            assert written[0]["reason"] == "Rejected"
            assert written[0]["involvedObject"]["uid"] == "uid-s"
            busy = metric(daemon, "osm_kube_write_total", what="event", outcome="busy")
            assert busy >= len(faults) - 1  # a connection that breaks may be tried again below us
            assert daemon.log().count('"what":"Events about objects"') == 2
            until(lambda: daemon.status()["feedback"]["failures"] == [], "nothing fails any more")
