"""One freshly made base model per architecture for the stages' tests."""

from __future__ import annotations

import pytest

from tests.stages.animals import MODELS, save_base


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Folder of the base model of each architecture."""
    return {name: save_base(tmp_path_factory.mktemp("bases") / name, name) for name in MODELS}
