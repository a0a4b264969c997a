"""JupyterLab as `make lab` starts it, on a copy of the notebooks and with nobody's own settings."""

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# The whole notebook is in the page, also what is not in view. All else is as a learner finds it.
SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"}}
SECONDS_TO_START = 60


class LabServer:
    def __init__(self, folder: Path):
        self.notebooks = folder / "notebooks"  # a copy: tests may put more of their own there
        shutil.copytree(ROOT / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".*"))
        private = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
        for name, values in SETTINGS.items():
            file = folder / "CONFIG/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(values))
        self._token = secrets.token_hex()
        self._address = f"http://127.0.0.1:{free_port()}"
        self.started = time.monotonic()
        with open(folder / "log", "wb") as log:
            options = dict(cwd=folder, env={**os.environ, **private}, stdout=log, stderr=log, start_new_session=True)
            self._process = subprocess.Popen(self._command(), shell=True, **options)
        try:
            self._wait(folder / "log")
        except BaseException:
            self.stop()
            raise

    def _command(self) -> str:
        """The last line that `make lab` would run, for this Python and with a few options more."""
        port = self._address.rpartition(":")[2]
        flags = f"--allow-root --no-browser --ip 127.0.0.1 --port {port} --ServerApp.port_retries=0"
        flags += f" --IdentityProvider.token={self._token} --expose-app-in-browser"
        make = ["make", "--dry-run", "--no-print-directory", "lab"]
        make += [f"BIN={shlex.quote(str(Path(sys.executable).parent))}", f"LABFLAGS={flags}"]
        environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
        answer = subprocess.run(make, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        return answer.stdout.splitlines()[-1]

    def _wait(self, log: Path) -> None:
        while time.monotonic() < self.started + SECONDS_TO_START and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self._address}/api?token={self._token}", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"JupyterLab did not start within {SECONDS_TO_START} s; it said: {log.read_text()[-3000:]}")

    def address_of(self, notebook: str) -> str:
        return f"{self._address}/lab/tree/notebooks/{notebook}?reset&token={self._token}"

    def stop(self) -> None:
        """Ends the server, which ends its kernels."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
