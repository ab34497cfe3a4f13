"""A real JupyterLab and a real browser for the tests: start a server, open a notebook of cells, run it, look inside.

lab = Lab(server, browser)
lab.open(["from widgets import RankingBoard", "board"])   # writes the notebook and waits for its kernel
lab.run_all()                                             # by JupyterLab's own command; raises what a cell raised
lab.python("board.session.progress()")                    # a value out of the kernel
lab.page.locator(".rb").screenshot(path=...)
"""

from __future__ import annotations

import ast
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180_000  # ms; two slow shared cores are the rule, not the exception
BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
)
# Console noise of JupyterLab itself, seen in an empty notebook as well.
HARMLESS = (
    "favicon",
    "Failed to load resource",
    "lsp",
    "ResizeObserver loop",
    "source map",
    "service worker",
    "preload",
)


class LabServer:
    """`jupyter lab` on a free port, in a folder of its own, blind to the user's own settings."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "notebooks"
        self.root.mkdir(parents=True)
        self.token = secrets.token_hex(16)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self._command(), cwd=self.root, env=self._environment(folder), stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _command(self) -> list[str]:
        options = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": self.root,
            "ServerApp.terminals_enabled": False,
            "ServerApp.shutdown_no_activity_timeout": 0,
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": True,
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *flags]

    def _environment(self, folder: Path) -> dict[str, str]:
        config = folder / "config"
        (config / "labconfig").mkdir(parents=True)
        settings = {
            "@jupyterlab/apputils-extension:notification": {
                "checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false",
            },
        }  # fmt: skip
        (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(settings))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "LABKIT", "PYTEST"))}
        return {
            **kept,
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + 2 * PATIENCE / 1000  # a server that dies is noticed at once
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.api("GET", "/api/status")
                return
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()[-3000:]}")

    def api(self, method: str, path: str) -> Any:
        """Ask the server's REST interface; returns the JSON answer, or None for an empty one."""
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def shut_kernels(self) -> None:
        for session in self.api("GET", "/api/sessions"):
            self.api("DELETE", f"/api/sessions/{session['id']}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Lab:
    """One browser page on one notebook of the server."""

    def __init__(
        self, server: LabServer, browser: Any, *, width: int = 1280, height: int = 1000, scale: float = 1
    ) -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.console: list[str] = []
        self.page.on("console", lambda m: self.console.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.console.append(f"uncaught: {e}"))
        self.page.on("dialog", self._dialog)

    def open(self, cells: Sequence[str], name: str = "test.ipynb") -> Lab:
        """Write a notebook of code cells, open it alone and wait for its kernel."""
        path = self.server.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook(cells)))
        return self.visit(name)

    def visit(self, name: str) -> Lab:
        """Open a notebook that is already in the server's folder."""
        self.page.goto(f"{self.server.url}/doc/tree/{name}?token={self.server.token}", wait_until="domcontentloaded")
        self.wait_kernel()
        return self

    def reload(self) -> Lab:
        """Reload the page, as a person would; kernel and widgets go on."""
        self.page.reload(wait_until="domcontentloaded")
        self.wait_kernel()
        return self

    def wait_kernel(self, *, idle: bool = True) -> None:
        """Wait until the notebook's session is ready and its kernel connected (and idle)."""
        self.page.wait_for_function(
            """(idle) => {
                const context = window.jupyterapp?.shell?.currentWidget?.sessionContext;
                const kernel = context?.session?.kernel;
                const connected = context?.isReady && kernel?.connectionStatus === 'connected';
                return connected && (!idle || kernel.status === 'idle');
            }""",
            arg=idle,
            polling=100,
        )

    def command(self, name: str, **arguments: Any) -> Any:
        """Run one of JupyterLab's own commands; returns its value where that is plain."""
        return self.page.evaluate(
            """async ([name, args]) => {
                const value = await window.jupyterapp.commands.execute(name, args);
                return ['string', 'number', 'boolean'].includes(typeof value) ? value : null;
            }""",
            [name, arguments],
        )

    def run_all(self) -> Lab:
        """Run every cell and wait for the end; a failed cell is an AssertionError that shows its traceback."""
        if self.command("notebook:run-all-cells") is False:
            raise AssertionError("A cell failed:\n" + "\n".join(self.errors()))
        self.wait_kernel()
        return self

    def run_cell(self, index: int) -> Lab:
        """Select and run one cell, as Ctrl+Enter does."""
        self.page.evaluate("(i) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", index)
        if self.command("notebook:run-cell") is False:
            raise AssertionError("The cell failed:\n" + "\n".join(self.errors()))
        return self

    def cells(self) -> list[dict[str, Any]]:
        """The notebook's cells as JupyterLab holds them now, outputs included."""
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")

    def errors(self) -> list[str]:
        """Tracebacks in the cells' outputs."""
        outputs = [o for cell in self.cells() for o in cell.get("outputs", [])]
        return ["\n".join(o["traceback"]) for o in outputs if o["output_type"] == "error"]

    def python(self, code: str, timeout: float = 60) -> Any:
        """Run code in the notebook's kernel, leaving no cell; returns its last expression, by way of JSON."""
        tree = ast.parse(code)
        value = "None"
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            value = ast.unparse(tree.body.pop().value)
        body = ast.unparse(tree)
        answer = self.page.evaluate(_EXECUTE, [body, f"__import__('json').dumps({value}, default=str)", timeout * 1000])
        if answer["status"] != "ok":
            raise AssertionError(f"{code}\n{answer['text']}")
        return json.loads(ast.literal_eval(answer["text"]))

    def kernel_pid(self) -> int:
        return self.python("__import__('os').getpid()")

    def dark(self, on: bool = True) -> None:
        """Switch JupyterLab's theme and wait until it is painted."""
        self.command("apputils:change-theme", theme="JupyterLab Dark" if on else "JupyterLab Light")
        want = "false" if on else "true"
        self.page.wait_for_function("(want) => document.body.dataset.jpThemeLight === want", arg=want)
        self.page.wait_for_timeout(300)

    def complaints(self) -> list[str]:
        """Errors on the browser's console and dialogs, without JupyterLab's own noise."""
        return [line for line in self.console if not any(word.lower() in line.lower() for word in HARMLESS)]

    def close(self) -> None:
        self.context.close()

    def _dialog(self, dialog: Any) -> None:
        """Leave the page when asked whether to; any other dialog is somebody's script and a complaint."""
        if dialog.type == "beforeunload":
            dialog.accept()
            return
        self.console.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def notebook(cells: Sequence[str]) -> dict[str, Any]:
    """A notebook document of code cells."""
    made = [
        {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "source": c, "outputs": [], "execution_count": None}
        for i, c in enumerate(cells)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": made, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


_EXECUTE = """async ([code, value, patience]) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({code, user_expressions: {value}, store_history: false, silent: false});
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error('no answer from the kernel')), patience));
    const content = (await Promise.race([future.done, late])).content;
    if (content.status !== 'ok') return {status: 'error', text: (content.traceback || [content.evalue]).join('\\n')};
    const shown = content.user_expressions.value;
    if (shown.status !== 'ok') return {status: 'error', text: (shown.traceback || [shown.evalue]).join('\\n')};
    return {status: 'ok', text: shown.data['text/plain']};
}"""
