"""Clusters of several nodes that are not alike."""

import os
import shutil
import sys

from support.bundles import does, node_pool
from support.netns import in_own_network
from support.ray_head import RayHead
from support.real import RealGateway


def without_node(folder):
    """A PATH with Python and a shell, which Ray needs, and no Node.js."""
    for name in ("bash", "sh"):
        (folder / name).symlink_to(shutil.which("bash"))
    return f"{os.path.dirname(sys.executable)}:{folder}"


@in_own_network
def test_a_node_without_nodejs_is_left_out_and_spoils_the_others_for_no_pool(tmp_path):
    # A package index that is not there: what has to be installed cannot be.
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0", "RUNTIME_ENV_RETRY_TIMES": "1"}
    with RayHead(cpus=0) as head, head.node(cpus=4, PATH=without_node(tmp_path), **offline) as bare:
        with RealGateway(head) as gateway:
            supervisor = gateway.supervisor()
            # Only the bare node has CPUs.
            first = supervisor.open(node_pool(head, 1, placement={"cpus": 0.5}))
            supervisor.run(first, does("about"))
            failed = supervisor.next(lambda frame: frame.type == "POOL_STATE" and frame.json["state"] == "failed", 150).json
            assert "nodejs" in failed["detail"].lower()
            # Another node comes, with Node.js. The pool that could not start is not spoilt, and no other either.
            with head.node(cpus=4):
                pools = [first, supervisor.open(node_pool(head, 2, placement={"cpus": 0.5, "maxHosts": 3, "concurrency": 1}))]
                for pool in pools:
                    for _ in range(3):
                        call = supervisor.run(pool, does("about"))
                        lost = supervisor.result(call)
                        while lost.type == "LOST" and lost.json["kind"] == "unplaced":
                            call = supervisor.run(pool, does("about"))
                            lost = supervisor.result(call)
                        assert lost.type == "RESULT"
            supervisor.send("BYE")
        assert bare.poll() is None
