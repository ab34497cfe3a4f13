"""Files that are whole or not there: JSON and JSONL, written atomically or appended to, read with errors that name the line; content hashes.

Standard library only. Nothing that was on disk is ever lost: what has to make room gets another name.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.errors import DataError, RunError
from labkit.processes import process_is_there

__all__ = [
    "append_jsonl",
    "as_line",
    "clear_scratch",
    "discard",
    "file_hash",
    "let_write",
    "may_not_read",
    "numbered",
    "paths_of",
    "put_aside",
    "read_all",
    "read_jsonl",
    "what_to_do",
    "write_json",
    "write_jsonl",
]


def write_json(path: Path, value: Any) -> None:
    """Replace `path` with `value` as JSON, atomically: a reader sees the old file or the new one."""
    with _replacing(path) as out:
        json.dump(value, out, indent=1, ensure_ascii=False, default=_plain)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` with one JSON object per line, atomically."""
    with _replacing(path) as out:
        for row in rows:
            out.write(as_line(row) + "\n")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file to write, which takes the place of `path` when it is whole and on the disk."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(scratch, "w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise RunError(
            f"Could not write {path}: {error.strerror}. {what_to_do(error)}; the old file is untouched."
        ) from error


def what_to_do(error: BaseException, otherwise: str = "Free some space or choose another folder") -> str:
    """The remedy where something could not be written: `otherwise`, except where this user may not write there."""
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "You may not write there: ask its owner, or choose another folder (LABKIT_RUNS names that of the runs)"
    return otherwise


def may_not_read(path: Path) -> str:
    """A sentence on the first file of a folder, or the file, that this user may not read; empty where all may be read."""
    for file in itertools.chain([path], path.rglob("*")):
        try:
            with open(file, "rb"):
                pass
        except PermissionError:
            return f"You may not read {file}. Its owner can let you: chmod -R a+rX {path}"
        except OSError:  # a folder that may be read, or nothing: another sentence says so
            continue
    return ""


def let_write(copy: Path) -> None:
    """Let the owner write in a copy of what nobody may write; a file that is linked, not copied, stays as it is."""
    for path in [copy, *copy.rglob("*")]:
        if path.is_dir() or path.stat().st_nlink == 1:
            path.chmod(path.stat().st_mode | 0o200)


def as_line(row: Mapping[str, Any]) -> str:
    """A row as JSON on one line; half of a surrogate pair, which no file can hold as it is, is written as an escape."""
    line = json.dumps(row, ensure_ascii=False, default=_plain)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(row, default=_plain)
    return line


def append_jsonl(path: Path, row: Mapping[str, Any], *, sync: bool = False) -> None:
    """Append one line and flush it; with `sync` it is on the disk when this returns.

    A torn last line, of a writer that was killed, gives way: it would be an unreadable line amid others.
    """
    line = as_line(row) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as out:
            size = _mend_end(out)
            try:
                if out.write(line.encode()) != len(line.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    os.fsync(out.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    out.truncate(size)  # half a line is none
                raise
    except OSError as error:
        raise RunError(
            f"Could not append to {path}: {error.strerror}. {what_to_do(error, 'Free some space and try again')}; what was there is untouched."
        ) from error


def _mend_end(out: Any) -> int:
    """Let a file of lines end with a whole one; returns its size. A last line that only lacks its end is kept."""
    size = out.seek(0, os.SEEK_END)
    back = min(size, 1)
    out.seek(size - back)
    if not size or out.read(1) == b"\n":
        return size
    out.seek(0)
    data = out.read()
    start = data.rfind(b"\n") + 1
    try:
        json.loads(data[start:])
    except ValueError:
        out.truncate(start)
        return start
    out.write(b"\n")
    return size + 1


def paths_of(given: str | Path | Iterable[str | Path]) -> list[Path]:
    """The paths of files: one that stands alone is a list of one, and is not read letter by letter."""
    return [Path(p) for p in ([given] if isinstance(given, (str, Path)) else given)]


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file; a torn last line (a killed writer) is skipped, any other bad line is an error."""
    return (row for _, row in numbered(path))


def read_all(kind: type, path: Path) -> list[Any]:
    """The lines of a JSONL file as Prompts, Demonstrations or Rankings; one that cannot be used is named by file and line."""
    found = []
    for number, row in numbered(path):
        try:
            found.append(kind.from_json(row))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return found


def numbered(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a JSONL file with their numbers. A last line without its end, of a writer that was killed, may be no JSON."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", errors="replace") as stream:
            lines = stream.read().split("\n")
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; check the name, or run the stage that writes it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise RunError(f"{path} is packed, but damaged or cut off; fetch or pack it again.") from None
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) - 1:  # nothing ends it
                return
            raise RunError(
                f"{path}, line {number + 1} is not JSON ({error.msg}); repair or remove that line."
            ) from None
        yield number + 1, row


def file_hash(path: Path) -> str:
    """Short content hash of a file or of all files under a folder: names weights and data in manifests."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.name.encode())
        with file.open("rb") as stream:  # piece by piece: weights may be larger than memory
            while piece := stream.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:12]


def put_aside(path: Path) -> Path:
    """Rename a file or folder to a name of its own that ends in .old; returns it. Nothing that was on disk is ever lost."""
    stamp, numbers = f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}", itertools.count(1)
    aside = path.with_name(f"{stamp}.old")
    while aside.exists():
        aside = path.with_name(f"{stamp}-{next(numbers)}.old")
    try:
        return path.rename(aside)
    except OSError as error:
        remedy = what_to_do(error, "See whether another program holds it, and try again")
        raise RunError(f"{path} could not be moved aside: {error.strerror}. {remedy}; it is as it was.") from error


def clear_scratch(folder: Path) -> None:
    """Remove what killed processes of this machine left half written in `folder`: `.NAME.PID.tmp`.

    What such a process had moved away to make room (`.NAME.PID.old`) comes back where nothing took its place.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        found = re.fullmatch(r"\.(.+)\.(\d+)\.(tmp|old)", path.name)
        if not found or process_is_there(int(found[2])):
            continue
        if found[3] == "old" and not (folder / found[1]).exists():
            path.rename(folder / found[1])
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove a folder; a process that is killed meanwhile leaves scratch, never half a folder under its name."""
    shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}.tmp")))


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    raise TypeError(f"{type(value).__name__} does not fit into JSON")
