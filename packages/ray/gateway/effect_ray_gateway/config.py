"""Reads the gateway's configuration: `config.json` of its package, and the environment of its job."""

import ipaddress
import json
import os
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

Address = Tuple[str, int]


@dataclass(frozen=True)
class Config:
    """The fields of `config.json`, which `docs/gateway-protocol.md` describes. Durations are in seconds."""

    deployment: str
    epoch: int
    idle_seconds: float = 60
    drain_seconds: float = 2
    ping_seconds: float = 5
    silent_seconds: float = 15
    wait_seconds: float = 10


@dataclass(frozen=True)
class Listen:
    """Where the gateway listens, and the address that it advertises."""

    #: The IP address to listen on; none means that of its Ray node.
    bind: Optional[str]
    #: The port to listen on; 0 means any free one.
    port: int
    #: The address at which workers reach it; none means the one that it listens on.
    advertise: Optional[Address]


_FIELDS = {
    "idleSeconds": "idle_seconds",
    "drainSeconds": "drain_seconds",
    "pingSeconds": "ping_seconds",
    "silentSeconds": "silent_seconds",
    "waitSeconds": "wait_seconds",
}


def read_config(path: str) -> Config:
    """Reads `config.json`, ignoring unknown fields. Raises `ValueError` with the wrong field."""
    with open(path, encoding="utf-8") as file:
        value = json.load(file)
    deployment, epoch = value.get("deployment"), value.get("epoch")
    if not isinstance(deployment, str) or not deployment or not isinstance(epoch, int):
        raise ValueError("config.json needs a deployment (text) and an epoch (integer)")
    return Config(deployment, epoch, **{name: _seconds(key, value[key]) for key, name in _FIELDS.items() if key in value})


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"config.json: {key} is {value!r}, expected a positive number of seconds")
    return value


def read_listen(env: Mapping[str, str] = os.environ) -> Listen:
    """Reads the `EFFECT_RAY_GATEWAY_*` variables. Raises `ValueError` with the wrong variable and its value."""
    advertise = env.get("EFFECT_RAY_GATEWAY_ADVERTISE") or None
    return Listen(
        bind=env.get("EFFECT_RAY_GATEWAY_BIND") or None,
        port=_port("EFFECT_RAY_GATEWAY_PORT", env.get("EFFECT_RAY_GATEWAY_PORT") or "0"),
        advertise=None if advertise is None else _address("EFFECT_RAY_GATEWAY_ADVERTISE", advertise),
    )


def _port(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise ValueError(f"{name} is {value!r}, expected a port number")
    return int(value)


def _address(name: str, value: str) -> Address:
    host, colon, port = value.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{name} is {value!r}, expected host:port")
    return host.strip("[]"), _port(name, port)


#: The same list as in TypeScript (`RayAddress.isPrivate`), so that both agree on every address.
PRIVATE_NETWORKS = [
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
        "::1/128", "fc00::/7", "fe80::/10",
    )
]


def require_private(host: str) -> None:
    """Raises `ValueError` if the address is not private. The gateway only listens on private addresses, because frames
    are not encrypted.
    """
    address = ipaddress.ip_address(host)
    if not any(address in network for network in PRIVATE_NETWORKS if network.version == address.version):
        raise ValueError(f"{host} is not a private address; set EFFECT_RAY_GATEWAY_BIND to one")
