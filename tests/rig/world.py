"""A mesh of a test or of the demo: a watched directory, the daemon, pods and services.

    with World(folder) as world:
        world.namespace("red")
        caller = world.pod("red", "caller-1", account="caller")
        world.wait()

`wait()` is the barrier: pods that are new have been started, and every connected proxy has applied what is in the
files.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import envoy as wheel
import yaml

from . import dns, isolate
from .daemon import Daemon
from .net import GATEWAY, Addresses, Network
from .pod import Pod
from .waiting import until

Object = dict[str, Any]


class Site:
    """What the worlds of one process share: the bridge, the addresses, the name server, and what is mounted for all
    pods (before the first of them: each has its own mount namespace)."""

    _only: Site | None = None

    def __init__(self) -> None:
        ours = Path(wheel.__file__).parent / "_bin" / "envoy"
        self.envoy = self._mount("envoy", Path(os.environ.get("OSM_ENVOY") or ours))  # another one's path, by hand
        names = isolate.run_folder() / "nsswitch.conf"
        names.write_text("passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n")
        names.chmod(0o644)
        if os.path.exists("/etc/nsswitch.conf"):
            isolate.bind(names, "/etc/nsswitch.conf")  # no other resolver of the machine gets between
        self.network = Network()
        self.addresses = Addresses()
        self.worlds: list[World] = []
        self.dns = dns.Server(GATEWAY, self._lookup)

    @staticmethod
    def _mount(name: str, source: Path) -> Path:
        """A file at a place that every user can reach: the wheel's environment may lie in a private home."""
        target = isolate.run_folder() / name
        target.touch()
        isolate.bind(source, target)
        return target

    @classmethod
    def get(cls) -> Site:
        """The one of this process, made when first asked for."""
        if cls._only is None:
            cls._only = Site()
        return cls._only

    def _lookup(self, who: str, name: str) -> Sequence[str] | None:
        for world in self.worlds:
            if any(pod.address == who for pod in world.pods.values()):
                return world.lookup(name)
        return None


_ports: set[int] = set()


def free_port(address: str) -> int:
    """A TCP port that nobody uses, each once. It is below those that the kernel gives to outgoing connections, so that
    none of them has it before whoever is to listen there."""
    while True:
        port = secrets.choice(range(20000, 32000))
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        if port not in _ports:
            _ports.add(port)
            return port


class World:
    """One mesh. With real=False there is no network of its own: objects, daemon and raw clients on loopback only. With
    bare=True no object is written for it: neither its own namespace nor its MeshConfig. `flags`: more of the
    daemon's. `drain_time_s`: how long sidecars keep connections of a chain that has gone, where 45 s are too long.
    `source`: flags for another source of objects than the directory (world_kube.py)."""

    injects = False  # whether pods get their sidecars by a webhook

    def __init__(
        self,
        folder: Path | None = None,
        *,
        real: bool = True,
        mesh_name: str = "osm",
        osm_namespace: str = "osm-system",
        permissive: bool = False,
        egress: bool = False,
        ads_port: int | None = None,
        policies: Path | Sequence[Path] | None = None,
        state: Path | None = None,
        bare: bool = False,
        flags: Sequence[str] = (),
        drain_time_s: int | None = None,
        source: Sequence[str] | None = None,
    ) -> None:
        if folder is None:
            base = isolate.run_folder() if isolate.inside() else Path(tempfile.mkdtemp(prefix="osm-world-"))
            folder = Path(tempfile.mkdtemp(prefix="world-", dir=base))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        self.folder, self.real, self._bare = folder, real, bare
        self.mesh_name, self.osm_namespace = mesh_name, osm_namespace
        self.site = Site.get() if real else None
        self.addresses = self.site.addresses if self.site else Addresses()
        self.gateway = GATEWAY if real else "127.0.0.1"
        self.ads_port = ads_port or (
            15128 if real and not (self.site and self.site.worlds) else free_port(self.gateway)
        )
        self.files = folder / "objects"
        self.files.mkdir(exist_ok=True)
        self.open = False
        self.pods: dict[str, Pod] = {}
        self.objects: dict[tuple[str, str, str], Object] = {}
        self._config = {"permissive": permissive, "egress": egress}
        self.daemon = Daemon(
            folder / "controller",
            source or self.files,
            ads=f"{self.gateway}:{self.ads_port}",
            mesh_name=mesh_name,
            osm_namespace=osm_namespace,
            policies=policies,
            state=state,
            extra=(*flags, *([f"--sidecar-drain-time={drain_time_s}s"] if drain_time_s is not None else [])),
        )

    @property
    def network(self) -> Network:
        """The bridge."""
        assert self.site
        return self.site.network

    def __enter__(self) -> World:
        self.open = True
        if self.site:
            self.site.worlds.append(self)
        if not self._bare:
            self.namespace(self.osm_namespace, monitored=False)
            self.mesh_config()
        try:
            self.daemon.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        was_alive = self.daemon.alive()
        self.close()
        status = self.daemon.process.returncode if self.daemon.process else 0
        if kind is None and was_alive and status != 0:  # a leak, under a sanitizer
            raise RuntimeError(f"osm-controller ended with {status}:\n{self.daemon.log()[-4000:]}")

    def close(self) -> None:
        """Ends pods and daemon."""
        self.open = False
        for pod in self.pods.values():
            pod.stop()
            self.addresses.release(pod.address)
        self.pods.clear()
        if self.site and self in self.site.worlds:
            self.site.worlds.remove(self)
        self.daemon.stop()

    # --- objects, one per file ---

    def path(self, kind: str, ns: str, name: str) -> Path:
        """The file of an object."""
        if len(name) > 200:  # a file's name has less room than an object's
            name = f"{name[:160]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self.files / (ns or "cluster") / f"{kind}-{name}.yaml".lower()

    def apply(self, what: str | Object | Iterable[Object]) -> list[Object]:
        """Writes objects (YAML text, one object, or several), each to its file, at once or not at all."""
        if isinstance(what, str):
            what = yaml.safe_load_all(what)
        objects = [what] if isinstance(what, dict) else list(what)
        objects = [o for o in objects if o]
        for o in objects:
            kind, metadata = o["kind"], o["metadata"]
            ns = metadata.get("namespace", "")
            self.write(self.path(kind, ns, metadata["name"]), yaml.safe_dump(o, sort_keys=False))
            self.objects[kind, ns, metadata["name"]] = o
        return objects

    def put(self, name: str, text: str) -> None:
        """Writes a whole file of documents as it is, comments and all: for people to read and edit."""
        self.write(self.files / name, text)
        for o in yaml.safe_load_all(text):
            if o:
                self.objects[o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]] = o

    def drop(self, name: str) -> None:
        """Removes what put() has written, if it is there."""
        path = self.files / name
        if path.exists():
            for o in yaml.safe_load_all(path.read_text()):
                if o:
                    self.objects.pop((o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]), None)
            path.unlink()

    @staticmethod
    def write(path: Path, text: str) -> None:
        """Replaces a file in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(text)
        os.replace(aside, path)

    def delete(self, kind: str, ns: str, name: str) -> None:
        """Removes an object's file."""
        self.path(kind, ns, name).unlink()
        del self.objects[kind, ns, name]

    def exists(self, kind: str, ns: str, name: str) -> bool:
        """Whether the source has an object."""
        return self.path(kind, ns, name).exists()

    @contextlib.contextmanager
    def scratch(self):
        """Within, objects may be added, changed and deleted; after, everything is as before and applied. Pods made
        within end."""
        before, pods = copy.deepcopy(self.objects), set(self.pods)
        config = dict(self._config)
        try:
            yield self
        finally:
            for key in [k for k in self.pods if k not in pods]:
                self.remove_pod(self.pods[key])
            for key in [k for k in self.objects if k not in before]:
                self.delete(*key)
            for key, o in before.items():
                if self.objects.get(key) != o or not self.exists(*key):
                    self.apply(o)
            self._config = config

    def namespace(self, name: str, monitored: bool = True) -> None:
        """A Namespace, in the mesh or not."""
        labels = {"openservicemesh.io/monitored-by": self.mesh_name} if monitored else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def mesh_config(self, *, permissive: bool | None = None, egress: bool | None = None, **sections: Object) -> None:
        """The MeshConfig; the two switches that are not named stay. Further sections of its spec as they are."""
        for key, value in (("permissive", permissive), ("egress", egress)):
            if value is not None:
                self._config[key] = value
        traffic = {
            "enablePermissiveTrafficPolicyMode": self._config["permissive"],
            "enableEgress": self._config["egress"],
        }
        metadata = {"name": "osm-mesh-config", "namespace": self.osm_namespace}
        spec = {"traffic": traffic, **sections}
        kind = {"apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig"}
        self.apply({**kind, "metadata": metadata, "spec": spec})

    def find(self, kind: str, ns: str, name: str) -> Object | None:
        """An object as it is now, if it is there."""
        return self.objects.get((kind, ns, name))

    def account(self, ns: str, name: str) -> None:
        """A ServiceAccount."""
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": ns}})

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
        """A Service and its names; its ClusterIP. A number for `ports` is one http port without targetPort."""
        if isinstance(ports, int):
            ports = [{"name": "http", "port": ports, "appProtocol": "http"}]
        ip = "None" if headless else self.addresses.service(address)
        spec: Object = {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"protocol": "TCP", **p} for p in ports]}
        if selector:
            spec["selector"] = selector
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns}, "spec": spec})
        return ip

    def lookup(self, name: str) -> list[str] | None:
        """What the name server answers for a full name; None for one that does not exist."""
        if name == f"osm-controller.{self.osm_namespace}.svc.cluster.local":
            return [self.gateway]
        first, _, rest = name.removesuffix(".svc.cluster.local").partition(".")
        if not name.endswith(".svc.cluster.local"):
            return None
        if "." in rest:  # pod-0.db.shop
            service, _, ns = rest.partition(".")
            return self._behind(ns, service, first)
        o = self.find("Service", rest, first)
        if o is None:
            return None
        ip = o["spec"]["clusterIP"]
        return [ip] if ip != "None" else self._behind(rest, first)

    def _behind(self, ns: str, service: str, hostname: str = "") -> list[str] | None:
        """The addresses of a headless Service's pods, or of the one that is called so."""
        o = self.find("Service", ns, service)
        if o is None or o["spec"]["clusterIP"] != "None":
            return None
        selector = o["spec"].get("selector", {})
        pods = [p for p in self.pods.values() if p.ns == ns and selector and selector.items() <= p.labels.items()]
        if not hostname:
            return [p.address for p in pods]
        named = (hostname, service)
        return [p.address for p in pods if (p.spec.get("hostname"), p.spec.get("subdomain")) == named] or None

    def resolve(self, name: str, ns: str) -> str:
        """The first address of a name, as a pod of a namespace would find it."""
        for suffix in ("", f".{ns}.svc.cluster.local", ".svc.cluster.local", ".cluster.local"):
            if found := self.lookup(name + suffix):
                return found[0]
        if name.replace(".", "").isdigit():
            return name
        raise KeyError(f"no address for {name} in {ns}")

    # --- pods ---

    def pod(
        self,
        ns: str,
        name: str,
        *,
        account: str,
        labels: dict[str, str] | None = None,
        app: str | Sequence[str] = (),
        ports: Sequence[Object] | None = None,
        env: dict[str, str] | None = None,
        sidecar: bool = True,
        envoy: bool = True,
        sotw: bool = False,
        address: str | None = None,
        annotations: dict[str, str] | None = None,
        spec: Object | None = None,
    ) -> Pod:
        """A pod: its object is written now, its processes start at the next wait(). `app`: roles of apps.py, as
        "http=8080". `sotw`: its Envoy speaks the state of the world instead of delta. `spec`: more of its fields."""
        roles = [app] if isinstance(app, str) else list(app)
        listed = (
            [{"name": f"p{i}", "containerPort": int(r.partition("=")[2])} for i, r in enumerate(roles)]
            if ports is None
            else list(ports)
        )
        if ("ServiceAccount", ns, account) not in self.objects:
            self.account(ns, account)
        pod = Pod(
            self,
            ns,
            name,
            account=account,
            labels=labels or {"app": name},
            app=roles,
            ports=listed,
            env=env or {},
            sidecar=sidecar,
            envoy=envoy,
            sotw=sotw,
            real=self.real,
            address=self.addresses.pod(address),
            annotations=annotations or {},
            spec=spec or {},
        )
        self.pods[f"{ns}/{name}"] = pod
        self.apply(pod.manifest())
        return pod

    def remove_pod(self, pod: Pod) -> None:
        """Ends a pod and deletes its object."""
        self.delete("Pod", pod.ns, pod.name)
        pod.stop()
        self.addresses.release(pod.address)
        del self.pods[f"{pod.ns}/{pod.name}"]

    def bootstrap(self, pod: Pod, folder: Path) -> None:
        """Writes the files of a pod's sidecar."""
        out = str(folder)
        self.daemon.osm("proxy", "bootstrap", f"{pod.ns}/{pod.name}", "--out", out, "--mount-path", out)

    def start(self) -> None:
        """Starts the pods that are new, side by side, and waits until they serve."""
        new = [pod for pod in self.pods.values() if not pod.started and not pod.adopted]
        if not new:
            return
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Pod.prepare, new))
            list(pool.map(Pod.launch, new))
            list(pool.map(Pod.settle, new))

    def wait(self, timeout: float = 30.0) -> None:
        """The barrier."""
        self.start()
        try:
            self.daemon.applied(timeout)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self.daemon.osm('status')}") from None

    def sidecars(self) -> list[Pod]:
        """The pods with a running Envoy."""
        return [pod for pod in self.pods.values() if pod.has_envoy and pod.started]

    def status(self) -> Object:
        """`osm status -o json`."""
        return self.daemon.status()

    def proxy_known(self, pod: Pod) -> bool:
        """Whether the daemon lists a proxy as connected."""
        return any(p.get("uuid") == pod.uuid for p in self.status().get("proxies", []))

    def until_connected(self, pods: Iterable[Pod]) -> None:
        """Waits until the daemon has a stream from each of these pods."""
        for pod in pods:
            until(lambda pod=pod: self.proxy_known(pod), f"{pod} is connected")
