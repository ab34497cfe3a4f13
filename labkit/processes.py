"""Which process writes a file or folder: what run.json says of it, whether it is alive, and the lock that keeps others out.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None

__all__ = ["is_here", "lock", "lock_file", "process_is_there", "this_process", "writer_is_alive"]

_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy", "papermill", "ipykernel", "labkit")


def this_process() -> dict[str, Any]:
    """What a run.json says of whoever writes it."""
    began = _began(os.getpid())
    return {
        "pid": os.getpid(),
        **({} if began is None else {"process_began": began}),
        "host": platform.node(),
        "commit": _commit(),
        "versions": _versions(),
        "platform": platform.platform(),
    }


def lock(handle: int, *, wait: bool) -> bool:
    """Keep every other process from locking this open file until it is closed, which the system does when this process dies.

    False where another has locked it and this one does not wait. Where the disk, or the system, has no locks nobody is refused.
    """
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def lock_file(file: Path, *, wait: bool = True) -> Iterator[bool]:
    """Inside, this process alone has locked `file`, which is made for that and removed again; False where `lock` is refused."""
    handle, mine = None, True
    try:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            while fcntl is not None:
                handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
                mine = lock(handle, wait=wait)
                if not mine or (file.exists() and os.path.samestat(os.fstat(handle), file.stat())):
                    break
                os.close(handle)  # whoever held it has removed it meanwhile
                handle = None
        yield mine
    finally:
        if handle is not None:
            if mine:
                file.unlink(missing_ok=True)
            os.close(handle)


def is_here(manifest: Mapping[str, Any]) -> bool:
    """Whether this very process wrote the manifest; on another machine, or before, another process may have its number."""
    return (manifest.get("pid"), manifest.get("host")) == (os.getpid(), platform.node()) and _began_as(manifest)


def writer_is_alive(manifest: Mapping[str, Any]) -> bool | None:
    """Whether the writer's process is there; None where it was on another machine, which cannot be looked at from here.

    Another process may have its number by now: it began at another moment. Where that cannot be told it counts as the writer.
    """
    if manifest.get("host") != platform.node() or not manifest.get("pid"):
        return None
    return process_is_there(manifest["pid"]) and _began_as(manifest)


def process_is_there(pid: int) -> bool:
    """Whether a process of this number is there, on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user: it is there
        pass
    return True


def _began_as(manifest: Mapping[str, Any]) -> bool:
    """Whether the process that has the writer's number began when the writer did, as far as both are known."""
    there = _began(manifest["pid"])
    return there is None or manifest.get("process_began", there) == there


def _began(process: int) -> str | None:
    """When a process of this machine began, as its system tells it; None where it does not."""
    with contextlib.suppress(OSError, IndexError, subprocess.SubprocessError):
        boot = Path("/proc/sys/kernel/random/boot_id")
        if boot.exists():  # Linux: which start of the machine, and the clock's ticks since
            return f"{boot.read_text()[:8]} {Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]}"
        asked = {"env": {**os.environ, "LC_ALL": "C", "TZ": "UTC"}, "capture_output": True, "text": True, "timeout": 5}
        return subprocess.run(["ps", "-o", "lstart=", "-p", str(process)], **asked).stdout.strip() or None
    return None


def _commit() -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        here = Path(__file__).parent
        if not (here.parent / ".git").exists():  # installed: the repository around it, if any, is somebody else's
            return None
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
        )
        return out.stdout.strip() or None
    return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
