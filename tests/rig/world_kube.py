"""A mesh whose objects are in an API server: a World for the tests, with real pods behind the server's Pod objects.

    with Kube(folder) as kube, Kubelet(kube) as kubelet, KubeWorld(kube, kubelet) as world:
        world.namespace("red")
        world.pod("red", "caller-1", account="caller")      # as in any World
        kube.kubectl("apply", "-f", "shop.yaml")            # its pods run too: see ROLES
        world.wait()

Endpoints are the controllers' work, and ClusterIPs the server's. What is left of a world in the server goes when it
is closed.

Pods that are made elsewhere, by a Deployment for example, are run when they are in a namespace of this world's and
the image of a container stands for an application of the rig. With `injects`, the daemon's webhook gives pods their
sidecars, and what it says is run; else they get the label of one from here, and its files from the command line.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from . import kube_rbac
from .daemon import CommandError
from .injected import Injected, environment
from .kube import Kube
from .kube_api import Object
from .kube_crds import KINDS, mesh_kinds
from .kubelet import Kubelet
from .net import run
from .pod import Pod
from .waiting import until
from .world import World

CONTROLLED = [("apps/v1", "Deployment"), ("apps/v1", "StatefulSet")]
UUID = "osm-proxy-uuid"
APPS = "rig-apps"
INJECTION = "openservicemesh.io/sidecar-injection"
IMAGES = {
    f"OSM_DEFAULT_{name}_IMAGE": f"registry.example/{name.lower().replace('_', '-')}:1"
    for name in ("ENVOY", "ENVOY_WINDOWS", "INIT_CONTAINER", "HEALTHCHECK_CONTAINER")
}


def roles_of(container: Object) -> list[str]:
    """What apps.py is to play for a container: the arguments of one whose image is rig-apps."""
    name = container.get("image", "").rpartition("/")[2].partition(":")[0]
    return list(container.get("args", [])) if name == APPS else []


class KubeWorld(World):
    """One mesh in an API server, alone there if its daemon is to see no other. `kubeconfig`: whose rights the
    daemon has, those that the chart gives it by default: `rights` names the files; with "bootstrap" among them the
    daemon is to make the definitions, else they are made here. `roles`: what stands for a container, in apps.py's
    words; [] for one that is not run. `environment`: of all applications, besides what their manifests say.
    `injects`: the daemon has the role "injector" too (where `flags` name roles, they name it), at the ClusterIP of the
    Service osm-injector."""

    def __init__(
        self,
        kube: Kube,
        kubelet: Kubelet,
        folder: Path | None = None,
        *,
        kubeconfig: Path | None = None,
        roles: Callable[[Object], list[str]] = roles_of,
        environment: dict[str, str] | None = None,
        rights: Sequence[str] = ("controller",),
        injects: bool = False,
        **options: Any,
    ) -> None:
        self.injects, self.injector_address = injects, ""
        if injects:
            rights = (*rights, "injector")
            flags = list(options.get("flags", ()))
            has_roles = any(flag.startswith("--roles") for flag in flags)
            options["flags"] = flags if has_roles else [*flags, "--roles=controller,injector"]
        self.kube, self.kubelet, self._roles = kube, kubelet, roles
        self._environment, self._rights = environment or {}, rights
        self._owned: set[str] = set()  # namespaces
        self._tended: dict[str, Pod] = {}  # pods that the kubelet knows, by uid
        self._not_ready: set[str] = set()  # pods whose manifests say so
        self._texts: dict[str, list[tuple[str, str, str]]] = {}
        ns = options.get("osm_namespace", "osm-system")
        if kubeconfig is None:
            self._claim(ns)
            kube.namespace(ns)
            kubeconfig = kube_rbac.grant(kube, ns, rights)
        source = ["--source", "kubernetes", f"--kubeconfig={kubeconfig}"]
        super().__init__(folder, source=source, **options)

    def __enter__(self) -> KubeWorld:
        definitions = mesh_kinds()
        if "bootstrap" not in self._rights:
            self.kube.crd(*definitions)
        if self.injects:
            self._place_injector()
        self.kubelet.runners.append(self)
        super().__enter__()
        if self.injects:
            until(lambda: not self.status()["injector"]["failure"], "the webhook is registered", 30.0)
        self.kube.until_served(*definitions)
        return self

    def _place_injector(self) -> None:
        """A Service whose ClusterIP the daemon itself has: nobody plays kube-proxy for the API server."""
        ports = [{"name": "mutate-webhook", "port": 9090}]
        self.injector_address = self.service(self.osm_namespace, "osm-injector", ports, None)
        run("ip", "addr", "add", f"{self.injector_address}/32", "dev", "lo")
        self.daemon.command += ["--injector-listen", f"{self.injector_address}:9090"]
        self.daemon.environment |= IMAGES

    def close(self) -> None:
        """Ends pods and daemon; this world's namespaces begin to go."""
        if self.injector_address:
            with contextlib.suppress(OSError):
                self.kube.api.delete(
                    "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "", self.webhook_name
                )
        super().close()
        if self.injector_address:
            run("ip", "addr", "del", f"{self.injector_address}/32", "dev", "lo")
            self.injector_address = ""
        if self in self.kubelet.runners:
            self.kubelet.runners.remove(self)
        with contextlib.suppress(OSError):  # the server may have ended before
            for ns in self._owned:
                self.kube.forget_namespace(ns)
        self._owned.clear()

    @property
    def webhook_name(self) -> str:
        """Of the MutatingWebhookConfiguration."""
        return f"osm-webhook-{self.mesh_name}"

    # --- objects ---

    def namespace(self, name: str, monitored: bool = True) -> None:
        """A Namespace, in the mesh or not; pods of one in the mesh get sidecars."""
        super().namespace(name, monitored)
        if self.injects and monitored:
            o = copy.deepcopy(self.objects["Namespace", "", name])
            o["metadata"]["annotations"] = {INJECTION: "enabled"}
            self.apply(o)

    def pod(self, ns: str, name: str, **options: Any) -> Pod:
        """A pod of a world; with the sidecar that the webhook has given it."""
        if self.injects and not options.get("sidecar", True):
            options["annotations"] = {INJECTION: "disabled", **(options.get("annotations") or {})}
        ours = super().pod(ns, name, **options)
        if self.injects and ours.sidecar:
            self._take_injected(ours, self.kube.api.get("v1", "Pod", ns, name))
        return ours

    def _take_injected(self, ours: Pod, pod: Object | None) -> None:
        assert pod
        ours.injected = Injected(self.kube.api, pod)
        ours.uuid = ours.injected.uuid
        assert ours.uuid, f"{ours} has no sidecar"

    def apply(self, what: str | Object | Iterable[Object]) -> list[Object]:
        """Writes objects (YAML text, one object, or several), one after the other."""
        if isinstance(what, str):
            what = yaml.safe_load_all(what)
        objects = [what] if isinstance(what, dict) else list(what)
        objects = [o for o in objects if o]
        for o in objects:
            self._write(o)
        return objects

    def _write(self, o: Object) -> None:
        kind, metadata = o["kind"], o["metadata"]
        ns, name = metadata.get("namespace", ""), metadata["name"]
        wanted = {k: v for k, v in o.items() if k != "status"}
        wanted["metadata"] = {k: v for k, v in metadata.items() if k not in ("uid", "resourceVersion")}
        if ns and ("Namespace", "", ns) not in self.objects and not self.kube.api.get("v1", "Namespace", "", ns):
            self.namespace(ns, monitored=False)
        if kind == "Namespace":
            self._claim(name)
        if kind == "Pod":
            self._say_ready(o)
        custom = o["apiVersion"].partition("/")[0] in {group for group, *_ in KINDS}
        written = (self.kube.api.store if custom else self.kube.api.apply)(wanted)
        if kind == "Namespace":
            until(lambda: self.kube.api.get("v1", "ServiceAccount", name, "default"), f"{name} has its account", 60.0)
        if kind == "Service":
            o = copy.deepcopy(o)
            o["spec"]["clusterIP"] = written["spec"].get("clusterIP", "None")  # an ExternalName has none
        self.objects[kind, ns, name] = o

    def _claim(self, ns: str) -> None:
        """A namespace is about to be made, or changed; one of that name may be going."""

        def free() -> bool:
            found = self.kube.api.get("v1", "Namespace", "", ns)
            return found is None or "deletionTimestamp" not in found["metadata"]

        until(free, f"the last namespace {ns} has gone", 60.0)
        self._owned.add(ns)

    def _say_ready(self, pod: Object) -> None:
        """What a pod's manifest says of its readiness, for a pod that is there or comes."""
        metadata = pod["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
        ready = conditions.get("Ready", "True") == "True"
        if ready != (key in self._not_ready):
            return  # as it was
        if key in self.pods and ("Pod", metadata["namespace"], metadata["name"]) in self.objects:
            self.set_ready(self.pods[key], ready)
        else:
            (self._not_ready.discard if ready else self._not_ready.add)(key)

    def set_ready(self, pod: Pod, ready: bool) -> None:
        """A pod becomes ready, or stops being so."""
        (self._not_ready.discard if ready else self._not_ready.add)(repr(pod))
        self._until_placed(pod.ns, pod.name)
        self.kubelet.set_ready(pod.ns, pod.name, ready)

    def _until_placed(self, ns: str, name: str) -> None:
        def address() -> str:
            return (self.kube.api.get("v1", "Pod", ns, name) or {}).get("status", {}).get("podIP", "")

        until(address, f"{ns}/{name} has its address", 30.0)

    def put(self, name: str, text: str) -> None:
        """Applies a text of documents; what an earlier text of that name had besides is deleted."""
        keys = [(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in self.apply(text)]
        for key in self._texts.get(name, []):
            if key not in keys:
                self.delete(*key)
        self._texts[name] = keys

    def drop(self, name: str) -> None:
        """Deletes what put() has written."""
        for key in self._texts.pop(name, []):
            if key in self.objects:
                self.delete(*key)

    def _api_version(self, kind: str, ns: str, name: str) -> str:
        return self.objects[kind, ns, name]["apiVersion"]

    def _uid(self, *of: str) -> str:
        """Of an object that is there; a controller may make another one of the same name at once."""
        return (self.kube.api.get(*of) or {"metadata": {"uid": ""}})["metadata"]["uid"]

    def delete(self, kind: str, ns: str, name: str) -> None:
        """Deletes an object; returns when it is gone."""
        api_version = self._api_version(kind, ns, name)
        uid = self._uid(api_version, kind, ns, name)
        self.kube.api.delete(api_version, kind, ns, name)
        until(lambda: not uid or self._uid(api_version, kind, ns, name) != uid, f"{kind} {ns}/{name} is gone", 60.0)
        del self.objects[kind, ns, name]
        if kind == "Namespace":
            self._owned.discard(name)

    def exists(self, kind: str, ns: str, name: str) -> bool:
        """Whether the server has an object of ours."""
        return self.kube.api.get(self._api_version(kind, ns, name), kind, ns, name) is not None

    def find(self, kind: str, ns: str, name: str) -> Object | None:
        """A core object as the server has it, whoever has made it."""
        return self.kube.api.get("v1", kind, ns, name)

    @contextlib.contextmanager
    def scratch(self):
        """As in every World. What makes pods goes first: they would come again."""
        with super().scratch():
            before = set(self.objects)
            try:
                yield self
            finally:
                for kind, ns, name in [k for k in self.objects if k not in before]:
                    if (self._api_version(kind, ns, name), kind) in CONTROLLED:
                        self.kube.api.delete(
                            self._api_version(kind, ns, name), kind, ns, name, propagationPolicy="Foreground"
                        )
                        self.delete(kind, ns, name)

    def service(
        self,
        ns: str,
        name: str,
        ports: Sequence[Object] | int,
        selector: dict[str, str] | None,
        *,
        address: str | None = None,
        headless: bool = False,
    ) -> str:
        """A Service; its ClusterIP, by the server where none is wished for."""
        if isinstance(ports, int):
            ports = [{"name": "http", "port": ports, "appProtocol": "http"}]
        spec: Object = {"ports": [{"protocol": "TCP", **p} for p in ports]}
        if headless or address:
            spec["clusterIP"] = "None" if headless else address
        if selector:
            spec["selector"] = selector
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns}, "spec": spec})
        return self.objects["Service", ns, name]["spec"]["clusterIP"]

    # --- pods: what the kubelet asks of us, on its threads ---

    def takes(self, pod: Object) -> bool:
        """Ours are those that pod() has made, and those of our namespaces that stand for an application."""
        metadata = pod["metadata"]
        ours = self.pods.get(f"{metadata['namespace']}/{metadata['name']}") or self._adopt(pod)
        if ours is None:
            return False
        self._tended[metadata["uid"]] = ours
        return True

    def place(self, pod: Object) -> tuple[str, bool]:
        """A pod of pod()'s is what its manifest says; another one gets ready by itself."""
        ours = self._tended[pod["metadata"]["uid"]]
        return ours.address, not ours.adopted and repr(ours) not in self._not_ready

    def run(self, pod: Object) -> bool:
        """Starts the processes of an adopted pod."""
        ours = self._tended[pod["metadata"]["uid"]]
        if not ours.adopted or not self.open:
            return False
        ours.prepare()
        ours.launch()
        ours.settle()
        return not ours.injected or ours.injected.ready(ours.address)

    def stop(self, pod: Object) -> None:
        """Ends a pod's processes."""
        uid = pod["metadata"]["uid"]
        if uid in self._tended:
            self._end(self._tended[uid])
            del self._tended[uid]

    def _end(self, pod: Pod) -> None:
        if self.pods.get(repr(pod)) is pod:  # else it has ended before, perhaps with the world
            del self.pods[repr(pod)]
            pod.stop()
            self.addresses.release(pod.address)

    def _adopt(self, pod: Object) -> Pod | None:
        metadata, spec = pod["metadata"], pod["spec"]
        ns, name = metadata["namespace"], metadata["name"]
        played = [(c, self._roles(c)) for c in spec["containers"]]
        if ns not in self._owned or not any(roles for _, roles in played):
            return None
        address = self.addresses.pod()
        labels = dict(metadata.get("labels", {}))
        uuid = labels.pop(UUID, "")
        ours = Pod(
            self,
            ns,
            name,
            account=spec.get("serviceAccountName", "default"),
            labels=labels,
            app=[role for _, roles in played for role in roles],
            ports=[p for c, roles in played if roles for p in c.get("ports", [])],
            env=self._environment
            | {k: v for c, roles in played if roles for k, v in environment(pod, c, address).items()},
            sidecar=bool(uuid) or (not self.injects and self._is_to_be_injected(pod)),
            envoy=True,
            sotw=False,
            real=self.real,
            address=address,
            annotations=dict(metadata.get("annotations", {})),
            spec={k: spec[k] for k in ("hostname", "subdomain") if k in spec},
        )
        ours.adopted = True
        if uuid and self.injects:
            self._take_injected(ours, pod)
        elif uuid:
            ours.uuid = uuid
        elif ours.uuid:
            self.kube.api.patch("v1", "Pod", ns, name, {"metadata": {"labels": {UUID: ours.uuid}}})
        self.pods[f"{ns}/{name}"] = ours
        return ours

    def _is_to_be_injected(self, pod: Object) -> bool:
        """Whether a pod gets a sidecar: its namespace is monitored, and neither says no."""
        ns = self.kube.api.get("v1", "Namespace", "", pod["metadata"]["namespace"])
        assert ns
        said = [o["metadata"].get("annotations", {}).get(INJECTION, "") for o in (pod, ns)]
        monitored = ns["metadata"].get("labels", {}).get("openservicemesh.io/monitored-by") == self.mesh_name
        return monitored and next((s for s in said if s), "enabled") in ("enabled", "yes", "true")

    def remove_pod(self, pod: Pod) -> None:
        """Deletes a pod's object, which ends it; returns when it is gone."""
        self.objects.pop(("Pod", pod.ns, pod.name), None)
        uid = self._uid("v1", "Pod", pod.ns, pod.name)
        self.kube.api.delete("v1", "Pod", pod.ns, pod.name)
        until(lambda: not uid or self._uid("v1", "Pod", pod.ns, pod.name) != uid, f"{pod} is gone", 60.0)
        until(lambda: pod not in list(self._tended.values()), f"{pod} has ended", 60.0)
        self._end(pod)  # it was gone before the kubelet knew it

    # --- waiting ---

    def bootstrap(self, pod: Pod, folder: Path) -> None:
        """As soon as the daemon knows the pod."""
        refused: list[CommandError] = []

        def done() -> bool:
            try:
                super(KubeWorld, self).bootstrap(pod, folder)
            except CommandError as error:
                refused.append(error)
                return False
            return True

        try:
            until(done, f"the daemon knows {pod}", 30.0)
        except AssertionError:
            raise refused[-1] from None

    def settled(self) -> list[str]:
        """What controllers and kubelet have still to do in the namespaces of this world; nothing: []."""
        api, out = self.kube.api, []
        if self.kubelet.errors:
            raise AssertionError("kubelet: " + "; ".join(self.kubelet.errors))
        for api_version, kind in CONTROLLED:
            for o in self._of_ours(api.list(api_version, kind)):
                status, wanted = o.get("status", {}), o["spec"].get("replicas", 1)
                counted = [status.get(f, 0) for f in ("replicas", "readyReplicas", "updatedReplicas")]
                if status.get("observedGeneration", 0) < o["metadata"]["generation"] or set(counted) != {wanted}:
                    out.append(f"{kind} {o['metadata']['name']}: {counted} of {wanted}")
        pods = [
            p for p in self._of_ours(api.list("v1", "Pod")) if p["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        for pod in pods:
            key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            going = "deletionTimestamp" in pod["metadata"]
            if going or not pod["status"].get("podIP") or (not _ready(pod) and key not in self._not_ready):
                out.append(f"Pod {key}: {'going' if going else pod['status'].get('phase')}")
        slices = self._of_ours(api.list("discovery.k8s.io/v1", "EndpointSlice"))
        for service in self._of_ours(api.list("v1", "Service")):
            ns, name, selector = (
                service["metadata"]["namespace"],
                service["metadata"]["name"],
                service["spec"].get("selector"),
            )
            if selector:
                wanted = {
                    (p["status"].get("podIP"), _ready(p) or bool(service["spec"].get("publishNotReadyAddresses")))
                    for p in pods
                    if p["metadata"]["namespace"] == ns and selector.items() <= p["metadata"].get("labels", {}).items()
                }
                has = {
                    (a, e["conditions"]["ready"])
                    for s in slices
                    if s["metadata"]["namespace"] == ns
                    and s["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name
                    for e in s.get("endpoints") or []
                    for a in e["addresses"]
                }
                if wanted != has:
                    out.append(f"Service {ns}/{name}: {sorted(map(str, has))} instead of {sorted(map(str, wanted))}")
        return out

    def _of_ours(self, objects: list[Object]) -> list[Object]:
        return [o for o in objects if o["metadata"]["namespace"] in self._owned]

    def wait(self, timeout: float = 30.0) -> None:
        """The barrier: what has been written has reached pods, slices, daemon and proxies."""
        left: list[str] = []

        def done() -> bool:
            left[:] = self.settled()
            return not left

        try:
            until(done, "controllers and kubelet are done", 60.0, poll=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None
        super().wait(timeout)


def _ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
