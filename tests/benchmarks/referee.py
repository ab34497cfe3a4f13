"""Contestants in turns: A, B, A, B, ... in one run, so that a busy machine is busy for both."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.workload import Workload

__all__ = [
    "REPOSITORY",
    "TRL_PPO_HOME",
    "Bout",
    "Home",
    "OutOfTime",
    "Peer",
    "duel",
    "find_trl_ppo",
    "how_it_ended",
    "python_path",
    "spread",
]

REPOSITORY = Path(__file__).resolve().parents[2]
TRL_PPO_HOME = REPOSITORY / ".bench" / "trl112"  # where `make bench` installs it
LEAVE = 20.0  # seconds in which a contestant that is no longer needed must have ended


class OutOfTime(RuntimeError):
    """A contestant did not answer before its time was over."""


@dataclass(frozen=True)
class Home:
    """Where a contestant's packages are: an interpreter, and folders that come first on its path."""

    python: str = sys.executable
    path: tuple[str, ...] = ()


def find_trl_ppo(places: Sequence[Path] | None = None) -> Home | None:
    """TRL 1.12.0, without network: in a virtual environment, or in a folder made by `pip install --target`.

    places: looked at in turn; None: the folder that LABKIT_BENCH_TRL names, .bench/trl112, then each entry of PYTHONPATH.
    """
    if places is None:
        named = [os.environ.get("LABKIT_BENCH_TRL"), TRL_PPO_HOME, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        places = [Path(place) for place in named if place]
    for place in places:
        if list(place.glob("lib/python3*/site-packages/trl-1.12.0.dist-info")) and (place / "bin" / "python").exists():
            return Home(str(place / "bin" / "python"))
        if (place / "trl-1.12.0.dist-info").is_dir():
            return Home(path=(str(place.resolve()),))
    return None


def python_path(home: Home) -> str:
    """Its own folders, the repository, then what this process was given: so both sides run the same transformers.

    An interpreter of its own has packages of its own, which entries of an inherited path would hide.
    """
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep) if home.python == sys.executable else []
    return os.pathsep.join([*home.path, str(REPOSITORY), *(os.path.abspath(entry) for entry in inherited if entry)])


class Peer:
    """A contestant in a process of its own, by module name and home."""

    def __init__(self, module: str, work: Workload, *extra: str, home: Home | None = None) -> None:
        home, threads = home or Home(), str(work.threads)
        environment = os.environ | {
            "PYTHONPATH": python_path(home), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "LABKIT_DEVICE": work.device, "LABKIT_DTYPE": work.dtype,
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        if work.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self.name = module
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process; a pipe could fill up
        self.process = subprocess.Popen(
            [home.python, "-m", module, *work.arguments(), *extra],
            cwd=REPOSITORY, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip

    def answer(self, ends: float = math.inf) -> dict[str, Any]:
        """Its next line. A contestant that is still at work at `ends` (of the monotonic clock) is killed: OutOfTime."""
        late = threading.Event()
        watch = threading.Timer(min(max(ends - time.monotonic(), 0.0), threading.TIMEOUT_MAX), self._kill, (late,))
        watch.daemon = True
        watch.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watch.cancel()
        if line:
            return json.loads(line)
        if late.is_set():
            raise OutOfTime(f"{self.name} was still at work when its time was over; give it more, or a smaller batch.")
        raise RuntimeError(self._epitaph())

    def _kill(self, late: threading.Event) -> None:
        late.set()
        self.process.kill()

    def round(self, ends: float = math.inf) -> dict[str, Any]:
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:  # it died between two rounds
            raise RuntimeError(self._epitaph()) from error
        return self.answer(ends)

    def _epitaph(self) -> str:
        """How the process ended, and its last words: a killed one has none, and only its signal says what happened."""
        self.log.seek(0)
        said = self.log.read()[-3000:].strip() or "(it wrote nothing to standard error)"
        return f"{self.name} ended early: {how_it_ended(self._exit_code())}\n{said}"

    def _exit_code(self) -> int | None:
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may be dead, with a "go" that it never read
            self.process.stdin.close()
        try:
            self.process.wait(timeout=LEAVE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def how_it_ended(code: int | None) -> str:
    """An exit status in words; SIGKILL without a word is how the kernel ends a process for which memory ran out."""
    if code is None:
        return "it closed its output and is still running."
    if code >= 0:
        return f"exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = "; out of memory? Free some, or take a smaller batch." if -code == signal.SIGKILL else "."
    return f"signal {-code} ({name}){hint}"


@dataclass
class Bout:
    """Rounds of each contestant, in the order they were run; warm-up rounds left out."""

    rounds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # what each said of itself: versions, threads, dtypes

    def summary(self, name: str) -> dict[str, Any]:
        """What a contestant said of itself, and the most memory that it took."""
        return {**self.facts.get(name, {}), "peak_mib": max(r["peak_mib"] for r in self.rounds[name])}

    def best(self, name: str, clock: str = "cpu") -> float:
        return min(r[clock] for r in self.rounds[name])

    def median(self, name: str, key: str) -> float:
        return statistics.median(r[key] for r in self.rounds[name])

    def phases(self, name: str) -> dict[str, float]:
        """Median seconds of each phase."""
        names = self.rounds[name][0]["phases"]
        return {p: statistics.median(r["phases"][p] for r in self.rounds[name]) for p in names}

    def ratios(self, slow: str, fast: str, clock: str = "cpu") -> dict[str, float]:
        """How many times as fast `fast` is, by round: median, least, most."""
        return spread([a[clock] / b[clock] for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True)])

    def phase_ratios(self, slow: str, fast: str, phase: str) -> dict[str, float]:
        """The same for one phase."""
        pairs = zip(self.rounds[slow], self.rounds[fast], strict=True)
        return spread([a["phases"][phase] / b["phases"][phase] for a, b in pairs])


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def duel(contestants: Mapping[str, Peer], rounds: int, *, warmup: int = 1, seconds: float = math.inf) -> Bout:
    """Up to `rounds` rounds of each contestant in turns, after `warmup` rounds that do not count; at least one.

    seconds: from here to the end, start-up and warm-up included. No round of all begins that would not end in time by
    the last one's; who is at work when time is over is killed, and rounds that all have finished count. None: OutOfTime.
    """
    ends = time.monotonic() + seconds
    bout = Bout({name: [] for name in contestants})
    try:
        for name, peer in contestants.items():
            bout.facts[name] = {key: value for key, value in peer.answer(ends).items() if key != "ready"}
        for number in range(warmup + rounds):
            started = time.monotonic()
            row = {name: _turn(name, peer, number, ends) for name, peer in contestants.items()}
            if number >= warmup:
                for name, result in row.items():
                    bout.rounds[name].append(result)
            if number >= warmup and 2 * time.monotonic() - started > ends:
                break
    except OutOfTime:
        if not all(bout.rounds.values()):
            raise
    finally:
        for peer in contestants.values():
            peer.close()
    return bout


def _turn(name: str, peer: Peer, number: int, ends: float) -> dict[str, Any]:
    result = peer.round(ends)
    print(f"  round {number} of {name}: {result['wall']:.1f} s, of them CPU {result['cpu']:.1f} s", flush=True)
    return result
