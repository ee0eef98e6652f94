"""The settings, and the messages for bad ones."""

import json
import os
import stat

import pytest

from effect_ray_gateway import auth
from effect_ray_gateway.config import Listen, read_config, read_listen, require_private


def write(folder, value):
    path = folder / "config.json"
    path.write_text(json.dumps(value))
    return str(path)


def test_reads_what_is_stated_and_defaults_the_rest(tmp_path):
    config = read_config(write(tmp_path, {"deployment": "shop", "epoch": 3, "idleSeconds": 5, "later": True}))
    assert (config.deployment, config.epoch, config.idle_seconds, config.silent_seconds) == ("shop", 3, 5, 15)


@pytest.mark.parametrize("value", [{}, {"deployment": "", "epoch": 1}, {"deployment": "a", "epoch": "1"}])
def test_needs_a_deployment_and_an_epoch(tmp_path, value):
    with pytest.raises(ValueError, match="deployment"):
        read_config(write(tmp_path, value))


def test_names_the_field_and_the_value_that_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="idleSeconds is -1"):
        read_config(write(tmp_path, {"deployment": "a", "epoch": 1, "idleSeconds": -1}))


def test_reads_where_to_listen():
    assert read_listen({}) == Listen(None, 0, None)
    assert read_listen({"EFFECT_RAY_GATEWAY_PORT": "7000", "EFFECT_RAY_GATEWAY_ADVERTISE": "ray.internal:80"}) == Listen(
        None, 7000, ("ray.internal", 80)
    )
    with pytest.raises(ValueError, match="EFFECT_RAY_GATEWAY_PORT is 'x'"):
        read_listen({"EFFECT_RAY_GATEWAY_PORT": "x"})
    with pytest.raises(ValueError, match="EFFECT_RAY_GATEWAY_ADVERTISE is 'here'"):
        read_listen({"EFFECT_RAY_GATEWAY_ADVERTISE": "here"})


def test_listens_on_private_addresses_only():
    for address in ("127.0.0.1", "10.1.2.3", "::1"):
        require_private(address)
    for address in ("0.0.0.0", "::", "8.8.8.8"):
        with pytest.raises(ValueError, match="EFFECT_RAY_GATEWAY_BIND"):
            require_private(address)


def test_the_secret_is_read_once(tmp_path):
    path = tmp_path / "secret"
    path.write_text("ab" * 32 + "\n")
    assert auth.take_secret(str(path)) == "ab" * 32
    assert not path.exists()
    path.write_text("ab")
    with pytest.raises(ValueError, match="32 bytes"):
        auth.take_secret(str(path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
