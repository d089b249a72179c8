"""The story on one screen, redrawn in place: counters, shares, what has just been applied, the file to edit next.

Plain ANSI on the terminal's second screen; the terminal is given back as it was, whatever ends the show.
"""

from __future__ import annotations

import collections
import contextlib
import difflib
import itertools
import os
import select
import shutil
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import CommandError

if TYPE_CHECKING:
    from story import Bookstore, Counters, Step

REDRAW_S = 0.25
SHARE_OF = 200  # the last so many sold
DIFF_LINES = 10
BARS = "▁▂▃▄▅▆▇█"

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def paint(text: str, *looks: str) -> str:
    """Text in a look; as it is where colours are not wanted."""
    if "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{';'.join(_COLOURS[look] for look in looks)}m{text}\x1b[0m"


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Keys come one by one, on a screen of our own; after, all is as before."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Applied:
    """What was applied last: a title, how it went, and what changed."""

    def __init__(self, title: str, lines: list[str]) -> None:
        self.title, self.lines = title, lines
        self.outcome = "applying ..."


class Show:
    """State of the screen; one thread draws, one plays, one asks the control plane."""

    def __init__(self, store: Bookstore, steps: list[Step]) -> None:
        self.store, self.steps = store, steps
        self.played = 0
        self.samples: collections.deque[tuple[float, Counters]] = collections.deque(maxlen=4096)
        self.status: dict[str, Any] = {}
        self.texts: dict[Path, str] = self._read()
        self.applied = Applied(steps[0].title, [])
        self.applied.outcome = ""
        self.played = 1
        self.busy: threading.Thread | None = None
        self.stop = threading.Event()

    # --- the watched files ---

    def _read(self) -> dict[Path, str]:
        texts = {}
        for path in sorted(self.store.world.files.glob("*.yaml")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                texts[path] = path.read_text()
        return texts

    def _changes(self) -> dict[Path, list[str]]:
        """What differs from when it was last looked at, as lines of a diff; the smallest first."""
        now, before, self.texts = self._read(), self.texts, self._read()
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
                note.outcome = f"applied by every Envoy in {1000 * (time.monotonic() - begin):.0f} ms"
            except (CommandError, AssertionError, RuntimeError, OSError) as error:
                note.outcome = f"not applied: {str(error).splitlines()[0][:160]}"

        self.busy = threading.Thread(target=run, daemon=True)
        self.busy.start()

    def next(self) -> None:
        """Plays the next step, unless one is being played."""
        if self.played == len(self.steps) or (self.busy and self.busy.is_alive()):
            return
        step = self.steps[self.played]
        self.played += 1
        note = Applied(step.title, [])

        def work() -> None:
            step.do(self.store)
            note.lines = [line for lines in self._changes().values() for line in lines]
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
            self._play(Applied(f"you edited {names}", lines), self._apply_edit)

    def _apply_edit(self) -> None:
        self.store.world.daemon.applied()
        broken = self.store.world.status()["source"]["errors"]
        if broken:
            raise RuntimeError(f"{Path(broken[0]['file']).name} cannot be read; its last good version serves")

    # --- asking ---

    def poll_status(self) -> None:
        """Asks `osm status` for as long as the show goes on."""
        while not self.stop.wait(0.4):
            with contextlib.suppress(CommandError, ValueError, OSError):
                self.status = self.store.world.status()

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

    def lines(self, width: int) -> list[str]:
        """The screen, line by line."""
        return [
            *self._head(width),
            "",
            *self._counters(),
            "",
            *self._shares(width),
            "",
            *self._news(width),
            "",
            *self._next(),
        ]

    def _head(self, width: int) -> list[str]:
        status = self.status
        proxies, missing = len(status.get("proxies", [])), len(status.get("missing", []))
        nacked = sum(1 for p in status.get("proxies", []) for t in p.get("types", {}).values() if t.get("nacked"))
        right = f"snapshot {status.get('snapshot', 0)} · {proxies} of {proxies + missing} Envoys connected"
        right += f" · {nacked} refusals" if nacked else ""
        left = " Open Service Mesh · the bookstore"
        gap = " " * max(2, width - len(left) - len(right) - 1)
        return [paint(left, "bold") + gap + paint(right, "red" if nacked or missing else "green")]

    def _counters(self) -> list[str]:
        if not self.samples:
            return []
        now = self.samples[-1][1]
        v2 = "bookstore/bookstore-v2-1" in self.store.world.pods
        rows = [
            ("bookbuyer", "bought", "bought", "bought_failed", True),
            ("bookthief", "stolen", "stolen", "stolen_failed", True),
            ("bookstore-v1", "sold", "sold_v1", "", True),
            ("bookstore-v2", "sold", "sold_v2", "", v2),
            ("bookwarehouse", "restocked", "restocked", "", True),
        ]
        out = []
        for name, verb, counter, failures, there in rows:
            if not there:
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

    def _news(self, width: int) -> list[str]:
        note = self.applied
        out = [f"   {paint(f'step {self.played} of {len(self.steps)}', 'cyan')}    {paint(note.title, 'bold')}"]
        if note.outcome:
            bad = note.outcome.startswith("not")
            out.append(f"                  {paint(note.outcome, 'red' if bad else 'dim')}")
        shown = note.lines[:DIFF_LINES]
        for line in shown:
            out.append("      " + paint(line[: width - 8], "green" if line.startswith("+") else "red"))
        if len(note.lines) > len(shown):
            out.append(paint(f"      ... {len(note.lines) - len(shown)} lines more", "dim"))
        return [*out, *(f"   {paint(p[: width - 4], 'red')}" for p in self._problems())]

    def _problems(self) -> list[str]:
        status = self.status
        out = []
        for e in status.get("source", {}).get("errors", []):
            kept = " (the last good version serves)" if e.get("kept") else ""
            out.append(f"{Path(e['file']).name}:{e['line']}:{e['column']}: {e['message']}{kept}")
        out += [f"{r['object']} {r['path']}: {r['reason']}" for r in status.get("rejects", [])]
        out += [f"{e['where']}: {e['message']}" for e in status.get("errors", [])]
        return out[:4]

    def _next(self) -> list[str]:
        world = self.store.world
        step = self.steps[min(self.played, len(self.steps) - 1)]
        out = []
        if self.played < len(self.steps):
            out.append(f"   {'next':<15}{step.title}")
        else:
            out.append(f"   {'next':<15}the story is told; the mesh goes on, and every file can be edited")
        out += [
            f"   {'or edit':<15}{world.files / step.file}",
            f"   {'or ask':<15}{_osm()} --socket {world.daemon.socket} status",
            "",
            paint("   Enter", "bold") + " next step   " + paint("q", "bold") + " quit",
        ]
        return out

    def draw(self) -> None:
        """Puts the screen onto the terminal."""
        size = shutil.get_terminal_size()
        lines = self.lines(size.columns)[: size.lines - 1]
        sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines) + "\x1b[J")
        sys.stdout.flush()


def _osm() -> str:
    from rig.daemon import build_dir

    path = build_dir() / "osm"
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def show(store: Bookstore, steps: list[Step]) -> int:
    """Runs until q is pressed."""
    view = Show(store, steps)
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
