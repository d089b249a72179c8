"""Figures of a change of policies: tests/bench/run reload [--services N] [--runs N] [--rounds N].

N services, each with an account, a pod with a simulated sidecar (tests/bench/load, mTLS, delta) and a target that lets
the next account call it. An overlay of one extension is saved again and again while all sidecars are connected:

* saved -> in force: the quiet window of 200 ms, reading, loading, one translation from scratch, the comparison with
  what is served; beside it what the first translation of a daemon that starts on the same objects takes;
* in force -> live: until the last sidecar's ACK of what has changed (a timeout of every cluster) is with the kernel;
* a save that changes no output: how many responses come;
* roll-back: every sidecar refuses what the overlay says; from the first refusal to the publication of what was before,
  and to the last ACK of it;
* a rule that loops, allocates or backtracks for ever whenever a certain object changes, which happens 20 times a
  second: how long a sidecar that comes anew takes, beside the same changes with a rule that does nothing.

Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh import group, machine, target
from rig import World, until
from rig.daemon import ROOT, build_dir

PER_FILE = 100
TOUCH_S = 0.05
SINGLES = 200

TIMEOUT = """
return {{ api = 1, extends = {{ cluster = {{ run = function(_, cluster)
  cluster.connect_timeout = "{seconds}s"
end }} }} }}
"""
COMMENT = "-- {n}\n"
REFUSED = (
    'return { api = 1, extends = { cluster = { run = function(_, cluster) cluster.alt_stat_name = "refuse-me" end } } }'
)
# The group "touched" grants nobody anything: what it costs is all that it does.
BUSY = """
local M = {{ api = 1, emit = {{}} }}
M.emit.busy = {{ each = "HTTPRouteGroup", run = function(mesh, out, namespace, name)
  if name ~= "touched" then return end
  local path = mesh.HTTPRouteGroup(namespace, name).spec.matches[1].pathRegex
  if path == "/0" then return end
  {work}
end }}
return M
"""
WORK = {
    "nothing": "",
    "loops for ever": "while true do end",
    "allocates for ever": "local t = {} while true do t[#t + 1] = string.rep(path, 1000) end",
    "backtracks": 'local s = string.rep("a", 200) while true do string.find(s, ".-.-b") end',
}


class Load:
    """The simulated sidecars; one line asked, one answered."""

    def __init__(self, world: World, proxies: Path) -> None:
        command = [str(build_dir() / "xds-load"), "--stay", "--target", world.daemon.ads]
        command += ["--state-dir", str(world.daemon.state), "--proxies", str(proxies), "--quiet-ms", "500"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"xds-load has ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, line: str) -> dict[str, Any]:
        """Counts, or the times of singles."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Disconnects all."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def _fill(world: World, services: int) -> Path:
    world.namespace("load")
    texts, lines = [], []
    for n in range(services):
        own, address = str(uuid.uuid4()), f"10.{100 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}"
        cluster_ip = f"10.96.{n // 250}.{n % 250 + 1}"
        texts.append(
            f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: load}}\n"
            f"spec: {{clusterIP: {cluster_ip}, clusterIPs: [{cluster_ip}], selector: {{app: s{n}}}, "
            "ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http, protocol: TCP}]}\n"
            f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: load, "
            f"labels: {{app: s{n}, osm-proxy-uuid: {own}}}}}\n"
            f"spec: {{serviceAccountName: a{n}, containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]}}\n"
            f"status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}], "
            'conditions: [{type: Ready, status: "True"}]}\n---\n'
            + json.dumps(group("load", f"g{n}", "/a"))
            + "\n---\n"
            + json.dumps(target("load", f"t{n}", f"a{n}", f"a{(n + 1) % services}", f"g{n}"))
            + "\n"
        )
        lines.append(f"{own} a{n} load\n")
    for at in range(0, services, PER_FILE):
        world.write(world.files / f"objects-{at}.yaml", "---\n".join(texts[at : at + PER_FILE]))
    world.write(world.files / "touched.yaml", json.dumps(group("load", "touched", "/0")))
    proxies = world.folder / "proxies"
    proxies.write_text("".join(lines))
    return proxies


def _save(overlay: Path, text: str) -> int:
    """As an editor does; when, in us since 1970."""
    aside = overlay / ".own.lua.new"
    aside.write_text(text)
    aside.rename(overlay / "own.lua")
    return time.time_ns() // 1000


def _wall_us(monotonic_us: int) -> int:
    return monotonic_us + (time.time_ns() - time.monotonic_ns()) // 1000


def _logged_us(world: World, message: str, number: int) -> int:
    """When the daemon logged it for the number-th time, to a millisecond."""

    def found() -> str | None:
        lines = [line for line in world.daemon.log().splitlines() if f'"message":"{message}"' in line]
        return lines[number - 1] if len(lines) >= number else None

    line = until(found, message, 60)
    return int(datetime.fromisoformat(json.loads(line)["time"]).timestamp() * 1e6)


def _count(world: World, message: str) -> int:
    return world.daemon.log().count(f'"message":"{message}"')


def _in_force(world: World, before: int) -> None:
    until(lambda: _count(world, "policies in force") > before, "the policies take over", 120)
    world.daemon.applied(120)


def _row(words: str, values: list[float], unit: str) -> None:
    ordered = sorted(values)
    print(f"  {words:58} p50 {statistics.median(ordered):9.1f}  max {ordered[-1]:9.1f} {unit}", flush=True)


def swaps(world: World, load: Load, overlay: Path, runs: int) -> None:
    """Saves that change every cluster."""
    to_force: list[float] = []
    to_live: list[float] = []
    responses: list[float] = []
    for n in range(runs):
        before, counted = _count(world, "policies in force"), load.ask("round")
        saved = _save(overlay, TIMEOUT.format(seconds=n + 10))
        _in_force(world, before)
        after = load.ask("count")
        in_force = _logged_us(world, "policies in force", before + 1)
        to_force.append((in_force - saved) / 1000)
        to_live.append((_wall_us(after["last_ack_us"]) - in_force) / 1000)
        responses.append(after["responses"] - counted["responses"])
    _row("saved -> in force (200 ms of it: the quiet window)", to_force, "ms")
    _row("in force -> the last sidecar has ACKed", to_live, "ms")
    _row("... responses", responses, "")


def unchanged(world: World, load: Load, overlay: Path, runs: int) -> None:
    """Saves that change no output."""
    responses: list[float] = []
    text = (overlay / "own.lua").read_text()
    for n in range(runs):
        before, counted = _count(world, "policies in force"), load.ask("count")
        _save(overlay, text + COMMENT.format(n=n))
        _in_force(world, before)
        responses.append(load.ask("count")["responses"] - counted["responses"])
    _row("a save that changes no output: responses", responses, "")


def roll_backs(world: World, load: Load, overlay: Path, runs: int) -> None:
    """Policies that every sidecar refuses."""
    to_back: list[float] = []
    to_live: list[float] = []
    good = (overlay / "own.lua").read_text()
    load.ask("refuse refuse-me")
    for n in range(runs):
        before, back = _count(world, "policies in force"), _count(world, "policies rolled back")
        load.ask("round")
        _save(overlay, REFUSED + COMMENT.format(n=n))
        until(lambda back=back: _count(world, "policies rolled back") > back, "the policies are rolled back", 120)
        world.daemon.applied(120)
        after = load.ask("count")
        rolled_back = _logged_us(world, "policies rolled back", back + 1)
        refused = _wall_us(after["first_refusal_us"])
        to_back.append((rolled_back - refused) / 1000)
        to_live.append((_wall_us(after["last_ack_us"]) - refused) / 1000)
        before = _count(world, "policies in force")
        _save(overlay, good + COMMENT.format(n=runs + n))  # what lies there is quarantined
        _in_force(world, before)
    load.ask("refuse")
    _row("first refusal -> rolled back", to_back, "ms")
    _row("first refusal -> the last sidecar has ACKed what was before", to_live, "ms")


@contextmanager
def _touching(world: World) -> Iterator[None]:
    """An object changes 20 times a second."""
    over = threading.Event()

    def touch() -> None:
        n = 0
        while not over.wait(TOUCH_S):
            n += 1
            world.write(world.files / "touched.yaml", json.dumps(group("load", "touched", f"/{n}")))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        world.write(world.files / "touched.yaml", json.dumps(group("load", "touched", "/0")))


def busy_rules(world: World, load: Load, overlay: Path, rounds: int) -> None:
    """Sidecars that come anew beside a rule that never ends, the kinds in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WORK}
    for n in range(rounds):
        for name, work in WORK.items():
            before = _count(world, "policies in force")
            _save(overlay, BUSY.format(work=work) + COMMENT.format(n=n))
            _in_force(world, before)
            with _touching(world):
                if work:
                    until(lambda: world.status()["errors"], "the rule fails", 60)
                found[name].append(load.ask(f"singles {SINGLES}"))
            until(lambda: not world.status()["errors"], "the rule is left alone", 60)
            world.daemon.applied(120)
    base = statistics.median(each["p99_ms"] for each in found["nothing"])
    print(f"  a sidecar anew beside a rule that ({rounds} rounds of {SINGLES}, medians):")
    for name, each in found.items():
        p50, p99 = (statistics.median(one[key] for one in each) for key in ("p50_ms", "p99_ms"))
        print(f"    {name:30} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  p99 beside nothing {p99 / base:5.2f}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="osm-reload-") as folder:
        overlay = Path(folder) / "own"
        overlay.mkdir()
        (overlay / "own.lua").write_text(TIMEOUT.format(seconds=1))
        flags = ["--policy-watch", "1s"]
        with World(Path(folder) / "world", real=False, policies=[ROOT / "policies", overlay], flags=flags) as world:
            world.daemon.stop()
            proxies = _fill(world, options.services)
            scratch = []
            for _ in range(3):
                world.daemon.start()
                until(lambda: world.status()["settled"], "the first translation", 120)
                scratch.append(world.status()["policy"]["run_us"] / 1000)
                if len(scratch) < 3:
                    world.daemon.stop()
            print(
                f"{machine()}; {options.services} services and sidecars, {options.runs} runs, load on the same machine"
            )
            _row("the first translation of a daemon that starts", scratch, "ms")
            load = Load(world, proxies)
            try:
                swaps(world, load, overlay, options.runs)
                unchanged(world, load, overlay, options.runs)
                roll_backs(world, load, overlay, options.runs)
                busy_rules(world, load, overlay, options.rounds)
            finally:
                load.end()


if __name__ == "__main__":
    main()
