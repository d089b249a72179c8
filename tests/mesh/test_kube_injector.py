"""The role injector against the real API server: new pods get their sidecars from the webhook, and real pods run what
it says. The pods, the probes and the sidecars here are run by the objects alone."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from kube_meshes import MONITORED_BY, http, metric
from rig import Daemon, forge, kube_rbac, until
from rig.injected import named, probe
from rig.kube import Kube
from rig.kube_api import Object
from rig.kube_files import write
from rig.kubelet import Kubelet
from rig.objects import HTTP_8080, grant_all
from rig.pod import Pod
from rig.world import free_port
from rig.world_kube import INJECTION, UUID, KubeWorld
from worlds import tracked

pytestmark = pytest.mark.kube

MUTATING = ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "")
MESH = "injected"
ROOTS = "osm-ca-bundle"


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Iterator[Kube]:
    """A server of these tests' own: its webhooks are."""
    with Kube(run_folder, audit=True) as kube, Kubelet(kube) as kube.kubelet:
        yield kube


@pytest.fixture(scope="module")
def mesh(server: Kube) -> Iterator[KubeWorld]:
    """A caller, a shop, somebody outside of the mesh, and one who declines."""
    assert server.kubelet
    flags = [f"--ca-bundle-secret-name={ROOTS}", "--injector-orphans=2s"]
    options: dict[str, Any] = {"mesh_name": MESH, "rights": ("controller", "roots"), "flags": flags}
    made = forge.certificate(None, "app", usage=None, key_id=True).credentials()
    tls = write(server.folder.parent / "app.pem", made.chain + made.key, 0o644)
    options["environment"] = {"TLS": str(tls)}
    with tracked(KubeWorld(server, server.kubelet, injects=True, **options)) as world:
        for ns in ("red", "blue"):
            world.namespace(ns)
        world.namespace("grey", monitored=False)
        world.pod("red", "caller-1", account="caller")
        world.pod("red", "stranger-1", account="stranger")
        world.pod("red", "plain-1", account="plain", sidecar=False)
        world.pod("grey", "outsider-1", account="default", sidecar=False)
        world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, app="http=8080")
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.apply(grant_all("blue", "shop", "red/caller"))
        world.wait()
        yield world


def paper(ns: str, name: str, **spec: Any) -> Object:
    """A pod that nobody runs."""
    container = {"name": "app", "image": "app", **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": ns, **spec.pop("metadata", {})},
        "spec": {"containers": [container], **spec},
    }


def create(mesh: KubeWorld, pod: Object) -> Object:
    """Makes it; as the server has it."""
    return mesh.kube.api.create(pod)


def remove(mesh: KubeWorld, *pods: Object) -> None:
    """They go."""
    for pod in pods:
        metadata = pod["metadata"]
        mesh.kube.api.delete("v1", "Pod", metadata["namespace"], metadata["name"])


def secret_of(pod: Object) -> str:
    """The name of its sidecar's Secret."""
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    return volumes["envoy-bootstrap-config-volume"]["secret"]["secretName"]


def bootstrap_secrets(mesh: KubeWorld, ns: str) -> set[str]:
    """The names of those of a namespace."""
    found = mesh.kube.api.list("v1", "Secret", ns)
    return {o["metadata"]["name"] for o in found if o["metadata"]["name"].startswith("envoy-bootstrap-config-")}


def owners(mesh: KubeWorld, ns: str, name: str) -> list[tuple[str, str]]:
    """Kind and name of who owns a Secret."""
    secret = mesh.kube.api.get("v1", "Secret", ns, name)
    assert secret, name
    return [(o["kind"], o["name"]) for o in secret["metadata"].get("ownerReferences", [])]


# --- real pods ---


def test_A_INJ_01_kube_pods_are_in_the_mesh(mesh: KubeWorld) -> None:
    """Who has a right gets through, by its identity; others do not; who is not in the mesh gets in nowhere."""
    pods = {name.partition("/")[2]: pod for name, pod in mesh.pods.items()}
    assert pods["caller-1"].face("http://shop.blue/") == "200"
    assert pods["stranger-1"].face("http://shop.blue/").startswith(("4", "5", "exit"))
    assert pods["stranger-1"].face("http://shop.blue/") != "200"
    address = pods["shop-1"].address
    assert pods["outsider-1"].face(f"http://{address}:8080/") == "exit 56"
    assert {name for name, pod in pods.items() if pod.uuid} == {"caller-1", "stranger-1", "shop-1"}
    for name in ("plain-1", "outsider-1"):
        there = mesh.kube.api.get("v1", "Pod", pods[name].ns, name)
        assert there
        assert [c["name"] for c in there["spec"]["containers"]] == ["app"]
        assert UUID not in there["metadata"]["labels"]


def test_A_INJ_01_kube_of_a_deployment_too(mesh: KubeWorld) -> None:
    """Pods whose names nobody knows when they are made."""
    template = {
        "metadata": {"labels": {"app": "stall"}},
        "spec": {
            "serviceAccountName": "stall",
            "containers": [{"name": "web", "image": "rig-apps", "args": ["http=8080"]}],
        },
    }
    with mesh.scratch():
        mesh.account("blue", "stall")
        mesh.service("blue", "stall", HTTP_8080, {"app": "stall"})
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": "stall"}}, "template": template}
        metadata = {"name": "stall", "namespace": "blue"}
        mesh.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
        granted = grant_all("blue", "stall", "red/caller")
        mesh.apply(granted)
        mesh.wait()
        caller = mesh.pods["red/caller-1"]
        assert len(caller.tally("http://stall.blue/", 40)) == 2
        stalls = [pod for pod in mesh.pods.values() if pod.account == "stall"]
        assert len({pod.uuid for pod in stalls} - {""}) == 2


def test_A_INJ_06_kube_secret_goes_with_its_pod(mesh: KubeWorld) -> None:
    """It belongs to the pod as soon as that is there, and its garbage is collected."""
    pod = create(mesh, paper("red", "short"))
    name = secret_of(pod)
    until(lambda: owners(mesh, "red", name) == [("Pod", "short")], "the pod owns the Secret", 30)
    remove(mesh, pod)
    until(lambda: name not in bootstrap_secrets(mesh, "red"), "the Secret has gone with its pod", 60)


def test_A_INJ_05_kube_dry_run_makes_no_secret(mesh: KubeWorld) -> None:
    """What would come of a pod is shown, whoever asks."""
    before = bootstrap_secrets(mesh, "red")
    text = mesh.kube.kubectl(
        "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(paper("red", "perhaps"))
    )
    pod = json.loads(text)
    assert [c["name"] for c in pod["spec"]["containers"]] == ["app", "envoy"]
    assert secret_of(pod) not in bootstrap_secrets(mesh, "red")
    assert bootstrap_secrets(mesh, "red") <= before


def test_A_INJ_03_kube_what_is_wrong_is_said_to_who_made_it(mesh: KubeWorld) -> None:
    """kubectl shows the reason, for a port of a list too (A-ANN-02)."""
    wrong = paper("red", "odd", metadata={"annotations": {INJECTION: "maybe"}})
    with pytest.raises(RuntimeError, match=rf"{INJECTION}.*maybe"):
        mesh.kube.kubectl("create", "-f", "-", stdin=json.dumps(wrong))
    key = "openservicemesh.io/outbound-port-exclusion-list"
    wrong = paper("red", "odd", metadata={"annotations": {key: "6379,-7070"}})
    with pytest.raises(RuntimeError, match=f"Invalid port value '-7070' specified for annotation '{key}'"):
        mesh.kube.kubectl("create", "-f", "-", stdin=json.dumps(wrong))
    denied = mesh.status()["injector"]["denied"]
    assert denied >= 2
    assert metric(mesh.daemon, "osm_admission_webhook_response_total", kind="Pod", success="false") == denied
    assert metric(mesh.daemon, "osm_error_err_code_count", err_code="E6110") >= 1


def test_A_INJ_07_kube_copies_have_an_identity_of_their_own(mesh: KubeWorld) -> None:
    """kubectl debug copies a pod with all that the webhook had put into it."""
    mesh.kube.kubectl("debug", "caller-1", "-n", "red", "--copy-to=copy", "--image=shell", "--keep-labels")
    copy = mesh.kube.api.get("v1", "Pod", "red", "copy")
    first = mesh.kube.api.get("v1", "Pod", "red", "caller-1")
    assert copy
    assert first
    assert [c["name"] for c in copy["spec"]["containers"]].count("envoy") == 1
    assert [c["name"] for c in copy["spec"]["initContainers"]] == ["osm-init"]
    assert copy["metadata"]["labels"][UUID] != first["metadata"]["labels"][UUID]
    assert secret_of(copy) == f"envoy-bootstrap-config-{copy['metadata']['labels'][UUID]}"
    assert secret_of(copy) in bootstrap_secrets(mesh, "red")
    remove(mesh, copy)


def test_A_INJ_10_kube_mesh_config_counts_from_the_next_pod_on(mesh: KubeWorld) -> None:
    """A-INJ-09 and A-ANN-05 too: the next pod is asked about with the MeshConfig and the Namespace as they are then."""
    limits = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    before = create(mesh, paper("red", "before"))
    with mesh.scratch():
        mesh.mesh_config(sidecar={"resources": limits}, traffic={"outboundPortExclusionList": [6379]})
        o = json.loads(json.dumps(mesh.objects["Namespace", "", "red"]))
        o["metadata"]["annotations"]["openservicemesh.io/metrics"] = "enabled"
        mesh.apply(o)
        after = create(mesh, paper("red", "after"))
    unchanged = mesh.kube.api.get("v1", "Pod", "red", "before")
    assert unchanged
    sidecars = [named(pod["spec"]["containers"], "envoy") or {} for pod in (unchanged, after)]
    assert [each["resources"].get("limits") for each in sidecars] == [None, limits["limits"]]
    scripts = [(named(pod["spec"]["initContainers"], "osm-init") or {})["args"][1] for pod in (unchanged, after)]
    assert ["6379" in script for script in scripts] == [False, True]
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": "15010", "prometheus.io/path": "/stats/prometheus"}
    assert scraped.items() <= after["metadata"]["annotations"].items()
    assert not scraped.items() <= unchanged["metadata"].get("annotations", {}).items()
    remove(mesh, before, after)


def test_A_INJ_02_kube_namespace_that_joins_counts_at_once(mesh: KubeWorld) -> None:
    """A pod that is made the moment after its namespace has joined is in the mesh; a namespace that is to be ignored
    asks nobody."""
    kube, labels = mesh.kube, {MONITORED_BY: MESH}
    joining = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"annotations": {INJECTION: "enabled"}}}
    names = [f"joins-{i}" for i in range(10)]
    for name in names:
        kube.namespace(name)
    try:
        for name in names:
            metadata = {**joining["metadata"], "name": name, "labels": labels}
            kube.api.apply({**joining, "metadata": metadata})
            pod = create(mesh, paper(name, "first"))
            assert pod["metadata"]["labels"].get(UUID), name
        ignore = {"metadata": {"labels": {"openservicemesh.io/ignore": "true"}}}
        kube.api.patch("v1", "Namespace", "", names[0], ignore)

        numbers = itertools.count()

        def unasked() -> bool:
            before = mesh.status()["injector"]
            pod = create(mesh, paper(names[0], f"ignored-{next(numbers)}"))
            assert UUID not in pod["metadata"].get("labels", {})
            now = mesh.status()["injector"]
            return all(now[key] == before[key] for key in ("injected", "allowed", "denied"))

        until(unasked, "the server does not ask about pods of a namespace that is ignored", 15)
    finally:
        for name in names:
            kube.forget_namespace(name)


def refuse_one(mesh: KubeWorld) -> None:
    """A pod that the server refuses after the webhook: it looks at the limits of a namespace last. Its Secret goes."""
    limit = {"limits": [{"type": "Container", "max": {"memory": "64Mi"}, "defaultRequest": {"memory": "1Mi"}}]}
    with mesh.scratch():
        mesh.namespace("tight")
        mesh.apply(
            {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "m", "namespace": "tight"}, "spec": limit}
        )
        big = paper("tight", "big", container={"resources": {"limits": {"memory": "1Gi"}}})
        before = mesh.status()["injector"]["injected"]
        with pytest.raises(RuntimeError, match="maximum memory usage per Container is 64Mi"):
            mesh.kube.kubectl("create", "-f", "-", stdin=json.dumps(big))
        assert mesh.status()["injector"]["injected"] == before + 1
        until(lambda: not bootstrap_secrets(mesh, "tight"), "the Secret that nobody needs has gone", 60)


def test_kube_injector_deletes_the_secret_of_a_pod_that_never_came(mesh: KubeWorld) -> None:
    """Not that of one that came."""
    pod = create(mesh, paper("red", "came"))
    refuse_one(mesh)
    assert secret_of(pod) in bootstrap_secrets(mesh, "red")
    remove(mesh, pod)


# --- probes ---


@contextlib.contextmanager
def probed(mesh: KubeWorld, *containers: Object) -> Iterator[tuple[Pod, Object]]:
    """A running pod with these containers, and its object."""
    with mesh.scratch():
        mesh.account("blue", "probed")
        spec = {"serviceAccountName": "probed", "containers": list(containers)}
        metadata = {"name": "probed", "namespace": "blue", "labels": {"app": "probed"}}
        mesh.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        until(lambda: (pod := mesh.pods.get("blue/probed")) and pod.started, "the pod has started", 60)
        there = mesh.kube.api.get("v1", "Pod", "blue", "probed")
        assert there
        until(mesh.pods["blue/probed"].envoy.ready, "its sidecar serves", 60)
        yield mesh.pods["blue/probed"], there


def answers(what: Object, address: str, status: int) -> None:
    """Waits for this answer: applications may begin to listen last."""
    until(lambda: probe(what, address)[0] == status, f"{what} is answered {status}", 30)


def app(name: str, *roles: str, **more: Object) -> Object:
    """A container that plays these roles of apps.py."""
    return {"name": name, "image": "rig-apps", "args": list(roles), **more}


def test_A_PRB_01_kube_http_probes_reach_the_application(mesh: KubeWorld) -> None:
    """Its own status comes back, on all three ports, with named ports and two containers (A-PRB-04, -05); the
    kubelet is not in the mesh."""
    checks = {
        "livenessProbe": {"httpGet": {"path": "/status/200", "port": "web"}, "periodSeconds": 7},
        "readinessProbe": {"httpGet": {"path": "/status/204", "port": 8080}, "failureThreshold": 9},
        "startupProbe": {"httpGet": {"path": "/status/503", "port": "web"}, "timeoutSeconds": 3},
    }
    second = {"livenessProbe": {"httpGet": {"path": "/status/201", "port": 8081}}}
    ports = [{"name": "web", "containerPort": 8080}]
    with probed(mesh, app("one", "http=8080", ports=ports, **checks), app("two", "http=8081", **second)) as (ours, pod):
        one, two = pod["spec"]["containers"][:2]
        for kind, port, status in (("liveness", 15901, 200), ("readiness", 15902, 204), ("startup", 15903, 503)):
            each = one[f"{kind}Probe"]
            assert each["httpGet"]["port"] == port
            assert each["httpGet"]["path"] == f"/osm-{kind}-probe/one"
            answers(each, ours.address, status)
        answers(two["livenessProbe"], ours.address, 201)
        kept = (one["livenessProbe"]["periodSeconds"], one["readinessProbe"]["failureThreshold"])
        assert (*kept, one["startupProbe"]["timeoutSeconds"]) == (7, 9, 3)


def test_A_PRB_02_kube_https_probes_reach_the_application(mesh: KubeWorld) -> None:
    """TLS is the application's own; beside it a probe without TLS of the same kind (A-PRB-05)."""
    https = {"path": "/status/202", "port": 8443, "scheme": "HTTPS"}
    one = app("one", "https=8443", livenessProbe={"httpGet": https})
    two = app("two", "http=8080", livenessProbe={"httpGet": {"path": "/status/206", "port": 8080}})
    with probed(mesh, one, two) as (ours, pod):
        first, second = (c["livenessProbe"] for c in pod["spec"]["containers"][:2])
        assert (first["httpGet"]["scheme"], first["httpGet"]["path"]) == ("HTTPS", "/status/202")
        assert first["httpGet"]["port"] == 15901
        answers(first, ours.address, 202)
        answers(second, ours.address, 206)


def test_A_PRB_06_kube_other_probes_are_left(mesh: KubeWorld) -> None:
    """Commands and gRPC are no business of the sidecar's."""
    probes = {
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 9},
        "readinessProbe": {"grpc": {"port": 9000}},
    }
    asked = paper("red", "commands", container=probes)
    pod = create(mesh, asked)
    bare = create(mesh, paper("grey", "commands", container=probes))
    for kind in probes:
        assert pod["spec"]["containers"][0][kind] == bare["spec"]["containers"][0][kind]
    assert [c["name"] for c in pod["spec"]["containers"]] == ["app", "envoy"]
    remove(mesh, pod, bare)


def test_A_PRB_03_kube_tcp_probes_ask_the_healthcheck(mesh: KubeWorld) -> None:
    """An open port, one that nobody listens on, and a question without a port."""
    open_port = {"livenessProbe": {"tcpSocket": {"port": 8080}}}
    closed = {"readinessProbe": {"tcpSocket": {"port": 81}}}
    with probed(mesh, app("one", "http=8080", **open_port), app("two", "http=8081", **closed)) as (ours, pod):
        containers = {c["name"]: c for c in pod["spec"]["containers"]}
        assert list(containers) == ["one", "two", "osm-healthcheck", "envoy"]
        alive, ready = containers["one"]["livenessProbe"], containers["two"]["readinessProbe"]
        assert alive["httpGet"]["port"] == 15904
        answers(alive, ours.address, 200)
        answers(ready, ours.address, 404)
        answers({"httpGet": {**alive["httpGet"], "httpHeaders": []}}, ours.address, 400)
        there = mesh.kube.api.get("v1", "Pod", "blue", "probed")
        assert there  # A-PRB-07: what nobody listens on is never ready
        assert [c["status"] for c in there["status"]["conditions"] if c["type"] == "Ready"] == ["False"]


def test_A_PRB_03_kube_tcp_probes_of_applications_that_bind_the_pods_address(mesh: KubeWorld) -> None:
    """With localProxyMode PodIP nobody listens on the loopback."""
    port = {"livenessProbe": {"tcpSocket": {"port": 8080}}}
    with mesh.scratch():
        mesh.mesh_config(sidecar={"localProxyMode": "PodIP"})
        bind = [{"name": "BIND", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
        with probed(mesh, app("one", "http=8080", env=bind, **port)) as (ours, pod):
            answers(pod["spec"]["containers"][0]["livenessProbe"], ours.address, 200)
            mesh.service("blue", "probed", HTTP_8080, {"app": "probed"})
            mesh.apply(grant_all("blue", "probed", "red/caller"))
            mesh.wait()
            assert mesh.pods["red/caller-1"].face("http://probed.blue/") == "200"


# --- the webhook itself ---


def registered(mesh: KubeWorld) -> Object:
    """Its configuration's only webhook."""
    found = mesh.kube.api.get(*MUTATING, mesh.webhook_name)
    assert found
    (webhook,) = found["webhooks"]
    return webhook


def post(
    mesh: KubeWorld, body: str, kind: str = "application/json", path: str = "/mutate-pod-creation"
) -> tuple[int, str]:
    """One question, under the name and the roots that the server is told of: status and answer."""
    told = registered(mesh)["clientConfig"]
    context = ssl.create_default_context(cadata=base64.b64decode(told["caBundle"]).decode())
    service = told["service"]
    name = f"{service['name']}.{service['namespace']}.svc"
    connection = HTTPSConnection(mesh.injector_address, service["port"], timeout=20, context=context)
    address = (mesh.injector_address, service["port"])
    connection.sock = context.wrap_socket(socket.create_connection(address, 20), server_hostname=name)
    try:
        connection.request("POST", path, body, {"Content-Type": kind, "Host": name})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_A_INJ_12_kube_is_registered(mesh: KubeWorld) -> None:
    """As the server has it, defaults and all."""
    webhook = registered(mesh)
    assert webhook["name"] == "osm-inject.k8s.io"
    shape = ("failurePolicy", "matchPolicy", "sideEffects", "timeoutSeconds", "admissionReviewVersions")
    assert [webhook[key] for key in shape] == ["Fail", "Exact", "NoneOnDryRun", 20, ["v1"]]
    (rule,) = webhook["rules"]
    assert (rule["operations"], rule["resources"], rule["apiVersions"]) == (["CREATE"], ["pods"], ["v1"])
    service = webhook["clientConfig"]["service"]
    where = ("osm-injector", mesh.osm_namespace, "/mutate-pod-creation", 9090)
    assert (service["name"], service["namespace"], service["path"], service["port"]) == where
    selector = webhook["namespaceSelector"]
    assert selector["matchLabels"] == {"openservicemesh.io/monitored-by": MESH}
    absent = {e["key"] for e in selector["matchExpressions"] if e["operator"] == "DoesNotExist"}
    assert "openservicemesh.io/ignore" in absent
    secret = mesh.kube.api.get("v1", "Secret", mesh.osm_namespace, ROOTS)
    assert secret
    assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == base64.b64decode(secret["data"]["ca.crt"])


def test_A_INJ_11_kube_http_layer(mesh: KubeWorld) -> None:
    """What is no question gets no answer of another kind."""
    assert post(mesh, "{}", "text/plain")[0] == 415
    assert post(mesh, "")[0] == 400
    for body, why in (("}", "}"), ("{}", "nil admission request")):
        status, text = post(mesh, body)
        response = json.loads(text)["response"]
        assert status == 200
        assert not response["allowed"]
        assert response["status"]["message"]
        assert why == "}" or why in response["status"]["message"]
    assert post(mesh, "x" * (9 << 20))[0] == 413
    assert post(mesh, "{}", path="/elsewhere")[0] == 404
    assert "sidecar" not in post(mesh, "{}", path="/healthz")[1]


def review(ns: str, pod: Object, **request: Any) -> str:
    """A question about a pod."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {"uid": "u-1", "kind": kind, "operation": "CREATE", "namespace": ns, "object": pod, **request}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked})


def test_kube_injector_says_nothing_of_a_key(mesh: KubeWorld) -> None:
    """Who asks gets the pod's change only; the key is in the Secret alone."""
    status, text = post(mesh, review("red", paper("red", "asked")))
    response = json.loads(text)["response"]
    assert (status, response["allowed"], response["uid"]) == (200, True, "u-1")
    patch = base64.b64decode(response["patch"]).decode()
    made = [each for each in bootstrap_secrets(mesh, "red") if each in patch]
    assert len(made) == 1
    secret = mesh.kube.api.get("v1", "Secret", "red", made[0])
    assert secret
    key = base64.b64decode(secret["data"]["sds_key.pem"]).decode()
    body = [line for line in key.splitlines() if "-----" not in line]
    assert body
    said = (text, patch, mesh.daemon.log(), mesh.daemon.osm("status", "-o", "json"), http(mesh.daemon, "/metrics"))
    assert not [line for line in body if any(line in each for each in said)]
    until(lambda: made[0] not in bootstrap_secrets(mesh, "red"), "nobody made the pod: its Secret has gone", 60)


def test_kube_injector_that_cannot_ask_lets_no_pod_in(mesh: KubeWorld) -> None:
    """Without the right to read Namespaces nobody can tell who belongs to the mesh."""
    api, name = mesh.kube.api, "osm-injector"
    role = api.get("rbac.authorization.k8s.io/v1", "ClusterRole", "", name)
    assert role
    less = [rule for rule in role["rules"] if "namespaces" not in rule["resources"]]
    try:
        api.patch("rbac.authorization.k8s.io/v1", "ClusterRole", "", name, {"rules": less})

        def refused() -> bool:
            with contextlib.suppress(RuntimeError):
                mesh.kube.kubectl(
                    "create", "--dry-run=server", "-f", "-", stdin=json.dumps(paper("red", "nobody-knows"))
                )
                return False
            return True

        until(refused, "pods are refused", 30)
        with pytest.raises(RuntimeError, match=r"cannot decide about a sidecar.*403"):
            mesh.kube.kubectl("create", "-f", "-", stdin=json.dumps(paper("red", "nobody-knows")))
    finally:
        api.patch("rbac.authorization.k8s.io/v1", "ClusterRole", "", name, {"rules": role["rules"]})
    until(lambda: not refused(), "pods are made again", 30)


def test_kube_injector_alone_goes_on_with_what_another_one_began(mesh: KubeWorld, tmp_path: Path) -> None:
    """The one that had made a Secret is killed before the pod owned it; a replica without the role controller, with
    the same roots, has it owned, and makes pods of the same mesh."""
    world = mesh
    command = [*world.daemon.command]
    http_at = f"127.0.0.1:{free_port('127.0.0.1')}"
    pod = create(world, paper("red", "left"))
    world.daemon.process.kill()  # type: ignore[union-attr]
    world.daemon.process.wait()  # type: ignore[union-attr]
    name = secret_of(pod)
    other = Daemon(tmp_path / "other", ["--source", "kubernetes"], ads="0.0.0.0:15128")
    wanted = [each for each in command[1:] if not each.startswith(("--roles", "--http-address", "--policies"))]
    other.command = [command[0], *wanted, "--roles=injector", f"--http-address={http_at}"]
    other.environment = dict(world.daemon.environment)
    other.start(ready=False)
    try:

        def healthy() -> bool:
            with contextlib.suppress(OSError):
                other.http = lambda: http_at  # type: ignore[method-assign]
                return http(other, "/healthz").startswith("Health OK")
            return False

        until(healthy, "the other injector is registered", 60)
        until(lambda: owners(world, "red", name) == [("Pod", "left")], "the pod owns the Secret", 60)
        made = create(world, paper("red", "by-another"))
        assert made["metadata"]["labels"][UUID]
        remove(world, pod, made)
        assert "open_handles" in _ended(other)
    finally:
        other.stop()
        world.daemon.start()
        world.until_connected(world.sidecars())
        until(lambda: not world.status()["injector"]["failure"], "the webhook is registered", 30)


def _ended(daemon: Daemon) -> str:
    assert daemon.stop() == 0
    return daemon.log()


def test_kube_injector_follows_its_roots(server: Kube) -> None:
    """In each step of a rotation the API server trusts the webhook, and a new pod gets what its sidecar needs then."""
    assert server.kubelet
    options: dict[str, Any] = {"mesh_name": "turns", "osm_namespace": "osm-turns", "rights": ("controller", "roots")}
    options["flags"] = [f"--ca-bundle-secret-name={ROOTS}"]
    with tracked(KubeWorld(server, server.kubelet, injects=True, real=False, **options)) as world:
        world.namespace("turning")
        world.wait()
        kept = server.api.get("v1", "Secret", "osm-turns", ROOTS)
        assert kept
        old = base64.b64decode(kept["data"]["ca.crt"])
        new = forge.certificate(None, "root", usage=None, ca=True, key_id=True).credentials()
        steps: list[tuple[dict[str, bytes | None], list[bytes]]] = [
            ({"passive.crt": new.chain}, [old, new.chain]),
            ({"ca.crt": new.chain, "private.key": new.key, "passive.crt": old}, [new.chain, old]),
            ({"passive.crt": None}, [new.chain]),
        ]
        for i, (change, roots) in enumerate(steps):
            data = {key: base64.b64encode(text).decode() if text else None for key, text in change.items()}
            server.api.patch("v1", "Secret", "osm-turns", ROOTS, {"data": data})
            world.daemon.osm("ca", "reload")
            world.daemon.applied()

            def told(roots: list[bytes] = roots) -> bool:
                bundle = base64.b64decode(registered(world)["clientConfig"]["caBundle"])
                return pems(bundle) == [each.strip() for each in roots]

            until(told, "the API server is told of the roots", 30)
            pod = create(world, paper("turning", f"pod-{i}"))
            secret = server.api.get("v1", "Secret", "turning", secret_of(pod))
            assert secret
            assert pems(base64.b64decode(secret["data"]["cacert.pem"])) == [each.strip() for each in roots]
            assert post(world, "{}")[0] == 200


def pems(text: bytes) -> list[bytes]:
    """The certificates of a text, one by one."""
    end = b"-----END CERTIFICATE-----"
    return [part.strip() + b"\n" + end for part in text.split(end) if part.strip()]


# --- rights ---


def test_kube_injector_rights_of_the_chart_are_those_that_are_used(server: Kube, mesh: KubeWorld) -> None:
    """With one less it could not work, and there is none more."""
    since = server.mark()
    pod = create(mesh, paper("red", "owned"))
    until(lambda: owners(mesh, "red", secret_of(pod)) == [("Pod", "owned")], "the pod owns the Secret", 30)
    refuse_one(mesh)
    remove(mesh, pod)
    wanted = kube_rbac.granted(("injector",))
    got, refused = kube_rbac.used(server.requests(since), mesh.osm_namespace)
    once = {each for each in wanted if each[1] == "mutatingwebhookconfigurations"}  # at its start
    assert wanted - once <= got
    assert once <= kube_rbac.used(server.requests(), mesh.osm_namespace)[0]
    assert refused == set()
