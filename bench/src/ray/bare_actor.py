"""Bare Ray, without any durability: what a call of a Python actor costs. Prints one line of JSON."""

import json
import sys
import time
from collections import deque

import ray

WARM_UP = 200


@ray.remote(num_cpus=0)
class Echo:
    def echo(self, value):
        return value


def p50_millis(actor, calls):
    """One call at a time."""
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        ray.get(actor.echo.remote("x"))
        times.append(time.perf_counter() - begin)
    return sorted(times)[calls // 2] * 1000


def calls_per_second(actors, calls, in_flight):
    """So many in flight at any time. The oldest is awaited, which is the cheapest way to keep the window full."""
    pending = deque()
    begin = time.perf_counter()
    for number in range(calls):
        if len(pending) == in_flight:
            ray.get(pending.popleft())
        pending.append(actors[number % len(actors)].echo.remote("x"))
    while pending:
        ray.get(pending.popleft())
    return calls / (time.perf_counter() - begin)


def main():
    latency_calls, throughput_calls, in_flight, actors = map(int, sys.argv[1:])
    ray.init(log_to_driver=False)
    pool = [Echo.remote() for _ in range(actors)]
    for actor in pool:
        ray.get([actor.echo.remote("x") for _ in range(WARM_UP)])
    figures = {
        "p50Millis": p50_millis(pool[0], latency_calls),
        "callsPerSecond": calls_per_second(pool, throughput_calls, in_flight),
    }
    print(json.dumps({"bareActor": figures}), flush=True)


main()
