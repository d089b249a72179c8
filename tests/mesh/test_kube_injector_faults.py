"""The role injector and an API server that fails, has too much to do or forgets to answer; a daemon that is stopped, or
whose clock is wrong. Against a fake server, but for what needs many pods or a rotation of roots."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kube_meshes import MONITORED_BY, http, kube_daemon
from rig import Daemon, forge, kube_rbac, until
from rig.kube import Kube
from rig.kube_api import ApiError, Object
from rig.kube_fake import FakeKube, Request
from rig.kubelet import Kubelet
from rig.world import free_port
from rig.world_kube import IMAGES, INJECTION, KubeWorld
from rig.xds import Credentials
from worlds import tracked

ROOTS = "osm-ca-bundle"
NS = "/api/v1/namespaces/red"
CONFIG = "/apis/config.openservicemesh.io/v1alpha2/namespaces/osm-system/meshconfigs/osm-mesh-config"
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def question(name: str = "asked", **request: Any) -> bytes:
    """An AdmissionReview about a pod of red."""
    pod = {"metadata": {"name": name, "namespace": "red"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {"uid": "u-1", "kind": kind, "operation": "CREATE", "namespace": "red", "object": pod, **request}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}).encode()


class Injector:
    """A daemon of this role alone, on a fake server that knows one namespace of the mesh and keeps Secrets. `fault`
    sees what is asked of the server first, and answers it where it returns True."""

    def __init__(self, folder: Path, *more: str, environment: dict[str, str] | None = None, **root: Any) -> None:
        made = forge.certificate(None, "root", usage=None, ca=True, key_id=True, **root).credentials()
        texts = {"ca.crt": made.chain, "private.key": made.key}
        self._roots = {name: base64.b64encode(text).decode() for name, text in texts.items()}
        self.fake = FakeKube(folder)
        self.fake.hook = self._answer
        self.secrets: dict[str, Object] = {}
        self.keys: list[str] = []
        self.trusted = ""
        self.fault = lambda request: False
        self.port = free_port("127.0.0.1")
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        flags = ["--roles=injector", f"--injector-listen=127.0.0.1:{self.port}", f"--http-address={self.address}"]
        flags += [f"--ca-bundle-secret-name={ROOTS}", "--injector-orphans=2s", *more]
        self.daemon: Daemon = kube_daemon(folder / "d", self.fake.kubeconfig, extra=flags)
        self.daemon.environment = {**IMAGES, **(environment or {})}

    def start(self) -> Injector:
        """Returns when it is registered."""
        self.daemon.start(ready=False)
        until(self.healthy, "the injector is registered", 30)
        return self

    def healthy(self) -> bool:
        """Whether it says so."""
        assert self.daemon.alive(), self.daemon.log()
        self.daemon.http = lambda: self.address  # type: ignore[method-assign]
        with contextlib.suppress(OSError):
            return http(self.daemon, "/healthz").startswith("Health OK")
        return False

    def __enter__(self) -> Injector:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        status = self.daemon.stop(20)
        self.fake.hook = None
        self.fake.close()
        assert kind or status == 0, self.daemon.log()

    def _answer(self, request: Request) -> bool:
        if self.fault(request):
            return True
        name = request.path.rpartition("/")[2]
        answer: Object | None = None
        if request.path.endswith(f"/secrets/{ROOTS}"):
            answer = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ROOTS}, "data": self._roots}
        elif "mutatingwebhook" in request.path:
            bundle = json.loads(request.body)["webhooks"][0]["clientConfig"]["caBundle"]
            self.trusted, answer = base64.b64decode(bundle).decode(), {"metadata": {"name": name}}
        elif request.path == NS:
            metadata = {"name": "red", "labels": {MONITORED_BY: "osm"}, "annotations": {INJECTION: "enabled"}}
            answer = {"metadata": metadata}
        elif name == "secrets" and request.method == "POST":
            answer = {"metadata": {"name": self.keep(request), "uid": "u-s"}}
        elif request.method == "DELETE":
            self.secrets.pop(name, None)
            answer = {}
        elif name == "pods":
            answer = {"metadata": {}, "items": []}
        else:
            request.status(404, "NotFound")
            return True
        request.send(201 if request.method == "POST" else 200, json.dumps(answer).encode())
        return True

    def keep(self, request: Request) -> str:
        """A Secret is there from now on; its name."""
        made = json.loads(request.body)
        name = made["metadata"]["name"]
        self.secrets[name] = made
        self.keys.append(made["data"]["sds_key.pem"])
        return name

    def connect(self) -> ssl.SSLSocket:
        """As the API server, which trusts what it was told."""
        context = ssl.create_default_context(cadata=self.trusted)
        plain = socket.create_connection(("127.0.0.1", self.port), 30)
        return context.wrap_socket(plain, server_hostname="osm-injector.osm-system.svc")

    def send(self, body: bytes) -> ssl.SSLSocket:
        """A question, whose answer is not waited for."""
        connection = self.connect()
        head = f"POST /mutate-pod-creation HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        return connection

    def ask(self, body: bytes | None = None) -> Object:
        """A question's response."""
        return json.loads(read(self.send(body or question())).partition(b"\r\n\r\n")[2])["response"]


def read(connection: ssl.SSLSocket) -> bytes:
    """All that comes."""
    with connection:
        out = b""
        while piece := connection.recv(65536):
            out += piece
        return out


@pytest.fixture
def injector(tmp_path: Path) -> Iterator[Injector]:
    """One that works."""
    with Injector(tmp_path) as one:
        yield one


# --- a server with too much to do ---


@pytest.mark.parametrize("path", [NS, f"{NS}/secrets"])
@pytest.mark.parametrize("code", [429, 503])
def test_what_the_server_has_no_time_for_is_tried_again(injector: Injector, path: str, code: int) -> None:
    """As long as the asker waits; not before the server says."""
    times: list[float] = []

    def busy(request: Request) -> bool:
        if request.path != path or len(times) >= 2:
            return False
        times.append(1)
        request.status(code, "TooManyRequests", "later", ("Retry-After", "1"))
        return True

    injector.fault = busy
    assert injector.ask()["allowed"]
    assert len(times) == 2


@pytest.mark.parametrize("path", [NS, CONFIG])
@pytest.mark.parametrize(
    ("code", "body"),
    [
        (404, b"<html>default backend - 404</html>"),
        (200, b'{"status": "ok"}'),
        (200, b'{"kind": "Namespace", "metadata": {"name": "other"}}'),
    ],
)
def test_what_is_no_answer_of_the_server_lets_no_pod_in(injector: Injector, path: str, code: int, body: bytes) -> None:
    """A proxy that has lost its server: the pod is in the mesh, and waits for an answer that says so."""
    asked: list[str] = []

    def lost(request: Request) -> bool:
        asked.extend([path] if request.path == path else [])
        if request.path != path or len(asked) > 1:
            return False
        request.send(code, body, content_type="text/html" if body.startswith(b"<") else "application/json")
        return True

    injector.fault = lost
    response = injector.ask()
    assert response["allowed"]
    assert "patch" in response
    assert len(asked) == 2


def test_a_mesh_without_the_definition_of_its_configuration_has_none(injector: Injector) -> None:
    """Of a group that it does not know the server says so without a Status."""

    def unknown(request: Request) -> bool:
        if request.path == CONFIG:
            request.send(404, b"404 page not found\n", content_type="text/plain; charset=utf-8")
        return request.path == CONFIG

    injector.fault = unknown
    assert "patch" in injector.ask()


def test_what_is_not_done_in_time_is_a_failure_of_the_moment(tmp_path: Path) -> None:
    """With the reason; whoever makes the pod tries again, as after any 503."""

    def busy(request: Request) -> bool:
        if request.path == NS:
            request.status(429, "TooManyRequests", "later")
        return request.path == NS

    with Injector(tmp_path, "--webhook-timeout=2") as one:
        one.fault = busy
        response = one.ask()
    assert (response["allowed"], response["status"]["code"]) == (False, 503)
    assert "later" in response["status"]["message"]


def test_a_server_that_says_nothing_is_no_reason_to_say_nothing(tmp_path: Path) -> None:
    """The asker is told before it gives up."""
    go = threading.Event()

    def silent(request: Request) -> bool:
        if request.path == NS:
            go.wait(30)
        return False

    with Injector(tmp_path, "--webhook-timeout=2") as one:
        one.fault = silent
        response = one.ask()
        go.set()
    assert (response["allowed"], response["status"]["code"]) == (False, 503)
    assert "in time" in response["status"]["message"]


# --- Secrets ---


def test_a_secret_whose_answer_was_lost_is_used_or_goes(injector: Injector) -> None:
    """It may be there: the next try finds it."""
    lost: list[str] = []

    def lose(request: Request) -> bool:
        if request.method != "POST":
            return False
        if lost:
            request.status(409, "AlreadyExists", "there is one of this name")
            return True
        lost.append(injector.keep(request))
        request.handler.connection.shutdown(socket.SHUT_RDWR)
        request.handler.close_connection = True
        return True

    injector.fault = lose
    assert injector.ask()["allowed"]
    injector.fault = lambda request: False
    until(lambda: not injector.secrets, "its pod never came: it is gone", 30)


@pytest.mark.parametrize(
    ("why", "lacks"),
    [
        (
            'secrets is forbidden: User "osm" cannot create resource "secrets" in API group "" in the namespace "red"',
            True,
        ),
        ('secrets "envoy-bootstrap" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=9', False),
    ],
)
def test_a_right_is_asked_for_where_it_lacks(injector: Injector, why: str, lacks: bool) -> None:
    """A namespace whose quota is used up needs no other role."""

    def refuse(request: Request) -> bool:
        if request.method == "POST":
            request.status(403, "Forbidden", why)
        return request.method == "POST"

    injector.fault = refuse
    message = injector.ask()["status"]["message"]
    assert why in message
    assert ("role needs" in message) == lacks


def test_nothing_of_a_key_stays_in_memory(injector: Injector) -> None:
    """The daemon's own, and its libraries'."""
    with ThreadPoolExecutor(4) as pool:
        assert all(each["allowed"] for each in pool.map(lambda _: injector.ask(), range(12)))
    assert len(injector.keys) == 12
    parts = [key[120:200].encode() for key in injector.keys]
    until(lambda: held(injector.daemon.pid, parts) == 0, "no key is in memory", 15)


def held(pid: int, parts: list[bytes]) -> int:
    """How often a process has these bytes in memory that it may write."""
    found = 0
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            begin, end = (int(each, 16) for each in span.split("-"))
            if "w" not in rights or end - begin > 1 << 31:
                continue
            with contextlib.suppress(OSError, ValueError):
                data = os.pread(memory.fileno(), end - begin, begin)
                found += sum(data.count(part) for part in parts)
    return found


# --- its end, and its clock ---


def test_who_has_asked_when_it_is_stopped_is_answered(injector: Injector) -> None:
    """What can be done still is."""
    asked, go = threading.Event(), threading.Event()

    def slow(request: Request) -> bool:
        if request.path == NS:
            asked.set()
            go.wait(30)
        return False

    injector.fault = slow
    connection = injector.send(question())
    assert asked.wait(30)
    injector.daemon.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    until(lambda: "stopping" in injector.daemon.log(), "it is stopping", 15)
    go.set()
    assert json.loads(read(connection).partition(b"\r\n\r\n")[2])["response"]["allowed"]
    assert injector.daemon.wait_exit() == 0


def test_a_clock_that_was_ahead_costs_no_certificate(tmp_path: Path) -> None:
    """One that was made then is not valid yet when the clock has been set."""
    assert FAKETIME, "libfaketime is not installed: see tests/setup"
    stamp = tmp_path / "clock"
    stamp.write_text("+90000\n")
    environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(stamp), "FAKETIME_NO_CACHE": "1"}
    environment |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "ASAN_OPTIONS": "verify_asan_link_order=0"}
    life = {"begin": forge.now(days=-30), "end": forge.now(days=3650)}
    with Injector(tmp_path, environment=environment, **life) as one:
        with pytest.raises(ssl.SSLError, match="not yet valid"):
            one.connect()
        stamp.write_text("+0\n")

        def good() -> bool:
            with contextlib.suppress(ssl.SSLError):
                one.connect().close()
                return True
            return False

        until(good, "its certificate is valid", 40)


# --- real servers ---


def tries(world: KubeWorld, name: str) -> str:
    """Makes a pod of paper; why not, in short."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "red"}}
    try:
        world.kube.api.create({**pod, "spec": {"containers": [{"name": "app", "image": "app"}]}})
    except (ApiError, OSError) as error:
        return str(error)
    return ""


@pytest.fixture
def paper(run_folder: Path) -> Iterator[KubeWorld]:
    """A mesh without processes, with a namespace, on a server of its own."""
    with Kube(run_folder) as kube, Kubelet(kube) as kube.kubelet:
        options: dict[str, Any] = {"rights": ("controller", "roots"), "flags": [f"--ca-bundle-secret-name={ROOTS}"]}
        with tracked(KubeWorld(kube, kube.kubelet, injects=True, real=False, **options)) as world:
            world.namespace("red")
            world.wait()  # roots do not change before there are policies
            yield world


def rotate(world: KubeWorld, new: Credentials) -> None:
    """The three steps, as fast as they are taken."""
    secret = world.kube.api.get("v1", "Secret", world.osm_namespace, ROOTS)
    assert secret
    old = base64.b64decode(secret["data"]["ca.crt"])
    steps: list[dict[str, bytes | None]] = [
        {"passive.crt": new.chain},
        {"ca.crt": new.chain, "private.key": new.key, "passive.crt": old},
        {"passive.crt": None},
    ]
    for step in steps:
        data = {key: base64.b64encode(text).decode() if text else None for key, text in step.items()}
        world.kube.api.patch("v1", "Secret", world.osm_namespace, ROOTS, {"data": data})
        world.daemon.osm("ca", "reload")
        world.daemon.applied()


def fresh_root() -> Credentials:
    return forge.certificate(None, "root", usage=None, ca=True, key_id=True).credentials()


@pytest.mark.kube
def test_kube_hundreds_of_pods_at_once_get_their_sidecars(paper: KubeWorld) -> None:
    """As a Deployment that grows makes them; none is refused."""
    count = 400
    gate = threading.Barrier(count)

    def one(n: int) -> str:
        gate.wait(60)
        return tries(paper, f"pod-{n}")

    with ThreadPoolExecutor(count) as pool:
        said = Counter(pool.map(one, range(count)))
    assert said == {"": count}
    pods = paper.kube.api.list("v1", "Pod", "red")
    assert len({pod["metadata"]["labels"]["osm-proxy-uuid"] for pod in pods}) == count


@pytest.mark.kube
def test_kube_roots_that_the_server_is_not_told_of_are_not_presented(paper: KubeWorld) -> None:
    """Without the right to write its configuration the injector goes on with what the server trusts, and says so."""
    api, role = paper.kube.api, ("rbac.authorization.k8s.io/v1", "ClusterRole", "", "osm-injector")
    whole = api.get(*role)
    assert whole
    less = [rule for rule in whole["rules"] if "mutatingwebhookconfigurations" not in rule["resources"]]
    api.patch(*role, {"rules": less})
    until(lambda: not may_register(paper), "the right is gone", 30)
    rotate(paper, fresh_root())
    until(lambda: "403" in paper.status()["injector"]["failure"], "it says that it may not", 30)
    cut(paper)
    assert tries(paper, "meanwhile") == ""
    api.patch(*role, {"rules": whole["rules"]})
    until(lambda: not paper.status()["injector"]["failure"], "it is registered", 60)
    cut(paper)
    assert tries(paper, "then") == ""


def may_register(world: KubeWorld) -> bool:
    """Whether the daemon's account may write its configuration."""
    account = world.kube.as_account(world.osm_namespace, kube_rbac.ACCOUNT)
    asked = {"verb": "patch", "group": "admissionregistration.k8s.io", "resource": "mutatingwebhookconfigurations"}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return account.request("POST", path, {**review, "spec": {"resourceAttributes": asked}})["status"]["allowed"]


def cut(world: KubeWorld) -> None:
    """The next question opens a connection: the API server keeps none."""
    world.kube.kill_apiserver()
    world.kube.start_apiserver()


@pytest.mark.kube
def test_kube_a_replica_that_has_slept_through_a_rotation_follows(paper: KubeWorld, tmp_path: Path) -> None:
    """It has no proxies that could be cut off, and looks at the roots every ten seconds."""
    port, address = free_port("127.0.0.1"), f"127.0.0.1:{free_port('127.0.0.1')}"
    flags = ["--roles=injector", f"--injector-listen=127.0.0.1:{port}", f"--http-address={address}"]
    config = next(flag for flag in paper.daemon.command if flag.startswith("--kubeconfig=")).partition("=")[2]
    other = kube_daemon(tmp_path / "other", Path(config), extra=[*flags, f"--ca-bundle-secret-name={ROOTS}"])
    other.environment = dict(IMAGES)
    other.http = lambda: address  # type: ignore[method-assign]
    other.start(ready=False)
    try:

        def healthy() -> bool:
            with contextlib.suppress(OSError):
                return http(other, "/healthz").startswith("Health OK")
            return False

        until(healthy, "the other one is registered", 60)
        new = fresh_root()
        rotate(paper, new)
        context = ssl.create_default_context(cadata=new.chain.decode())

        def follows() -> bool:
            with contextlib.suppress(ssl.SSLError), socket.create_connection(("127.0.0.1", port), 20) as plain:
                context.wrap_socket(plain, server_hostname="osm-injector.osm-system.svc").close()
                return True
            return False

        until(follows, "it presents what the new root has signed", 60)
        assert tries(paper, "then") == ""
        assert other.stop() == 0
    finally:
        other.stop()
