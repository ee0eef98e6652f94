"""What the tests of pools share."""

import asyncio

BODY = b"{}"


def state_of(supervisor, ref, wanted):
    """The next POOL_STATE of a pool that is in that state."""
    return supervisor.next(lambda frame: frame.type == "POOL_STATE" and frame.json["ref"] == ref and frame.json["state"] == wanted).json


def serves(fake, supervisor, pool, slots=1):
    """The pool's next host, which has ended an attempt."""
    call = supervisor.run(pool, BODY)
    host = fake.host(slots)
    host.answer(host.run())
    assert supervisor.result(call).type == "RESULT"
    return host


def unplaced(why, detail):
    return {"kind": "unplaced", "why": why, "detail": detail, "collateral": True}


async def never_placed(cluster, placed, name, spec, orders, on_placed):
    await asyncio.Event().wait()
