"""The programs under test: osm-controller as a process, osm as calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .waiting import until

ROOT = Path(__file__).resolve().parents[2]


def build_dir() -> Path:
    """Where the programs are: $OSM_BUILD, or build/dev."""
    return Path(os.environ.get("OSM_BUILD") or ROOT / "build" / "dev").resolve()


class CommandError(RuntimeError):
    """An osm command that failed."""

    def __init__(self, command: list[str], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        self.exit, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr


def directories(policies: Path | Sequence[Path] | None) -> Sequence[Path]:
    """The bundle's, the first one lowest; by default the shipped one."""
    if policies is None:
        return [ROOT / "policies"]
    return [policies] if isinstance(policies, Path) else policies


class Daemon:
    """One osm-controller. Its folder keeps log and, unless told otherwise, state and socket. `source`: the directory of
    its objects, or the flags that say where else they are."""

    def __init__(
        self,
        folder: Path,
        source: Path | Sequence[str],
        *,
        ads: str,
        mesh_name: str = "osm",
        osm_namespace: str = "osm-system",
        state: Path | None = None,
        policies: Path | Sequence[Path] | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.source, self.ads = folder, source, ads
        self.state = state or folder / "state"
        self.socket = folder / "control.sock"
        self.log_path = folder / "controller.log"
        self.command = [
            str(build_dir() / "osm-controller"),
            *(["--source", f"dir:{source}"] if isinstance(source, Path) else source),
            "--state-dir",
            str(self.state),
            *[f"--policies={each}" for each in directories(policies)],
            "--ads-listen",
            ads,
            "--mesh-name",
            mesh_name,
            "--osm-namespace",
            osm_namespace,
            "--control-socket",
            str(self.socket),
            *(() if any(flag.startswith("--http-address") for flag in extra) else ("--http-address=127.0.0.1:0",)),
            *extra,
        ]
        self.environment: dict[str, str] = {}  # beside ours
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: bool = True, timeout: float = 30.0) -> Daemon:
        """Starts it; with `ready`, waits until it answers on its socket."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )
        if ready:
            until(self._answers, "osm-controller answers on its socket", timeout)
        return self

    def _answers(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise RuntimeError(f"osm-controller ended with {self.process.returncode}:\n{self.log()[-4000:]}")
        if not self.socket.exists():
            return False
        with contextlib.suppress(CommandError):
            self.status()
            return True
        return False

    @property
    def pid(self) -> int:
        """The process."""
        assert self.process
        return self.process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Everything that it has written."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_text(errors="replace")
        return ""

    def wait_exit(self, timeout: float = 15.0) -> int:
        """The exit status of a daemon that is to end by itself."""
        assert self.process
        return self.process.wait(timeout)

    def stop(self, timeout: float = 5.0) -> int:
        """SIGTERM and its exit status; a daemon that does not end in time is killed, and that is an error."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"osm-controller did not end within {timeout:g} s of SIGTERM") from None
        return self.process.returncode

    def figures(self) -> dict[str, int]:
        """Resident memory in kB and number of threads."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {"rss_kb": int(fields["VmRSS"].split()[0]), "threads": int(fields["Threads"])}

    # --- the command line ---

    def osm(self, *arguments: str, timeout: float = 60.0) -> str:
        """Runs `osm --socket SOCKET ARGUMENT...`; its output, or CommandError."""
        command = [str(build_dir() / "osm"), "--socket", str(self.socket), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        if done.returncode != 0:
            raise CommandError(command, done)
        return done.stdout

    def status(self) -> dict[str, Any]:
        """`osm status -o json`."""
        return json.loads(self.osm("status", "-o", "json"))

    def http(self) -> str:
        """Where health and metrics are: ADDRESS:PORT."""
        return self.status()["http"]

    def applied(self, timeout: float = 30.0, connected: bool = False) -> None:
        """The barrier: what is in the files now has been applied by every connected proxy; with `connected`, by every
        proxy that a pod's label announces. CommandError when not in time, or when a proxy has refused a part."""
        also = ["--connected"] if connected else []
        self.osm("wait", "--applied", *also, "--timeout", f"{timeout * 1000:.0f}ms", timeout=timeout + 40)


def python_for_others() -> str:
    """An interpreter that other users can run: the virtual environment may lie in a home that they cannot enter."""
    return os.path.realpath(sys.executable)
