"""The gateway as a process of its own, on a real Ray."""

import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

from .client import Supervisor
from .poll import until

GATEWAY = pathlib.Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 20


class RealGateway:
    """`with` starts it as its job would be started, and ends it by SIGTERM."""

    def __init__(self, head, env=None, **config):
        self.head = head
        self.env = env or {}
        # No worker stands behind these tests that would try again what waits for long, and a client of theirs answers no
        # pings while the test waits for something else.
        patient = {"waitSeconds": 120, "silentSeconds": 120}
        self.config = {"deployment": f"test-{secrets.token_hex(3)}", "epoch": 1, **patient, **config}
        self.supervisors = []

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="eg", dir="/tmp")
        self.secret = secrets.token_hex(32)
        for name, text in (("config.json", json.dumps(self.config)), ("secret", self.secret)):
            pathlib.Path(self.folder, name).write_text(text)
        shutil.copytree(GATEWAY / "effect_ray_gateway", pathlib.Path(self.folder, "effect_ray_gateway"))
        shutil.copy(GATEWAY / "effect_ray.py", self.folder)
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "effect_ray_gateway"],
            cwd=self.folder, env={**self.head.env, **self.env}, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        line = self.process.stdout.readline()
        assert line, self.read_log()
        self.found = json.loads(line)
        self.address = (self.found["host"], self.found["port"])
        return self

    def read_log(self):
        with open(self.log.name) as log:
            return log.read()

    def supervisor(self, **options):
        supervisor = Supervisor(self.address, self.secret, **options)
        self.supervisors.append(supervisor)
        return supervisor

    def gone(self):
        return self.process.poll() is not None

    def __exit__(self, *_):
        for supervisor in self.supervisors:
            supervisor.close()
        if not self.gone():
            # Without its Ray it could not end in order.
            self.process.send_signal(signal.SIGTERM if self.head.running else signal.SIGKILL)
        try:
            until(self.gone, "the gateway ends", STOP_SECONDS)
        finally:
            if not self.gone():
                self.process.kill()
            self.process.stdout.close()
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)
