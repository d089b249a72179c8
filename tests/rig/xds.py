"""A raw client of the aggregated discovery service: it says exactly what a test wants said, in both forms of the
protocol.

with Sotw(world, pod) as client:
    client.send(CDS)
    first = client.expect(CDS)
    client.ack(first)
    client.silent()
"""

from __future__ import annotations

import dataclasses
import importlib
import queue
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.type.v3 import semantic_version_pb2
from google.protobuf import json_format
from google.rpc import status_pb2

from .waiting import until

if TYPE_CHECKING:
    from .pod import Pod
    from .world import World

# What an Any inside a resource may hold: a type is known once its module has been imported.
for _module in (
    "envoy.extensions.access_loggers.stream.v3.stream_pb2",
    "envoy.extensions.filters.http.rbac.v3.rbac_pb2",
    "envoy.extensions.filters.http.router.v3.router_pb2",
    "envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2",
    "envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2",
    "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "envoy.extensions.filters.network.rbac.v3.rbac_pb2",
    "envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2",
    "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
):
    importlib.import_module(_module)

CDS, EDS, LDS, RDS, SDS = "CDS", "EDS", "LDS", "RDS", "SDS"
ORDER = (CDS, EDS, LDS, RDS, SDS)
MESSAGES: dict[str, Any] = {
    CDS: cluster_pb2.Cluster,
    EDS: endpoint_pb2.ClusterLoadAssignment,
    LDS: listener_pb2.Listener,
    RDS: route_pb2.RouteConfiguration,
    SDS: secret_pb2.Secret,
}
URLS = {name: f"type.googleapis.com/{message.DESCRIPTOR.full_name}" for name, message in MESSAGES.items()}
NAMES = {url: name for name, url in URLS.items()}


@dataclasses.dataclass
class Answer:
    """A response, decoded."""

    type: str
    version: str  # of the whole response (delta: system_version_info)
    nonce: str
    resources: dict[str, Any]  # name -> message
    removed: list[str]
    versions: dict[str, str]  # delta: name -> version

    def as_dict(self, name: str) -> dict[str, Any]:
        """A resource in the form of its JSON, with the field names of the API."""
        return to_dict(self.resources[name])


def to_dict(message: Any) -> dict[str, Any]:
    """A message as JSON with the field names of the API, what is in an Any included."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _decode(kind: str, packed: Iterable[Any]) -> dict[str, Any]:
    out = {}
    for any_message in packed:
        message = MESSAGES[kind]()
        assert any_message.Unpack(message), f"{kind}: a resource of type {any_message.type_url}"
        out[message.cluster_name if kind == EDS else message.name] = message
    return out


@dataclasses.dataclass
class Credentials:
    """What a client shows and trusts, as PEM; None for what it does not have."""

    chain: bytes | None
    key: bytes | None
    roots: bytes | None

    @classmethod
    def of(cls, folder: Path) -> Credentials:
        """From the files of `osm proxy bootstrap`."""
        chain, key, roots = ((folder / name).read_bytes() for name in ("sds_cert.pem", "sds_key.pem", "cacert.pem"))
        return cls(chain, key, roots)


def channel(target: str, credentials: Credentials, trust_domain: str = "cluster.local") -> grpc.Channel:
    """A connection of its own (not shared with other channels to the same place)."""
    made = grpc.ssl_channel_credentials(credentials.roots, credentials.key, credentials.chain)
    options = [("grpc.ssl_target_name_override", f"ads.{trust_domain}"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(target, made, options)


Request = TypeVar("Request")


class _Stream(Generic[Request]):
    """What both forms share: a queue of requests out, a thread that reads responses in."""

    def __init__(
        self,
        world: World,
        pod: Pod,
        *,
        credentials: Credentials | None = None,
        node_id: str | None = None,
        version: tuple[int, int, int] | None = None,
    ) -> None:
        self._world, self.pod = world, pod
        self._node = base_pb2.Node(id=pod.uuid if node_id is None else node_id, cluster=f"{pod.account}.{pod.ns}")
        if version:
            major, minor, patch = version
            number = semantic_version_pb2.SemanticVersion(major_number=major, minor_number=minor, patch=patch)
            self._node.user_agent_build_version.version.CopyFrom(number)
        self._credentials = credentials
        self._out: queue.Queue[Request | None] = queue.Queue()
        self._in: queue.Queue[Answer | grpc.RpcError | None] = queue.Queue()
        self._first = True
        self.nonces: list[str] = []
        self.subscribed: dict[str, list[str]] = {}
        self._recording: list[Answer] | None = None

    def __enter__(self):
        if not self.pod.started:
            self._world.start()
        self._channel = channel(self._world.daemon.ads, self._credentials or Credentials.of(self.pod.etc))
        self._call = self._method(ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel))(self._requests())
        self._reader = threading.Thread(target=self._read, name="xds", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._out.put(None)
        self._call.cancel()
        self._reader.join()
        self._channel.close()

    def _method(self, stub: Any) -> Any:
        raise NotImplementedError

    def _answer(self, response: Any) -> Answer:
        raise NotImplementedError

    def _requests(self) -> Iterator[Request]:
        while (request := self._out.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self._call:
                answer = self._answer(response)
                if self._recording is None:
                    self._in.put(answer)
                else:
                    self._recording.append(answer)
                    self.ack(answer)
            self._in.put(None)
        except grpc.RpcError as error:
            self._in.put(error)

    def node(self, always: bool = False) -> base_pb2.Node | None:
        """The node for the next request: as Envoy does, in the first one only."""
        first, self._first = self._first, False
        return self._node if first or always else None

    def receive(self, timeout: float = 10.0) -> Answer:
        """The next response of any type. AssertionError when none comes; the stream's error when it has ended."""
        try:
            got = self._in.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no response within {timeout:g} s") from None
        if isinstance(got, grpc.RpcError):
            raise got
        assert got is not None, "the stream has ended"
        assert got.nonce, f"{got.type}: a response without a nonce"
        assert got.nonce not in self.nonces, f"{got.type}: nonce {got.nonce} came before"
        self.nonces.append(got.nonce)
        return got

    def expect(self, kind: str, timeout: float = 10.0) -> Answer:
        """The next response, which must be of this type."""
        got = self.receive(timeout)
        assert got.type == kind, f"expected {kind}, got {got.type}: {sorted(got.resources)}"
        return got

    def send(self, kind: str, names: Iterable[str] = (), /, **how: Any) -> None:
        """One request, as given."""
        raise NotImplementedError

    def ack(self, answer: Answer) -> None:
        """Accepts a response."""
        raise NotImplementedError

    def fetch_all(self, kind: str, names: Iterable[str]) -> dict[str, Any]:
        """Subscribes for the first time, and waits until each name has come; acknowledges what comes. A leaf
        certificate may come later than the rest: it has to be signed first."""
        wanted = set(names)
        self.send(kind, sorted(wanted))
        got: dict[str, Any] = {}
        while not wanted <= got.keys():
            answer = self.expect(kind)
            self.ack(answer)
            got.update(answer.resources)
        return got

    def record(self) -> list[Answer]:
        """From now on every response is accepted at once and put into the list that is returned."""
        self._recording = []
        return self._recording

    def silent(self) -> None:
        """Nothing has been sent, nor is anything due: what is in the files has been worked in, and all that was
        owed has been answered. For a client that has acknowledged (or refused) everything; the server's own
        barrier bounds the wait."""
        self._world.daemon.applied()
        self.nothing_queued()

    def nothing_queued(self) -> None:
        """No response waits unread."""
        try:
            got = self._in.get_nowait()
        except queue.Empty:
            return
        raise AssertionError(f"a response that nobody asked for: {got}")

    def ended(self, timeout: float = 10.0) -> grpc.RpcError:
        """The error with which the server ends the stream."""
        while True:
            try:
                got = self._in.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError("the stream goes on") from None
            if isinstance(got, grpc.RpcError):
                return got
            assert got is not None, "the stream ended without an error"


class Sotw(_Stream[discovery_pb2.DiscoveryRequest]):
    """State of the world."""

    def _method(self, stub: Any) -> Any:
        return stub.StreamAggregatedResources

    def _answer(self, response: Any) -> Answer:
        kind = NAMES[response.type_url]
        return Answer(kind, response.version_info, response.nonce, _decode(kind, response.resources), [], {})

    def send(
        self,
        kind: str,
        names: Iterable[str] = (),
        *,
        version: str = "",
        nonce: str = "",
        error: str = "",
        url: str | None = None,
        with_node: bool = False,
    ) -> None:
        """One request, as given."""
        names = self.subscribed[kind] = list(names)
        request = discovery_pb2.DiscoveryRequest(
            node=self.node(with_node),
            type_url=URLS[kind] if url is None else url,
            resource_names=names,
            version_info=version,
            response_nonce=nonce,
        )
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(code=3, message=error))
        self._out.put(request)

    def ack(self, answer: Answer, names: Iterable[str] | None = None) -> None:
        """Accepts a response; the subscription stays unless it is named."""
        wanted = self.subscribed[answer.type] if names is None else names
        self.send(answer.type, wanted, version=answer.version, nonce=answer.nonce)

    def nack(self, answer: Answer, *, version: str = "", error: str = "refused by the test") -> None:
        """Refuses a response, staying at an older version."""
        self.send(answer.type, self.subscribed[answer.type], version=version, nonce=answer.nonce, error=error)

    def fetch(self, kind: str, names: Iterable[str] = ()) -> Answer:
        """Subscribes for the first time, and acknowledges what comes."""
        self.send(kind, names)
        answer = self.expect(kind)
        self.ack(answer)
        return answer


class Delta(_Stream[discovery_pb2.DeltaDiscoveryRequest]):
    """Incremental."""

    def _method(self, stub: Any) -> Any:
        return stub.DeltaAggregatedResources

    def _answer(self, response: Any) -> Answer:
        kind = NAMES[response.type_url]
        resources = _decode(kind, (r.resource for r in response.resources))
        for r, name in zip(response.resources, resources, strict=True):
            assert r.name == name, f"{kind}: a resource called {r.name} holds {name}"
        versions = {r.name: r.version for r in response.resources}
        return Answer(
            kind, response.system_version_info, response.nonce, resources, list(response.removed_resources), versions
        )

    def send(
        self,
        kind: str,
        subscribe: Iterable[str] = (),
        unsubscribe: Iterable[str] = (),
        *,
        known: dict[str, str] | None = None,
        nonce: str = "",
        error: str = "",
        url: str | None = None,
    ) -> None:
        """One request, as given."""
        request = discovery_pb2.DeltaDiscoveryRequest(
            node=self.node(),
            type_url=URLS[kind] if url is None else url,
            resource_names_subscribe=list(subscribe),
            resource_names_unsubscribe=list(unsubscribe),
            initial_resource_versions=known or {},
            response_nonce=nonce,
        )
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(code=3, message=error))
        self._out.put(request)

    def ack(self, answer: Answer) -> None:
        """Accepts a response."""
        self.send(answer.type, nonce=answer.nonce)

    def nack(self, answer: Answer, error: str = "refused by the test") -> None:
        """Refuses a response."""
        self.send(answer.type, nonce=answer.nonce, error=error)

    def fetch(self, kind: str, names: Iterable[str] = ()) -> Answer:
        """Subscribes (no names: to all), and acknowledges what comes."""
        self.send(kind, names)
        answer = self.expect(kind)
        self.ack(answer)
        return answer

    def blamed(self, kind: str) -> list[str]:
        """What the daemon says that this client refuses, by name."""
        (proxy,) = (p for p in self._world.status()["proxies"] if p["uuid"] == self.pod.uuid)
        names: list[str] = proxy["types"][kind]["refused"]
        return names

    def heard(self) -> None:
        """What was sent has been taken up: requests of one stream are taken in order, and a name that is subscribed
        to is answered each time. Between an unsubscription and a change of which nothing may be told."""
        self.fetch(SDS, ["service-cert"])


def connected(world: World, pod: Pod) -> None:
    """Waits until the daemon counts this client's stream."""
    until(lambda: world.proxy_known(pod), f"{pod} is connected")
