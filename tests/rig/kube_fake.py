"""A small API server for the faults that a real one will not make: lists, watches with resume and bookmarks, discovery,
and a hook that may answer any request in its own way. HTTP/1.1, in threads. Not a model of Kubernetes: tests of how the
source behaves with a good server run against the real one."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

KINDS = [
    ("", "v1", "Namespace", "namespaces", False),
    ("", "v1", "Service", "services", True),
    ("", "v1", "Pod", "pods", True),
    ("", "v1", "Endpoints", "endpoints", True),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", True),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False),
    ("config.openservicemesh.io", "v1alpha2", "MeshConfig", "meshconfigs", True),
    ("access.smi-spec.io", "v1alpha3", "TrafficTarget", "traffictargets", True),
    ("specs.smi-spec.io", "v1alpha4", "HTTPRouteGroup", "httproutegroups", True),
    ("specs.smi-spec.io", "v1alpha4", "TCPRoute", "tcproutes", True),
    ("split.smi-spec.io", "v1alpha2", "TrafficSplit", "trafficsplits", True),
]


class Request:
    """One request, for hooks."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.handler = handler
        self.path = parts.path
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.plural = parts.path.rsplit("/", 1)[-1]
        self.authorization = handler.headers.get("Authorization", "")
        self.method = handler.command
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.names_only = "PartialObjectMetadata" in handler.headers.get("Accept", "")

    @property
    def verb(self) -> str:
        """watch, list or get; a write is told by its method."""
        if self.plural not in {kind[3] for kind in KINDS}:
            return "get"
        return "watch" if self.query.get("watch") else "list"

    def send(self, status: int, body: bytes, *headers: tuple[str, str], content_type: str = "application/json") -> None:
        """A whole answer."""
        self.handler.send_response(status)
        for name, value in (("Content-Type", content_type), ("Content-Length", str(len(body))), *headers):
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def status(self, code: int, reason: str, message: str = "", *headers: tuple[str, str]) -> None:
        """A Status object."""
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
        self.send(code, json.dumps(body | {"code": code}).encode(), *headers)

    def begin(self) -> None:
        """The head of a stream."""
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()
        self.handler.wfile.flush()

    def chunk(self, body: bytes) -> None:
        """A piece of it; b"" ends it."""
        self.handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.handler.wfile.flush()


Hook = Callable[[Request], bool]


class FakeKube:
    """The server. `hook` sees every request first, and answers it where it returns True."""

    def __init__(self, folder: Path, kinds: list[tuple[str, str, str, str, bool]] | None = None) -> None:
        self.kinds = list(kinds or KINDS)
        self.objects: dict[tuple[str, str, str], Object] = {}  # plural, namespace, name
        self.events: list[tuple[int, str, str, Object]] = []  # version, plural, type, object
        self.version, self.oldest = 100, 0
        self.requests: list[Request] = []
        self.hook: Hook | None = None
        self.changed = threading.Condition()
        self.closing = False
        self.token = "the-token"
        self.watches_end = 0  # grows: all watches end
        self.kubeconfig = folder / "kubeconfig"
        self.port = 0
        self.open()
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                    "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "u", "user": {"token": self.token}}],
                }
            )
        )

    # --- life ---

    def open(self) -> None:
        """Listens, on the port that it had before."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                """Every request is one."""
                with contextlib.suppress(ConnectionError):
                    fake.answer(Request(self))

            do_POST = do_PATCH = do_DELETE = do_GET  # for hooks: nothing else here takes a write

        self.closing = False
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        self.server.daemon_threads = True
        self.server.allow_reuse_address = True
        self.server.request_queue_size = 128
        self.server.server_bind()
        self.server.server_activate()
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Ends, with all watches."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self) -> FakeKube:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closing:
            self.close()

    # --- objects ---

    def plural(self, obj: Object) -> str:
        """Of an object's kind."""
        return next(kind[3] for kind in KINDS if kind[2] == obj["kind"])

    def _event(self, plural: str, type_: str, obj: Object) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, plural, type_, copy.deepcopy(obj)))
        self.changed.notify_all()

    def put(self, obj: Object, silently: bool = False) -> None:
        """Adds or replaces; silently: no watch hears of it."""
        obj = copy.deepcopy(obj)
        plural = self.plural(obj)
        meta = obj["metadata"]
        key = (plural, meta.get("namespace", ""), meta["name"])
        with self.changed:
            type_ = "MODIFIED" if key in self.objects else "ADDED"
            self.objects[key] = obj
            self._event(plural, type_, obj)
            if silently:
                self.events.pop()

    def delete(self, kind: str, ns: str, name: str, silently: bool = False) -> None:
        """Removes."""
        plural = next(each[3] for each in KINDS if each[2] == kind)
        with self.changed:
            self._event(plural, "DELETED", self.objects.pop((plural, ns, name)))
            if silently:
                self.events.pop()

    def compact(self) -> None:
        """Forgets all events: who resumes gets 410."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.events.clear()
            self.watches_end += 1
            self.changed.notify_all()

    def end_watches(self) -> None:
        """As when their time is over."""
        with self.changed:
            self.watches_end += 1
            self.changed.notify_all()

    def bookmark(self, plural: str, version: int | None = None) -> None:
        """On the watches of this kind."""
        with self.changed:
            mark = {"kind": "Bookmark", "metadata": {"resourceVersion": str(version or self.version)}}
            self.events.append((self.version, plural, "BOOKMARK", mark))
            self.changed.notify_all()

    def count(self, verb: str, plural: str) -> int:
        """Of the requests so far."""
        with self.changed:
            return sum(1 for each in self.requests if each.verb == verb and each.plural == plural)

    # --- answers ---

    def answer(self, request: Request) -> None:
        """Any request."""
        with self.changed:
            self.requests.append(request)
        if self.hook and self.hook(request):
            return
        if request.method != "GET":
            request.status(405, "MethodNotAllowed", "nothing can be written here")
            return
        if request.authorization != f"Bearer {self.token}":
            request.status(401, "Unauthorized", "who are you?")
        elif request.path in ("/version", "/readyz"):
            request.send(200, json.dumps({"major": "1", "minor": "30", "gitVersion": "v1.30.0-fake"}).encode())
        elif request.path in ("/api", "/apis"):
            request.send(200, json.dumps(self.discovery(request.path == "/api")).encode())
        elif not any(request.path == self._path(kind) for kind in self.kinds):
            request.status(404, "NotFound", "the server could not find the requested resource")
        elif request.verb == "watch":
            self.watch(request)
        else:
            self.list(request)

    @staticmethod
    def _path(kind: tuple[str, str, str, str, bool]) -> str:
        group, version, _, plural, _ = kind
        return f"/apis/{group}/{version}/{plural}" if group else f"/api/{version}/{plural}"

    def discovery(self, core: bool) -> Object:
        """All kinds in one document."""
        groups: dict[str, Object] = {}
        for group, version, kind, plural, namespaced in self.kinds:
            if (group == "") != core:
                continue
            item = groups.setdefault(group, {"metadata": {"name": group}, "versions": []})
            entry = next((each for each in item["versions"] if each["version"] == version), None)
            if entry is None:
                entry = {"version": version, "freshness": "Current", "resources": []}
                item["versions"].append(entry)
            entry["resources"].append(
                {
                    "resource": plural,
                    "responseKind": {"group": group, "version": version, "kind": kind},
                    "scope": "Namespaced" if namespaced else "Cluster",
                    "verbs": ["get", "list", "watch"],
                }
            )
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "items": list(groups.values()),
        }

    def items(self, request: Request) -> list[Object]:
        """The objects of a list, as they are now."""
        with self.changed:
            found = [copy.deepcopy(obj) for key, obj in sorted(self.objects.items()) if key[0] == request.plural]
        if request.names_only:
            return [{"metadata": obj["metadata"]} for obj in found]
        return [{key: value for key, value in obj.items() if key not in ("kind", "apiVersion")} for obj in found]

    def list(self, request: Request) -> None:
        """A page of them."""
        items, start = self.items(request), int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0) or len(items)
        meta: Object = {"resourceVersion": str(self.version)}
        if start + limit < len(items):
            meta["continue"] = str(start + limit)
        body = {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items[start : start + limit]}
        request.send(200, json.dumps(body).encode())

    def _next_events(self, request: Request, after: int, end: int) -> Iterator[tuple[int, str, Object]] | None:
        """Those that a watch has not told yet; None: it is over."""
        with self.changed:
            while True:
                after = after if after <= len(self.events) else 0  # all events were forgotten
                news = [each for each in self.events[after:] if each[1] == request.plural]
                if self.closing or self.watches_end != end:
                    return None
                if news:
                    return iter([(len(self.events), type_, obj) for _, _, type_, obj in news])
                after = len(self.events)
                self.changed.wait()

    def watch(self, request: Request) -> None:
        """Events as they come."""
        since = int(request.query.get("resourceVersion") or 0)
        with self.changed:
            end = self.watches_end
            start = next((n for n, each in enumerate(self.events) if each[0] > since), len(self.events))
            expired = since < self.oldest
        if expired:
            request.status(410, "Expired", f"too old resource version: {since} ({self.oldest})")
            return
        request.begin()
        while (news := self._next_events(request, start, end)) is not None:
            for seen, type_, obj in news:
                start = seen
                request.chunk(json.dumps({"type": type_, "object": obj}).encode() + b"\n")
        if self.closing:
            request.handler.close_connection = True
        else:
            request.chunk(b"")
