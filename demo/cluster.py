"""The story of a mesh whose objects are in an API server, in the order in which the documents tell it: the manifests
of kubernetes/ have their names, labels, ports and API versions, and kubectl applies them.

The API server is real; scheduler and kubelet are played. A container's image stands for one of our applications, and
its environment is what the manifest says.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plot import DATABASE_PORT, PORT, Step, Store, not_stored, only_buyer, shares, shut, stored, thief_too
from rig import isolate, net, until
from rig.kube import Kube, program
from rig.kubelet import Kubelet
from rig.world_kube import KubeWorld

if TYPE_CHECKING:
    from rig import Pod

MANIFESTS = Path(__file__).resolve().parent / "kubernetes"
NAMESPACES = ("bookstore", "bookbuyer", "bookthief", "bookwarehouse")
MESH_CONFIG = ("config.openservicemesh.io/v1alpha2", "MeshConfig", "osm-system", "osm-mesh-config")

_APPLICATIONS = {
    "openservicemesh/bookbuyer": f"bookbuyer={PORT}",
    "openservicemesh/bookthief": f"bookthief={PORT}",
    "openservicemesh/bookstore": f"bookstore={PORT}",
    "openservicemesh/bookwarehouse": f"bookwarehouse={PORT}",
    "mysql": f"bookdb={DATABASE_PORT}",
}


def _roles(container: dict[str, Any]) -> list[str]:
    role = _APPLICATIONS.get(container["image"].rpartition(":")[0])
    return [role] if role else []


class Cluster(Store):
    """Five Deployments and a StatefulSet, one of them later."""

    cast = ("bookbuyer", "bookthief", "bookstore-v1", "bookstore-v2", "bookwarehouse", "mysql")
    starts = "kube-apiserver, osm-controller, five applications, five Envoys"

    def __init__(self, quick: bool) -> None:
        self._pace = {"LOOP_S": "0.001", "CLIENTS": "4"} if quick else {"LOOP_S": "0.06", "CLIENTS": "2"}
        self._parts = contextlib.ExitStack()
        self._heard: list[str] = []
        self.kubectl: Path | None = None

    def open(self) -> None:
        """Starts the server, the mesh as the documents install it, and the applications. The daemon makes the
        definitions, the MeshConfig from its preset, and its roots in a Secret."""
        folder = isolate.run_folder()
        net.loopback_up()  # where the server listens
        self.kube = self._parts.enter_context(Kube(folder))
        kubelet = self._parts.enter_context(Kubelet(self.kube))
        environment = {**self._pace, "BUY_DELAY_MS": "0", "DATABASE": f"mysql.bookwarehouse:{DATABASE_PORT}"}
        self.world = KubeWorld(
            self.kube,
            kubelet,
            folder / "mesh",
            roles=_roles,
            environment=environment,
            bare=True,
            rights=("controller", "bootstrap", "roots"),
            injects=True,
            flags=["--roles=controller,injector,bootstrap", "--ca-bundle-secret-name=osm-ca-bundle"],
        )
        self.apply("preset-mesh-config.yaml")
        self._parts.enter_context(self.world)
        until(lambda: self.kube.api.get(*MESH_CONFIG), "the MeshConfig is made", 30.0)
        self._write_kubectl(folder)
        for ns in NAMESPACES:
            self.world.namespace(ns)
        self.apply("apps/bookbuyer.yaml", "apps/bookthief.yaml", "apps/bookstore.yaml", "apps/bookwarehouse.yaml")
        self.apply("apps/mysql.yaml")
        self.world.wait()
        until(lambda: all(map(self.pod, ("bookbuyer", "bookthief", "bookstore-v1", "mysql"))), "all pods run")
        self.heard()  # no step's

    def _write_kubectl(self, folder: Path) -> None:
        """A kubectl for a terminal outside: the server listens in the network of this run only."""
        inside = f"nsenter --net=/proc/$(cat {shlex.quote(str(folder / isolate.PID_FILE))})/ns/net"
        config = f"--kubeconfig={shlex.quote(str(self.kube.kubeconfig))}"
        self.kubectl = folder / "kubectl"
        self.kubectl.write_text(f'#!/bin/sh\nexec {inside} {shlex.quote(program())} kubectl {config} "$@"\n')
        self.kubectl.chmod(0o755)

    def close(self) -> None:
        """Ends everything."""
        self._parts.close()

    def run(self, *arguments: str) -> None:
        """Runs kubectl, and keeps what it says."""
        self._heard += self.kube.kubectl(*arguments).splitlines()

    def apply(self, *manifests: str) -> None:
        """Applies some of our manifests."""
        for manifest in manifests:
            self.run("apply", "-f", str(MANIFESTS / manifest))

    def heard(self) -> list[str]:
        """What kubectl has said since it was last asked."""
        said, self._heard = self._heard, []
        return said

    def permissive(self, on: bool) -> None:
        """Sets the mode of the whole mesh, as the documents do."""
        patch = f'{{"spec":{{"traffic":{{"enablePermissiveTrafficPolicyMode":{str(on).lower()}}}}}}}'
        self.run("patch", "meshconfig", "osm-mesh-config", "-n", "osm-system", "--type=merge", "-p", patch)

    def older(self) -> None:
        """The same grants once more, in the API versions of older releases."""
        self.run("delete", "-f", str(MANIFESTS / "access/traffic-access-v1.yaml"))
        self.apply("access/traffic-access-v1-older.yaml")

    def second_version(self) -> None:
        """bookstore-v2: first its share (none), then its pod."""
        self.apply("split/traffic-split-v1.yaml")
        self.world.wait()
        self.apply("apps/bookstore-v2.yaml")

    def pod(self, application: str) -> Pod | None:
        """By its account, since controllers give the names."""
        account = "bookstore" if application == "bookstore-v1" else application
        found = (p for p in list(self.world.pods.values()) if p.account == account and p.ns in NAMESPACES)
        return next(found, None)

    def place(self, step: Step) -> str:
        """A command for another terminal."""
        return f"{self.kubectl} edit {step.edit}"


def _applies(*manifests: str) -> Callable[[Cluster], None]:
    return lambda store: store.apply(*manifests)


_MODE, _ACCESS = "meshconfig osm-mesh-config -n osm-system", "traffictarget bookstore -n bookstore"
_SPLIT = "trafficsplit bookstore-split -n bookstore"

STEPS = [
    Step("permissive mode, as the mesh was installed: everybody may buy", lambda store: None, thief_too, _MODE),
    Step("permissive mode off: nobody may", lambda store: store.permissive(False), shut, _MODE),
    Step("traffic-access-v1.yaml lets bookbuyer in", _applies("access/traffic-access-v1.yaml"), only_buyer, _ACCESS),
    Step(
        "traffic-access-v1-allow-bookthief.yaml: bookthief gets in",
        _applies("access/traffic-access-v1-allow-bookthief.yaml"),
        thief_too,
        _ACCESS,
    ),
    Step(
        "traffic-access-v1.yaml again: bookthief is refused",
        _applies("access/traffic-access-v1.yaml"),
        only_buyer,
        _ACCESS,
    ),
    Step("TrafficTarget v1alpha2, HTTPRouteGroup v1alpha3: the same", Cluster.older, only_buyer, _ACCESS),
    Step("no TCPRoute opens the database", lambda store: None, not_stored, "traffictarget bookstore -n bookstore"),
    Step("a TCPRoute opens it", _applies("access/mysql.yaml"), stored, "tcproute mysql -n bookwarehouse"),
    Step(
        "traffic-split-v1.yaml, and bookstore-v2 arrives: all stays on v1", Cluster.second_version, shares(100), _SPLIT
    ),
    Step("traffic-split-50-50.yaml: half and half", _applies("split/traffic-split-50-50.yaml"), shares(50), _SPLIT),
    Step("traffic-split-v2.yaml: v2 takes over", _applies("split/traffic-split-v2.yaml"), shares(0), _SPLIT),
]
