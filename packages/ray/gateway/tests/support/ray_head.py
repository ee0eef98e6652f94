"""A Ray of one node that listens on loopback only, started and ended as our own child."""

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from .poll import until

ROOT = pathlib.Path(__file__).resolve().parents[5]
START_SECONDS = 180
STOP_SECONDS = 45


def free_ports(count):
    """Ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class RayHead:
    """`with` starts it and ends it with all of its processes."""

    def __init__(self, cpus=4, resources="{}"):
        self.cpus = cpus
        self.resources = resources

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="er", dir="/tmp")
        self.token = secrets.token_hex(16)
        gcs, dashboard, client, manager, nodes, agent, grpc, metrics, low = free_ports(9)
        self.port, self.dashboard = gcs, dashboard
        self.env = {
            **os.environ,
            # The Node.js of the repository, so that it need not be installed for every Ray anew.
            "PATH": f"{ROOT / 'node_modules' / '.bin'}:{os.environ['PATH']}",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            # Hosts have an environment of their own, so workers that Ray starts in advance are of no use.
            "RAY_prestart_worker_first_driver": "0",
            # The hosts have to be gone without Ray's help.
            "RAY_process_group_cleanup_enabled": "0",
            "RAY_ADDRESS": f"127.0.0.1:{gcs}",
        }
        self.log = open(os.path.join(self.folder, "head.log"), "w+")
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={gcs}",
            "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}", f"--object-manager-port={manager}", f"--node-manager-port={nodes}",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}", f"--metrics-export-port={metrics}",
            f"--temp-dir={self.folder}", f"--num-cpus={self.cpus}", "--num-gpus=0", f"--resources={self.resources}",
            "--object-store-memory=80000000", "--disable-usage-stats",
        ]
        self.process = subprocess.Popen(
            command, env={name: value for name, value in self.env.items() if name != "RAY_ADDRESS"},
            stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )
        self._await_start()
        return self

    def _await_start(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(self.log.name) as log:
                if "Ray runtime started" in log.read():
                    return
            time.sleep(0.05)
        with open(self.log.name) as log:
            text = log.read()
        self.kill()
        raise AssertionError(f"Ray did not start: {text}")

    def kill(self):
        """Ends every process of it at once."""
        _kill(self.process)

    @contextlib.contextmanager
    def node(self, resources="{}", cpus=2, **env):
        """Another node of the cluster while the context is open. Not on loopback: see `netns`."""
        agent, grpc, environments, metrics, manager, nodes = free_ports(6)
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", f"--address=127.0.0.1:{self.port}", "--block",
            "--node-ip-address=127.0.0.2", f"--object-manager-port={manager}", f"--node-manager-port={nodes}",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
            f"--runtime-env-agent-port={environments}", f"--metrics-export-port={metrics}", f"--num-cpus={cpus}",
            "--num-gpus=0", f"--resources={resources}", "--object-store-memory=80000000", "--disable-usage-stats",
        ]
        # Ray takes one machine for no cluster otherwise.
        given = {**self.env, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", **env}
        del given["RAY_ADDRESS"]
        with open(os.path.join(self.folder, f"node-{nodes}.log"), "w+") as log:
            process = subprocess.Popen(command, env=given, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                until(lambda: "Ray runtime started" in pathlib.Path(log.name).read_text(), "the node joins")
                yield process
            finally:
                _kill(process)

    @property
    def running(self):
        return self.process.poll() is None

    def __exit__(self, *_):
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
