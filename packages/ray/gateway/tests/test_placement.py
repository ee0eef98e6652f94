"""What is asked of Ray for a host."""

from effect_ray_gateway import placement
from support.fake import spec

GATEWAY = ("127.0.0.1", 1)


def environment(cluster):
    return cluster._options("host", spec())["runtime_env"]


def test_a_gateway_does_not_ask_for_an_environment_that_another_could_not_have():
    one, other = placement.RayCluster(GATEWAY, "one"), placement.RayCluster(GATEWAY, "other")
    assert environment(one) == environment(one) != environment(other)
    before = environment(one)
    one._tries[placement._environment(spec())] = 1
    assert environment(one) != before
