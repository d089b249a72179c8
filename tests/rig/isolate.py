"""A world of its own for a run: network, mounts and processes that end with it, whatever ends it.

`enter()` splits the calling process in two. The outer half stays as a supervisor: it holds the run folder, passes
signals on and cleans up. The inner half continues as process 1 of new network, mount and pid namespaces; when it
ends, or when the supervisor is killed (by any signal: the kernel then kills process 1), every process, interface,
mount and rule of the run goes with it. Nothing outside has to be undone, and two runs cannot meet. One thing is
changed for the whole machine and left so: how many inotify instances a user may have, where that is less than some
forty sidecars need (they all run as one user, those of all runs together).

A run folder whose owner died without cleaning is removed by the next run: the lock in it is free.

As a program: `python isolate.py COMMAND ARGUMENT...` runs a command inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_PR_SET_PDEATHSIG = 1
_PREFIX = "osm-run-"
PID_FILE = "pid"  # in the run folder: process 1, as it is seen from outside
_ENV = "OSM_RIG_RUN"  # the run folder; set inside
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES = 1024  # four for each Envoy
_GRACE_S = 10.0  # from a signal to SIGKILL
_WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD}

_libc = ctypes.CDLL(None, use_errno=True)


class IsolationError(RuntimeError):
    """The kernel or the user's rights do not allow what a run needs."""


def _check(result: int, what: str) -> None:
    """Turns a failed libc call into an error that says what to do."""
    if result != 0:
        number = ctypes.get_errno()
        hint = ": run this as root" if os.geteuid() != 0 else ""
        raise IsolationError(f"{what}: {os.strerror(number)}{hint}")


def unshare(flags: int) -> None:
    """Moves the calling thread (and what it starts) into new namespaces."""
    _check(_libc.unshare(flags), "cannot make namespaces")


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Moves the calling thread into the namespace behind a descriptor."""
    _check(_libc.setns(fd, kind), "cannot enter a namespace")


def mount(source: str, target: str, fstype: str | None = None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    kind = fstype.encode() if fstype else None
    done = _libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), options.encode())
    _check(done, f"cannot mount {target}")


def bind(source: Path | str, target: Path | str) -> None:
    """Makes a file appear at another place, in this mount namespace."""
    mount(str(source), str(target), None, _MS_BIND)


def private_mounts() -> None:
    """Keeps our mounts from spreading to the namespace that we came from."""
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


# --- run folders -----------------------------------------------------------------------------------------------------


def _base() -> Path:
    """$TMPDIR, unless other users cannot enter it: sidecars and applications have to."""
    wanted = Path(os.environ.get("TMPDIR") or "/tmp").absolute()
    open_to_all = wanted.is_dir() and all(folder.stat().st_mode & 0o001 for folder in (wanted, *wanted.parents))
    return wanted if open_to_all else Path("/tmp")


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None when somebody else holds it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def sweep() -> None:
    """Removes the folders of runs that are over."""
    for folder in _base().glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.geteuid():
                continue
            fd = _lock(folder)
            if fd is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(fd)


def _new_run() -> tuple[Path, int]:
    """A locked run folder: it gets its final name only when the lock is held, so that no sweep can take it for dead."""
    fresh = Path(tempfile.mkdtemp(prefix=".osm-new-", dir=_base()))
    fresh.chmod(0o711)  # the sidecars' and applications' users pass through
    fd = _lock(fresh)
    assert fd is not None, "a folder that nobody knows cannot be locked"
    folder = fresh.with_name(_PREFIX + fresh.name.removeprefix(".osm-new-"))
    fresh.rename(folder)
    return folder, fd


def run_folder() -> Path:
    """The folder of this run. Only inside."""
    return Path(os.environ[_ENV])


def inside() -> bool:
    """Whether this process is already isolated."""
    return _ENV in os.environ


# --- the split -------------------------------------------------------------------------------------------------------


def _supervise(child: int, folder: Path) -> int:
    """Outer half, with the signals blocked: passes them on, waits, cleans. Returns the status as
    os.waitstatus_to_exitcode."""
    deadline = None
    while True:
        info = signal.sigtimedwait(_WATCHED, 3600.0 if deadline is None else max(0.0, deadline - time.monotonic()))
        if info is None:
            if deadline is not None:
                os.kill(child, signal.SIGKILL)
            continue
        if info.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            continue
        # A key press reaches the whole foreground group; a second copy would look like a second key press.
        from_keyboard = info.si_code > 0 and info.si_signo in (signal.SIGINT, signal.SIGQUIT)
        if not from_keyboard:
            os.kill(child, info.si_signo)
        if deadline is None:
            deadline = time.monotonic() + _GRACE_S
    # Process 1 has ended, so all others of its namespace have, and their mounts with them.
    shutil.rmtree(folder, ignore_errors=True)
    return os.waitstatus_to_exitcode(status)


def _room_for_sidecars() -> None:
    """Envoy ends at once where it gets no inotify instance."""
    with contextlib.suppress(OSError, ValueError):
        if int(_INOTIFY.read_text()) < _INSTANCES:
            _INOTIFY.write_text(str(_INSTANCES))


def enter() -> Path:
    """Returns inside, as process 1 of the new namespaces, with the run folder. The calling process itself becomes the
    supervisor and ends with the inner half's status."""
    if inside():
        return run_folder()
    if threading.active_count() > 1:
        raise IsolationError("enter() must come before the first thread")
    sweep()
    _room_for_sidecars()
    folder, _ = _new_run()  # the lock lives as long as its descriptor: until the supervisor has ended
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)
    except IsolationError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    alive_read, alive_write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    child = os.fork()
    if child:
        os.close(alive_read)
        (folder / PID_FILE).write_text(f"{child}\n")
        setns(home, CLONE_NEWNS)  # out again: what is mounted inside would keep the folder from being removed
        status = _supervise(child, folder)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        if status < 0:
            # End the way the inner half did, so that a shell sees an interruption as one.
            if status != -signal.SIGKILL:  # that one has no handler
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status if status >= 0 else 128 - status)
    os.close(alive_write)
    os.close(home)
    die_with_parent()
    if select.select([alive_read], [], [], 0)[0]:
        os._exit(1)  # the supervisor was killed before it could be watched
    os.close(alive_read)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    private_mounts()
    mount("proc", "/proc", "proc", 0x2 | 0x4 | 0x8)  # nosuid, nodev, noexec
    os.environ[_ENV] = str(folder)
    os.umask(0o022)  # sidecars and applications read their files under other users
    # As process 1 we would ignore SIGTERM and SIGHUP unless they have a handler.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _f: sys.exit(128 + n))
    return folder


def own_network() -> None:
    """A further network and mount namespace for this process: for each of several test workers of one run."""
    unshare(CLONE_NEWNET | CLONE_NEWNS)
    private_mounts()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: isolate.py COMMAND ARGUMENT...")
    try:
        enter()
    except IsolationError as error:
        sys.exit(f"isolate: {error}")
    os.execvp(sys.argv[1], sys.argv[1:])
