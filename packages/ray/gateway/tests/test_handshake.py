"""Who gets in, and that nobody else disturbs those who are."""

import os
import secrets

import pytest

from effect_ray_gateway import connection as connection_module
from support.client import Client, pack, proof
from support.fake import spec
from support.poll import until

HELLO = {"role": "supervisor", "id": "s", "protocols": [1], "nonce": "00" * 16, "leaseSeconds": 30, "maxBodyBytes": 1}


@pytest.fixture
def witness(fake):
    """A supervisor that is connected before and has to be unharmed afterwards."""
    supervisor = fake.supervisor()
    yield supervisor
    supervisor.settle()


def test_both_sides_prove_that_they_know_the_secret(fake, witness):
    client = fake.client()
    client.send("HELLO", HELLO)
    challenge = client.next("CHALLENGE").json
    assert challenge["proof"] == proof(fake.secret, "gateway", HELLO["nonce"], challenge["nonce"])
    client.send("PROOF", {"proof": proof(fake.secret, "client", HELLO["nonce"], challenge["nonce"])})
    welcome = client.next("WELCOME").json
    assert welcome["instance"] == challenge["instance"] == fake.gateway.instance
    assert welcome["number"] == 2 and welcome["credit"]["frames"] > 0 and welcome["credit"]["bytes"] > 0


def test_a_wrong_proof_is_refused(fake, witness):
    for wrong in (secrets.token_hex(32), None):
        client = fake.client()
        client.send("HELLO", HELLO)
        nonce = client.next("CHALLENGE").json["nonce"]
        client.send("PROOF", {"proof": wrong and proof(wrong, "client", HELLO["nonce"], nonce)})
        assert "proof" in client.next("REFUSED").json["reason"]
        assert client.closed()
    assert set(fake.look(lambda gateway: gateway.supervisors)) == {witness.id}


def test_the_gateways_own_proof_is_no_proof_of_the_client(fake, witness):
    client = fake.client()
    client.send("HELLO", HELLO)
    client.send("PROOF", {"proof": client.next("CHALLENGE").json["proof"]})
    assert client.next("REFUSED")


@pytest.mark.parametrize(
    "hello",
    [
        {**HELLO, "protocols": [2, 3]},
        {**HELLO, "protocols": None},
        {**HELLO, "nonce": "00"},
        {**HELLO, "id": ""},
        {**HELLO, "id": "x" * 201},
        {**HELLO, "role": "admin"},
        [1],
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(fake, witness, hello):
    client = fake.client()
    client.send("HELLO", hello)
    assert client.next("REFUSED").json["reason"]
    assert client.closed()


@pytest.mark.parametrize("terms", [{"leaseSeconds": -1}, {"leaseSeconds": "x"}, {"maxBodyBytes": 1 << 40}])
def test_terms_out_of_bounds_are_refused(fake, witness, terms):
    assert fake.client().shake(fake.secret, "supervisor", "s", **terms).type == "REFUSED"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: gateway\r\nUser-Agent: somebody\r\n\r\n",
        os.urandom(4096),
        pack("HELLO", HELLO, version=2),
        pack("RUN", b"{}"),
        pack("PROOF", {"proof": ""}),
        pack("HELLO", b"not json"),
        pack("HELLO", b" " * 5000),
        pack("HELLO", HELLO) * 2,
        (262_145).to_bytes(4, "big") + pack("HELLO")[4:],
    ],
)
def test_garbage_ends_that_connection_only(fake, witness, data):
    client = fake.client()
    client.socket.sendall(data)
    assert client.closed()


def test_a_gateway_that_stops_says_so_by_a_code(fake, witness):
    fake.look(lambda gateway: setattr(gateway, "stopping", True))
    assert fake.client().shake(fake.secret, "supervisor", "other").json["code"] == "stopping"
    fake.look(lambda gateway: setattr(gateway, "stopping", False))
    assert fake.client().shake(fake.secret, "supervisor", "other", leaseSeconds=-1).json["code"] == "refused"


def test_who_has_proved_nothing_is_kept_a_few_kilobytes_only(fake, witness):
    client = fake.client()
    client.socket.sendall((4_097).to_bytes(4, "big") + pack("HELLO")[4:])
    assert client.closed()


def test_connections_are_bounded_those_that_say_nothing_included(fake, witness):
    fake.look(lambda gateway: setattr(gateway, "max_connections", 3))
    silent = [fake.client(), fake.client()]
    until(lambda: fake.look(lambda gateway: len(gateway.connections)) == 3, "they are connected")
    assert fake.client().closed()
    silent[0].close()
    until(lambda: fake.look(lambda gateway: len(gateway.connections)) == 2, "one has left")
    fake.supervisor().settle()


def test_a_silent_client_is_sent_away(fake, witness, monkeypatch):
    monkeypatch.setattr(connection_module, "HANDSHAKE_SECONDS", 0.05)
    assert fake.client().closed(5)


def test_a_hosts_token_works_once(fake):
    supervisor = fake.supervisor()
    supervisor.run(supervisor.open(spec()), b"{}")
    order = fake.order()
    thief = fake.client()
    assert thief.shake(secrets.token_hex(32), "host", order.name, pid=1, node="n", slots=1).type == "REFUSED"
    assert fake.client().shake(fake.secret, "host", "unknown", pid=1, node="n", slots=1).type == "REFUSED"
    host = fake.host(order=order)
    host.run()
    again = fake.client()
    assert again.shake(order.orders["token"], "host", order.name, pid=1, node="n", slots=1).type == "REFUSED"


def test_a_host_without_slots_is_refused(fake):
    supervisor = fake.supervisor()
    supervisor.run(supervisor.open(spec()), b"{}")
    order = fake.order()
    assert fake.client().shake(order.orders["token"], "host", order.name, pid=1, node="n", slots=0).type == "REFUSED"


def test_frames_that_a_supervisor_may_not_send_end_its_connection(fake, witness):
    for frame in (pack("RESULT"), pack("WELCOME"), pack("ACK", b"123"), pack("POOL", b"[]"), pack("POOL", {"ref": "x"})):
        supervisor = fake.supervisor()
        supervisor.socket.sendall(frame)
        assert supervisor.next("REFUSED").json["reason"]
        assert supervisor.closed()


def test_connections_that_end_are_forgotten(fake):
    clients = [Client(fake.address) for _ in range(20)]
    until(lambda: fake.look(lambda gateway: len(gateway.connections)) == 20, "all are known")
    for client in clients:
        client.close()
    until(lambda: fake.look(lambda gateway: len(gateway.connections)) == 0, "all are forgotten")
