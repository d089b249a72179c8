"""The network of a run: one bridge, and a pod's own namespace behind a veth pair on it.

Namespaces have no names: each is held by its pod's first process, which ends with the rig. A socket belongs to the
namespace in which it was made, so the rig can talk from inside any pod without a process there (`Netns.socket`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from . import isolate

BRIDGE = "osmbr0"
GATEWAY = "10.244.0.1"
GATEWAY_MAC = "02:00:0a:f4:00:01"
POD_NETWORK = ipaddress.ip_network("10.244.0.0/16")
SERVICE_NETWORK = ipaddress.ip_network("10.96.0.0/16")

ENVOY_UID = 1500
APP_UID = 1001


def run(*command: str, stdin: str | None = None) -> str:
    """Runs a command to its end; its standard output. Raises with what it said when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Netns:
    """The network and mount namespace of a pod, held by its first process."""

    def __init__(self, resolv_conf: Path) -> None:
        # The first process waits for the end of its standard input, so that it cannot outlive the rig.
        script = 'ip link set lo up && mount --bind "$1" /etc/resolv.conf && echo up && exec cat'
        self._first = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(resolv_conf)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._first.stdout is not None
        self._fd = -1

    def ready(self) -> None:
        """Waits until the namespaces are there."""
        assert self._first.stdout is not None and self._first.stderr is not None
        if self._first.stdout.readline() != "up\n":
            raise RuntimeError(f"no namespace for a pod: {self._first.stderr.read().strip()}")
        self._fd = os.open(f"/proc/{self._first.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def pid(self) -> int:
        """The first process, in whose namespaces others can be started."""
        return self._first.pid

    def command(self, uid: int, *command: str) -> list[str]:
        """The command line that runs a command in here under a uid; exec only, so its process id is the command's."""
        enter = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--"]
        drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"] if uid else []
        return [*enter, *drop, *command]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread works in this network meanwhile."""
        home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            isolate.setns(self._fd, isolate.CLONE_NEWNET)
            try:
                yield
            finally:
                isolate.setns(home, isolate.CLONE_NEWNET)
        finally:
            os.close(home)

    def socket(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this network, as if a process of the pod (not the sidecar's uid) had made it."""
        with self.entered():
            return socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        """Ends the first process; with the last process of the pod the namespaces end too."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._first.kill()
        self._first.wait()
        for stream in (self._first.stdin, self._first.stdout, self._first.stderr):
            if stream:
                stream.close()


class Addresses:
    """Who has which address."""

    def __init__(self) -> None:
        self._taken: set[str] = {GATEWAY}
        self._lock = threading.Lock()

    def pod(self, wanted: str | None = None) -> str:
        """A free pod address, or the wanted one."""
        return self._take("10.244.100.0/22", wanted)

    def service(self, wanted: str | None = None) -> str:
        """A free ClusterIP, or the wanted one. Nobody owns it: sidecars see it as the original destination."""
        return self._take("10.96.100.0/22", wanted)

    def _take(self, network: str, wanted: str | None) -> str:
        with self._lock:
            address = wanted or next(str(h) for h in ipaddress.ip_network(network).hosts() if str(h) not in self._taken)
            if address in self._taken:
                raise ValueError(f"address {address} is taken")
            self._taken.add(address)
            return address

    def release(self, address: str) -> None:
        """Gives an address back."""
        self._taken.discard(address)


def loopback_up() -> None:
    """A new network namespace has its loopback down."""
    run("ip", "link", "set", "lo", "up")


class Network:
    """The bridge of this network namespace. Its MAC address is given: a bridge without one takes the lowest of its
    ports, so that it would change as pods come and go, under neighbours that have learnt the old one."""

    def __init__(self) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this namespace
        run(
            "ip",
            "-batch",
            "-",
            stdin=f"""
link set lo up
link add {BRIDGE} address {GATEWAY_MAC} type bridge forward_delay 0
addr add {GATEWAY}/{POD_NETWORK.prefixlen} dev {BRIDGE}
link set {BRIDGE} up
route add unreachable {SERVICE_NETWORK}
""",
        )
        self._numbers = itertools.count(1)

    def plug(self, netns: Netns, address: str) -> None:
        """Connects a pod's namespace to the bridge under an address. Its MAC address follows from it: an address
        that is used again must not be looked for at its last owner's. Nobody answers at a Service's address, and an
        Envoy that connects to one is told so at once: what a router answers can come while connect() still holds the
        socket, and counts only with the next SYN then, a second later."""
        mac = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
        name = f"veth{next(self._numbers)}"
        run(
            "ip",
            "-batch",
            "-",
            stdin=f"""
link add {name} type veth peer name eth0 address {mac} netns {netns.pid}
link set {name} master {BRIDGE} up
""",
        )
        inside = f"""
addr add {address}/{POD_NETWORK.prefixlen} dev eth0
link set eth0 up
route add default via {GATEWAY}
rule add to {SERVICE_NETWORK} uidrange {ENVOY_UID}-{ENVOY_UID} type unreachable
"""
        run(*netns.command(0, "ip", "-batch", "-"), stdin=inside)
