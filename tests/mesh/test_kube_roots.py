"""Roots in a Secret that replicas share: who makes them, whose count, and what comes of a Secret that is broken, gone,
somebody else's, or a step of a rotation. Against the real API server, with objects of paper."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube_meshes import http, kube_daemon, metric, namespace
from rig import Daemon, forge, kube_rbac, until
from rig.kube import Kube
from rig.kube_crds import mesh_kinds
from rig.kube_fake import FakeKube, Request
from rig.world import free_port

NAME = "osm-ca-bundle"


class Replica:
    """A daemon whose roots are in the Secret of a namespace."""

    def __init__(self, folder: Path, kubeconfig: Path, ns: str, *more: str) -> None:
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        flags = [f"--ca-bundle-secret-name={NAME}", f"--http-address={self.address}", *more]
        self.daemon: Daemon = kube_daemon(folder, kubeconfig, mesh_name=ns, ns=ns, extra=flags)
        self.daemon.http = lambda: self.address  # type: ignore[method-assign]
        self.daemon.start(ready=False)

    def says(self, path: str = "/health/ready?verbose") -> str:
        """What it answers; nothing before it listens."""
        assert self.daemon.alive(), self.daemon.log()
        with contextlib.suppress(OSError):
            return http(self.daemon, path)
        return ""

    def until_ready(self) -> Replica:
        """Waits until it serves."""
        until(lambda: self.says().endswith("Service is ready\n"), "the replica is ready", 60.0)
        return self

    def until_says(self, text: str) -> None:
        """Waits for words in its report."""
        until(lambda: text in self.says(), f"the replica says: {text}", 30.0)

    @property
    def root(self) -> dict[str, Any]:
        """Who signs, and who is trusted."""
        return self.daemon.status()["root"]


@contextlib.contextmanager
def replicas(folder: Path, kube: Kube | Path, ns: str, n: int = 1, *more: str) -> Iterator[list[Replica]]:
    """So many, started at once; each ends in peace."""
    config = kube if isinstance(kube, Path) else kube.kubeconfig
    made = [Replica(folder / str(each), config, ns, *more) for each in range(n)]
    try:
        yield made
        assert [each.daemon.stop() for each in made] == [0] * n
        assert all('"open_handles":0' in each.daemon.log() for each in made)
    finally:
        for each in made:
            each.daemon.stop()


@pytest.fixture(scope="module")
def kinds(kube: Kube) -> Kube:
    """The server with the kinds of the mesh."""
    kube.crd(*mesh_kinds())
    return kube


@pytest.fixture
def mesh(kinds: Kube, ns: str) -> str:
    """A namespace for the control plane."""
    kinds.api.apply(namespace(ns, ns))
    return ns


def write(kube: Kube, ns: str, **texts: bytes | None) -> None:
    """Writes the Secret, or some keys of it; "_" stands for "."; None takes one away."""
    data = {key.replace("_", "."): base64.b64encode(text).decode() if text else None for key, text in texts.items()}
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": ns}}
    if kube.api.get("v1", "Secret", ns, NAME):
        kube.api.patch("v1", "Secret", ns, NAME, {"data": data})
    else:
        kube.api.create({**made, "data": data})


def read(kube: Kube, ns: str) -> dict[str, bytes]:
    secret = kube.api.get("v1", "Secret", ns, NAME)
    return {key: base64.b64decode(text) for key, text in secret["data"].items()} if secret else {}


def pair(root: forge.Signer) -> dict[str, bytes | None]:
    made = root.credentials()
    return {"ca_crt": made.chain, "private_key": made.key}


def new_root(**how: Any) -> forge.Signer:
    return forge.certificate(None, "root", usage=None, ca=True, key_id=True, **how)


# --- the first root ---


def test_kube_roots_three_that_start_at_once_share_one(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """The server lets one write; the others take what it wrote. Several rounds: who is first differs."""
    for each in range(4):
        with replicas(tmp_path / str(each), kube, mesh, 3) as three:
            roots = [replica.until_ready().root for replica in three]
            assert len({root["fingerprint"] for root in roots}) == 1
            written = [metric(r.daemon, "osm_kube_request_total", verb="create", resource="secrets") for r in three]
            made = [metric(r.daemon, "osm_kube_request_total", resource="secrets", code="201") for r in three]
            assert sum(made) == 1, written
        secret = kube.api.get("v1", "Secret", mesh, NAME)
        assert secret
        assert sorted(secret["data"]) == ["ca.crt", "private.key"]
        assert secret["type"] == "Opaque"
        kube.api.delete("v1", "Secret", mesh, NAME)


def test_kube_roots_that_are_there_are_used_and_never_written(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """An operator's own pair, RSA as Open Service Mesh made it, with a key that nobody reads; by one after another."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=osm-ca.openservicemesh.io -keyout k -out c"
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run([*command.split(), *usage], cwd=tmp_path, check=True, capture_output=True)
    texts = {"ca_crt": (tmp_path / "c").read_bytes(), "private_key": (tmp_path / "k").read_bytes()}
    write(kube, mesh, **texts, expiration=b"2033-01-01T00:00:00Z")
    before = kube.api.get("v1", "Secret", mesh, NAME)
    der = subprocess.run(
        ["openssl", "x509", "-in", "c", "-noout", "-fingerprint", "-sha256"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    fingerprint = der.stdout.strip().partition("=")[2].replace(":", "").lower()
    for each in range(2):
        with replicas(tmp_path / str(each), kube, mesh) as [replica]:
            assert replica.until_ready().root["fingerprint"] == fingerprint
    assert kube.api.get("v1", "Secret", mesh, NAME) == before


FOREIGN = new_root()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"private_key": None}, "has no key private.key: put the whole pair back"),
        ({"ca_crt": None}, "has no key ca.crt: put the whole pair back"),
        ({"ca_crt": b"nonsense"}, "ca.crt: no certificate in PEM"),
        ({"private_key": b"nonsense"}, "private.key: no private key in PEM without password"),
        ({"private_key": FOREIGN.credentials().key}, "ca.crt: the key in private.key does not belong to this"),
        ({"passive_crt": b"nonsense"}, "passive.crt: no certificate in PEM"),
        (pair(new_root(begin=forge.now(days=-3), end=forge.now(days=-1))), "ca.crt: expired "),
        ({"ca_crt": b"x" * 70000}, "ca.crt: over a limit"),
    ],
    ids=["no key", "no certificate", "no PEM", "key no PEM", "another key", "passive no PEM", "expired", "huge"],
)
def test_kube_roots_that_are_broken_are_named_and_left(
    kube: Kube, mesh: str, tmp_path: Path, wrong: dict[str, bytes | None], why: str
) -> None:
    """Nothing is served, nothing is written, and nothing of a key is said; mended, it starts by itself."""
    good = pair(new_root())
    write(kube, mesh, **good)
    write(kube, mesh, **wrong)
    before = kube.api.get("v1", "Secret", mesh, NAME)
    debug = f"127.0.0.1:{free_port('127.0.0.1')}"
    with replicas(tmp_path, kube, mesh, 1, f"--debug-address={debug}") as [replica]:
        replica.until_says(f"Secret {mesh}/{NAME}: {why}")
        assert "Service is not ready" in replica.says()
        for path in ("/metrics", "/version", "/smi/version", "/health/alive", "/healthz"):
            assert replica.says(path), path
        with pytest.raises(OSError, match="refused"):  # there is nothing to be looked at
            urllib.request.urlopen(f"http://{debug}/debug", timeout=10)
        assert not replica.daemon.socket.exists()
        assert kube.api.get("v1", "Secret", mesh, NAME) == before
        write(kube, mesh, **{"passive_crt": None, **good})
        replica.until_ready()


def test_kube_roots_that_may_not_be_read_are_told(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """With the rights that it needs; when it has those of the chart it goes on."""
    account = {"name": kube_rbac.ACCOUNT, "namespace": mesh}
    kube.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    with replicas(tmp_path, kube.account_kubeconfig(mesh, kube_rbac.ACCOUNT), mesh) as [replica]:
        replica.until_says("403 Forbidden")
        replica.until_says("the role of this account needs get and create of it")
        kube_rbac.grant(kube, mesh, ("controller", "roots"))
        replica.until_ready()
        assert sorted(read(kube, mesh)) == ["ca.crt", "private.key"]


def test_kube_roots_of_a_server_that_is_away_are_waited_for(run_folder: Path, tmp_path: Path) -> None:
    """It says so, ends when it is told to, and else serves as soon as there is a server."""
    with Kube(run_folder) as server:
        server.crd(*mesh_kinds())
        server.namespace("osm-system")
        server.kill_apiserver()
        with replicas(tmp_path / "ends", server, "osm-system") as [replica]:
            replica.until_says("Service is not ready: Secret osm-system/osm-ca-bundle: GET /api/v1/")
        with replicas(tmp_path / "waits", server, "osm-system") as [replica]:
            replica.until_says("Service is not ready: Secret osm-system/osm-ca-bundle: GET /api/v1/")
            server.start_apiserver()
            replica.until_ready()


# --- while it runs ---


def test_kube_roots_whose_making_is_a_conflict_without_end_are_no_loop(tmp_path: Path) -> None:
    """None is there, and none may be made, as a webhook may have it: that is said, and tried again in its time."""
    asked: list[str] = []

    def hook(request: Request) -> bool:
        if "/secrets" not in request.path:
            return False
        asked.append(request.method)
        if request.method == "POST":
            request.status(409, "Conflict", "not in this cluster")
        else:
            request.status(404, "NotFound", "there is none")
        return True

    with FakeKube(tmp_path) as fake:
        fake.hook = hook
        with replicas(tmp_path, fake.kubeconfig, "osm-system") as (one,):
            one.until_says("not in this cluster")
            assert asked[:4] == ["GET", "POST", "GET", "POST"]
            assert len(asked) < 20  # four in each look, and looks are further apart each time
            fake.hook = None


def test_kube_roots_that_are_deleted_stay_in_use_and_are_not_made_again(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """The report says what to do; put back, all is well."""
    with replicas(tmp_path, kube, mesh) as [replica]:
        root = replica.until_ready().root
        texts = read(kube, mesh)
        kube.api.delete("v1", "Secret", mesh, NAME)
        with pytest.raises(Exception, match="is gone: a replica that starts now makes a new root"):
            replica.daemon.osm("ca", "reload")
        assert "is gone" in replica.says()
        assert replica.says().endswith("Service is ready\n")
        assert "is gone" in replica.daemon.osm("status")
        assert replica.root["fingerprint"] == root["fingerprint"]
        assert read(kube, mesh) == {}
        write(kube, mesh, **{key.replace(".", "_"): text for key, text in texts.items()})
        replica.daemon.osm("ca", "reload")
        assert replica.root == root


def test_kube_roots_that_nobody_trusts_do_not_take_over(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """Somebody puts another pair there, or nonsense: what is in use stays, and the report says why."""
    with replicas(tmp_path, kube, mesh) as [replica]:
        root = replica.until_ready().root
        texts = read(kube, mesh)
        for wrong, why in (
            (pair(FOREIGN), "no proxy trusts the new root"),
            ({"ca_crt": b"-"}, "no certificate in PEM"),
        ):
            write(kube, mesh, **wrong)
            with pytest.raises(Exception, match=why):
                replica.daemon.osm("ca", "reload")
            assert why in replica.says()
            assert replica.root["fingerprint"] == root["fingerprint"]
        write(kube, mesh, **{key.replace(".", "_"): text for key, text in texts.items()})
        replica.daemon.osm("ca", "reload")
        assert replica.root == root


def test_kube_roots_rotate_in_all_replicas(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """Three steps, written once each; a replica that nobody tells follows by itself."""
    with replicas(tmp_path, kube, mesh, 2) as both:
        told, other = (each.until_ready() for each in both)
        old, new = read(kube, mesh)["ca.crt"], new_root()
        steps: list[dict[str, bytes | None]] = [
            {"passive_crt": pair(new)["ca_crt"]},
            {**pair(new), "passive_crt": old},
            {"passive_crt": None},
        ]
        seen = [told.root]
        for step in steps:
            write(kube, mesh, **step)
            told.daemon.osm("ca", "reload")
            seen.append(told.root)
            until(lambda: other.root == told.root, "the other replica has followed", 60.0)
        assert [len(root["passive"]) for root in seen] == [0, 1, 1, 0]
        assert seen[0]["fingerprint"] == seen[1]["fingerprint"] != seen[2]["fingerprint"] == seen[3]["fingerprint"]
        assert seen[1]["passive"][0]["fingerprint"] == seen[3]["fingerprint"]


def test_kube_roots_nothing_of_the_key_is_said_anywhere(kube: Kube, mesh: str, tmp_path: Path) -> None:
    """Not in the log, however talkative, nor over HTTP, in the status or the console; not when it is broken either."""
    with replicas(tmp_path, kube, mesh, 1, "--verbosity=trace", "--debug-address=127.0.0.1:0") as [replica]:
        replica.until_ready()
        key = read(kube, mesh)["private.key"]
        write(kube, mesh, ca_crt=b"broken")
        with pytest.raises(Exception, match="no certificate"):
            replica.daemon.osm("ca", "reload")
        said = [replica.daemon.osm("status"), replica.daemon.osm("status", "-o", "json"), replica.daemon.log()]
        said += [replica.says(path) for path in ("/metrics", "/health/ready?verbose")]
        console = subprocess.run(
            [
                str(replica.daemon.command[0]).replace("osm-controller", "osm"),
                "--socket",
                str(replica.daemon.socket),
                "debug",
            ],
            input="certs\neval mesh\nobjects\nkubernetes\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        said += [console.stdout, console.stderr]
        lines = [line for line in key.decode().splitlines() if "-----" not in line]
        secrets = [*lines, base64.b64encode(key).decode()[60:120]]
        assert lines
        for text in said:
            assert "PRIVATE KEY" not in text
            assert not [secret for secret in secrets if secret in text]
