"""A real Kubernetes API server on loopback, with its store and its controllers, for as long as a test needs it.

    with Kube(folder) as kube:
        kube.kubectl("apply", "-f", "shop.yaml")
        kube.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "red"}})

RBAC is on; `kube.api` and the default of kubectl are the administrator. Nothing schedules pods or runs them: see
kubelet.py.

The port is held for as long as the Kube is open, so that the server comes back under it, and two of them cannot
meet. The servers end with this object, and with its process however that ends: each watches its standard input,
whose other end is here.

As a program, `python -m rig.kube` (from tests/) starts one, prints the path of its kubeconfig and keeps it until
interrupted.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .kube_api import Api, ApiError, Object
from .kube_files import Authority, kubeconfig, new_key, public_key, write
from .waiting import until

if TYPE_CHECKING:
    from .kubelet import Kubelet

# What runs of the controller manager: not those that need a cloud, a node or time to expire.
CONTROLLERS = """
deployment replicaset statefulset daemonset job endpoints endpointslice endpointslice-mirroring namespace
serviceaccount serviceaccount-token root-ca-certificate-publisher garbage-collector disruption
horizontal-pod-autoscaler clusterrole-aggregation
"""

_ISSUER = "https://kubernetes.default.svc"
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
START_S = 120.0  # a ceiling; 3 s on an idle machine


def program() -> str:
    """The program that holds all parts: $OSM_KUBE, which osm_kube of tests/setup builds."""
    path = os.environ.get("OSM_KUBE", "")
    if not os.access(path, os.X_OK):
        raise RuntimeError("there is no API server: OSM_KUBE names no program; `. tests/setup && osm_kube` builds it")
    return path


class Part:
    """One of the server processes."""

    def __init__(self, folder: Path, name: str, *flags: str) -> None:
        self.name, self.command, self.log_path = name, [program(), name, *flags], folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; it has to be waited for."""
        assert not self.alive()
        with self.log_path.open("ab") as log:
            env = {"OSM_KUBE_LIFELINE": "1", "PATH": os.environ.get("PATH", ""), "GOMAXPROCS": str(os.cpu_count() or 1)}
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def check(self) -> None:
        """RuntimeError with the end of its log when it does not run."""
        if not self.alive():
            status = self.process.returncode if self.process else "no start"
            raise RuntimeError(f"{self.name} ended with {status}:\n{self.log()[-4000:]}")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.process and self.alive():
            self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL, timeout: float = 60.0) -> None:
        """Sends a signal and waits for its end."""
        self.send(number)
        if self.process:
            self.process.wait(timeout)
            assert self.process.stdin
            self.process.stdin.close()

    def log(self) -> str:
        """Everything that it has written."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_text(errors="replace")
        return ""


class Kube:
    """One API server with etcd and controllers. `audit`: requests() tells what has been asked of it. `flags`: more
    of the API server's. `controllers`: which run."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        audit: bool = False,
        flags: Sequence[str] = (),
        controllers: str = CONTROLLERS,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="k-", dir=folder))  # short: a socket's path has 107 bytes
        self._passing = folder is None
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # bound, never listening: only holds the port
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        pki = self.folder / "pki"
        self.authority = Authority(pki, "ca")
        self.ca = self.authority.certificate
        self.server_certificate, self.server_key = pki / "server.crt", pki / "server.key"
        self.authority.server(self.server_certificate, self.server_key)
        accounts = new_key(pki / "accounts.key")
        self.admin_token = base64.urlsafe_b64encode(os.urandom(24)).decode()
        tokens = write(pki / "tokens.csv", f'{self.admin_token},admin,admin,"system:masters"\n')
        self.kubeconfig = kubeconfig(self.folder / "admin.kubeconfig", self.url, self.ca, {"token": self.admin_token})
        self.api = Api(self.url, str(self.ca), token=self.admin_token)

        store = self.folder / "etcd"
        store.mkdir(mode=0o700)
        self.etcd = Part(self.folder, "etcd", f"--folder={store}")
        self.audit_log = self.folder / "audit.log" if audit else None
        self.apiserver = Part(
            self.folder,
            "kube-apiserver",
            f"--etcd-servers=unix://{store}/client.sock",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--permit-port-sharing=true",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={pki}",
            f"--tls-cert-file={self.server_certificate}",
            f"--tls-private-key-file={self.server_key}",
            f"--client-ca-file={self.ca}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={tokens}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-signing-key-file={accounts}",
            f"--service-account-key-file={public_key(accounts, pki / 'accounts.pub')}",
            "--allow-privileged=true",
            "--shutdown-watch-termination-grace-period=2s",  # else watches over HTTP/1.1 hold its end up for a minute
            *(self._audit_flags() if audit else ()),
            *flags,
        )
        self.controllers = Part(
            self.folder,
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={accounts}",
            f"--root-ca-file={self.ca}",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            f"--flex-volume-plugin-dir={self.folder / 'none'}",  # else it makes a folder on the host
            f"--controllers={','.join(f'{name}-controller' for name in controllers.split())}",
        )
        self._with_controllers = bool(controllers)
        self.kubelet: Kubelet | None = None  # of whoever shares both

    def _audit_flags(self) -> list[str]:
        policy = write(self.folder / "audit-policy.json", json.dumps(_AUDIT_POLICY))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]

    # --- life ---

    def __enter__(self) -> Kube:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Kube:
        """Starts all parts; returns when requests are answered and controllers work."""
        self.etcd.start()
        self.apiserver.start()
        until(self.ready, "the API server is ready", START_S)
        if self._with_controllers:
            self.controllers.start()
            until(self._controllers_work, "the controllers work", START_S)
        return self

    def close(self) -> None:
        """Ends all parts at once. What they kept stays in the folder that was given."""
        for part in (self.controllers, self.apiserver, self.etcd):
            part.send(signal.SIGCONT)
            part.end()
        self._held.close()
        if self._passing:
            shutil.rmtree(self.folder, ignore_errors=True)

    def ready(self) -> bool:
        """Whether /readyz is ok; RuntimeError when a server has ended."""
        self.etcd.check()
        self.apiserver.check()
        with contextlib.suppress(OSError):
            return self.api.raw("GET", "/readyz")[0] == 200
        return False

    def _controllers_work(self) -> bool:
        self.controllers.check()
        return self.api.get("v1", "ServiceAccount", "default", "default") is not None

    # --- bad days: the API server alone; store and controllers go on ---

    def kill_apiserver(self) -> None:
        """SIGKILL: connections are reset."""
        self.apiserver.end(signal.SIGKILL)

    def stop_apiserver(self) -> None:
        """SIGTERM: it says good-bye to its watchers; takes some seconds."""
        self.apiserver.end(signal.SIGTERM)

    def start_apiserver(self) -> None:
        """Starts it again with the same data, under the same port; returns when it is ready."""
        self.apiserver.start()
        until(self.ready, "the API server is ready again", START_S)

    def freeze_apiserver(self) -> None:
        """It answers nothing any more, and its connections stay open. Each of its threads has stopped."""
        self.apiserver.send(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.apiserver.process.pid}/task")

        def stopped() -> bool:
            stats = [stat.read_text() for stat in tasks.glob("*/stat")]
            return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

        until(stopped, "the server has stopped")

    def thaw_apiserver(self) -> None:
        """It goes on where it was."""
        self.apiserver.send(signal.SIGCONT)

    # --- who may ask ---

    def user(self, name: str, *groups: str) -> Path:
        """The kubeconfig of a user who shows a certificate."""
        certificate, key = self.authority.client(self.folder / "users", name, groups)
        shown = {"client-certificate": str(certificate), "client-key": str(key)}
        return kubeconfig(self.folder / "users" / f"{name}.kubeconfig", self.url, self.ca, shown)

    def token(self, ns: str, account: str, *, audiences: Sequence[str] = (), seconds: int = 3600) -> str:
        """A service account's token, by TokenRequest."""
        spec: Object = {"expirationSeconds": seconds}
        if audiences:
            spec["audiences"] = list(audiences)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = self.api.path("v1", "ServiceAccount", ns, account, "token")
        return self.api.request("POST", path, asked)["status"]["token"]

    def account_kubeconfig(self, ns: str, account: str, **options: Any) -> Path:
        """The kubeconfig of a service account, with a new token."""
        path = self.folder / "users" / f"{ns}.{account}.kubeconfig"
        return kubeconfig(path, self.url, self.ca, {"token": self.token(ns, account, **options)}, ns)

    def account_folder(self, ns: str, account: str, folder: Path, **options: Any) -> dict[str, str]:
        """Writes what a pod finds under /var/run/secrets/kubernetes.io/serviceaccount, with a new token; the
        environment that goes with it."""
        write(folder / "token", self.token(ns, account, **options))
        write(folder / "ca.crt", self.ca.read_bytes())
        write(folder / "namespace", ns)
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    def as_account(self, ns: str, account: str, **options: Any) -> Api:
        """The server as a service account sees it."""
        return Api(self.url, str(self.ca), token=self.token(ns, account, **options))

    def new_server_certificate(self, life: datetime.timedelta) -> None:
        """Another certificate for the server, with the same key; it looks each minute, or when it is started."""
        self.authority.server(self.server_certificate, self.server_key, life)

    # --- what has been asked ---

    def requests(self, since: int = 0) -> list[Object]:
        """Audit events of the requests that were answered (a watch: when it began), from a byte of the log on; see
        mark()."""
        assert self.audit_log, "made without audit=True"
        with contextlib.suppress(FileNotFoundError), self.audit_log.open("rb") as log:
            log.seek(since)
            return [json.loads(line) for line in log if line.endswith(b"\n")]
        return []

    def mark(self) -> int:
        """Where the audit log ends now."""
        assert self.audit_log, "made without audit=True"
        return self.audit_log.stat().st_size if self.audit_log.exists() else 0

    # --- objects ---

    def kubectl(
        self, *arguments: str, stdin: str | None = None, config: Path | None = None, timeout: float = 120
    ) -> str:
        """Runs kubectl; its output. RuntimeError with what it said when it fails."""
        command = [program(), "kubectl", *arguments]
        env = {
            "KUBECONFIG": str(config or self.kubeconfig),
            "HOME": str(self.folder),
            "PATH": os.environ.get("PATH", ""),
        }
        done = subprocess.run(command, input=stdin or "", capture_output=True, text=True, env=env, timeout=timeout)
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise RuntimeError(f"kubectl {' '.join(arguments)}: exit {done.returncode}: {said}")
        return done.stdout

    def namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """Makes a namespace; returns when pods may be made in it."""
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
        if self._with_controllers:
            until(lambda: self.api.get("v1", "ServiceAccount", name, "default"), f"the default account of {name}", 60.0)

    def crd(self, *manifests: Object) -> None:
        """Installs CustomResourceDefinitions; returns when objects of all their served versions are accepted."""
        for manifest in manifests:
            self.api.apply(manifest)
        self.until_served(*manifests)

    def until_served(self, *manifests: Object) -> None:
        """Returns when objects of all served versions of these definitions are accepted."""
        for manifest in manifests:
            spec = manifest["spec"]
            names = spec["names"]
            for version in (f"{spec['group']}/{v['name']}" for v in spec["versions"] if v["served"]):
                path = f"/apis/{version}/{names['plural']}"
                until(lambda path=path: self.api.raw("GET", path)[0] == 200, f"{path} is served", 60.0)
                if not self.api.knows(version, names["kind"]):
                    until(lambda v=version, k=names["kind"]: self.api.serves(v, k), f"{path} is listed", 60.0)

    def forget_namespace(self, name: str) -> None:
        """Asks for the deletion of a namespace; does not wait, it takes seconds."""
        self.api.delete("v1", "Namespace", "", name)


def main() -> None:
    """Runs one by hand."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m rig.kube", description="An API server, until interrupted.")
    parser.add_argument("--folder", type=Path, help="where its folder is made")
    parser.add_argument("--kubelet", action="store_true", help="pods become ready, on paper")
    parser.add_argument("--audit", action="store_true", help="write an audit log")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Kube(options.folder, audit=options.audit) as kube, contextlib.ExitStack() as more:
        if options.kubelet:
            from .kubelet import Kubelet

            more.enter_context(Kubelet(kube))
        print(f"export KUBECONFIG={kube.kubeconfig}", flush=True)
        print(f"# {kube.url}; kubectl is: {program()} kubectl; logs in {kube.folder}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


__all__ = ["Api", "ApiError", "Kube", "Part", "program"]

if __name__ == "__main__":
    main()
