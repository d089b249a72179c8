"""A small client of a Kubernetes API server, for tests that write objects and look at them: JSON over connections
that are kept, one for each thread. It is not the client under test.

Objects are dictionaries as in their manifests. What the server refuses is an ApiError with its code, reason and
message.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

Object = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
MANAGER = "rig"
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STALE = (  # each may be how a connection that was closed meanwhile shows
    http.client.RemoteDisconnected,
    http.client.CannotSendRequest,
    BrokenPipeError,
    ConnectionResetError,
    ssl.SSLEOFError,
)


class ApiError(RuntimeError):
    """What the server answered instead of the object."""

    def __init__(self, what: str, code: int, text: str) -> None:
        self.code, self.reason, self.message, self.details = code, "", text.strip(), {}
        with contextlib.suppress(ValueError, AttributeError):
            status = json.loads(text)
            self.reason, self.message = status.get("reason", ""), status.get("message", "")
            self.details = status.get("details") or {}
        super().__init__(f"{what}: {code} {self.reason}: {self.message}")


class _NoDelay(http.client.HTTPSConnection):
    """Head and body of a request go out as two writes."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Api:
    """The server at a URL as one user (with a token, or a certificate and key) sees it. For several threads."""

    def __init__(
        self, url: str, ca: str, *, token: str = "", certificate: tuple[str, str] | None = None, timeout: float = 60.0
    ) -> None:
        self.url, self._token, self._timeout = url, token, timeout
        self._tls = ssl.create_default_context(cafile=ca)
        if certificate:
            self._tls.load_cert_chain(*certificate)
        self._local = threading.local()
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    # --- requests ---

    def _connect(self, timeout: float | None = None) -> http.client.HTTPSConnection:
        at = urlsplit(self.url)
        return _NoDelay(at.hostname or "", at.port, context=self._tls, timeout=timeout or self._timeout)

    def _headers(self, content_type: str = "", accept: str = "application/json") -> dict[str, str]:
        headers = {"Accept": accept}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    def raw(
        self, method: str, path: str, body: Any = None, *, content_type: str = "", accept: str = "application/json"
    ) -> tuple[int, str]:
        """One request; status and body. OSError while there is no server."""
        data = None if body is None else json.dumps(body)
        headers = self._headers("" if data is None else content_type or "application/json", accept)
        while True:
            kept = getattr(self._local, "connection", None)
            connection = kept or self._connect()
            try:
                connection.request(method, path, data, headers)
                response = connection.getresponse()
                text = response.read().decode(errors="replace")
            except BaseException as error:
                connection.close()
                self._local.connection = None
                if kept and isinstance(error, _STALE):
                    continue  # closed by the server since its last use
                if isinstance(error, http.client.HTTPException):
                    raise ConnectionError(str(error)) from error
                raise
            if response.will_close:
                connection.close()
                connection = None
            self._local.connection = connection
            return response.status, text

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "", **query: Any) -> Object:
        """One request; the object of the answer."""
        if query:
            path += "?" + urlencode(query)
        status, text = self.raw(method, path, body, content_type=content_type)
        if status >= 300:
            raise ApiError(f"{method} {path}", status, text)
        return json.loads(text)

    # --- kinds ---

    def _discover(self) -> None:
        found: dict[tuple[str, str], tuple[str, bool]] = {}
        for root in ("/api", "/apis"):
            status, text = self.raw("GET", root, accept=_DISCOVERY)
            if status != 200:
                raise ApiError(f"GET {root}", status, text)
            for group in json.loads(text)["items"]:
                name = group.get("metadata", {}).get("name", "")
                for version in group["versions"]:
                    api_version = f"{name}/{version['version']}" if name else version["version"]
                    for resource in version.get("resources") or []:
                        kind = resource.get("responseKind", {}).get("kind") or resource.get("singularResource", "")
                        found[api_version, kind] = resource["resource"], resource["scope"] == "Namespaced"
        self._kinds = found

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the server has listed a kind when it was last asked for all of them."""
        return (api_version, kind) in self._kinds

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the server lists a kind now."""
        self._discover()
        return self.knows(api_version, kind)

    def path(self, api_version: str, kind: str, ns: str = "", name: str = "", sub: str = "") -> str:
        """Where an object, or with no name all of a kind, is; LookupError for a kind that the server does not have."""
        if not self.knows(api_version, kind):
            self._discover()
        if not self.knows(api_version, kind):
            raise LookupError(f"the API server has no {kind} of {api_version}")
        plural, namespaced = self._kinds[api_version, kind]
        path = f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
        if namespaced and ns:
            path += f"/namespaces/{quote(ns)}"
        return path + "/" + "/".join([plural, *([quote(name)] if name else []), *([sub] if sub else [])])

    def path_of(self, o: Object, sub: str = "") -> str:
        """Where an object is."""
        metadata = o["metadata"]
        ns = metadata.get("namespace", "default")
        return self.path(o["apiVersion"], o["kind"], ns, metadata["name"], sub)

    # --- objects ---

    def create(self, o: Object) -> Object:
        """POST."""
        return self.request("POST", self.path_of(o).rpartition("/")[0], o)

    def apply(self, o: Object) -> Object:
        """Makes an object be as given, whoever has had a field before: server-side apply."""
        return self.request("PATCH", self.path_of(o), o, content_type=APPLY, fieldManager=MANAGER, force="true")

    def store(self, o: Object) -> Object:
        """Makes an object be as given, to the last empty map: creates it, or replaces it. For custom resources:
        those of the server's own kinds have fields that have to stay."""
        try:
            return self.create(o)
        except ApiError as error:
            if error.code != 409:
                raise
        there = self.request("GET", self.path_of(o))["metadata"]
        metadata = {**o["metadata"], "resourceVersion": there["resourceVersion"]}
        return self.request("PUT", self.path_of(o), {**o, "metadata": metadata})

    def patch(
        self, api_version: str, kind: str, ns: str, name: str, change: Any, *, how: str = MERGE, sub: str = ""
    ) -> Object:
        """A merge patch, or another kind of patch."""
        return self.request("PATCH", self.path(api_version, kind, ns, name, sub), change, content_type=how)

    def get(self, api_version: str, kind: str, ns: str, name: str) -> Object | None:
        """An object; None when there is none."""
        try:
            return self.request("GET", self.path(api_version, kind, ns, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, api_version: str, kind: str, ns: str = "", **query: str) -> list[Object]:
        """All objects of a kind, in a namespace or everywhere."""
        return self.request("GET", self.path(api_version, kind, ns), **query)["items"]

    def delete(self, api_version: str, kind: str, ns: str, name: str, **options: Any) -> None:
        """Asks for a deletion; an object that is not there is none to delete."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
        try:
            self.request("DELETE", self.path(api_version, kind, ns, name), body)
        except ApiError as error:
            if error.code != 404:
                raise

    def create_all(self, objects: Sequence[Object] | Iterable[Object], threads: int = 8) -> list[Object]:
        """POSTs many objects over several connections."""
        listed = list(objects)
        for api_version, kind in {(o["apiVersion"], o["kind"]) for o in listed}:
            self.path(api_version, kind)  # discovered once, not by each thread
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.create, listed))

    def watch(self, api_version: str, kind: str, ns: str = "", **query: str) -> Watch:
        """A watch; with sendInitialEvents="true" and resourceVersionMatch="NotOlderThan" it begins with what is
        there."""
        asked = {"watch": "true", "allowWatchBookmarks": "true", **query}
        path = f"{self.path(api_version, kind, ns)}?{urlencode(asked)}"
        return Watch(self._connect(timeout=3600.0), path, self._headers())


class Watch:
    """The events of one watch: (type, object), until the server or close() ends it."""

    def __init__(self, connection: http.client.HTTPSConnection, path: str, headers: dict[str, str]) -> None:
        self._connection = connection
        connection.request("GET", path, headers=headers)
        self._socket = connection.sock
        self._response = connection.getresponse()
        if self._response.status != 200:
            text = self._response.read().decode(errors="replace")
            connection.close()
            raise ApiError(f"GET {path}", self._response.status, text)

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        try:
            while line := self._response.readline():
                event = json.loads(line)
                yield event["type"], event["object"]
        except (OSError, ValueError, http.client.HTTPException):
            return  # the end of the connection is the end of the watch, however it comes

    def close(self) -> None:
        """Ends it; from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
