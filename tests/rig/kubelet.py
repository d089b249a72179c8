"""Scheduler and kubelet of a test's API server: binds pods to a node, says that they run and are ready, ends those
that are to be deleted.

    with Kubelet(kube) as kubelet: ...

By default pods are of paper: an address and a status, no process, so that there may be thousands. A runner
(world_kube.py) runs some of them for real.
"""

from __future__ import annotations

import datetime
import ipaddress
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from .kube import Kube
from .kube_api import STRATEGIC, ApiError, Object, Watch
from .waiting import until

NODE = "node-1"
NODE_ADDRESS = "192.0.2.10"  # of documentation: nobody is there
PAPER_NETWORK = "10.128.0.0/14"
_WORKERS = 6
_GONE = (404, 409)  # the pod, or this pod of that name, is no longer there; or somebody has bound it


class Runner(Protocol):
    """Runs pods for real. Called on the kubelet's threads, for one pod by one of them at a time."""

    def takes(self, pod: Object) -> bool:
        """Whether a pod is this runner's. It is not bound yet (unless it was made so), and may be changed now."""
        ...

    def place(self, pod: Object) -> tuple[str, bool]:
        """A bound pod's address, and whether it is ready at once."""
        ...

    def run(self, pod: Object) -> bool:
        """Starts a pod that is not ready at once, whose address is known by now; whether it is ready."""
        ...

    def stop(self, pod: Object) -> None:
        """Ends what has been started of a pod."""
        ...


def now() -> str:
    """The time as the API writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(pod: Object, address: str, ready: bool, node_address: str = NODE_ADDRESS) -> Object:
    """The change of a pod's status that says that it runs under an address. It holds for this pod only, not for the
    next one of the same name."""
    yes, at = {True: "True", False: "False"}, now()
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Initialized", "status": "True"},
        {"type": "ContainersReady", "status": yes[ready]},
        {"type": "Ready", "status": yes[ready]},
    ]
    containers = [
        {
            "name": c["name"],
            "image": c.get("image", ""),
            "imageID": "",
            "ready": ready,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": at}},
        }
        for c in pod["spec"]["containers"]
    ]
    return {
        "metadata": {"uid": pod["metadata"]["uid"]},
        "status": {
            "phase": "Running",
            "startTime": at,
            "hostIP": node_address,
            "hostIPs": [{"ip": node_address}],
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"lastTransitionTime": at, **c} for c in conditions],
            "containerStatuses": containers,
        },
    }


class Kubelet:
    """Takes care of all pods of a server, until closed. `runners` may change, for pods that come later; `ready`
    says whether a pod of paper is ready when it starts. While `holds(pod)` is true, a pod that is to be deleted
    stays, terminating; release() looks again."""

    def __init__(self, kube: Kube, *runners: Runner) -> None:
        self.kube, self.runners = kube, list(runners)
        self.ready: Callable[[Object], bool] = lambda pod: True
        self.holds: Callable[[Object], bool] = lambda pod: False
        self._addresses = ipaddress.ip_network(PAPER_NETWORK).hosts()
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._latest: dict[str, Object] = {}  # by uid
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._asked: set[str] = set()  # uids that the runners have been asked about
        self._real: dict[str, Runner] = {}  # who has which
        self._ran: dict[str, bool] = {}  # what run() has said
        self._told: set[str] = set()  # and the server knows
        self._given: dict[str, str] = {}  # uid to address
        self._closing = threading.Event()
        self._watch: Watch | None = None
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._follow, name="kubelet-watch", daemon=True)]
        self._threads += [
            threading.Thread(target=self._worker, name=f"kubelet-{i}", daemon=True) for i in range(_WORKERS)
        ]

    def __enter__(self) -> Kubelet:
        self.node()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops looking; pods stay as they are."""
        self._closing.set()
        with self._lock:
            if self._watch:
                self._watch.close()
        for _ in range(_WORKERS):
            self._work.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def node(self, name: str = NODE, address: str = NODE_ADDRESS, labels: dict[str, str] | None = None) -> None:
        """A ready Node."""
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        self.kube.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        room = {"cpu": "64", "memory": "256Gi", "pods": "50000"}
        status = {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": room,
            "allocatable": room,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now()},
            ],
        }
        self.kube.api.patch("v1", "Node", "", name, {"status": status}, how=STRATEGIC, sub="status")

    def set_ready(self, ns: str, name: str, ready: bool) -> None:
        """A pod becomes ready, or stops being so."""
        pod = self.kube.api.get("v1", "Pod", ns, name)
        assert pod and pod["status"].get("podIP"), f"{ns}/{name} does not run"
        change = running(pod, pod["status"]["podIP"], ready)
        self.kube.api.patch("v1", "Pod", ns, name, change, how=STRATEGIC, sub="status")

    def finish(self, ns: str, name: str, phase: str = "Succeeded") -> None:
        """A pod's containers have ended, and it is not started again."""
        change = {"status": {"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]}}
        self.kube.api.patch("v1", "Pod", ns, name, change, how=STRATEGIC, sub="status")

    def release(self) -> None:
        """Looks again at every pod: what has been held may go."""
        with self._lock:
            for uid, pod in self._latest.items():
                self._latest[uid] = dict(pod)  # another one than whoever is at it has seen
                self._enqueue(uid)

    def until_running(self, ns: str, count: int, timeout: float = 60.0) -> list[Object]:
        """Waits until a namespace has so many pods and all are ready; the pods. For a kubelet that is at work."""

        def are_ready(pods: list[Object]) -> bool:
            return len(pods) == count and all(self._conditions(pod).get("Ready") == "True" for pod in pods)

        def seen() -> list[Object]:  # asking for thousands of pods all the time would keep the server from its work
            with self._lock:
                return [pod for pod in self._latest.values() if pod["metadata"]["namespace"] == ns]

        found: list[Object] = []

        def done() -> bool:
            if not are_ready(seen()):
                return False
            found[:] = self.kube.api.list("v1", "Pod", ns)
            return are_ready(found)

        until(done, f"{count} pods of {ns} are ready", timeout)
        return found

    @staticmethod
    def _conditions(pod: Object) -> dict[str, str]:
        return {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}

    # --- the loop ---

    def _follow(self) -> None:
        """Keeps a watch on all pods; begins anew with all of them whenever it ends."""
        while not self._closing.is_set():
            try:
                watch = self.kube.api.watch(
                    "v1", "Pod", sendInitialEvents="true", resourceVersionMatch="NotOlderThan", resourceVersion="0"
                )
            except (OSError, ApiError):
                self._closing.wait(0.2)  # the server is away
                continue
            with self._lock:
                if self._closing.is_set():
                    watch.close()
                    return
                self._watch = watch
                known, listing = set(self._latest), True
            for kind, pod in watch:
                metadata = pod.get("metadata", {})
                uid = metadata.get("uid", "")
                if kind == "ERROR":
                    break
                with self._lock:
                    if kind == "BOOKMARK":
                        if listing and metadata.get("annotations", {}).get("k8s.io/initial-events-end") == "true":
                            listing = False
                            for gone in known:  # deleted while nobody looked
                                self._forget(gone)
                    elif kind == "DELETED":
                        self._forget(uid)
                    else:
                        known.discard(uid)
                        self._latest[uid] = pod
                        self._enqueue(uid)
            watch.close()

    def _forget(self, uid: str) -> None:
        """A pod is gone from the server; a real one's processes may still be there (it was deleted by force)."""
        pod = self._latest.get(uid)
        if pod is not None and uid in self._real:
            self._latest[uid] = {**pod, "gone": True}
            self._enqueue(uid)
        else:
            self._latest.pop(uid, None)
            self._given.pop(uid, None)
            self._asked.discard(uid)

    def _enqueue(self, uid: str) -> None:
        if uid not in self._queued:
            self._queued.add(uid)
            self._work.put(uid)

    def _worker(self) -> None:
        while (uid := self._work.get()) is not None:
            with self._lock:
                self._queued.discard(uid)
                if uid in self._busy:  # another one is at it; it looks again when it is done
                    continue
                self._busy.add(uid)
            seen: Object | None = None
            while True:
                with self._lock:
                    pod = self._latest.get(uid)
                    if pod is None or pod is seen or self._closing.is_set():
                        self._busy.discard(uid)
                        break
                seen = pod
                try:
                    self._tend(uid, pod)
                except ApiError as error:
                    if error.code >= 500 or error.code in (401, 403, 429):  # it is about to end, or has just begun
                        self._closing.wait(0.2)
                        seen = None
                    elif error.code not in _GONE:
                        self.errors.append(str(error))
                except OSError:  # the server is away
                    self._closing.wait(0.2)
                    seen = None
                except Exception as error:  # of a runner: the pod does not start, and the test may look why
                    if not self._is_going(uid):
                        self.errors.append(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}: {error!r}")
            if seen is not None and pod is None:
                self._end(uid, seen)  # it was gone before the server knew whose it is

    def _is_going(self, uid: str) -> bool:
        """Whether a pod is gone, or to be deleted."""
        with self._lock:
            pod = self._latest.get(uid)
        return pod is None or bool(pod.get("gone")) or "deletionTimestamp" in pod["metadata"]

    def _tend(self, uid: str, pod: Object) -> None:
        """One step of a pod's life."""
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
        ns, name, api = metadata["namespace"], metadata["name"], self.kube.api
        if pod.get("gone"):
            self._end(uid, pod)
            with self._lock:
                self._forget(uid)
        elif metadata.get("deletionTimestamp"):
            if not self.holds(pod):
                self._end(uid, pod)
                api.delete("v1", "Pod", ns, name, gracePeriodSeconds=0, preconditions={"uid": uid})
        elif not spec.get("nodeName"):
            if not spec.get("schedulingGates"):
                self._runner(uid, pod)
                binding = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": name, "uid": uid},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
                }
                api.request("POST", api.path("v1", "Pod", ns, name, "binding"), binding)
        elif status.get("phase", "Pending") == "Pending":
            runner = self._runner(uid, pod)
            address, ready = runner.place(pod) if runner else (self._address(uid), self.ready(pod))
            self._say(pod, address, ready)
        elif uid in self._real and uid not in self._told and self._conditions(pod).get("Ready") == "False":
            if uid not in self._ran:
                self._ran[uid] = False  # once, even where it fails
                self._ran[uid] = self._real[uid].run(pod)
            if self._ran[uid]:
                self._say(pod, status["podIP"], True)
            self._told.add(uid)

    def _say(self, pod: Object, address: str, ready: bool) -> None:
        metadata = pod["metadata"]
        change = running(pod, address, ready)
        self.kube.api.patch("v1", "Pod", metadata["namespace"], metadata["name"], change, how=STRATEGIC, sub="status")

    def _runner(self, uid: str, pod: Object) -> Runner | None:
        """Whose pod it is; asked once. None: it is of paper."""
        if uid not in self._asked:
            self._asked.add(uid)
            if runner := next((r for r in self.runners if r.takes(pod)), None):
                self._real[uid] = runner
        return self._real.get(uid)

    def _end(self, uid: str, pod: Object) -> None:
        if runner := self._real.get(uid):
            runner.stop(pod)
            del self._real[uid]
            self._ran.pop(uid, None)
            self._told.discard(uid)

    def _address(self, uid: str) -> str:
        with self._lock:
            if uid not in self._given:
                self._given[uid] = str(next(self._addresses))
            return self._given[uid]
