"""The bookstore's story: what each document does to who may buy, on real Envoys.

    story.py              one screen; a person plays the steps and edits the documents
    story.py --once       the whole story alone, a line per step, exit status 0 or 1
    story.py --browse     either of them, with the applications' pages on this machine's loopback
    story.py --kubernetes any of them, with the objects in an API server

The stories themselves are in directory.py and cluster.py; plot.py has what they are told with.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cluster  # noqa: E402
import directory  # noqa: E402
from browse import Pages  # noqa: E402
from plot import PORT, Step, Store  # noqa: E402
from rig import CommandError, isolate, o_clean  # noqa: E402


def _clean(store: Store) -> tuple[bool, str]:
    try:
        o_clean(store.world)
    except AssertionError as error:
        return False, str(error)
    status = store.world.status()
    left_out = [f"{r['object']} {r['path']}: {r['reason']}" for r in status["rejects"]]
    left_out += [f"{e['where']}: {e['message']}" for e in status["errors"]]
    return (
        not left_out,
        f"{len(status['proxies'])} Envoys, none refused anything; "
        + ("; ".join(left_out) or "no object or rule was rejected"),
    )


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises KeyboardInterrupt; so does, after one, what is handed out. An exception that comes while Python
    ends some object (its `__del__`) is passed over, and the story would go on as if nobody had asked."""
    asked = False

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def look() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield look
    finally:
        signal.signal(signal.SIGINT, before)


def once(store: Store, steps: list[Step]) -> int:
    """The whole story alone. The exit status."""
    with interruptible() as look:
        return _once(store, steps, look)


def _once(store: Store, steps: list[Step], look: Callable[[], None]) -> int:
    failed = 0
    begin = time.monotonic()

    def line(number: str, title: str, work: Callable[[], tuple[bool, str]]) -> None:
        nonlocal failed
        try:
            good, figures = work()
        except (AssertionError, CommandError) as error:
            good, figures = False, str(error)
        look()
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {number:>2}  {title}: {figures}", flush=True)

    for number, step in enumerate(steps, 1):

        def play(step: Step = step) -> tuple[bool, str]:
            step.do(store)
            store.world.wait()
            return step.check(store)

        line(str(number), step.title, play)
    line("", "every Envoy took every configuration", lambda: _clean(store))
    print(f"{'FAILED' if failed else 'passed'} in {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if failed else 0


def main() -> int:
    """Parses the arguments, moves inside, and plays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="play all steps alone, check each, exit 0 or 1")
    parser.add_argument("--browse", action="store_true", help="offer the applications' pages on 127.0.0.1")
    parser.add_argument("--kubernetes", action="store_true", help="keep the objects in a kube-apiserver of its own")
    options = parser.parse_args()
    pages = Pages() if options.browse else None
    alone = options.once or not (sys.stdin.isatty() and sys.stdout.isatty())
    try:
        isolate.enter()
    except isolate.IsolationError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    store, steps = (
        (cluster.Cluster(quick=alone), cluster.STEPS)
        if options.kubernetes
        else (directory.Directory(quick=alone), directory.STEPS)
    )
    begin = time.monotonic()
    try:
        print(f"== start: {store.starts}", flush=True)
        store.open()
        print(f"   ready in {time.monotonic() - begin:.1f} s", flush=True)
        if pages:
            pages.serve(store, PORT)
            for name, address in pages.addresses().items():
                print(f"   {name:<15}{address}", flush=True)
        if alone:
            return once(store, steps)
        import screen

        return screen.show(store, steps, pages.addresses() if pages else {})
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    except (RuntimeError, AssertionError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
