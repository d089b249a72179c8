"""A name server for the pods of a run: A records of cluster names, in the few lines that this needs.

Who asks decides what is answered: each pod sees the names of its own world. AAAA and other types of a known name get an
empty answer, an unknown name gets NXDOMAIN.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence

Lookup = Callable[[str, str], "Sequence[str] | None"]  # (client address, name) -> addresses, None for an unknown name

_TYPE_A, _CLASS_IN, _NXDOMAIN = 1, 1, 3
_TTL_S = 1


def parse_query(packet: bytes) -> tuple[int, str, int, bytes]:
    """(id, name in lower case, type, the question's bytes) of a query with one question. ValueError for all else."""
    try:
        number, flags, questions = struct.unpack_from("!HHH", packet)
        if flags & 0x8000 or questions != 1:
            raise ValueError("not a query with one question")
        labels, at = [], 12
        while packet[at]:
            length = packet[at]
            if length > 63:
                raise ValueError("a compressed name in a question")
            labels.append(packet[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        kind, _ = struct.unpack_from("!HH", packet, at + 1)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"malformed: {error}") from None
    return number, ".".join(labels), kind, packet[12 : at + 5]


def answer(packet: bytes, client: str, lookup: Lookup) -> bytes:
    """The response to a query."""
    number, name, kind, question = parse_query(packet)
    addresses = lookup(client, name)
    code = _NXDOMAIN if addresses is None else 0
    records = [a for a in addresses or () if kind == _TYPE_A]
    head = struct.pack("!HHHHHH", number, 0x8580 | code, 1, len(records), 0, 0)
    body = b"".join(
        struct.pack("!HHHIH4s", 0xC00C, _TYPE_A, _CLASS_IN, _TTL_S, 4, socket.inet_aton(a)) for a in records
    )
    return head + question + body


class Server:
    """Answers on an address until it is closed; in a thread."""

    def __init__(self, address: str, lookup: Lookup, port: int = 53) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind((address, port))
        self._lookup = lookup
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="dns", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            packet, sender = self._socket.recvfrom(1500)
            if self._closing:
                return
            with contextlib.suppress(ValueError, OSError):
                self._socket.sendto(answer(packet, sender[0], self._lookup), sender)

    def close(self) -> None:
        """Stops the thread and frees the port."""
        self._closing = True
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
