"""What an API server holds, as files: the bridge between it and whoever reads objects from a directory. The same
objects from either source have to mean the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import yaml

from .kube_api import Api, ApiError, Object, Watch
from .kube_crds import KINDS
from .waiting import until

Key = tuple[str, str]  # namespace, name

CORE = [
    ("v1", "Namespace"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
]


class _Kind:
    """The objects of one kind."""

    def __init__(
        self, api: Api, api_version: str, kind: str, put: Callable[[str, str, str, Object | None], None]
    ) -> None:
        self.api, self.api_version, self.kind, self._put = api, api_version, kind, put
        self.seen: dict[Key, str] = {}  # resource versions
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._follow, name=f"mirror-{kind}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops following."""
        self._closing.set()
        with self._lock:
            if self._watch:
                self._watch.close()
        self._thread.join()

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                watch = self.api.watch(
                    self.api_version,
                    self.kind,
                    sendInitialEvents="true",
                    resourceVersionMatch="NotOlderThan",
                    resourceVersion="0",
                )
            except (OSError, ApiError, LookupError):  # the server is away, or has no such kind
                self._closing.wait(0.2)
                continue
            with self._lock:
                if self._closing.is_set():
                    watch.close()
                    return
                self._watch = watch
            old = set(self.seen)
            for event, o in watch:
                metadata = o.get("metadata", {})
                key = metadata.get("namespace", ""), metadata.get("name", "")
                if event == "ERROR":
                    break
                if event == "BOOKMARK":
                    if metadata.get("annotations", {}).get("k8s.io/initial-events-end") == "true":
                        for gone in old:
                            self._tell(gone, None)
                        old = set()
                elif event == "DELETED":
                    self._tell(key, None)
                else:
                    old.discard(key)
                    if self.seen.get(key) != metadata["resourceVersion"]:
                        self._tell(key, o)
            watch.close()

    def _tell(self, key: Key, o: Object | None) -> None:
        if o is not None:
            o = {"apiVersion": self.api_version, "kind": self.kind, **o}
            o["metadata"].pop("managedFields", None)
        self._put(self.kind, *key, o)
        if o is None:
            self.seen.pop(key, None)
        else:
            self.seen[key] = o["metadata"]["resourceVersion"]

    def is_current(self) -> bool:
        """Whether everything that the server has now has been told, and nothing else."""
        listed = self.api.list(self.api_version, self.kind)
        return self.seen == {
            (o["metadata"].get("namespace", ""), o["metadata"]["name"]): o["metadata"]["resourceVersion"]
            for o in listed
        }


class Mirror:
    """Keeps a file for each object of the mesh in a folder, until closed."""

    def __init__(self, api: Api, folder: Path) -> None:
        def put(kind: str, ns: str, name: str, o: Object | None) -> None:
            path = folder / f"{kind}-{ns}-{name}.yaml".lower()
            if o is None:
                path.unlink(missing_ok=True)
            else:
                aside = path.with_name(f".{path.name}.new")
                aside.write_text(yaml.safe_dump(o, sort_keys=False))
                os.replace(aside, path)

        custom = [(f"{group}/{versions[0]}", kind) for group, kind, _, versions in KINDS]
        self._kinds = [_Kind(api, *each, put) for each in CORE + custom]

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        for kind in self._kinds:
            kind.close()

    def caught_up(self, timeout: float = 30.0) -> None:
        """Waits until every kind is as the server has it."""
        for kind in self._kinds:
            until(kind.is_current, f"the files of {kind.kind} are what the server has", timeout)
