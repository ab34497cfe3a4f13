"""What every test shares: no network, one torch thread, real data where it lies beside the repository."""

import gc
import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read once, when torch is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("LABKIT_DEVICE", "cpu")  # tests compare to rounding; what a GPU adds has tests of its own (speed/test_cuda.py)
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
os.environ.pop("LABKIT_HEADLESS", None)  # each test says itself how it runs

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # begun in a script's background; what a test starts would not hear Ctrl-C either
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs real data where there is none."""
    if REAL_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason=f"real data is not at {REAL_DATA}"))


def pytest_collection_finish() -> None:
    """What all test modules imported stays to the end: whoever collects garbage, as each trainer does, need not look through it."""
    gc.freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets and models; its tests carry the marker `real`."""
    return REAL_DATA


@pytest.fixture(autouse=True)
def _deterministic_torch(request: pytest.FixtureRequest) -> None:
    """One thread, even where a library raised the number behind our back."""
    import sys

    if "torch" in sys.modules and not request.node.get_closest_marker("bench"):
        sys.modules["torch"].set_num_threads(1)
