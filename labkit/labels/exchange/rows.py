"""Rows from anywhere: JSONL and JSON files (gzipped too), saved or hub data sets, or any iterable of dicts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from labkit.errors import DataError
from labkit.labels.agreement.records import read_objects

__all__ = ["first_of", "rows_of", "short_hash"]

Source = str | Path | Iterable[Mapping[str, Any]]


def rows_of(source: Source, *, split: str = "train") -> list[tuple[str, dict[str, Any]]]:
    """("where", row) for each row of `source`; an empty source is an error.

    source: a .jsonl or .json file (.gz too), a folder written by `Dataset.save_to_disk`, the name of a data set on
    the hub, or an iterable of dicts such as a `datasets.Dataset`. split: which part, where a data set has parts.
    """
    if isinstance(source, (str, Path)):
        rows = _from_path(Path(source)) if Path(source).exists() or _is_file(str(source)) else _from_hub(source, split)
        name = str(source)
    else:
        rows, name = _plain(source, split), "the rows given"
    rows = rows if isinstance(rows, list) else list(rows)
    if not rows:
        raise DataError(f"{name}: there is not a single row in it; write one JSON object per line, or take the file away where it is not needed.")
    return rows


def first_of(row: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """The first value among `keys` that is there and not None, else None."""
    return next((row[k] for k in keys if row.get(k) is not None), None)


def short_hash(text: str) -> str:
    """Ten hex digits that stand for a text: the id of a prompt or completion that came without one."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def _is_file(name: str) -> bool:
    return name.endswith((".json", ".jsonl", ".gz")) or name.startswith((".", "/"))


def _from_path(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    if path.is_dir():
        from datasets import load_from_disk

        try:
            return _plain(load_from_disk(str(path)), "train", str(path))
        except FileNotFoundError:
            raise DataError(f"{path} is no saved data set; name a .jsonl file or what save_to_disk wrote.") from None
    return _from_json(path) if _looks_like_json(path) else read_objects(path)


def _looks_like_json(path: Path) -> bool:
    """Whether the file is one JSON list, whatever its name says (Label Studio and Argilla export such)."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return file.read(256).lstrip().startswith("[")
    except (OSError, UnicodeDecodeError):
        return False  # read_objects says what is wrong


def _from_json(path: Path) -> list[tuple[str, dict[str, Any]]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
        try:
            rows = json.load(file)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno} is not JSON ({error.msg}); export the file again.") from None
    return list(_plain(rows, "train", str(path)))


def _from_hub(name: str | Path, split: str) -> Iterable[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset

    try:
        return _plain(load_dataset(str(name), split=split), split, str(name))
    except Exception as error:
        raise DataError(
            f"{name} is neither a file here nor a data set that could be loaded "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''})."
        ) from None


def _plain(rows: Any, split: str, name: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    if isinstance(rows, Mapping):  # a DatasetDict, or one row by itself
        parts = {k: v for k, v in rows.items() if not isinstance(v, (str, list, dict, int, float, type(None)))}
        if not parts:
            rows = [rows]
        elif split in parts:
            rows = parts[split]
        else:
            raise DataError(f"{name or 'The data set'} has no part {split!r}; it has {', '.join(parts)}.")
    for number, row in enumerate(rows, 1):
        where = f"{name}, row {number}" if name else f"Row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where} is {row!r:.60}; a row is an object with named fields, such as {{\"prompt\": ...}}.")
        yield where, dict(row)
