"""The pools that supervisors request with POOL: what their hosts run, and what each host gets from Ray."""

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Set

MAX_HOSTS = 10_000
MAX_LIMIT_BYTES = 256 * 1024 * 1024
MAX_GRACE_MILLIS = 3_600_000
DEFAULT_LIMIT_BYTES = 2 << 20
DEFAULT_GRACE_MILLIS = 5000


@dataclass(frozen=True)
class Placement:
    """What one host gets from Ray."""

    #: The number of CPUs, which may be a fraction.
    cpus: float = 1
    #: The number of GPUs, which may be a fraction.
    gpus: float = 0
    #: The memory, in bytes; 0 requests none.
    memory: float = 0
    #: Custom resources by name.
    resources: Dict[str, float] = field(default_factory=dict)
    #: The Python packages that Ray installs.
    pip: List[str] = field(default_factory=list)
    #: How many hosts the pool may have.
    max_hosts: int = 1

    @staticmethod
    def read(value: Dict[str, Any]) -> "Placement":
        """Reads a placement. Raises `ValueError` if no host could have it."""
        amounts = {}
        for name in ("cpus", "gpus", "memory"):
            amount = value.get(name)
            if amount is None:
                continue
            if isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
                raise ValueError(f"placement.{name} is {amount!r}, not an amount")
            amounts[name] = amount
        resources, pip = value.get("resources") or {}, value.get("pip") or []
        if not isinstance(resources, dict) or not isinstance(pip, list):
            raise ValueError("placement.resources is an object, placement.pip a list")
        return Placement(**amounts, resources=resources, pip=pip, max_hosts=_integer(value, "maxHosts", 1, 1, MAX_HOSTS))

    def kinds(self) -> Set[str]:
        """Returns the kinds of resources that a host occupies."""
        amounts = {"cpus": self.cpus, "gpus": self.gpus, "memory": self.memory}
        return {name for name, amount in amounts.items() if amount} | set(self.resources)


@dataclass(frozen=True)
class PoolSpec:
    """A requested pool. Two requests with equal keys are the same pool."""

    key: str
    runtime: str
    package: str
    placement: Placement
    max_result_bytes: int
    max_payload_bytes: int
    grace_millis: int
    env: Dict[str, Any]
    #: The parts that hosts receive, unchanged: only hosts read all of them.
    orders: Dict[str, Any]

    @staticmethod
    def read(spec: Dict[str, Any]) -> "PoolSpec":
        """Reads a POOL body. Raises `ValueError` if no host could serve it."""
        runtime, package, placement = spec.get("runtime"), spec.get("package"), spec.get("placement")
        if runtime not in ("node", "python"):
            raise ValueError(f"runtime is {runtime!r}, not node or python")
        # Without a package a host would get the job's own package, which contains the gateway's secret.
        if not isinstance(package, str) or not isinstance(placement, dict):
            raise ValueError("a pool needs a package and a placement")
        env, limits = spec.get("env") or {}, spec.get("limits") or {}
        if not isinstance(env, dict) or not isinstance(limits, dict):
            raise ValueError("env and limits are objects")
        return PoolSpec(
            key=json.dumps(spec, sort_keys=True),
            runtime=runtime,
            package=package,
            placement=Placement.read(placement),
            max_result_bytes=_integer(limits, "maxResultBytes", DEFAULT_LIMIT_BYTES, 1, MAX_LIMIT_BYTES),
            max_payload_bytes=_integer(limits, "maxPayloadBytes", DEFAULT_LIMIT_BYTES, 1, MAX_LIMIT_BYTES),
            grace_millis=_integer(limits, "graceMillis", DEFAULT_GRACE_MILLIS, 0, MAX_GRACE_MILLIS),
            env=env,
            orders={"env": env, "limits": limits, "placement": placement},
        )


def _integer(values: Dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}, not an integer from {least} to {most}")
    return value
