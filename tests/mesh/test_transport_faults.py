"""Peers that misbehave below the protocol: the daemon lives, serves the others, and gives its memory back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
from collections.abc import Iterator

import grpc
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from rig import CommandError, Pod, World, h2, until
from rig.objects import HTTP_8080
from rig.xds import CDS, EDS, URLS, Credentials, Sotw, channel


@pytest.fixture
def caller(plain: World) -> Pod:
    """Whose certificate the bad peers have."""
    return plain.pods["red/caller-1"]


@pytest.fixture(autouse=True)
def _witness(plain: World) -> Iterator[None]:
    """A good client that notices nothing, and is served after."""
    with Sotw(plain, plain.pods["blue/shop-1"]) as client:
        client.fetch(CDS)
        answers = client.record()
        yield
        plain.service("blue", "after", HTTP_8080, {"app": "shop"})
        until(lambda: answers and "blue/after|8080" in answers[-1].resources, "the good client is served")
        assert plain.daemon.alive()


def _request(kind: str = CDS) -> bytes:
    return discovery_pb2.DiscoveryRequest(type_url=URLS[kind]).SerializeToString()


def _gone(world: World, pod: Pod) -> None:
    """No stream of this pod is left."""
    until(lambda: pod.uuid not in str(world.status()["proxies"]), "the stream is forgotten")


def test_http_1_and_no_application_protocol_are_refused(plain: World, caller: Pod) -> None:
    """With a good certificate: over TLS only HTTP/2 is spoken here."""
    for alpn in (("http/1.1",), ()):
        with contextlib.suppress(OSError), h2.Connection(plain.daemon.ads, caller.etc, alpn=alpn) as peer:
            peer.tls.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert peer.closed()
    with h2.Connection(plain.daemon.ads, caller.etc) as peer:
        peer.tls.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert peer.closed()


def test_a_stream_that_is_reset_in_the_middle_of_a_message_is_forgotten(plain: World, caller: Pod) -> None:
    """Its connection serves the next stream."""
    with h2.Connection(plain.daemon.ads, caller.etc) as peer:
        peer.greet()
        for _ in range(20):
            stream = peer.open()
            peer.message(stream, _request() * 50, sent=100)
            peer.frame(h2.RST_STREAM, struct.pack(">I", 8), stream=stream)
        stream = peer.open()
        peer.message(stream, _request())
        until(lambda: plain.proxy_known(caller), "the last stream is open")
    _gone(plain, caller)


def test_a_connection_that_goes_away_in_the_middle_of_a_message(plain: World, caller: Pod) -> None:
    """By GOAWAY, by a TCP reset, by closing."""
    for how in ("goaway", "reset", "close"):
        with h2.Connection(plain.daemon.ads, caller.etc) as peer:
            peer.greet()
            stream = peer.open()
            until(lambda: plain.proxy_known(caller), "the stream is open")
            peer.message(stream, _request() * 50, sent=100)
            if how == "goaway":
                peer.frame(h2.GOAWAY, struct.pack(">II", 0, 2))
            elif how == "reset":
                peer.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _gone(plain, caller)


def test_frames_that_break_the_rules_end_their_connection_only(plain: World, caller: Pod) -> None:
    """Data without a stream, a frame over the limit, a header block that does not end."""
    for kind, payload, stream in (
        (h2.DATA, b"x" * 10, 99),
        (h2.SETTINGS, b"x" * 7, 0),
        (h2.WINDOW_UPDATE, struct.pack(">I", 0), 0),
        (h2.CONTINUATION, b"x", 1),
        (42, b"x" * 100, 0),
    ):
        with contextlib.suppress(OSError), h2.Connection(plain.daemon.ads, caller.etc) as peer:
            peer.greet()
            peer.open()
            peer.frame(kind, payload, stream=stream)
    _gone(plain, caller)


def test_metadata_of_64_kib_is_refused(plain: World, caller: Pod) -> None:
    """As its own stream's error."""
    with channel(plain.daemon.ads, Credentials.of(caller.etc)) as connection:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(connection)
        call = stub.StreamAggregatedResources(
            iter([discovery_pb2.DiscoveryRequest(type_url=URLS[CDS])]), metadata=[("x-big", "y" * 65536)]
        )
        with pytest.raises(grpc.RpcError) as error:
            next(iter(call))
    assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


def test_a_hundred_thousand_names_in_one_request(plain: World, caller: Pod) -> None:
    """More than any proxy has: the stream ends with the reason, or is answered; either way the daemon is well."""
    before = plain.daemon.figures()["rss_kb"]
    with Sotw(plain, caller) as client:
        client.send(EDS, [f"blue/no-such-service-{n}|8080" for n in range(100_000)])
        error = client.ended()
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert "names" in (error.details() or "")
    _gone(plain, caller)
    until(lambda: plain.daemon.figures()["rss_kb"] < 2 * before + 65536, "memory stays in bounds")


def test_a_request_over_the_limit_ends_its_stream(plain: World, caller: Pod) -> None:
    """Five megabytes in one message."""
    with Sotw(plain, caller) as client:
        client.send(EDS, ["x" * 5_000_000])
        assert client.ended().code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_packed_message_is_not_unpacked(plain: World, caller: Pod) -> None:
    """A few hundred kilobytes that are half a gigabyte: refused before that. Envoy packs nothing."""
    before = plain.daemon.figures()["rss_kb"]
    with channel(plain.daemon.ads, Credentials.of(caller.etc)) as connection:
        method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
        packed = discovery_pb2.DiscoveryRequest(response_nonce="a" * (512 << 20)).SerializeToString()
        call = connection.stream_stream(method)(iter([packed]), compression=grpc.Compression.Gzip)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert plain.daemon.figures()["rss_kb"] < before + (64 << 10)


def test_streams_that_are_opened_and_reset_hold_up_nobody(plain: World, caller: Pod) -> None:
    """Twenty thousand on one connection, as fast as they can be written; the limit of streams does not count them. All
    of it is forgotten after. A client that never reads, in a test below, then shows whether TLS has suffered."""
    with h2.Connection(plain.daemon.ads, caller.etc, window=2**31 - 1) as connection:
        connection.greet()
        for _ in range(20000):
            connection.frame(h2.RST_STREAM, struct.pack(">I", 8), stream=connection.open())
        with Sotw(plain, plain.pods["blue/shop-2"]) as client:
            assert client.fetch(CDS).resources
    _gone(plain, caller)


def test_ten_thousand_acknowledgements_in_a_row(plain: World, caller: Pod) -> None:
    """Each says the same again: none is answered, and the next change is."""
    with Sotw(plain, caller) as client:
        first = client.fetch(CDS)
        for _ in range(10_000):
            client.ack(first)
        client.silent()
        plain.service("blue", "more", HTTP_8080, {"app": "shop"})
        more = client.expect(CDS)
        assert "blue/more|8080" in more.resources
        client.ack(more)


def _lines(world: World, message: str) -> tuple[int, int]:
    """Lines of the log with this message, and how many more it says were held back."""
    found = [line for line in world.daemon.log().splitlines() if f'"message":"{message}"' in line]
    return len(found), sum(int(n) for line in found for n in re.findall(r'"suppressed":(\d+)', line))


def test_a_storm_of_refusals_does_not_fill_the_log(plain: World, caller: Pod) -> None:
    """What is held back is counted."""
    refusals = 5000
    with Sotw(plain, caller) as client:
        client.send(CDS)
        first = client.expect(CDS)
        for _ in range(refusals):
            client.nack(first)
        with pytest.raises(CommandError, match="refused"):
            plain.daemon.applied()
        plain.service("blue", "more", HTTP_8080, {"app": "shop"})
        client.ack(client.expect(CDS))
        lines, held = _lines(plain, "refused by the proxy")
        assert 0 < lines < refusals / 10
        assert lines + held <= refusals


def test_a_storm_of_bad_handshakes_does_not_fill_the_log(plain: World) -> None:
    """Anybody can make them."""
    handshakes = 1000
    host, _, port = plain.daemon.ads.rpartition(":")
    before, _ = _lines(plain, "gRPC")
    for _ in range(handshakes):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as peer:
            peer.sendall(b"\x15\x03\x01\x00\x02\x02\x28")
            while peer.recv(4096):
                pass
    lines, _ = _lines(plain, "gRPC")
    assert lines - before < handshakes / 4


def test_a_client_without_a_window_holds_up_nobody(plain: World, caller: Pod) -> None:
    """It never lets the server send: one message waits for it, the newest state takes its place, the others go on."""
    with h2.Connection(plain.daemon.ads, caller.etc, window=0) as stuck:
        stuck.greet()
        stuck.message(stuck.open(), _request())
        until(lambda: plain.proxy_known(caller), "the stream is open")
        before = plain.daemon.figures()["rss_kb"]
        with Sotw(plain, plain.pods["blue/shop-2"]) as good:
            good.fetch(CDS)
            for n in range(200):
                plain.service("blue", f"s{n % 20}", HTTP_8080, {"app": "shop", "n": str(n)})
                answer = good.expect(CDS) if n < 20 else None
                if answer:
                    good.ack(answer)
        with pytest.raises(CommandError, match="has not answered"):
            plain.daemon.applied(timeout=1)
        assert plain.daemon.figures()["rss_kb"] < before + 16384
    _gone(plain, caller)


def test_a_slow_reader_gets_it_all_in_its_own_time(plain: World, caller: Pod) -> None:
    """A kilobyte at a time; a client beside it is served meanwhile."""
    for n in range(100):
        plain.service("blue", f"wide-{n}", HTTP_8080, {"app": "shop"})
    plain.wait()
    with Sotw(plain, caller) as client:
        size = sum(cluster.ByteSize() for cluster in client.fetch(CDS).resources.values())
    assert size > 40_000
    with h2.Connection(plain.daemon.ads, caller.etc, window=1000) as slow:
        slow.greet()
        stream = slow.open()
        slow.message(stream, _request())
        got = 0
        while got < size:
            data = slow.tls.recv(65536)
            assert data, f"the connection ended after {got} bytes"
            got += len(data)
            more = struct.pack(">I", 1000)
            slow.frame(h2.WINDOW_UPDATE, more, stream=stream)
            slow.frame(h2.WINDOW_UPDATE, more)
            if got // 20_000 != (got - len(data)) // 20_000:
                with Sotw(plain, plain.pods["blue/shop-2"]) as client:
                    assert client.fetch(CDS).resources
    _gone(plain, caller)


def test_a_client_that_never_reads_holds_up_nobody(plain: World, caller: Pod) -> None:
    """Its socket fills; what is meant for it is not kept for it."""
    for n in range(300):
        plain.service("blue", f"wide-{n}", HTTP_8080, {"app": "shop"})
    plain.wait()
    with h2.Connection(plain.daemon.ads, caller.etc, window=2**31 - 1) as deaf:
        deaf.greet()
        deaf.frame(h2.WINDOW_UPDATE, struct.pack(">I", 2**30))
        deaf.message(deaf.open(), _request())
        until(lambda: plain.proxy_known(caller), "the stream is open")
        before = plain.daemon.figures()["rss_kb"]
        with Sotw(plain, plain.pods["blue/shop-2"]) as good:
            good.fetch(CDS)
            for n in range(60):
                plain.service("blue", f"turn-{n}", HTTP_8080, {"app": "shop"})
                good.ack(good.expect(CDS))
        assert plain.daemon.figures()["rss_kb"] < before + 32768
    _gone(plain, caller)


def _storm(world: World, pod: Pod, batches: int) -> None:
    """So many times 250 connections at once, each with a stream, closed together; memory, threads and descriptors are
    as before when it is quiet again."""
    figures, descriptors = world.daemon.figures(), len(os.listdir(f"/proc/{world.daemon.pid}/fd"))
    for _ in range(batches):
        batch = []
        for _ in range(250):
            peer = h2.Connection(world.daemon.ads, pod.etc)
            batch.append(peer)
            peer.greet()  # at once: the server waits five seconds for it
            peer.message(peer.open(), _request())
        for peer in batch:
            peer.tls.close()
    _gone(world, pod)
    limit = 1.5 * figures["rss_kb"] + 8192
    until(lambda: world.daemon.figures()["rss_kb"] < limit, f"no more than {limit:.0f} kB are held", 60)
    assert world.daemon.figures()["threads"] <= figures["threads"] + 8  # pools start their threads when first used
    until(lambda: len(os.listdir(f"/proc/{world.daemon.pid}/fd")) <= descriptors + 4, "descriptors are closed")


def test_a_thousand_connections_leave_nothing_behind(plain: World, caller: Pod) -> None:
    """Their memory goes back to the system."""
    _storm(plain, caller, 4)


@pytest.mark.slow
def test_ten_thousand_connections_leave_nothing_behind(plain: World, caller: Pod) -> None:
    """Nor do ten times as many leave more."""
    _storm(plain, caller, 40)


@pytest.mark.slow
@pytest.mark.mesh
def test_a_sidecar_that_does_not_answer_is_given_up(w1: World) -> None:
    """Stopped, not ended: no packet says that it is gone. Pings find out, and when it runs again it is back."""
    caller = w1.pods["red/caller-1"]
    w1.wait()
    caller.envoy_process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: caller.uuid not in str(w1.status()["proxies"]), "the stream is given up", 150)
    finally:
        caller.envoy_process.send_signal(signal.SIGCONT)
    until(lambda: caller.uuid in str(w1.status()["proxies"]), "it is back", 60)
    w1.wait()
