"""Bare Ray: a warm Python actor called one at a time, then with many calls in flight.

Runs as a Ray Job on the head that our own rows run on. Prints one JSON line: the p50 of a call in milliseconds and
the calls per second.
"""

import collections
import json
import statistics
import sys
import time

import ray

WARM_UP = 500
CALLS = 1_000
IN_FLIGHT = 500
# Results are fetched this many at a time: faster than one by one, and the window stays nearly full.
FETCH = 50
SECONDS = 3.0


@ray.remote(num_cpus=0)
class Echo:
    def echo(self, value):
        return value


def latency(actor, calls):
    times = []
    for number in range(calls):
        begin = time.perf_counter()
        ray.get(actor.echo.remote({"id": number}))
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def throughput(actors, seconds):
    flying = collections.deque()
    sent = 0
    done = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        while len(flying) < IN_FLIGHT:
            flying.append(actors[sent % len(actors)].echo.remote({"id": sent}))
            sent += 1
        done += len(ray.get([flying.popleft() for _ in range(FETCH)]))
    elapsed = time.perf_counter() - begin
    ray.get(list(flying))
    return done / elapsed


def main():
    ray.init(log_to_driver=False)
    actors = [Echo.remote() for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1)]
    latency(actors[0], WARM_UP)
    p50 = latency(actors[0], CALLS)
    throughput(actors, SECONDS / 3)
    rate = throughput(actors, SECONDS)
    print(json.dumps({"bare_calls": 1, "p50_ms": p50, "calls_per_second": rate}), flush=True)


if __name__ == "__main__":
    main()
