"""Fixtures: a gateway without Ray in a thread of this process, and a real Ray on loopback with a real gateway."""

import pathlib
import sys

GATEWAY = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(GATEWAY), str(GATEWAY / "tests")]

import pytest

from support.fake import FakeGateway
from support.ray_head import RayHead
from support.real import RealGateway


def pytest_collection_modifyitems(items):
    """The test that ends the shared Ray comes last."""
    items.sort(key=lambda item: item.get_closest_marker("ends_ray") is not None)


def pytest_configure(config):
    config.addinivalue_line("markers", "ends_ray: ends the Ray that the other tests share")


@pytest.fixture
def fake():
    """A gateway whose hosts are clients of the test."""
    with FakeGateway() as gateway:
        yield gateway


@pytest.fixture(scope="session")
def ray_head():
    """A Ray of one node on loopback, with token authentication."""
    with RayHead() as head:
        yield head


@pytest.fixture(scope="session")
def gateway(ray_head):
    """The gateway as a process connected to that Ray, shared by the tests that do not end it."""
    with RealGateway(ray_head, idleSeconds=600) as gateway:
        yield gateway
