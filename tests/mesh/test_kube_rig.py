"""The API server of the tests: what the rig promises to those that need one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubes import deployment, service, widgets
from rig import until
from rig.kube import Kube
from rig.kube_api import Api, ApiError
from rig.kubelet import Kubelet

TESTS = Path(__file__).resolve().parents[1]


def test_kube_says_its_version(kube: Kube) -> None:
    """It is the pinned version of the real program."""
    wanted = next(
        line.split()[1]
        for line in (TESTS / "rig" / "kube" / "go.mod").read_text().splitlines()
        if line.strip().startswith("k8s.io/kubernetes ")
    )
    assert kube.api.request("GET", "/version")["gitVersion"] == wanted
    assert json.loads(kube.kubectl("version", "-o", "json"))["clientVersion"]["gitVersion"] == wanted


def test_kube_refuses_what_rbac_does_not_grant(kube: Kube, ns: str) -> None:
    """A service account may list pods when a Role says so, not before, and nothing else; a stranger is not known."""
    kube.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": ns}})
    reader = kube.as_account(ns, "reader")
    with pytest.raises(ApiError) as refused:
        reader.request("GET", f"/api/v1/namespaces/{ns}/pods")
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    kube.kubectl("create", "role", "reader", "-n", ns, "--verb=list", "--resource=pods")
    kube.kubectl("create", "rolebinding", "reader", "-n", ns, "--role=reader", f"--serviceaccount={ns}:reader")
    until(lambda: reader.raw("GET", f"/api/v1/namespaces/{ns}/pods")[0] == 200, "the role is in force")
    assert reader.raw("GET", f"/api/v1/namespaces/{ns}/secrets")[0] == 403
    stranger = Api(kube.url, str(kube.ca), token="guessed")
    assert stranger.raw("GET", f"/api/v1/namespaces/{ns}/pods")[0] == 401


def test_kube_knows_users_by_certificate(kube: Kube, ns: str) -> None:
    """A client certificate's name and groups are what RBAC sees."""
    alice, ops = kube.user("alice", "ops"), "osm-rig-ops"
    assert kube.kubectl("auth", "whoami", "-o", "json", config=alice).find('"alice"') > 0
    with pytest.raises(RuntimeError, match="forbidden"):
        kube.kubectl("get", "nodes", config=alice)
    kube.kubectl("create", "clusterrole", ops, "--verb=get,list", "--resource=nodes")
    kube.kubectl("create", "clusterrolebinding", ops, f"--clusterrole={ops}", "--group=ops")
    until(lambda: kube.kubectl("auth", "can-i", "list", "nodes", config=alice).strip() == "yes", "the role is in force")
    assert "node-1" in kube.kubectl("get", "nodes", config=alice)


def test_kube_runs_a_deployment(kube: Kube, ns: str, kubelet: Kubelet) -> None:
    """Three replicas get ready and are in the Service's slice, with the port that its name stands for; scaled to
    one, one is left, of pods and of addresses."""
    kube.kubectl("apply", "-f", "-", stdin=json.dumps(deployment(ns, "shop", 3, ports={"web": 8080})))
    kube.kubectl("apply", "-f", "-", stdin=json.dumps(service(ns, "shop", 80, "web")))
    pods = kubelet.until_running(ns, 3)
    addresses = sorted(p["status"]["podIP"] for p in pods)
    assert len(set(addresses)) == 3

    def listed(count: int) -> list[str]:
        slices = kube.api.list("discovery.k8s.io/v1", "EndpointSlice", ns)
        assert all(p["port"] == 8080 for s in slices for p in s["ports"])
        found = [a for s in slices for e in s["endpoints"] if e["conditions"]["ready"] for a in e["addresses"]]
        return sorted(found) if len(found) == count else []

    assert until(lambda: listed(3), "three addresses are listed") == addresses
    kube.kubectl("rollout", "status", "deployment/shop", "-n", ns, "--timeout=30s")
    kube.kubectl("scale", "deployment/shop", "-n", ns, "--replicas=1")
    (left,) = kubelet.until_running(ns, 1)
    assert until(lambda: listed(1), "one address is left") == [left["status"]["podIP"]]
    assert kubelet.errors == []


def test_kube_lists_a_pod_that_is_not_ready_as_such(kube: Kube, ns: str, kubelet: Kubelet) -> None:
    """A pod that stops being ready stays in the slice, not ready, and comes back."""
    kube.api.create_all([deployment(ns, "shop", 1, ports={"web": 8080}), service(ns, "shop", 80, "web")])
    (pod,) = kubelet.until_running(ns, 1)

    def is_ready() -> bool | None:
        slices = kube.api.list("discovery.k8s.io/v1", "EndpointSlice", ns)
        return next((e["conditions"]["ready"] for s in slices for e in s["endpoints"]), None)

    until(lambda: is_ready() is True, "the address is ready")
    kubelet.set_ready(ns, pod["metadata"]["name"], False)
    until(lambda: is_ready() is False, "the address is not ready")
    kubelet.set_ready(ns, pod["metadata"]["name"], True)
    until(lambda: is_ready() is True, "the address is ready again")


def test_kube_runs_a_stateful_set(kube: Kube, ns: str, kubelet: Kubelet) -> None:
    """Its pods have their ordinals, and their host names are in the slice of the headless Service."""
    stateful = deployment(ns, "db", 2, ports={"tcp": 3306})
    stateful["kind"] = "StatefulSet"
    stateful["spec"]["serviceName"] = "db"
    headless = service(ns, "db", 3306, "tcp")
    headless["spec"]["clusterIP"] = "None"
    kube.api.create_all([stateful, headless])
    pods = kubelet.until_running(ns, 2)
    assert sorted(p["metadata"]["name"] for p in pods) == ["db-0", "db-1"]

    def names() -> list[str]:
        slices = kube.api.list("discovery.k8s.io/v1", "EndpointSlice", ns)
        return sorted(e.get("hostname", "") for s in slices for e in s["endpoints"])

    until(lambda: names() == ["db-0", "db-1"], "both host names are listed")


def test_kube_keeps_a_terminating_pod_while_it_is_held(kube: Kube, ns: str, kubelet: Kubelet) -> None:
    """A deleted pod is there, terminating, until its kubelet lets it go."""
    kube.api.create(pod_of(ns, "slow"))
    kubelet.until_running(ns, 1)
    kubelet.holds = lambda pod: pod["metadata"]["namespace"] == ns
    try:
        kube.kubectl("delete", "pod", "slow", "-n", ns, "--wait=false")
        pod = kube.api.get("v1", "Pod", ns, "slow")
        assert pod and pod["metadata"]["deletionTimestamp"] and pod["status"]["phase"] == "Running"
    finally:
        kubelet.holds = lambda pod: False
        kubelet.release()
    kubelet.until_running(ns, 0)


def pod_of(ns: str, name: str) -> dict:
    """A pod without a controller."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": ns},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }


def test_kube_takes_custom_resources(kube: Kube, ns: str) -> None:
    """A definition of two versions is served at once, under both; when it goes, its objects and the kind go."""
    group = f"{ns}.example.com"  # a definition is the whole server's
    kube.crd(widgets(group))
    for version, name in (("v1", "a"), ("v1alpha1", "b")):
        widget = {"apiVersion": f"{group}/{version}", "kind": "Widget", "spec": {"size": 3}}
        kube.api.apply({**widget, "metadata": {"name": name, "namespace": ns}})
    assert [o["metadata"]["name"] for o in kube.api.list(f"{group}/v1", "Widget", ns)] == ["a", "b"]
    wrong = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "c", "namespace": ns}}
    with pytest.raises(ApiError, match="size"):
        kube.api.create({**wrong, "spec": {"size": "large"}})
    kube.kubectl("delete", "crd", f"widgets.{group}")
    until(lambda: not kube.api.serves(f"{group}/v1", "Widget"), "the kind has gone")


def test_kube_empties_a_namespace_that_is_deleted(kube: Kube, kubelet: Kubelet) -> None:
    """Its pods, controlled or not, are ended and it is gone."""
    kube.namespace("short-lived")
    kube.api.create_all([deployment("short-lived", "shop", 2), pod_of("short-lived", "single")])
    kubelet.until_running("short-lived", 3)
    kube.forget_namespace("short-lived")
    until(lambda: kube.api.get("v1", "Namespace", "", "short-lived") is None, "the namespace is gone", 60.0)


def test_kube_gives_tokens(kube: Kube, ns: str, tmp_path: Path) -> None:
    """A token is for its account and its audiences only; a kubeconfig and a pod's folder hold working ones."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    token = kube.token(ns, "default", audiences=["osm"])
    about = kube.api.request("POST", path, {**review, "spec": {"token": token, "audiences": ["osm"]}})["status"]
    assert about["authenticated"] and about["user"]["username"] == f"system:serviceaccount:{ns}:default"
    other = kube.api.request("POST", path, {**review, "spec": {"token": token, "audiences": ["other"]}})["status"]
    assert not other.get("authenticated")
    me = kube.kubectl("auth", "whoami", "-o", "json", config=kube.account_kubeconfig(ns, "default"))
    assert f"system:serviceaccount:{ns}:default" in me
    env = kube.account_folder(ns, "default", tmp_path)
    url = f"https://{env['KUBERNETES_SERVICE_HOST']}:{env['KUBERNETES_SERVICE_PORT']}"
    inside = Api(url, str(tmp_path / "ca.crt"), token=(tmp_path / "token").read_text())
    assert inside.raw("GET", "/api")[0] == 200
    assert (tmp_path / "namespace").read_text() == ns


def test_kube_watch_begins_with_what_is_there(kube: Kube, ns: str) -> None:
    """A streaming list tells of what is there, marks its end, and goes on with changes."""

    def config_map(name: str) -> dict:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": ns}}

    kube.api.create(config_map("first"))
    initial = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "fieldSelector": "metadata.name!=kube-root-ca.crt",
    }
    watch = kube.api.watch("v1", "ConfigMap", ns, **initial)
    events = iter(watch)
    kind, o = next(events)
    assert (kind, o["metadata"]["name"]) == ("ADDED", "first")
    kind, o = next(events)
    assert (kind, o["metadata"]["annotations"]["k8s.io/initial-events-end"]) == ("BOOKMARK", "true")
    kube.api.create(config_map("second"))
    kind, o = next(events)
    assert (kind, o["metadata"]["name"]) == ("ADDED", "second")
    watch.close()


def test_kube_tells_what_was_asked(run_folder: Path) -> None:
    """The audit log has each request: who, what, and the answer. This server has no controllers that ask."""
    with Kube(run_folder, audit=True, controllers="") as kube:
        mark = kube.mark()
        kube.api.list("v1", "Node")
        carol = kube.user("carol")
        with pytest.raises(RuntimeError, match="forbidden"):
            kube.kubectl("get", "secrets", "-n", "kube-system", config=carol)
        seen = [
            (e["user"]["username"], e["verb"], e["objectRef"]["resource"], e["responseStatus"]["code"])
            for e in kube.requests(mark)
            if "objectRef" in e
        ]
        assert ("admin", "list", "nodes", 200) in seen
        assert ("carol", "list", "secrets", 403) in seen


@pytest.fixture(scope="module")
def second(run_folder: Path) -> Iterator[Kube]:
    """A server that a test may treat badly."""
    with Kube(run_folder) as server, Kubelet(server) as server.kubelet:
        yield server


def test_kube_servers_do_not_meet(kube: Kube, second: Kube, ns: str) -> None:
    """Two of them run side by side: nothing of one is seen by the other, nor does one take the other's token."""
    assert second.api.get("v1", "Namespace", "", ns) is None
    assert kube.port != second.port
    assert Api(second.url, str(second.ca), token=kube.admin_token).raw("GET", "/api")[0] == 401


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_kube_server_comes_back_with_its_objects(second: Kube, how: str) -> None:
    """After its end by SIGKILL or SIGTERM nobody answers and watches have ended; started again, it has everything
    under the same address, and controllers and kubelet go on."""
    ns = f"back-{how}"
    second.namespace(ns)
    second.api.create(deployment(ns, "shop", 1))
    assert second.kubelet
    second.kubelet.until_running(ns, 1)
    watch = second.api.watch("v1", "Pod", ns)
    ended = threading.Thread(target=lambda: list(watch), daemon=True)
    ended.start()
    second.kill_apiserver() if how == "kill" else second.stop_apiserver()
    ended.join(30)
    assert not ended.is_alive()
    with pytest.raises(ConnectionError):
        second.api.raw("GET", "/readyz")
    second.start_apiserver()
    assert second.api.get("apps/v1", "Deployment", ns, "shop")
    second.kubectl("scale", "deployment/shop", "-n", ns, "--replicas=3")
    second.kubelet.until_running(ns, 3, timeout=90.0)


def test_kube_server_can_be_frozen(second: Kube) -> None:
    """Frozen, it takes connections and answers nothing; thawed, it answers."""
    impatient = Api(second.url, str(second.ca), token=second.admin_token, timeout=0.5)
    assert impatient.raw("GET", "/readyz")[0] == 200
    second.freeze_apiserver()
    try:
        with pytest.raises(TimeoutError):
            impatient.raw("GET", "/readyz")
    finally:
        second.thaw_apiserver()
    until(second.ready, "it answers again", 60.0)


_HOLDER = """
import sys
from pathlib import Path
from rig.kube import Kube
kube = Kube(Path(sys.argv[1])).start()
print(*(p.process.pid for p in (kube.etcd, kube.apiserver, kube.controllers)), flush=True)
sys.stdin.read()
"""


def test_kube_ends_with_a_process_that_is_killed(run_folder: Path) -> None:
    """Whoever holds the servers is killed without a chance to clean: they end."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(run_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert holder.stdout
    pids = [int(pid) for pid in holder.stdout.readline().split()]
    assert len(pids) == 3
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    def over(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # not yet collected
        except FileNotFoundError:
            return True

    until(lambda: all(over(pid) for pid in pids), "all servers have ended", 30.0)
