"""What handlers print is kept in files that do not grow without bound."""

import os
import pathlib

import pytest

from effect_ray_gateway import placement
from support.bundles import does, node_pool, python_pool, run_body
from support.poll import until

#: More than all files of a host together may hold.
MEGABYTES = 80


def sizes(ray_head, pid):
    """How large the files of a host's standard output are, whose actor has this number."""
    logs = pathlib.Path(ray_head.folder, "session_latest", "logs")
    try:
        return sorted(file.stat().st_size for file in logs.glob(f"worker-*-{pid}.out*"))
    except FileNotFoundError:
        return []  # Renamed between the two looks.


def memory(pid):
    """How much memory a process has, in bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("end", ["\n", ""], ids=["lines", "one line"])
@pytest.mark.parametrize("runtime", ["node", "python"])
def test_a_flood_of_output_is_rotated(gateway, ray_head, runtime, end):
    supervisor = gateway.supervisor()
    if runtime == "node":
        pool, body = supervisor.open(node_pool(ray_head, placement={"cpus": 0.1})), does("say", megabytes=MEGABYTES, end=end)
    else:
        pool, body = supervisor.open(python_pool(ray_head, placement={"cpus": 0.1})), run_body("say", {"megabytes": MEGABYTES, "end": end})
    # The second time as the first.
    for _ in range(2):
        pid = supervisor.result(supervisor.run(pool, body), 180).json
        found = until(lambda: len(found := sizes(ray_head, pid)) > placement.LOG_FILES_KEPT and found, "the files are rotated")
        assert len(found) == placement.LOG_FILES_KEPT + 1
        assert max(found) <= placement.LOG_FILE_BYTES
        # Ray keeps a line until it ends. An actor itself has some 100 MiB.
        assert memory(pid) < 300 * 1024 * 1024
    supervisor.send("BYE")
