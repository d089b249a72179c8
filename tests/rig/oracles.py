"""What every data-plane case asserts: nothing was refused anywhere (`o_clean`), and a blocked call has the right
face (`o_blocked`)."""

from __future__ import annotations

from typing import Any

from .pod import Pod
from .waiting import holds, until
from .world import World

# How a blocked call may look, by the reason why it is blocked.
BLOCKED: dict[str, tuple[str, ...]] = {
    "no outbound": ("exit 7",),  # no outbound listener at all
    "no chain": ("exit 7", "exit 52", "exit 56"),  # other chains exist, none for this destination
    "no route": ("404",),  # granted to nobody
    "not granted": ("403",),  # granted to somebody else
    "unmeshed": ("exit 56", "exit 35"),  # plaintext on a port that wants the mesh's TLS
    "no backend": ("503",),
}
RBAC_BODY = "RBAC: access denied"

_WATCHED = r"(update_rejected|listener_create_failure|control_plane\.connected_state)$"


def refusals(pod: Pod) -> list[str]:
    """What this Envoy has against its configuration; empty when nothing."""
    stats = pod.envoy.stats(_WATCHED)
    found = [
        f"{pod}: {name} = {value}" for name, value in stats.items() if value and not name.endswith("connected_state")
    ]
    if stats.get("control_plane.connected_state") != 1:
        found.append(f"{pod}: not connected to the control plane")
    if "error_state" in pod.envoy.get("/config_dump"):
        found.append(f"{pod}: error_state in its configuration")
    return found


def o_clean(world: World) -> None:
    """No Envoy of the run has refused anything, all are connected, the daemon lives."""
    assert world.daemon.alive(), f"osm-controller has ended:\n{world.daemon.log()[-4000:]}"
    found = [line for pod in world.sidecars() for line in refusals(pod)]
    assert not found, "\n".join(found)


def o_blocked(pod: Pod, url: str, why: str, times: int = 3, **options: Any) -> None:
    """The call is blocked, with the face that the reason gives, several times in a row."""
    for _ in range(times):
        reply = pod.get(url, **options)
        assert reply.face in BLOCKED[why], f"{pod} {url}: {reply}; blocked by '{why}' means {' or '.join(BLOCKED[why])}"
        if why == "not granted":
            assert RBAC_BODY in reply.body, f"{pod} {url}: a 403 that is not from RBAC: {reply.body!r}"


def o_allowed(pod: Pod, url: str, times: int = 5, **options: Any) -> None:
    """The call gets a 200 within the budget, and then every time."""
    until(lambda: pod.get(url, **options).face == "200", f"{pod} gets 200 from {url}")
    holds(lambda: pod.get(url, **options).face == "200", f"{pod} gets 200 from {url}", times)
