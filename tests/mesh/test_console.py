"""The debug console of a real daemon: who may do what, that eval touches nothing, that no key leaves, that a busy
policy thread holds up nobody, and `osm debug` on a terminal and on a pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import SHIPPED, furnish, generations, reload, write
from console import Console, Refused, Terminal, osm_debug
from rig import World, free_port, until
from rig.daemon import build_dir
from rig.objects import grant_all, split
from worlds import tracked

TOKEN = "a-token-that-nobody-guesses-0123456789"


class Consoles(World):
    """A world whose daemon has debug consoles."""

    def __init__(self, folder: Path, *policies: Path) -> None:
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.token_file = token
        self.debug = folder / "own" / "debug.sock"
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        flags = [
            f"--debug-socket={self.debug}",
            f"--debug-console={self.address}",
            f"--debug-token-file={token}",
        ]
        super().__init__(folder / "world", real=False, policies=[SHIPPED, *policies], flags=flags)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overlay")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, overlay: Path) -> Iterator[Consoles]:
    with tracked(Consoles(tmp_path_factory.mktemp("console"), overlay)) as world:
        furnish(world)
        for each in grant_all("blue", "shop", "red/caller"):
            world.apply(each)
        world.wait()
        yield world


@pytest.fixture
def looking(world: Consoles) -> Iterator[Console]:
    """A session that may only look."""
    with Console(world.debug) as console:
        yield console


@pytest.fixture
def operating(world: Consoles) -> Iterator[Console]:
    """A session of the control socket."""
    with Console(world.daemon.socket) as console:
        yield console


def is_sanitized() -> bool:
    """Whether the programs are built with a sanitizer."""
    libraries = subprocess.run(["ldd", build_dir() / "osm-controller"], capture_output=True, text=True, check=True)
    return "libasan" in libraries.stdout


def audit(world: World) -> list[dict[str, Any]]:
    """The records of commands."""
    records = [json.loads(line) for line in world.daemon.log().splitlines() if line.startswith("{")]
    return [record for record in records if record["component"] == "audit"]


# --- what it says ---


def test_a_person_finds_out_who_serves_what_and_why(looking: Console) -> None:
    """From the proxies to a resource, to the line and the objects behind it; without Lua."""
    snapshot = looking.ask("snapshot", namespace="red")
    assert [each["pod"] for each in snapshot["proxies"]] == ["red/caller", "red/caller2"]
    assert snapshot["generation"] >= 1 and snapshot["settled"]
    served = looking.ask("xds.show", node="red/caller", type="CDS")
    names = [each["name"] for each in served["CDS"]]
    assert list(served) == ["CDS"] and "blue/shop|8080" in names
    why = looking.ask("xds.why", resource="blue/shop|8080")
    assert why["type"] == "CDS" and why["items"][0]["place"].startswith("envoy/clusters.lua:")
    text = looking.text("xds why blue/shop|8080")
    assert text.startswith(f"CDS blue/shop|8080  gen {why['generation']} ({why['digest'][:6]})\n")
    assert "<- Service blue/shop" in text
    assert looking.text("xds nodes") == "nodes: none\n"
    assert "fingerprint: " in looking.text("ca status")
    assert looking.ask("mem")["resident_bytes"] > 1 << 20
    assert {"type": "pipe", "active": 3, "idle": 0}.keys() == looking.ask("handles")["handles"][0].keys()
    assert looking.ask("policy.log")["log"][-1]["state"] == "active"


def test_log_levels_change_while_it_runs(world: Consoles, operating: Console) -> None:
    """One topic, or all."""
    before = {each["topic"]: each["level"] for each in operating.ask("log")["topics"]}
    assert before["source"] == "info"
    operating.ask("log.set", topic="source", level="error")
    levels = {each["topic"]: each["level"] for each in operating.ask("log")["topics"]}
    assert levels == before | {"source": "error"}
    operating.ask("log.set", topic="all", level="info")
    with pytest.raises(Refused, match="no such topic; `log` lists them"):
        operating.ask("log.set", topic="nothing", level="info")
    with pytest.raises(Refused, match="OSM_EINVAL: level: expected one of"):
        operating.ask("log.set", topic="all", level="loud")


def test_a_trace_shows_one_evaluation(looking: Console) -> None:
    """With its reads, what the memo knew, and the answer."""
    first = looking.ask("trace", name="backends", keys=["blue", "shop"])
    run = first["run"]
    assert run["name"] == "rule backends(blue, shop)" and run["how"] == "ran"
    assert run["us"] >= run["own_us"] > 0 and run["reads"]
    assert {each["how"] for each in run["reads"]} <= {"read", "ran", "memo"}
    assert first["answer"]["value"] == looking.ask("mesh", name="backends", keys=["blue", "shop"])["value"]
    cold = looking.ask("trace", name="grants", keys=["blue", "shop"])
    known = looking.ask("trace", name="grants", keys=["blue", "shop"])
    assert known["answer"] == cold["answer"]
    assert [each["how"] for each in cold["run"]["reads"]] == ["read", "ran"]
    assert [each["how"] for each in known["run"]["reads"]] == ["read", "memo"]
    text = looking.text("trace backends blue shop")
    assert text.splitlines()[0].split() == ["EVALUATED", "HOW", "US", "OWN", "US", "INSTRUCTIONS"]
    with pytest.raises(Refused, match="do you mean backends"):
        looking.ask("trace", name="backend", keys=["blue", "shop"])


def test_a_watch_tells_changes_until_the_next_line(world: Consoles, looking: Console) -> None:
    """Of the answer only; what leaves it as it is says nothing."""
    watch = looking.send(cmd="watch", args={"code": 'mesh.backends("blue", "shop")'})
    first = looking.hear()
    assert first == {"id": watch, "event": {"text": first["event"]["text"], "value": first["event"]["value"]}}
    with world.scratch():
        world.apply(split("blue", "s", "shop", shop=30, shop_v2=70))
        second = looking.hear()["event"]
        assert [each["weight"] for each in second["value"]] == [30, 70]
        world.service("blue", "unrelated", [{"port": 1, "name": "tcp"}], None)
        world.wait()
    third = looking.hear()["event"]  # the split is gone; of the other Service nothing was said
    assert third == first["event"]
    stop = looking.send(cmd="stop")
    assert looking.hear() == {"id": watch, "ok": True, "data": {}}
    assert looking.hear() == {"id": stop, "ok": True, "data": {}}


# --- who may do what ---


def test_every_command_that_changes_something_is_refused_to_view(world: Consoles, looking: Console) -> None:
    """Each of the registry: on a socket that may only look, and after a session has lowered its role."""
    commands = {each["name"]: each["role"] for each in looking.ask("help")["commands"]}
    operate = sorted(name for name, role in commands.items() if role == "operate")
    assert {"policy.reload", "policy.activate", "policy.rollback", "proxy.bootstrap", "ca.reload", "log.set"} <= {
        *operate
    }
    assert {"status", "xds.show", "eval", "policy.why", "wait"} <= commands.keys() - {*operate}
    with Console(world.daemon.socket) as lowered:
        assert lowered.ask("role") == {"role": "operate", "socket": "operate"}
        assert lowered.ask("role", role="view") == {"role": "view", "socket": "operate"}
        before = generations(world)
        for session in (looking, lowered):
            for name in operate:
                with pytest.raises(Refused, match=f"OSM_EACCES: refused: {name} needs the role operate"):
                    session.ask(name)
            with pytest.raises(Refused, match="OSM_EACCES"):
                session.ask("role", role="operate")
        assert generations(world) == before


def test_every_command_is_logged(world: Consoles, looking: Console) -> None:
    """Who, in which role, what, how it went; of a secret command without its arguments."""
    looking.ask("mesh", name="backends", keys=["blue", "shop"])
    with pytest.raises(Refused):
        looking.ask("policy.rollback")
    world.daemon.osm("proxy", "bootstrap", "red/caller", "--out", str(world.folder / "bootstrap"))
    records = audit(world)[-3:]
    assert [(each["cmd"], each["result"], each["role"]) for each in records] == [
        ("mesh", "ok", "view"),
        ("policy.rollback", "OSM_EACCES", "view"),
        ("proxy.bootstrap", "ok", "operate"),
    ]
    assert json.loads(records[0]["args"]) == {"name": "backends", "keys": ["blue", "shop"]}
    assert records[2]["args"] is None
    assert {each["uid"] for each in records} == {os.getuid()}
    assert records[0]["pid"] == os.getpid()
    assert all(each["duration_ms"] >= 0 for each in records)


def test_the_socket_is_its_owners_alone(world: Consoles) -> None:
    """0600 in a directory of 0700; a directory that is open to others ends the start."""
    assert stat.S_IMODE(world.debug.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.debug.parent.stat().st_mode) == 0o700
    shared = world.folder / "shared"
    shared.mkdir(mode=0o755)
    command = [*world.daemon.command, f"--state-dir={world.folder / 'other'}", f"--debug-socket={shared / 's'}"]
    command += [f"--control-socket={world.folder / 'c'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "must be this user's alone (chown, chmod 700)" in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--debug-console=127.0.0.1:1"], "needs --debug-token-file"),
        (["--debug-console=0.0.0.0:15300", "--debug-token-file={token}"], "loopback addresses only"),
        (["--debug-console=127.0.0.1:0", "--debug-token-file=/nowhere"], "/nowhere: No such file"),
        (["--debug-role=root"], "expected view or operate"),
    ],
    ids=["no token", "not loopback", "no file", "no role"],
)
def test_a_console_that_would_be_open_is_refused(world: Consoles, flags: list[str], says: str) -> None:
    """With the reason, before anything listens."""
    folder = world.folder / "refused"
    command = [str(build_dir() / "osm-controller"), f"--source=dir:{world.files}", f"--state-dir={folder}"]
    command += [f"--policies={SHIPPED}", f"--ads-listen=127.0.0.1:{free_port('127.0.0.1')}"]
    command += [each.format(token=world.token_file) for each in flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0 and says in done.stderr
    shutil.rmtree(folder, ignore_errors=True)


def test_tcp_asks_for_the_token(world: Consoles, tmp_path: Path) -> None:
    """osm debug shows it; another one is refused, and both are logged."""
    flags = ("--console", world.address, "--token-file")
    done = osm_debug(world.debug, "role", flags=(*flags, str(world.token_file)))
    assert (done.returncode, done.stdout) == (0, "role: view\nsocket: view\n")
    wrong = tmp_path / "token"
    wrong.write_text("a-token-that-somebody-guesses-012345678\n")
    done = osm_debug(world.debug, "role", flags=(*flags, str(wrong)))
    assert done.returncode == 1 and "this is not it" in done.stderr
    messages = [each["message"] for each in audit(world)]
    assert "session refused: wrong token" in messages
    assert "the debug console listens on TCP" in world.daemon.log()


def test_the_fifth_session_is_told_so(world: Consoles) -> None:
    """And the four go on."""
    sessions = [Console(world.debug) for _ in range(4)]
    for session in sessions:
        session.ask("role")
    with Console(world.debug) as fifth:
        assert "too many sessions" in fifth.hear()["err"]["msg"]
        assert fifth.hear() == {}
    for session in sessions:
        assert session.ask("role")["role"] == "view"
        session.close()


def test_no_output_of_any_command_holds_a_key_or_the_token(world: Consoles, operating: Console) -> None:
    """All commands of the registry, as JSON and as text; but the one whose purpose it is (proxy bootstrap)."""
    given: dict[str, Any] = {
        "pod": "red/caller",
        "node": "red/caller",
        "resource": "blue/shop|8080",
        "name": "backends",
        "keys": ["blue", "shop"],
        "code": "pp(mesh) pp(mesh.Service('blue', 'shop')) return mesh.accounts and mesh.accounts()",
        "line": "xds show ",
        "topic": "core",
        "level": "info",
        "dirs": [str(SHIPPED)],
    }
    said, asked = [], []
    for command in operating.ask("help")["commands"]:
        if command["name"] in ("proxy.bootstrap", "quit", "watch"):
            continue
        args = {each["name"]: given.get(each["name"], "x") for each in command["args"] if each["required"]}
        for render in (False, True):
            number = operating.send(cmd=command["name"], args=args, render=render)
            while (message := operating.hear()).get("id") != number:
                pass
            said.append(json.dumps(message))
        asked.append(command["name"])
    assert {"status", "xds.show", "proxy.config", "ca.status", "eval", "policy.why"} <= {*asked}
    key = (world.daemon.state / "private.key").read_text()
    body = "".join(key.splitlines()[1:-1])
    assert len(body) > 100
    for text in [*said, world.daemon.log()]:
        assert "PRIVATE KEY" not in text and TOKEN not in text
        flat = text.replace("\\n", "").replace("\n", "")
        assert body[:60] not in flat and base64.b64encode(key.encode()).decode()[:60] not in flat
    leaves = operating.ask("xds.show", node="red/caller", type="SDS")
    assert "private_key" not in json.dumps(leaves) or "[redacted]" in json.dumps(leaves)


# --- eval ---


def test_eval_cannot_change_what_is_served(world: Consoles, looking: Console, operating: Console) -> None:
    """Whatever a session does to what mesh answers stays in its copy, and goes with it."""
    before = looking.ask("xds.show", node="red/caller")
    errors = world.daemon.status()["errors"]
    with Console(world.debug) as vandal:
        vandal.eval('local b = mesh.backends("blue", "shop"); b[1].weight = 7; b[2] = { weight = 9 }')
        vandal.eval('mesh.Service("blue", "shop").spec.ports = nil')
        vandal.eval("for _, g in ipairs(mesh.grants('blue', 'shop')) do g.sources = { 'red/caller2' } end")
        vandal.eval("local mesh = nil")
        assert "7" in looking.eval("7")
        with pytest.raises(Refused, match="read-only"):
            operating.eval("mesh.backends = nil")
        assert looking.eval('mesh.backends("blue", "shop")[1].weight') == "100\n"
        world.service("blue", "another", [{"port": 1, "name": "tcp"}], {"app": "shop"})
        world.wait()
        world.delete("Service", "blue", "another")
        world.wait()
    assert looking.ask("xds.show", node="red/caller") == before
    assert world.daemon.status()["errors"] == errors
    with Console(world.debug) as later:
        assert later.eval("b, mesh ~= nil") == "nil\ntrue\n"


def test_a_rule_is_tried_before_it_is_live(world: Consoles, looking: Console) -> None:
    """In the copy, with what it would change for whom; nobody is served it."""
    before = looking.ask("xds.show", node="red/caller")
    nothing = looking.ask("eval", code="diff()")["diff"]
    assert not nothing["differs"] and nothing["proxies"] == 3
    code = """old = override("grants", function(mesh, ns, account)
      local grants = {}
      for _, grant in ipairs(old(mesh, ns, account)) do grants[#grants + 1] = grant end
      if account == "shop" then
        grants[#grants + 1] = { name = "tried", sources = { "red/caller2" },
          matches = { { path = ".*", methods = { "*" }, headers = {} } } }
      end
      return grants
    end)"""
    assert looking.eval(code) == ""
    diff = looking.ask("eval", code="diff()")["diff"]
    changed = {tuple(group["proxies"]): [diff["changes"][i] for i in group["changes"]] for group in diff["groups"]}
    assert changed.keys() == {("red/caller2",), ("blue/shop",)}
    told = {(each["type"], each["change"], each["name"]) for each in changed["red/caller2",]}
    assert ("CDS", "added", "blue/shop|8080") in told
    assert any("caller2" in guard for guard in diff["guards"])
    text = looking.text("eval diff()")
    assert "1 proxy: red/caller2\n" in text and "  + CDS blue/shop|8080\n" in text
    assert "lets in who is denied today: " in text
    assert looking.eval('override("grants", old)') != ""
    assert looking.ask("eval", code="diff()")["diff"] == nothing
    assert looking.ask("xds.show", node="red/caller") == before


def test_a_session_keeps_what_its_lines_define(looking: Console) -> None:
    """Locals too, over lines that are not whole at first."""
    assert looking.ask("eval", code="local function twice(x)") == {"incomplete": True}
    assert looking.eval("local function twice(x)\nreturn 2 * x\nend") == ""
    assert looking.eval("local n = twice(21)") == ""
    assert looking.eval("n") == "42\n"
    assert looking.eval("for i = 1, 2 do print(i, { n }) end") == "1 { 42 }\n2 { 42 }\n"
    with pytest.raises(Refused, match="OSM_ELUA: console:1: "):
        looking.eval("n.x.y")
    assert looking.eval("n") == "42\n"


def test_eval_sees_the_objects_of_now(world: Consoles, looking: Console) -> None:
    """And the policies of now: then it says that what lines defined is gone."""
    assert looking.eval("local kept = 1; mesh.Service('blue', 'late')") == ""
    assert looking.eval("mesh.Service('blue', 'late')") == "nil\n"
    with world.scratch():
        world.service("blue", "late", [{"port": 1, "name": "tcp"}], None)
        world.wait()
        assert looking.eval("mesh.Service('blue', 'late').metadata.name, kept") == '"late"\n1\n'
    world.wait()
    assert looking.eval("mesh.Service('blue', 'late')") == "nil\n"


def test_eval_follows_the_policies(world: Consoles, overlay: Path, looking: Console) -> None:
    """Another generation is another copy, and the session is told."""
    looking.eval("local kept = 1")
    module = "return { api = 1, rules = { ['acme.answer'] = function() return 42 end } }"
    write(overlay, "acme/answer.lua", module)
    assert reload(world)["state"] == "active"
    answer = looking.ask("eval", code="mesh.acme.answer(), kept")
    assert answer["text"] == "42\nnil\n"
    assert "what lines defined is gone" in answer["note"]
    assert looking.text("eval 1") == "1\n"
    (overlay / "acme" / "answer.lua").unlink()
    assert reload(world)["state"] == "active"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("while true do pcall(error) end", "endless loop"),
        ("local t = {} while true do t[#t + 1] = {} end", "memory|grow"),
        ("local s = 'x' while true do s = s .. s end", "4 MiB"),
        ("string.rep('a?', 30):match(string.rep('a?', 30) .. 'a')", "cost|pattern|characters|budget"),
    ],
    ids=["loops", "allocates", "text", "backtracks"],
)
def test_a_line_that_does_not_end_is_stopped(world: Consoles, looking: Console, code: str, says: str) -> None:
    """Within its second, by itself: the daemon goes on, and so does the session."""
    start = time.monotonic()
    with pytest.raises(Refused) as refused:
        looking.eval(code)
    assert time.monotonic() - start < 8
    assert any(word in refused.value.msg for word in says.split("|")), refused.value.msg
    assert looking.eval("1") == "1\n"


# --- a policy thread that is busy ---

SLOW = """
local M = { api = 1 }
M.rules = { ["acme.turns"] = function()
  local keys = {}
  for i = 1, 60 do keys[i] = { i } end
  return keys
end }
M.emit = { slow = { each = "acme.turns", run = function(mesh)
  local shop = mesh.Service("blue", "shop")
  local sum = 0
  if shop.metadata.labels and shop.metadata.labels.slow then
    for i = 1, 1000000 do sum = sum + i % 7 end
  end
end } }
return M
"""


def test_a_busy_policy_thread_holds_up_nobody(world: Consoles, overlay: Path, operating: Console) -> None:
    """While a run takes seconds, what needs no policies is answered at once, and so is eval, in its copy; what asks
    the thread itself waits for its turn."""
    write(overlay, "acme/slow.lua", SLOW)
    assert reload(world)["state"] == "active"
    operating.eval("1")  # the copy is made
    shop = world.objects["Service", "blue", "shop"]
    slowed = json.loads(json.dumps(shop))
    slowed["metadata"]["labels"] = {"slow": "yes"}
    world.apply(slowed)
    until(lambda: not operating.ask("status")["settled"], "the run has begun")
    start, answers = time.monotonic(), 0
    waits = operating.send(cmd="xds.why", args={"resource": "blue/shop|8080"})
    with Console(world.debug) as other:
        while not other.ask("status")["settled"] and time.monotonic() - start < 30:
            for command in ("status", "snapshot", "xds.nodes", "policy.list", "mem"):
                asked = time.monotonic()
                other.ask(command)
                assert time.monotonic() - asked < 1
            asked = time.monotonic()
            assert other.eval("1 + 1") == "2\n"
            assert time.monotonic() - asked < 5
            answers += 1
    assert answers >= 3, "the run was too short to show anything"
    assert operating.answer(waits)["type"] == "CDS"
    world.apply(shop)
    (overlay / "acme" / "slow.lua").unlink()
    assert reload(world)["state"] == "active"
    world.wait()


def test_a_session_that_does_not_read_is_dropped(world: Consoles) -> None:
    """After ten seconds in which nothing has moved; the daemon keeps little for it, and serves others meanwhile."""
    before = world.daemon.figures()["rss_kb"]
    with Console(world.debug) as deaf, Console(world.daemon.socket) as other:
        deaf.socket.setblocking(False)
        line = b'{"id":1,"cmd":"help"}\n' * 100
        dropped = False
        deadline = time.monotonic() + 40
        while not dropped and time.monotonic() < deadline:
            try:
                deaf.socket.send(line)
            except BlockingIOError:
                assert other.ask("role")
                select.select([], [deaf.socket], [], 1)
            except (BrokenPipeError, ConnectionResetError):
                dropped = True
    assert dropped
    assert "session dropped: it does not read" in world.daemon.log()
    if not is_sanitized():  # which keeps what is freed
        assert world.daemon.figures()["rss_kb"] - before < 60_000


# --- osm debug ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_session_that_is_ended_leaves_the_terminal_as_it_was(
    world: Consoles, tmp_path: Path, number: signal.Signals
) -> None:
    """While a line is edited keys come one by one and are not echoed: whoever ends that undoes it."""
    terminal = Terminal(world.daemon.socket, tmp_path)
    terminal.until("operate> ")
    name = os.readlink(f"/proc/{terminal.pid}/fd/0")
    slave = os.open(name, os.O_RDWR | os.O_NOCTTY)  # what the shell would be left with
    try:
        edited = termios.ICANON | termios.ECHO
        until(lambda: not termios.tcgetattr(slave)[3] & edited, "a line is edited")
        os.kill(terminal.pid, number)
        assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == -number
        assert termios.tcgetattr(slave)[3] & edited == edited
    finally:
        os.close(slave)
        os.close(terminal.fd)


def test_a_window_that_becomes_narrow_waits_for_the_next_line(world: Consoles, tmp_path: Path) -> None:
    """The editor would write behind its copy of the screen where what is typed takes more lines than before."""
    terminal = Terminal(world.daemon.socket, tmp_path, TERM="xterm")
    terminal.resize(80)
    terminal.until("operate> ")

    def is_deaf() -> bool:
        status = Path(f"/proc/{terminal.pid}/status").read_text()
        blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
        return bool(int(blocked, 16) & 1 << signal.SIGWINCH - 1)

    for columns in (50, 12, 3):
        until(is_deaf, "it does not hear of another size")
        terminal.type("x" * 150 + "y", "y")
        terminal.resize(columns)
        terminal.type("z", "z")
        terminal.resize(80)
        terminal.type("\x15help help\n", "only this one, such as policy why")
        terminal.until("operate> ")
    assert terminal.close() == 0


def test_osm_debug_on_a_terminal(world: Consoles, tmp_path: Path) -> None:
    """Prompt with the role, completion, several lines, ^C, history that is kept for its owner alone."""
    terminal = Terminal(world.daemon.socket, tmp_path)
    terminal.until("operate> ")
    terminal.type("xds \t", "xds nodes +xds show +xds why")
    terminal.type("sh\t", "xds show ")
    terminal.type("red/caller\t", "red/caller")  # two of them: caller and caller2
    terminal.until("red/caller2")
    terminal.type("\x03", r"\^C\r\noperate> ")
    terminal.type("eval mesh.backen\t", r"mesh\.backends")
    terminal.type('("bl\t, "sho\t)[1].weight\n', "\n100\r\noperate> ")
    terminal.type("eval (\n", ">> ")
    terminal.type("40 + 2)\n", "42\r\noperate> ")
    terminal.type("eval (\n", ">> ")
    terminal.type("\x03", r"\^C\r\noperate> ")
    terminal.type("policy rolback\n", "did you mean policy rollback")
    terminal.type("role view\n", "\r\nview> ")
    terminal.type("policy rollback\n", "needs the role operate")
    terminal.type('watch mesh.backends("blue", "shop")\n', "weight = 100")
    with world.scratch():
        world.apply(split("blue", "s", "shop", shop=60, shop_v2=40))
        terminal.until("weight = 60")
    terminal.type("\n", "view> ")
    terminal.type("\x1b[A", r"watch mesh\.backends")
    terminal.type("\x03", r"\^C\r\nview> ")
    assert terminal.close() == 0
    history = tmp_path / "osm" / "debug_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    assert "rolback" in history.read_text()
    again = Terminal(world.daemon.socket, tmp_path)
    again.until("operate> ")
    again.type("\x1b[A", r"watch mesh\.backends")
    again.type("\x03", r"\^C\r\noperate> ")
    assert again.close() == 0


def test_osm_debug_on_a_pipe(world: Consoles) -> None:
    """No prompt; exit code 1 where a command has failed; the words of a single command as arguments."""
    done = osm_debug(world.debug, stdin="eval 1 + 1\n\neval (\n2\n)\nmesh backends blue shop\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, '2\n2\n{ { service = "shop", weight = 100 } }\n', "")
    done = osm_debug(world.debug, stdin="eval 1\npolicy rollback\neval 2\n")
    assert (done.returncode, done.stdout) == (1, "1\n2\n")
    assert done.stderr == "error: refused: policy.rollback needs the role operate; this session has view\n"
    done = osm_debug(world.debug, stdin="eval 1\nquit\neval 2")
    assert (done.returncode, done.stdout) == (0, "1\n")
    done = osm_debug(world.debug, stdin="eval (")
    assert done.returncode == 1 and "not complete" in done.stderr
    assert osm_debug(world.debug, "snapshot", "blue").stdout.startswith("snapshot: ")
    assert osm_debug(world.debug, "nothing").returncode == 1
    done = osm_debug(world.folder / "nowhere", "status")
    assert done.returncode == 1 and "no daemon answers at" in done.stderr


def test_osm_debug_passes_json_through(world: Consoles) -> None:
    """Requests in, answers out, whatever they are; it ends with its input."""
    requests = '{"id": 1, "cmd": "role"}\n{"id": 2, "line": "eval 1"}\n{"id": 3, "cmd": "nothing"}\n'
    done = osm_debug(world.debug, stdin=requests, flags=("--json",))
    answers = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert answers[1]["data"] == {"role": "view", "socket": "view"}
    assert answers[2]["data"] == {"text": "1\n", "value": 1}
    assert answers[3]["err"]["code"] == "OSM_ENOENT"


def test_a_long_answer_comes_in_pages(world: Consoles, looking: Console) -> None:
    """Of at most 1 MiB; osm debug on a pipe asks for all of them."""
    code = "local t = {} for i = 1, 9 do t[i] = ('x'):rep(300000) end pp(t)"
    looking.send(cmd="eval", args={"code": code})
    first = looking.hear()
    assert first["more"] and len(json.dumps(first)) < 1_100_000
    whole = osm_debug(world.debug, stdin=f"eval {code}\n").stdout
    assert whole.count("x") == 9 * 300_000
    with Console(world.debug) as console:
        assert console.ask("eval", code=code)["text"] == whole


def test_consoles_end_with_the_daemon(tmp_path: Path) -> None:
    """With a session that evaluates and one that watches: nothing is left open, and the file is gone."""
    with Consoles(tmp_path) as world:
        furnish(world)
        world.wait()
        with Console(world.debug) as one, Console(world.debug) as two:
            one.eval("local x = 1")
            two.send(cmd="watch", args={"code": "mesh.backends('blue', 'shop')"})
            assert "event" in two.hear()
            one.send(cmd="eval", args={"code": "for i = 1, 100 do mesh.backends('blue', 'shop' .. i) end"})
            assert world.daemon.stop() == 0
        assert not world.debug.exists()
        stopped = json.loads(world.daemon.log().splitlines()[-1])
        assert (stopped["message"], stopped["open_handles"]) == ("stopped", 0)
