"""`make lab` serves the tour and the whole repository, with the lab's own settings."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.kernel]


@pytest.fixture
def address(tmp_path):
    """What `make lab` printed: where it listens, with its token. It opens no browser, and root may start it."""
    config = tmp_path / "config"
    config.mkdir()
    settings = {"open_browser": False, "allow_root": True, "port": 0}
    (config / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": settings, "ExtensionApp": {"open_browser": False}}))
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(config), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    installed = Path(sys.prefix) / ".lab"  # this environment, as it is
    with open(tmp_path / "log", "w+") as log:
        command = ["make", "-o", str(installed), "lab", f"VENV={sys.prefix}"]
        server = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield _listening(server, tmp_path / "log")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _listening(server: subprocess.Popen, log: Path) -> tuple[str, str]:
    for _ in range(600):
        said = log.read_text()
        assert server.poll() is None, said
        if found := re.search(r"(http://(?:localhost|127\.0\.0\.1):\d+)/lab(\S*)\?token=(\w+)", said):
            assert found[2] == "/tree/notebooks/00_tour.ipynb", "the address that is printed leads to the tour, also where no browser opens"
            return found[1], found[3]
        time.sleep(0.1)
    raise AssertionError(said)


def ask(address: tuple[str, str], path: str) -> dict:
    request = urllib.request.Request(f"{address[0]}/{path}", headers={"Authorization": f"token {address[1]}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_make_lab_serves_the_tour_with_its_settings(address):
    tour = ask(address, "api/contents/notebooks/00_tour.ipynb")
    assert tour["content"]["cells"]
    assert {"runs", "notebooks"} <= {entry["name"] for entry in ask(address, "api/contents/")["content"]}
    ours = json.loads((REPOSITORY / "widgets/jupyter/labconfig/default_setting_overrides.json").read_text())
    for plugin, settings in ours.items():
        served = ask(address, f"lab/api/settings/{plugin}")
        defaults = {name: rule.get("default") for name, rule in served["schema"]["properties"].items()}
        assert settings.items() <= {**defaults, **served["settings"]}.items(), plugin
