"""What a webhook has put into a pod, run as kubelet and container runtime would: by what the pod's object says, and by
nothing else."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
from pathlib import Path
from typing import Any

from .daemon import build_dir
from .kube_api import Api, Object
from .net import Netns, run

PROGRAMS = {"/osm-healthcheck": "osm-healthcheck"}  # what an image of the mesh holds; Envoy is the site's

# Our /etc with the sidecar's files in it: there is no folder for them on the machine, and none is to be made there.
_MOUNT = """
mkdir -p "$1" && mount --rbind /etc "$1" && mount -t tmpfs -o mode=755 tmpfs /etc && cd "$1" &&
for each in * .[!.]*; do [ "$each" = envoy ] || [ ! -e "$each" ] || ln -s "$1/$each" "/etc/$each"; done &&
mkdir -p "$3" && mount --bind "$2" "$3"
"""


def named(containers: list[Object], name: str) -> Object | None:
    """The container of a name."""
    return next((c for c in containers if c["name"] == name), None)


def environment(pod: Object, container: Object, address: str) -> dict[str, str]:
    """A container's environment: plain values, and the fields of its pod that applications ask for."""
    metadata = pod["metadata"]
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": address,
    }
    out = {}
    for variable in container.get("env", []):
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        out[variable["name"]] = fields[field] if field else variable.get("value", "")
    return out


class Injected:
    """The sidecar of a pod's object."""

    def __init__(self, api: Api, pod: Object) -> None:
        self._api, self.pod = api, pod
        self.ns: str = pod["metadata"]["namespace"]
        self.uuid: str = pod["metadata"].get("labels", {}).get("osm-proxy-uuid", "")
        self.envoy = named(pod["spec"]["containers"], "envoy")

    def write_files(self, folder: Path) -> None:
        """The files of the volume that the sidecar mounts."""
        assert self.envoy
        (mount,) = [m for m in self.envoy["volumeMounts"] if m["mountPath"] == "/etc/envoy"]
        assert mount["readOnly"]
        (volume,) = [v for v in self.pod["spec"]["volumes"] if v["name"] == mount["name"]]
        secret = self._api.get("v1", "Secret", self.ns, volume["secret"]["secretName"])
        assert secret, f"there is no Secret {volume['secret']['secretName']}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in secret["data"].items():
            (folder / name).write_bytes(base64.b64decode(value))

    def mount(self, netns: Netns, folder: Path, aside: Path) -> None:
        """Makes them appear where Envoy looks for them; `aside`: where the rest of /etc is kept."""
        run(*netns.command(0, "sh", "-ec", _MOUNT, "sh", str(aside), str(folder), "/etc/envoy"))

    def redirect(self, netns: Netns, address: str) -> None:
        """Runs the init container, as its user and with its capabilities: of those that matter here a container has
        none by itself."""
        init = named(self.pod["spec"].get("initContainers", []), "osm-init")
        assert init
        security = init.get("securityContext", {})
        given = security.get("capabilities", {}).get("add", [])
        without = ",".join(f"-{name.lower()}" for name in ("NET_ADMIN", "SYS_ADMIN") if name not in given)
        drop = ["setpriv", f"--reuid={security['runAsUser']}", "--clear-groups", f"--bounding-set={without}"]
        run(*netns.command(0, *drop, "env", *self._environment(init, address), *init["command"], *init["args"]))

    @property
    def envoy_uid(self) -> int:
        """Whom Envoy runs as."""
        assert self.envoy
        return self.envoy["securityContext"]["runAsUser"]

    def envoy_arguments(self) -> list[str]:
        """Of Envoy, behind its name."""
        assert self.envoy and self.envoy["command"] == ["envoy"]
        return list(self.envoy["args"])

    def envoy_environment(self, address: str) -> list[str]:
        """Its variables, as "NAME=value"."""
        assert self.envoy
        return self._environment(self.envoy, address)

    def helpers(self, address: str) -> list[list[str]]:
        """The command lines of the mesh's other containers."""
        found = []
        for container in self.pod["spec"]["containers"]:
            command = container.get("command", [])
            if command and (program := PROGRAMS.get(command[0])):
                words = [*command[1:], *container.get("args", [])]
                values = environment(self.pod, container, address)
                expanded = [re.sub(r"\$\((\w+)\)", lambda m, v=values: v.get(m[1], m[0]), word) for word in words]
                found.append([str(build_dir() / program), *expanded])
        return found

    def _environment(self, container: Object, address: str) -> list[str]:
        return [f"{name}={value}" for name, value in environment(self.pod, container, address).items()]

    def ready(self, address: str) -> bool:
        """Whether the readiness probe of each container that has one succeeds, tried as often as it says."""
        probes = [c["readinessProbe"] for c in self.pod["spec"]["containers"] if "readinessProbe" in c]
        return all(
            any(200 <= probe(each, address)[0] < 400 for _ in range(each.get("failureThreshold", 3)))
            for each in probes
            if "httpGet" in each
        )


def probe(what: Object, address: str) -> tuple[int, str]:
    """One probe by HTTP, from outside of the pod, as a kubelet makes it: status and body; 0: there was no answer."""
    get = what["httpGet"]
    timeout = float(what.get("timeoutSeconds", 1))
    connection: Any
    if get.get("scheme", "HTTP") == "HTTPS":
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(address, int(get["port"]), timeout=timeout, context=unchecked)
    else:
        connection = http.client.HTTPConnection(address, int(get["port"]), timeout=timeout)
    try:
        headers = {h["name"]: h["value"] for h in get.get("httpHeaders", [])}
        connection.request("GET", get.get("path", "/"), headers={"User-Agent": "kube-probe/1.32", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
