"""The role bootstrap against the real API server: definitions that are absent, older, newer, somebody else's or on
their way out; the MeshConfig that the mesh begins with; and what unmodified manifests of all versions come to."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kube_meshes import http, kube_daemon, metric, until_state
from rig import Daemon, kube_rbac, until
from rig.daemon import build_dir
from rig.kube import Kube
from rig.kube_api import MERGE, ApiError, Object
from rig.kube_crds import mesh_kinds
from rig.world import free_port

CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
MESH_CONFIG = ("config.openservicemesh.io/v1alpha2", "MeshConfig")
TARGET = "traffictargets.access.smi-spec.io"
PRESET = {
    "sidecar": {"enablePrivilegedInitContainer": False, "logLevel": "error", "configResyncInterval": "0s"},
    "traffic": {"enableEgress": True, "enablePermissiveTrafficPolicyMode": True},
    "observability": {"osmLogLevel": "info", "tracing": {"enable": False}},
    "certificate": {"serviceCertValidityDuration": "24h", "certKeyBitSize": 2048},
    "featureFlags": {"enableWASMStats": True, "enableEgressPolicy": True},
}


class Bootstrap(Daemon):
    """A daemon of this role alone: it has no socket, and says all over HTTP."""

    def __init__(self, folder: Path, kubeconfig: Path, ns: str, *more: str) -> None:
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        flags = [f"--http-address={self.address}", "--roles=bootstrap", *more]
        source = ["--source", "kubernetes", f"--kubeconfig={kubeconfig}"]
        super().__init__(folder, source, ads="127.0.0.1:1", osm_namespace=ns, extra=tuple(flags))

    def http(self) -> str:
        return self.address

    def says(self, path: str) -> str:
        """What it answers; nothing before it listens."""
        assert self.alive(), self.log()
        with contextlib.suppress(OSError):
            return http(self, path)
        return ""

    def until_says(self, text: str) -> None:
        """Waits for words in its report."""
        until(lambda: text in self.says("/health/ready?verbose"), f"the bootstrap says: {text}", 30.0)

    def until_done(self) -> None:
        """Waits until it is ready."""
        until(lambda: self.says("/healthz").startswith("Health OK"), "the bootstrap is done", 60.0)


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Iterator[Kube]:
    """A server of these tests' own: definitions are for all of it."""
    with Kube(run_folder, audit=True) as kube:
        yield kube


def crds(kube: Kube) -> dict[str, Object]:
    return {crd["metadata"]["name"]: crd for crd in kube.api.list(*CRD)}


_numbers = itertools.count()


@pytest.fixture
def blank(server: Kube) -> Iterator[Kube]:
    """The server without any definition."""

    def are_gone() -> bool:
        for name in crds(server):  # one that was deleted right after it was made is looked at again when it changes
            with contextlib.suppress(ApiError):
                server.api.patch(*CRD, "", name, {"metadata": {"annotations": {"looked-at": str(next(_numbers))}}})
        return not crds(server)

    def clear() -> None:
        for name in crds(server):
            server.api.delete(*CRD, "", name)
        until(are_gone, "all definitions are gone", 60.0)

    clear()
    yield server
    clear()


@pytest.fixture
def ns(blank: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """The control plane's namespace, with the preset."""
    name = f"osm-{abs(hash(request.node.name)) % 10**9}"
    blank.namespace(name)
    preset(blank, name, json.dumps(PRESET))
    yield name
    blank.forget_namespace(name)


def preset(kube: Kube, ns: str, text: str, key: str = "preset-mesh-config.json") -> None:
    """What the chart puts there."""
    made: Object = {"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text}}
    made["metadata"] = {"name": "preset-mesh-config", "namespace": ns}
    kube.api.apply(made)


@contextlib.contextmanager
def bootstrapping(folder: Path, kubeconfig: Path, ns: str, *more: str) -> Iterator[Bootstrap]:
    one = Bootstrap(folder, kubeconfig, ns, *more)
    one.start(ready=False)
    try:
        yield one
        assert one.stop() == 0
        assert '"open_handles":0' in one.log()
    finally:
        one.stop()


def run_once(kube: Kube, folder: Path, ns: str) -> str:
    """A bootstrap from its start to its end; its log."""
    with bootstrapping(folder, kube.kubeconfig, ns) as one:
        one.until_done()
    return one.log()


# --- making ---


def test_kube_bootstrap_three_at_once_make_one_of_everything(blank: Kube, ns: str, tmp_path: Path) -> None:
    """Each ends well; the definitions are those of the chart, and the MeshConfig is the preset."""
    three = [Bootstrap(tmp_path / str(n), blank.kubeconfig, ns) for n in range(3)]
    for one in three:
        one.start(ready=False)  # all, before the first has answered
    try:
        for one in three:
            one.until_done()
            assert metric(one, "osm_kube_request_total", code="422") == 0
    finally:
        assert [one.stop() for one in three] == [0, 0, 0]
    created = [json.loads(line) for one in three for line in one.log().splitlines() if '"message":"created"' in line]
    assert sorted(each["obj"] for each in created) == sorted(
        ["MeshConfig osm-mesh-config", *(crd["metadata"]["name"] for crd in mesh_kinds())]
    )
    there = crds(blank)
    for ours in mesh_kinds():
        live = there[ours["metadata"]["name"]]
        assert is_as(live, ours), ours["metadata"]["name"]
        managers = {(m["manager"], m["operation"]) for m in live["metadata"]["managedFields"]}
        assert ("osm-bootstrap", "Apply") in managers
    config = blank.api.get(*MESH_CONFIG, ns, "osm-mesh-config")
    assert config
    assert contains(config["spec"], PRESET)
    assert config["spec"]["sidecar"]["tlsMinProtocolVersion"] == "TLSv1_2"  # by the schema


def test_kube_bootstrap_again_changes_nothing(blank: Kube, ns: str, tmp_path: Path) -> None:
    """Not a definition, and never a MeshConfig: that is its operator's from its first day on."""
    run_once(blank, tmp_path / "first", ns)
    blank.api.patch(*MESH_CONFIG, ns, "osm-mesh-config", {"spec": {"traffic": {"enableEgress": False}}})
    config = blank.api.get(*MESH_CONFIG, ns, "osm-mesh-config")
    before = crds(blank)
    preset(blank, ns, json.dumps(PRESET | {"traffic": {}}))
    log = run_once(blank, tmp_path / "second", ns)
    assert crds(blank) == before
    assert blank.api.get(*MESH_CONFIG, ns, "osm-mesh-config") == config
    assert "upgraded" not in log


def contains(live: object, ours: object) -> bool:
    """Whether all that `ours` says is in `live`."""
    if isinstance(ours, dict):
        return isinstance(live, dict) and all(contains(live.get(key), value) for key, value in ours.items())
    if isinstance(ours, list):
        return isinstance(live, list) and len(live) == len(ours) and all(map(contains, live, ours))
    return live == ours


def is_as(live: Object, ours: Object) -> bool:
    """Whether a definition, as it is listed, is one of ours."""
    return all(contains(live[part], ours[part]) for part in ("metadata", "spec"))


# --- manifests of all versions ---

SOURCES = "[{kind: ServiceAccount, name: caller, namespace: default}]"
OWNER = "{kind: ServiceAccount, name: shop, namespace: default}"
MATCHES = """
- name: buy
  pathRegex: /buy
  methods: [GET, "*"]
  headers:
  - user-agent: ".*-http-client/*.*"
  - client-app: bookbuyer
"""
MANIFESTS = [
    *(
        ("access.smi-spec.io", version, "TrafficTarget", text)
        for version, text in {
            "v1alpha3": f"spec: {{destination: {OWNER}, rules: [{{kind: HTTPRouteGroup, name: g, matches: [buy]}}], "
            f"sources: {SOURCES}}}",
            "v1alpha2": f"spec: {{destination: {OWNER}, rules: [{{kind: TCPRoute, name: g}}], sources: {SOURCES}}}",
            "v1alpha1": "destination: {kind: ServiceAccount, name: shop, namespace: default, port: 8080}\n"
            f"specs: [{{kind: HTTPRouteGroup, name: g, matches: [buy]}}]\nsources: {SOURCES}",
        }.items()
    ),
    *(
        ("specs.smi-spec.io", version, "HTTPRouteGroup", f"spec:\n  matches: {MATCHES}".replace("\n-", "\n  -"))
        for version in ("v1alpha4", "v1alpha3")
    ),
    *(("specs.smi-spec.io", version, "HTTPRouteGroup", f"matches: {MATCHES}") for version in ("v1alpha2", "v1alpha1")),
    ("specs.smi-spec.io", "v1alpha3", "HTTPRouteGroup", "spec: {matches: [{name: buy, headers: {a: x, b: z}}]}"),
    ("specs.smi-spec.io", "v1alpha4", "TCPRoute", "spec: {matches: {name: db, ports: [3306]}}"),
    *(("specs.smi-spec.io", version, "TCPRoute", "") for version in ("v1alpha3", "v1alpha2", "v1alpha1")),
    ("specs.smi-spec.io", "v1alpha4", "UDPRoute", "spec: {matches: {name: dns, ports: [53]}}"),
    *(
        ("split.smi-spec.io", version, "TrafficSplit", f"spec: {{service: shop, backends: {backends}{more}}}")
        for version, backends, more in (
            ("v1alpha4", "[{service: v1, weight: 90}]", ", matches: [{kind: HTTPRouteGroup, name: g}]"),
            ("v1alpha3", "[{service: v1, weight: 90}]", ", matches: [{kind: HTTPRouteGroup, name: g}]"),
            ("v1alpha2", "[{service: v1, weight: 90}, {service: v2, weight: 10}]", ""),
            ("v1alpha1", "[{service: v1, weight: 500m}, {service: v2, weight: 1}]", ""),
        )
    ),
    *(
        ("config.openservicemesh.io", version, "MeshConfig", f"spec: {json.dumps(PRESET)}")
        for version in ("v1alpha2", "v1alpha1")
    ),
    (
        "config.openservicemesh.io",
        "v1alpha2",
        "MeshRootCertificate",
        "spec: {provider: {tresor: {ca: {secretRef: {name: osm-ca-bundle, namespace: osm-system}}}}}",
    ),
    ("config.openservicemesh.io", "v1alpha2", "ExtensionService", "spec: {host: otel.default.svc, port: 4317}"),
    (
        "policy.openservicemesh.io",
        "v1alpha1",
        "Egress",
        f"spec: {{sources: {SOURCES}, hosts: [httpbin.org], ports: [{{number: 80, protocol: http}}], "
        "matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: g}]}",
    ),
    (
        "policy.openservicemesh.io",
        "v1alpha1",
        "IngressBackend",
        "spec: {backends: [{name: shop, port: {number: 80, protocol: https}, tls: {skipClientCertValidation: false, "
        "sniHosts: [shop]}}], sources: [{kind: AuthenticatedPrincipal, name: gw}, {kind: IPRange, name: 10.0.0.0/8}]}",
    ),
    (
        "policy.openservicemesh.io",
        "v1alpha1",
        "Retry",
        f"spec: {{source: {OWNER}, destinations: [{{kind: Service, name: shop, namespace: default}}], retryPolicy: "
        "{retryOn: 5xx, perTryTimeout: 1s, numRetries: 5, retryBackoffBaseInterval: 1s}}",
    ),
    (
        "policy.openservicemesh.io",
        "v1alpha1",
        "UpstreamTrafficSetting",
        "spec: {host: shop.default.svc.cluster.local, connectionSettings: {tcp: {maxConnections: 1}, http: "
        "{maxRequestsPerConnection: 1}}, rateLimit: {local: {tcp: {connections: 1, unit: minute}, http: {requests: 3, "
        "unit: minute, responseStatusCode: 509, responseHeadersToAdd: [{name: a, value: b}]}}}, httpRoutes: [{path: "
        "/get, rateLimit: {local: {requests: 1, unit: hour}}}]}",
    ),
    (
        "policy.openservicemesh.io",
        "v1alpha1",
        "Telemetry",
        "spec: {selector: {app: shop}, accessLog: {format: '[%START_TIME%]'}}",
    ),
]


def test_kube_bootstrap_manifests_of_all_versions_are_taken_whole(blank: Kube, ns: str, tmp_path: Path) -> None:
    """kubectl, which is strict with fields, takes each; in every version all fields of it are there."""
    run_once(blank, tmp_path, ns)
    versions = {(c["spec"]["group"], c["spec"]["names"]["kind"]): c["spec"]["versions"] for c in mesh_kinds()}
    for n, (group, version, kind, text) in enumerate(MANIFESTS):
        path = tmp_path / f"{n}.yaml"
        path.write_text(
            f"apiVersion: {group}/{version}\nkind: {kind}\nmetadata: {{name: m{n}, namespace: {ns}}}\n{text}"
        )
        blank.kubectl("apply", "-f", str(path))
        seen = [blank.api.get(f"{group}/{each['name']}", kind, ns, f"m{n}") for each in versions[group, kind]]
        bodies = [{k: v for k, v in o.items() if k not in ("apiVersion", "metadata")} for o in seen if o]
        assert len(bodies) == len(versions[group, kind])
        assert all(body == bodies[0] for body in bodies), (kind, version)
    assert {(group, kind) for group, _, kind, _ in MANIFESTS} == set(versions)


def test_kube_bootstrap_nothing_of_an_object_is_dropped(blank: Kube, ns: str, tmp_path: Path) -> None:
    """A mistyped limit that the server dropped would grant more; so would a port of an older version that the
    newest one does not have."""
    run_once(blank, tmp_path, ns)
    target: Object = {"apiVersion": "access.smi-spec.io/v1alpha2", "kind": "TrafficTarget"}
    target["metadata"] = {"name": "t", "namespace": ns}
    owner = {"kind": "ServiceAccount", "name": "shop", "namespace": ns}
    target["spec"] = {"destination": {**owner, "port": 8080}, "rules": [], "sources": [], "onlyFrom": "here"}
    blank.api.create(target)
    read = blank.api.get("access.smi-spec.io/v1alpha3", "TrafficTarget", ns, "t")
    assert read
    assert read["spec"] == target["spec"]
    for wrong in ({"spec": {"destination": owner}}, {"spec": {**target["spec"], "sources": [{"name": "x"}]}}):
        bad = {**target, "apiVersion": "access.smi-spec.io/v1alpha3", "metadata": {"name": "bad", "namespace": ns}}
        with pytest.raises(ApiError, match="Invalid"):
            blank.api.create({**bad, **wrong})


# --- upgrades ---


def as_it_was(name: str, storage: str, served: list[str]) -> Object:
    """A definition of ours as an older release had it: what it stored, what it served."""
    crd = copy.deepcopy(next(each for each in mesh_kinds() if each["metadata"]["name"] == name))
    del crd["metadata"]["annotations"]
    for version in crd["spec"]["versions"]:
        version["storage"], version["served"] = version["name"] == storage, version["name"] in served
        version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return crd


def test_kube_bootstrap_upgrades_and_every_object_stays(blank: Kube, ns: str, tmp_path: Path) -> None:
    """From a release that stored v1alpha2, by one that stored v1alpha3 and served that alone; labels and annotations of
    others stay, and in the end no object is stored in an older version."""
    old = as_it_was(TARGET, "v1alpha2", ["v1alpha2"])
    old["metadata"]["annotations"] = {"acme.example/owner": "us"}
    old["metadata"]["labels"]["acme.example/keep"] = "yes"
    blank.crd(old)
    specs = {}
    for n in range(7):
        owner = {"kind": "ServiceAccount", "name": f"shop-{n}", "namespace": ns}
        specs[f"t{n}"] = {"destination": {**owner, **({"port": 80} if n == 3 else {})}, "rules": [], "sources": []}
        made: Object = {"apiVersion": "access.smi-spec.io/v1alpha2", "kind": "TrafficTarget", "spec": specs[f"t{n}"]}
        blank.api.create({**made, "metadata": {"name": f"t{n}", "namespace": ns}})
    middle = as_it_was(TARGET, "v1alpha3", ["v1alpha3"])
    middle["metadata"] |= {"annotations": old["metadata"]["annotations"], "labels": old["metadata"]["labels"]}
    blank.crd(middle)
    assert crds(blank)[TARGET]["status"]["storedVersions"] == ["v1alpha2", "v1alpha3"]
    versions = {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in targets(blank, ns)}
    log = run_once(blank, tmp_path, ns)
    live = crds(blank)[TARGET]
    assert live["status"]["storedVersions"] == ["v1alpha3"]
    assert is_as(live, next(each for each in mesh_kinds() if each["metadata"]["name"] == TARGET))
    assert live["metadata"]["annotations"]["acme.example/owner"] == "us"
    assert live["metadata"]["labels"]["acme.example/keep"] == "yes"
    assert '"message":"upgraded"' in log
    assert '"objects":7' in log
    for each in targets(blank, ns):
        assert each["spec"] == specs[each["metadata"]["name"]]
        assert each["metadata"]["resourceVersion"] != versions[each["metadata"]["name"]]
        assert each["metadata"]["generation"] == 1


def targets(kube: Kube, ns: str, version: str = "v1alpha3") -> list[Object]:
    return kube.api.list(f"access.smi-spec.io/{version}", "TrafficTarget", ns)


def test_kube_bootstrap_object_of_an_older_schema_moves_too(blank: Kube, ns: str, tmp_path: Path) -> None:
    """It lacks what the newest version requires: it is stored in that version all the same, with what it says."""
    spec = old_object(blank, ns)
    run_once(blank, tmp_path, ns)
    assert crds(blank)[TARGET]["status"]["storedVersions"] == ["v1alpha3"]
    for version in ("v1alpha3", "v1alpha2"):
        assert [each["spec"] for each in targets(blank, ns, version)] == [spec]


def old_object(kube: Kube, ns: str) -> Object:
    """A target of v1alpha2, which has no rules and no sources, in a server that stores that; its spec."""
    kube.crd(as_it_was(TARGET, "v1alpha2", ["v1alpha2"]))
    spec = {"destination": {"kind": "ServiceAccount", "name": "shop", "namespace": ns}}
    made: Object = {"apiVersion": "access.smi-spec.io/v1alpha2", "kind": "TrafficTarget", "spec": spec}
    kube.api.create({**made, "metadata": {"name": "old", "namespace": ns}})
    return spec


@pytest.mark.parametrize(("reason", "code"), [("Invalid", 422), ("Forbidden", 403)])
def test_kube_bootstrap_object_that_may_not_be_written_stays_readable(
    blank: Kube, ns: str, tmp_path: Path, reason: str, code: int
) -> None:
    """A policy of the server's refuses every change of it: it is named and stays as it is, and so does the note that
    such ones are stored; all else goes on."""
    spec = old_object(blank, ns)
    api, name = "admissionregistration.k8s.io/v1", f"frozen-{ns}"
    rule = {"apiGroups": ["access.smi-spec.io"], "apiVersions": ["*"], "resources": ["*"], "operations": ["UPDATE"]}
    policy: Object = {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}}
    policy["spec"] = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "frozen by us", "reason": reason}],
    }
    blank.api.apply(policy)
    binding: Object = {"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}}
    blank.api.apply({**binding, "spec": {"policyName": name, "validationActions": ["Deny"]}})
    path = f"/apis/access.smi-spec.io/v1alpha2/namespaces/{ns}/traffictargets/old"
    change = {"metadata": {"labels": {"a": "b"}}}

    def is_frozen() -> bool:
        return blank.api.raw("PATCH", f"{path}?dryRun=All", change, content_type=MERGE)[0] == code

    until(is_frozen, "the policy is in force", 60.0)
    try:
        log = run_once(blank, tmp_path, ns)
        assert "frozen by us" in log
        assert crds(blank)[TARGET]["status"]["storedVersions"] == ["v1alpha2", "v1alpha3"]
        for version in ("v1alpha3", "v1alpha2"):
            assert [each["spec"] for each in targets(blank, ns, version)] == [spec]
    finally:
        blank.api.delete(api, "ValidatingAdmissionPolicyBinding", "", name)
        blank.api.delete(api, "ValidatingAdmissionPolicy", "", name)


def test_kube_bootstrap_takes_a_conversion_webhook_away(blank: Kube, ns: str, tmp_path: Path) -> None:
    """Releases up to 1.1 had one, whose server is gone: nothing could be read in another version."""
    old = as_it_was(TARGET, "v1alpha3", ["v1alpha3", "v1alpha2"])
    blank.crd(old)
    spec = {"destination": {"kind": "ServiceAccount", "name": "shop", "namespace": ns}, "rules": [], "sources": []}
    made: Object = {"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "spec": spec}
    blank.api.create({**made, "metadata": {"name": "t", "namespace": ns}})
    service = {"name": "osm-bootstrap", "namespace": ns, "path": "/convert", "port": 9443}
    webhook = {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1beta1"]}
    blank.api.patch(*CRD, "", TARGET, {"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}})
    path = f"/apis/access.smi-spec.io/v1alpha2/namespaces/{ns}/traffictargets"
    until(lambda: blank.api.raw("GET", path)[0] >= 400, "the webhook is asked, and is not there")
    run_once(blank, tmp_path, ns)
    assert crds(blank)[TARGET]["spec"]["conversion"] == {"strategy": "None"}
    until(lambda: blank.api.raw("GET", path)[0] == 200, "the objects can be read again")
    assert [each["spec"] for each in targets(blank, ns, "v1alpha2")] == [spec]


@pytest.mark.parametrize("how", ["revision", "version"])
def test_kube_bootstrap_leaves_a_newer_definition_as_it_is(blank: Kube, ns: str, tmp_path: Path, how: str) -> None:
    """It would take away what a newer release has brought; it says so, and is done all the same."""
    newer = as_it_was(TARGET, "v1alpha3", ["v1alpha3"])
    if how == "revision":
        newer["metadata"]["annotations"] = {"openservicemesh.io/crd-revision": "99"}
        why = "is of revision 99, ours of 1"
    else:
        newer["spec"]["versions"].insert(0, {**newer["spec"]["versions"][0], "name": "v1beta1", "storage": False})
        why = "has a version v1beta1"
    blank.crd(newer)
    before = crds(blank)[TARGET]
    with bootstrapping(tmp_path, blank.kubeconfig, ns) as one:
        one.until_done()
        one.until_says(f"{TARGET}: newer: {why}")
    assert crds(blank)[TARGET] == before


# --- what keeps it ---


def until_established(kube: Kube, name: str) -> None:
    """Waits until a definition that was just made is in force."""
    conditions = {"type": "Established", "status": "True"}

    def is_established() -> bool:
        found = crds(kube)[name].get("status", {}).get("conditions") or []
        return any(contains(each, conditions) for each in found)

    until(is_established, f"{name} is in force")


def test_kube_bootstrap_waits_for_a_definition_that_is_going(blank: Kube, ns: str, tmp_path: Path) -> None:
    """An object with a finalizer holds it: the bootstrap says which kind to look at, calls it failed after a while,
    and makes it anew when it is gone."""
    blank.crd(as_it_was(TARGET, "v1alpha3", ["v1alpha3"]))
    held: Object = {"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "spec": {}}
    held["metadata"] = {"name": "held", "namespace": ns, "finalizers": ["acme.example/held"]}
    blank.api.create(held)
    uid = crds(blank)[TARGET]["metadata"]["uid"]
    blank.api.delete(*CRD, "", TARGET)
    until(lambda: "deletionTimestamp" in crds(blank)[TARGET]["metadata"], "it is going")
    with bootstrapping(tmp_path, blank.kubeconfig, ns, "--bootstrap-deadline=1s") as one:
        one.until_says(f"{TARGET}: failed: is being deleted since ")
        one.until_says("finalizers: kubectl get traffictargets.access.smi-spec.io -A")
        assert http(one, "/healthz").startswith("starting")
        blank.api.patch(*held_at(ns), {"metadata": {"finalizers": None}})
        one.until_done()
    assert crds(blank)[TARGET]["metadata"]["uid"] != uid


def held_at(ns: str) -> tuple[str, str, str, str]:
    return "access.smi-spec.io/v1alpha3", "TrafficTarget", ns, "held"


def test_kube_bootstrap_whose_names_are_taken_says_by_whom(blank: Kube, ns: str, tmp_path: Path) -> None:
    """Another definition of the group has the kind; when it is gone ours comes into force."""
    other = as_it_was(TARGET, "v1alpha3", ["v1alpha3"])
    other["metadata"]["name"] = "others.access.smi-spec.io"
    other["spec"]["names"] = {**other["spec"]["names"], "plural": "others", "singular": "other"}
    blank.api.create(other)
    until_established(blank, "others.access.smi-spec.io")
    with bootstrapping(tmp_path, blank.kubeconfig, ns) as one:
        one.until_says(f"{TARGET}: failed: its names are another definition's: ")
        blank.api.delete(*CRD, "", "others.access.smi-spec.io")
        one.until_done()


def test_kube_bootstrap_of_another_product_is_not_touched(blank: Kube, ns: str, tmp_path: Path) -> None:
    """A definition of that name with another kind is somebody else's."""
    other = as_it_was(TARGET, "v1alpha3", ["v1alpha3"])
    other["spec"]["names"] = {**other["spec"]["names"], "kind": "Other", "listKind": "OtherList"}
    blank.api.create(other)
    until_established(blank, TARGET)
    before = crds(blank)[TARGET]
    with bootstrapping(tmp_path, blank.kubeconfig, ns) as one:
        one.until_says(f"{TARGET}: failed: is of kind Other and scope Namespaced, not TrafficTarget and Namespaced")
    assert crds(blank)[TARGET] == before


def test_kube_bootstrap_without_rights_says_which(blank: Kube, ns: str, tmp_path: Path) -> None:
    """And goes on when it has them, without a restart."""
    account = {"name": kube_rbac.ACCOUNT, "namespace": ns}
    blank.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    with bootstrapping(tmp_path, blank.account_kubeconfig(ns, kube_rbac.ACCOUNT), ns) as one:
        one.until_says("its role needs get, create and patch of customresourcedefinitions.apiextensions.k8s.io")
        kube_rbac.grant(blank, ns, ROLES)
        one.until_done()


def test_kube_bootstrap_rights_of_the_chart_are_those_that_are_used(blank: Kube, ns: str, tmp_path: Path) -> None:
    """Of kinds that have had older versions objects are written anew; the others are never looked at. `create` of
    definitions leaves no trace: that an apply may make one is asked, and not written down."""
    for name, storage in OLDER:
        blank.crd(as_it_was(name, storage, [storage]))
        crd = crds(blank)[name]["spec"]
        old: Object = {"apiVersion": f"{crd['group']}/{storage}", "kind": crd["names"]["kind"], "spec": {}}
        blank.api.create({**old, "metadata": {"name": "old", "namespace": ns}})
    kubeconfig = kube_rbac.grant(blank, ns, ROLES)
    since = blank.mark()
    with bootstrapping(tmp_path, kubeconfig, ns) as one:
        one.until_done()
    used, refused = kube_rbac.used(blank.requests(since), ns)
    assert refused == set()
    assert used | {("apiextensions.k8s.io", "customresourcedefinitions", "create")} == kube_rbac.granted(ROLES)
    assert all(crds(blank)[name]["status"]["storedVersions"] != [storage] for name, storage in OLDER)


ROLES = ("bootstrap",)
OLDER = [
    (TARGET, "v1alpha2"),
    ("httproutegroups.specs.smi-spec.io", "v1alpha3"),
    ("tcproutes.specs.smi-spec.io", "v1alpha3"),
    ("trafficsplits.split.smi-spec.io", "v1alpha4"),
    ("meshconfigs.config.openservicemesh.io", "v1alpha1"),
]


# --- the preset ---


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("{}", "other.json", "has no key preset-mesh-config.json"),
        ('{"sidecar": {"logLevel": "error",}}', "", "line 1, column"),
        ("[]", "", "expected an object, the spec of a MeshConfig"),
        ('{"traffic": {"enableEgress": "yes"}}', "", "spec.traffic.enableEgress"),
        ('{"certificate": {}}', "", "spec.certificate.serviceCertValidityDuration: Required"),
    ],
    ids=["no key", "no JSON", "no object", "no boolean", "a field too few"],
)
def test_kube_bootstrap_preset_that_is_broken_is_named(
    blank: Kube, ns: str, tmp_path: Path, text: str, key: str, why: str
) -> None:
    """With what is wrong, in the log and in its report; mended, the MeshConfig is made."""
    blank.api.delete("v1", "ConfigMap", ns, "preset-mesh-config")
    preset(blank, ns, text, *([key] if key else []))
    with bootstrapping(tmp_path, blank.kubeconfig, ns) as one:
        one.until_says(why)
        assert why in one.log()
        assert "preset-mesh-config" in http(one, "/health/ready?verbose")
        assert blank.api.get(*MESH_CONFIG, ns, "osm-mesh-config") is None
        preset(blank, ns, json.dumps(PRESET))
        one.until_done()
    assert blank.api.get(*MESH_CONFIG, ns, "osm-mesh-config")


def test_kube_bootstrap_without_a_preset_takes_a_mesh_config_that_comes(blank: Kube, ns: str, tmp_path: Path) -> None:
    """It says that there is no ConfigMap; whoever makes the MeshConfig is as welcome."""
    blank.api.delete("v1", "ConfigMap", ns, "preset-mesh-config")
    with bootstrapping(tmp_path, blank.kubeconfig, ns) as one:
        one.until_says('configmaps "preset-mesh-config" not found; make it, or a MeshConfig osm-mesh-config')
        made = {"apiVersion": MESH_CONFIG[0], "kind": "MeshConfig", "spec": {}}
        blank.api.create({**made, "metadata": {"name": "osm-mesh-config", "namespace": ns}})
        one.until_done()


def test_kube_bootstrap_beside_the_controller_and_its_mesh_config_is_live(blank: Kube, ns: str, tmp_path: Path) -> None:
    """One daemon of both roles on a blank server: it finds what it has made, and follows a patch of kubectl."""
    daemon = kube_daemon(tmp_path, blank.kubeconfig, ns=ns, extra=["--roles=controller,bootstrap"]).start()
    try:
        until_state(daemon, "ok", 60.0)
        until(lambda: daemon.status()["bootstrap"]["state"] == "done", "all is there", 60.0)
        daemon.applied()
        assert "BOOTSTRAP done" in daemon.osm("status")
        assert daemon.status()["debug"] == "off"
        patch = '{"spec":{"observability":{"enableDebugServer":true}}}'
        blank.kubectl("patch", "meshconfig", "osm-mesh-config", "-n", ns, "--type=merge", "-p", patch)
        daemon.applied()
        assert daemon.status()["debug"] != "off"
        assert daemon.stop() == 0
    finally:
        daemon.stop()


# --- flags ---


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (
            ["--source=kubernetes", "--roles=controller,validator"],
            'no role "validator"; there are controller, injector and bootstrap',
        ),
        (["--source=dir:/tmp", "--roles=injector"], "--roles injector is for --source kubernetes"),
        (["--source=kubernetes", "--roles=injector"], "--ca-bundle-secret-name"),
        (
            ["--source=kubernetes", "--roles=injector", "--ca-bundle-secret-name=x", "--webhook-timeout=31"],
            "expected seconds, 1 to 30",
        ),
        (
            [
                "--source=kubernetes",
                "--roles=injector",
                "--ca-bundle-secret-name=x",
                "--osm-container-pull-policy=Sometimes",
            ],
            "expected Always, IfNotPresent or Never",
        ),
        (["--source=kubernetes", "--roles="], 'no role ""'),
        (["--source=kubernetes", "--roles=bootstrap,"], 'no role ""'),
        (["--source=dir:/tmp", "--roles=bootstrap"], "--roles bootstrap is for --source kubernetes"),
        (
            ["--source=dir:/tmp", "--ca-bundle-secret-name=x", "--state-dir=/tmp/none", "--policies=policies"],
            "--ca-bundle-secret-name is for --source kubernetes",
        ),
        (["--source=kubernetes", "--roles=controller"], "--state-dir"),
    ],
)
def test_roles_that_there_are_not_are_refused(flags: list[str], why: str) -> None:
    """Loudly, with those that there are."""
    done = subprocess.run(
        [build_dir() / "osm-controller", *flags], capture_output=True, text=True, check=False, timeout=10
    )
    assert done.returncode == 2
    assert why in done.stderr
