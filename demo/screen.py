"""The story on one screen, redrawn in place: counters, shares, what has just been applied, the file to edit next.

Plain ANSI on the terminal's second screen; the terminal is given back as it was, whatever ends the show.
"""

from __future__ import annotations

import collections
import contextlib
import difflib
import itertools
import os
import re
import select
import shutil
import subprocess
import sys
import termios
import threading
import time
import tty
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import CommandError

if TYPE_CHECKING:
    from plot import Counters, Step, Store

REDRAW_S = 0.25
SHARE_OF = 200  # the last so many sold
ANSWER_S = 1.0  # after so long without an answer, the daemon does not answer
PROBLEMS = 4
BARS = "▁▂▃▄▅▆▇█"

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def paint(text: str, *looks: str) -> str:
    """Text in a look; as it is where colours are not wanted."""
    if "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{';'.join(_COLOURS[look] for look in looks)}m{text}\x1b[0m"


_LOOK = re.compile("(\x1b\\[[0-9;]*m)")


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(line: str, width: int) -> str:
    """A painted line in no more than so many columns; what is cut is told by an ellipsis."""
    pieces = [piece if _LOOK.fullmatch(piece) else _plain(piece) for piece in _LOOK.split(line)]
    if sum(_columns(c) for piece in pieces if not _LOOK.fullmatch(piece) for c in piece) <= width:
        return "".join(pieces)
    out, left, painted = [], width - 1, False
    for piece in pieces:
        if _LOOK.fullmatch(piece):
            out.append(piece)
            painted = piece != "\x1b[0m"
            continue
        for char in piece:
            left -= _columns(char)
            if left < 0:
                return "".join(out) + "…" * (width > 0) + "\x1b[0m" * painted
            out.append(char)
    return "".join(out)


def _plain(text: str) -> str:
    """Without what moves the cursor: the texts come from files that anybody edits."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "·" for c in text)


def tail(text: object, width: int) -> str:
    """The end of a path, which tells more than its beginning."""
    text = str(text)
    return text if len(text) <= width else "…" + text[len(text) - max(0, width - 1) :]


def reason(error: BaseException) -> str:
    """What a failed command said, without the command."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    said = re.sub(r"^.*: exit \d+: (osm: )?", "", first)
    return said if said.startswith("not applied") else f"not applied: {said}"


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Keys come one by one, on a screen of our own; after, all is as before."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J")
        yield
    finally:
        sys.stdout.write("\x1b[?7h\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Applied:
    """What was applied last: a title, how it went, and what changed."""

    def __init__(self, title: str, lines: list[str]) -> None:
        self.title, self.lines = title, lines
        self.outcome, self.good = "applying ...", True


class Show:
    """State of the screen; one thread draws, one plays, one asks the control plane."""

    def __init__(self, store: Store, steps: list[Step], pages: dict[str, str] | None = None) -> None:
        self.store, self.steps, self.pages = store, steps, pages or {}
        self.played = 0
        self.samples: collections.deque[tuple[float, Counters]] = collections.deque(maxlen=4096)
        self.status: dict[str, Any] = {}
        self.answered = time.monotonic()  # when `status` was got
        self.texts: dict[Path, str] = self._read() or {}
        self.applied = Applied(steps[0].title, [])
        self.applied.outcome = ""
        self.played = 1
        self.busy: threading.Thread | None = None
        self.stop = threading.Event()

    # --- the watched files ---

    def _read(self) -> dict[Path, str] | None:
        """The text of every file; None while there is no directory."""
        texts = {}
        for path in sorted(self.store.world.files.glob("*.yaml")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                texts[path] = path.read_text()
        return texts if self.store.world.files.is_dir() else None

    def _changes(self) -> dict[Path, list[str]]:
        """What differs from when it was last looked at, as lines of a diff; the smallest first. A directory that is
        gone is no edit: the daemon holds what it held, and says so."""
        now, before = self._read(), self.texts
        if now is None:
            return {}
        self.texts = now
        out = {}
        for path in sorted(now.keys() | before.keys()):
            old, new = before.get(path, ""), now.get(path, "")
            if old != new:
                lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
                out[path] = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        return dict(sorted(out.items(), key=lambda item: len(item[1])))  # what is small is news

    # --- playing ---

    def _play(self, note: Applied, work: Callable[[], None]) -> None:
        self.applied = note

        def run() -> None:
            begin = time.monotonic()
            try:
                work()
                took = time.monotonic() - begin
                note.outcome, note.good = outcome(self.store.world.status()["source"], took)
            except (CommandError, subprocess.SubprocessError, AssertionError, RuntimeError, OSError) as error:
                note.outcome, note.good = reason(error), False

        self.busy = threading.Thread(target=run, daemon=True)
        self.busy.start()

    def next(self) -> None:
        """Plays the next step, unless one is being played."""
        if self.played == len(self.steps) or (self.busy and self.busy.is_alive()):
            return
        step = self.steps[self.played]
        note = Applied(step.title, [])
        if not self.store.world.files.is_dir():  # writing would make it anew, with one file for a whole mesh
            note.outcome, note.good = "not applied: the directory is not there", False
            self.applied = note
            return
        self.played += 1

        def work() -> None:
            step.do(self.store)
            note.lines = self.store.heard() + [line for lines in self._changes().values() for line in lines]
            self.store.world.wait()

        self._play(note, work)

    def edited(self) -> None:
        """Looks for files that a person has changed."""
        if self.busy and self.busy.is_alive():
            return
        changes = self._changes()
        if changes:
            names = ", ".join(path.name for path in changes)
            lines = [line for found in changes.values() for line in found]
            self._play(Applied(f"you edited {names}", lines), self.store.world.daemon.applied)

    # --- asking ---

    def poll_status(self) -> None:
        """Asks `osm status` for as long as the show goes on."""
        while not self.stop.wait(0.3):
            with contextlib.suppress(CommandError, subprocess.SubprocessError, ValueError, OSError):
                self.status = self.store.world.status()
                self.answered = time.monotonic()

    def rates(self, name: str, width: int) -> tuple[float, str]:
        """(per second now, a little curve of the last seconds) of a counter."""
        if len(self.samples) < 2:
            return 0.0, ""
        slots = [0.0] * width
        end = self.samples[-1][0]
        recent = list(self.samples)[-5 * width :]
        for (_, before), (at, after) in itertools.pairwise(recent):
            slot = width - 1 - int(end - at)
            if slot >= 0:
                slots[slot] += max(0, getattr(after, name) - getattr(before, name))
        top = max(*slots[:-1], 1.0)
        curve = "".join(BARS[min(7, round(7 * s / top))] for s in slots[:-1])
        (t0, c0), (t1, c1) = next(s for s in recent if s[0] >= end - 1.5), recent[-1]
        rate = (getattr(c1, name) - getattr(c0, name)) / (t1 - t0) if t1 > t0 else 0.0
        return max(0.0, rate), curve

    def share(self) -> tuple[int, int]:
        """How many of the last SHARE_OF were sold by v1, and by v2."""
        v1 = v2 = 0
        newest = None
        for _, counters in reversed(self.samples):
            if newest is None:
                newest = counters
            v1, v2 = newest.sold_v1 - counters.sold_v1, newest.sold_v2 - counters.sold_v2
            if v1 + v2 >= SHARE_OF:
                break
        return max(0, v1), max(0, v2)

    # --- drawing ---

    def lines(self, width: int, height: int) -> list[str]:
        """The screen, line by line. What comes next always has its place at the end, and the diff what is left."""
        foot = ["", *self._next(width)]
        top = [*self._head(width), "", *self._counters(), "", *self._shares(width), ""]
        top += self._news(height - len(top) - len(foot))
        lines = top[: max(0, height - len(foot))] + foot
        return [fit(line, width) for line in lines[-height:]]

    def _head(self, width: int) -> list[str]:
        status, silent = self.status, time.monotonic() - self.answered
        proxies, missing = len(status.get("proxies", [])), len(status.get("missing", []))
        nacked = sum(1 for p in status.get("proxies", []) for t in p.get("types", {}).values() if t.get("nacked"))
        source = status.get("source", {})
        right = f"snapshot {status.get('snapshot', 0)} · {proxies} of {proxies + missing} Envoys connected"
        right += f" · {nacked} refusals" if nacked else ""
        bad = bool(nacked or missing or source.get("state") == "failed")
        if silent > ANSWER_S:
            right, bad = f"the daemon does not answer · {silent:.0f} s", True
        left = " Open Service Mesh · the bookstore"
        left = fit(left, max(0, width - len(right) - 3))
        gap = " " * max(0, width - len(left) - len(right) - 1)
        out = [paint(left, "bold") + gap + paint(right, "red" if bad else "green")]
        if source.get("state") == "failed":
            out.append(paint(f" the source has failed: {self._short(source.get('reason', ''))}", "red"))
        return out

    def _counters(self) -> list[str]:
        if not self.samples:
            return []
        now = self.samples[-1][1]
        rows = [
            ("bookbuyer", "bought", "bought", "bought_failed"),
            ("bookbuyer-2", "from v2", "tested_v2", "tested_failed"),
            ("bookthief", "stolen", "stolen", "stolen_failed"),
            ("bookstore-v1", "sold", "sold_v1", ""),
            ("bookstore-v2", "sold", "sold_v2", ""),
            ("bookwarehouse", "restocked", "restocked", ""),
            ("mysql", "stored", "stored", ""),
        ]
        out = []
        for name, verb, counter, failures in rows:
            if name not in self.store.cast:
                continue
            if not self.store.pod(name):
                out.append(f"   {name:<15}{paint('not there yet', 'dim')}")
                continue
            rate, curve = self.rates(counter, 16)
            refused = self.rates(failures, 16)[0] if failures else 0.0
            looks = ("green",) if rate > 0.5 else ("dim",)
            total = paint(f"{getattr(now, counter):>8,}", *looks, "bold")
            line = f"   {name:<15}{verb:<10}{total} {rate:>6.0f}/s  {paint(curve, *looks)}"
            if refused > 0.5:
                line += paint(f"  refused {refused:.0f}/s", "red")
            out.append(line)
        return out

    def _shares(self, width: int) -> list[str]:
        v1, v2 = self.share()
        total = v1 + v2
        if not total:
            return [paint(f"   last {SHARE_OF} sold   nothing sold yet", "dim")]
        cells = max(10, min(50, width - 45))
        left = round(cells * v1 / total)
        bar = paint("█" * left, "blue") + paint("░" * (cells - left), "yellow")
        return [f"   last {total:<3} sold   {bar}  v1 {100 * v1 / total:.0f} %  v2 {100 * v2 / total:.0f} %"]

    def _news(self, room: int) -> list[str]:
        note = self.applied
        out = [f"   {paint(f'step {self.played} of {len(self.steps)}', 'cyan')}    {paint(note.title, 'bold')}"]
        if note.outcome:
            out.append(f"      {paint(self._short(note.outcome), 'dim' if note.good else 'red')}")
        problems = [f"   {paint(p, 'red')}" for p in self._problems()]
        problems = _some(problems, min(PROBLEMS, room - len(out)), "more problems: `osm status` lists them", "red")
        diff = ["      " + paint(line, "green" if line.startswith("+") else "red") for line in note.lines]
        return [*out, *_some(diff, room - len(out) - len(problems), "more lines", "dim"), *problems]

    def _short(self, text: str) -> str:
        """A message without the folder of this run, which would take the room of what it says."""
        return text.replace(f"{self.store.world.files.parent}/", "…/")

    def _problems(self) -> list[str]:
        status = self.status
        out = []
        for e in status.get("source", {}).get("errors", []):
            kept = " (the last good version serves)" if e.get("kept") else ""
            out.append(f"{Path(e['file']).name}:{e['line']}:{e['column']}: {e['message']}{kept}")
        out += [f"{r['object']} {r['path']}: {r['reason']}" for r in status.get("rejects", [])]
        out += [f"{e['where']}: {e['message']}" for e in status.get("errors", [])]
        if status.get("policy_error"):
            out.insert(0, f"the policy run fails: {status['policy_error']}")
        return out

    def _next(self, width: int) -> list[str]:
        world = self.store.world
        osm = tail(_osm(), max(4, (width - 35) // 2))
        step = self.steps[min(self.played, len(self.steps) - 1)]
        out = []
        if self.played < len(self.steps):
            out.append(f"   {'next':<15}{step.title}")
        else:
            out.append(f"   {'next':<15}the story is told; the mesh goes on, and everything can be edited")
        out += [
            f"   {'or edit':<15}{tail(self.store.place(step), width - 18)}",
            f"   {'or ask':<15}{osm} --socket {tail(world.daemon.socket, width - 18 - len(osm) - 17)} status",
            *self._pages(),
            "",
            paint("   Enter", "bold") + " next step   " + paint("q", "bold") + " quit",
        ]
        return out

    def _pages(self) -> list[str]:
        if not self.pages:
            return []
        ports = [f"{url.rpartition(':')[2].rstrip('/')} {name}" for name, url in self.pages.items()]
        return [f"   {'or browse':<15}http://127.0.0.1: {' · '.join(ports)}"]

    def draw(self) -> None:
        """Puts the screen onto the terminal."""
        size = shutil.get_terminal_size()
        # One column stays free: behind a full line, "erase to the end" takes its last character.
        lines = self.lines(size.columns - 1, size.lines)
        sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        sys.stdout.flush()


def outcome(source: dict[str, Any], took: float) -> tuple[str, bool]:
    """(what to say, whether it is good) when every Envoy has applied what the source gave."""
    if source["state"] == "failed":
        return f"not applied: the source has failed: {source['reason']}", False
    if source["errors"]:
        first = source["errors"][0]
        serves = "its last good objects serve" if first["kept"] else "what is in error there is left out"
        return f"applied, but {Path(first['file']).name} is in error: {serves}", False
    return f"applied by every Envoy in {1000 * took:.0f} ms", True


def _some(lines: list[str], room: int, what: str, look: str) -> list[str]:
    """As many lines as there is room for, the last of them telling how many are not shown."""
    if len(lines) <= room or room <= 0:
        return lines[: max(0, room)]
    return [*lines[: room - 1], paint(f"   ... {len(lines) - room + 1} {what}", look)]


def _osm() -> str:
    from rig.daemon import build_dir

    path = build_dir() / "osm"
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def show(store: Store, steps: list[Step], pages: dict[str, str]) -> int:
    """Runs until q is pressed. `pages`: addresses by name."""
    view = Show(store, steps, pages)
    asker = threading.Thread(target=view.poll_status, daemon=True)
    asker.start()
    try:
        with terminal():
            while True:
                with contextlib.suppress(OSError):
                    view.samples.append((time.monotonic(), store.counters()))
                view.edited()
                view.draw()
                if select.select([sys.stdin], [], [], REDRAW_S)[0]:
                    key = os.read(sys.stdin.fileno(), 64)
                    if key in (b"q", b"Q", b"\x04") or not key:
                        return 0
                    if key[:1] in (b"\n", b"\r", b" "):
                        view.next()
    finally:
        view.stop.set()
        if view.busy:
            view.busy.join(5)
        asker.join(5)
