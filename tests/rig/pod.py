"""A pod: its object in the watched directory, its network namespace, its sidecar and its applications."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid as uuids
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import client
from .daemon import python_for_others
from .envoy import Envoy
from .injected import Injected
from .net import APP_UID, ENVOY_UID, Netns, run
from .waiting import until

if TYPE_CHECKING:
    from .world import World

_HERE = Path(__file__).resolve().parent


def _give(path: Path, uid: int) -> None:
    """Hands a folder and what is in it to a user."""
    for entry in [path, *path.rglob("*")]:
        os.chown(entry, uid, uid)


def copy_apps(folder: Path) -> Path:
    """apps.py and what it needs, where the applications' user may list and read them; once for a folder."""
    apps = folder / "apps"
    if not (apps / "apps.py").exists():
        aside = Path(tempfile.mkdtemp(dir=folder))
        for source in _HERE.glob("app*.py"):
            (aside / source.name).write_text(source.read_text())
            (aside / source.name).chmod(0o644)
        aside.chmod(0o755)
        try:
            aside.rename(apps)
        except OSError:  # another one was faster
            shutil.rmtree(aside)
    return apps / "apps.py"


class Pod:
    """Made by World.pod(); started by World.start()."""

    def __init__(
        self,
        world: World,
        ns: str,
        name: str,
        *,
        account: str,
        labels: dict[str, str],
        app: list[str],
        ports: list[dict[str, Any]],
        env: dict[str, str],
        sidecar: bool,
        envoy: bool,
        sotw: bool,
        real: bool,
        address: str,
        annotations: dict[str, str],
        spec: dict[str, Any],
    ) -> None:
        self.world, self.ns, self.name, self.account = world, ns, name, account
        self.labels, self.app, self.ports, self.env, self.annotations = labels, app, ports, env, annotations
        self.sidecar, self.real, self.address = sidecar, real, address
        self.sotw, self.spec = sotw, spec
        self.has_envoy = sidecar and envoy and real
        self.uuid = str(uuids.uuid4()) if sidecar and not world.injects else ""
        self.folder = world.folder / "pods" / ns / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._netns: Netns | None = None
        self._sidecar: subprocess.Popen[bytes] | None = None
        self._app: subprocess.Popen[str] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []
        self.injected: Injected | None = None  # else the sidecar's files come from the command line
        self.started = False
        self.adopted = False  # its object was made elsewhere, and whoever plays its kubelet starts it

    def __repr__(self) -> str:
        return f"{self.ns}/{self.name}"

    def manifest(self, ready: bool = True) -> dict[str, Any]:
        """The Pod object."""
        labels = dict(self.labels)
        if self.uuid:
            labels["osm-proxy-uuid"] = self.uuid
        container: dict[str, Any] = {"name": "app", "image": "app"}
        if self.ports:
            container["ports"] = self.ports
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": self.ns,
            "uid": str(uuids.uuid5(uuids.NAMESPACE_URL, repr(self))),
            "labels": labels,
        }
        if self.annotations:
            metadata["annotations"] = self.annotations
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"serviceAccountName": self.account, "containers": [container], **self.spec},
            "status": {
                "phase": "Running",
                "podIP": self.address,
                "podIPs": [{"ip": self.address}],
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }

    # --- start, in steps, so that a world can start its pods side by side ---

    def prepare(self) -> None:
        """Files of the sidecar; network with the redirection."""
        if self.sidecar:
            if self.injected:
                self.injected.write_files(self.etc)
            else:
                self.world.bootstrap(self, self.etc)
            if self.sotw:
                self._speak_state_of_the_world()
        if not self.real:
            return
        resolv = self.folder / "resolv.conf"
        resolv.write_text(
            f"search {self.ns}.svc.cluster.local svc.cluster.local cluster.local\n"
            f"nameserver {self.world.gateway}\noptions ndots:5\n"
        )
        self._netns = Netns(resolv)
        self._netns.ready()
        self.world.network.plug(self._netns, self.address)
        if self.injected:
            self.injected.mount(self._netns, self.etc, self.folder / "host-etc")
            self.injected.redirect(self._netns, self.address)
        elif self.sidecar:
            run(*self._netns.command(0, "env", f"POD_IP={self.address}", "sh", str(self.etc / "iptables.sh")))

    def _speak_state_of_the_world(self) -> None:
        """As the bootstraps of old injectors say."""
        bootstrap = self.etc / "bootstrap.yaml"
        text = bootstrap.read_text()
        assert text.count("api_type: DELTA_GRPC") == 1
        bootstrap.write_text(text.replace("api_type: DELTA_GRPC", "api_type: GRPC"))

    def give_files(self) -> None:
        """What has been written for the sidecar is its user's."""
        if self.has_envoy:
            _give(self.folder, ENVOY_UID)

    def launch(self) -> None:
        """Starts the sidecar's and the applications' processes."""
        self.started = True
        if not self.real:
            return
        if self.has_envoy:
            assert self.world.site
            self.give_files()
            arguments = self.envoy_arguments()
            start = ["env", *self.injected.envoy_environment(self.address)] if self.injected else []
            uid = self.injected.envoy_uid if self.injected else ENVOY_UID
            self._sidecar = self._spawn(
                uid, "envoy.log", *start, str(self.world.site.envoy), *arguments, *self._own_arguments(arguments)
            )
        for i, helper in enumerate(self.injected.helpers(self.address) if self.injected else []):
            self._helpers.append(self._spawn(APP_UID, f"helper-{i}.log", *helper))
        if self.app:
            script = copy_apps(self.world.folder)
            env = {"POD_NAME": self.name, "PATH": os.environ.get("PATH", ""), **self.env}
            with (self.folder / "app.log").open("ab") as log:
                self._app = subprocess.Popen(
                    self.netns.command(APP_UID, python_for_others(), "-S", "-E", str(script), *self.app),
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )

    def envoy_arguments(self) -> list[str]:
        """What its sidecar is started with, as the mesh says it."""
        return self.injected.envoy_arguments() if self.injected else (self.etc / "envoy.args").read_text().splitlines()

    @staticmethod
    def _own_arguments(given: list[str]) -> list[str]:
        """What many Envoys on one machine need beyond a pod's own arguments, and an access log that tests can read:
        Envoy writes it every ten seconds else."""
        own = ["--file-flush-interval-msec", "50"]
        if "--disable-hot-restart" not in given:
            own.append("--disable-hot-restart")
        return own if "--concurrency" in given else [*own, "--concurrency", "1"]

    def _spawn(self, uid: int, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(self.netns.command(uid, *command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def settle(self, timeout: float = 30.0) -> None:
        """Waits until the applications listen and the sidecar has its first configuration."""
        if self._app:
            assert self._app.stdout
            if self._app.stdout.readline() != "ready\n":
                raise RuntimeError(f"{self}: the application did not start:\n{self.log('app.log')}")
        if self._sidecar:
            until(self._serves, f"{self}: Envoy is connected and serves", timeout)

    def _serves(self) -> bool:
        assert self._sidecar
        if self._sidecar.poll() is not None:
            raise RuntimeError(f"{self}: Envoy ended with {self._sidecar.returncode}:\n{self.log('envoy.log')[-4000:]}")
        return self.envoy.connected() and self.envoy.ready()

    def stop(self) -> None:
        """Ends everything of this pod."""
        processes: list[subprocess.Popen[Any]] = [p for p in (self._app, self._sidecar, *self._helpers) if p]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            if process.stdout:
                process.stdout.close()
        self._app = self._sidecar = None
        self._helpers.clear()
        if self._netns:
            self._netns.close()
            self._netns = None
        self.started = False

    # --- parts ---

    @property
    def etc(self) -> Path:
        """The sidecar's files."""
        return self.folder / "etc-envoy"

    @property
    def netns(self) -> Netns:
        """Its network."""
        if self._netns is None:
            raise RuntimeError(f"{self} has no network: it is not started, or not real")
        return self._netns

    @property
    def envoy(self) -> Envoy:
        """Its sidecar's admin port."""
        return Envoy(self.netns)

    @property
    def app_process(self) -> subprocess.Popen[str]:
        """Its applications' process."""
        assert self._app
        return self._app

    @property
    def envoy_process(self) -> subprocess.Popen[bytes]:
        """Its sidecar's process."""
        assert self._sidecar
        return self._sidecar

    def log(self, name: str = "envoy.log") -> str:
        """A log of this pod: envoy.log or app.log."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / name).read_text(errors="replace")
        return ""

    # --- requests from inside ---

    def get(self, url: str, **options: Any) -> client.Reply:
        """One request by curl under the application's uid; see client.curl for the options."""
        return client.curl(self.netns, url, **options)

    def face(self, url: str, **options: Any) -> str:
        """The outcome of one request: `200`, `403`, `exit 7`."""
        return self.get(url, **options).face

    def run(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """A program in this pod's network, as root: it is redirected as the application is. Whoever runs it ends it."""
        return subprocess.Popen(self.netns.command(0, *command), **options)

    def tally(self, url: str, n: int, batch: int = 20) -> Any:
        """n quick requests over one connection, counted by the pod that answered. batch=1 where some are to fail."""
        return client.tally(self.netns, self.world.resolve(client.split_url(url)[0], self.ns), url, n, batch)

    def load(self, url: str, rate: float) -> client.Load:
        """Requests in the background until stopped."""
        host = client.split_url(url)[0]
        return client.Load(self.netns, lambda: self.world.resolve(host, self.ns), url, rate)

    def counters(self, port: int) -> dict[str, Any]:
        """What has reached the HTTP application on a port, asked from inside the pod (no sidecar between)."""
        return self.ask(port, "/_/counters")

    def ask(self, port: int, path: str) -> dict[str, Any]:
        """A JSON page of an application of this pod, asked from inside."""
        import json

        connection = client.Connection(self.netns, "127.0.0.1", port, "app")
        try:
            return json.loads(connection.get(path)[2])
        finally:
            connection.close()

    def speak(self, address: str, port: int, send: bytes = b"", timeout: float = 5.0) -> tuple[bytes, float]:
        """A TCP exchange: the first line that comes back (empty when closed) and the seconds until then."""
        begin = time.monotonic()
        with self.netns.socket() as connection:
            connection.settimeout(timeout)
            connection.connect((address, port))
            if send:
                connection.sendall(send)
            got = b""
            while not got.endswith(b"\n"):
                piece = connection.recv(4096)
                if not piece:
                    break
                got += piece
        return got, time.monotonic() - begin
