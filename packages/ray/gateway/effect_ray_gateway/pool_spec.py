"""What supervisors ask for with POOL: what the hosts of a pool are, and what each gets from Ray."""

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
    """What one host asks of Ray."""

    cpus: float = 1
    gpus: float = 0
    #: In bytes.
    memory: float = 0
    #: Custom resources, by their names.
    resources: Dict[str, float] = field(default_factory=dict)
    #: Python packages that Ray installs for it.
    pip: List[str] = field(default_factory=list)
    #: The most hosts of the pool.
    max_hosts: int = 1

    @staticmethod
    def read(value: Dict[str, Any]) -> "Placement":
        """Raises `ValueError` for a placement that no host could have."""
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
        """The kinds of resources that a host occupies."""
        amounts = {"cpus": self.cpus, "gpus": self.gpus, "memory": self.memory}
        return {name for name, amount in amounts.items() if amount} | set(self.resources)


@dataclass(frozen=True)
class PoolSpec:
    """A pool, as it is asked for. Two are the same pool when their keys are equal."""

    key: str
    runtime: str
    package: str
    placement: Placement
    max_result_bytes: int
    max_payload_bytes: int
    grace_millis: int
    env: Dict[str, Any]
    #: What a host is told of it, as it came: only hosts read all of it.
    orders: Dict[str, Any]

    @staticmethod
    def read(spec: Dict[str, Any]) -> "PoolSpec":
        """Raises `ValueError` for a spec that no host could serve."""
        runtime, package, placement = spec.get("runtime"), spec.get("package"), spec.get("placement")
        if runtime not in ("node", "python"):
            raise ValueError(f"runtime is {runtime!r}, not node or python")
        # Without a package a host would be given the job's own, in which the gateway's secret lies.
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
