"""The broker's produce latency beside what its client saw.

Each bound here holds however the two are scheduled: on a busy machine they come apart, but never cross.
"""

import time

import wire
from rig import admin, check, equal
from told import STAGES, parse

ROUND_TRIPS = 3000
# Rounds of a request that is held up, and for how long.
HELD_ROUNDS = 60
HELD_MS = 30


def no_more_than_the_round_trips(rig):
    """One request after another: the broker has each for a part of the client's round trip."""
    broker = rig.running()
    batch = wire.batch([b"some value"])
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        client.produce("t", 0, batch)
        before = _read(broker)
        # Round trips without a gap: one reading of the clock for each, so that wherever the broker is held up
        # between its answer and its own clock, some round trip has that time.
        began = time.monotonic()
        for _ in range(ROUND_TRIPS):
            client.produce("t", 0, batch)
        after = _read(broker)
        round_trips_s = time.monotonic() - began
    spent = {name: after[name] - before[name] for name in after}
    equal(spent["count"], ROUND_TRIPS, "produce requests counted")
    check(
        spent["whole"] <= round_trips_s,
        f"{spent['whole'] / ROUND_TRIPS * 1e6:.0f} µs are the broker's mean, {round_trips_s / ROUND_TRIPS * 1e6:.0f} µs its client's",
    )
    # One block for each request, timed by the log: what the client waited for in any case.
    equal(spent["blocks"], ROUND_TRIPS, "blocks written")
    check(spent["whole"] > spent["writes"], f"{spent['whole']} s of requests that waited {spent['writes']} s for the device")
    _near(spent["device_write"], spent["writes"], "the requests' stage device_write", "the time of the blocks' writes")
    _stages_near(spent)


def a_held_up_request_is_timed_from_its_arrival(rig):
    """What came whole and waits behind another request is under way all the time: no stall can shorten that."""
    broker = rig.running(settings=["kafka.connection_in_flight_max=1"])
    batch = wire.batch([b"some value"])
    with wire.Client(broker.kafka) as client:
        client.create_topic("empty")
        client.create_topic("t")
        client.produce("t", 0, batch)
        fetch = wire.request(wire.FETCH, wire.fetch_body("empty", 0, 0, wait_ms=HELD_MS))
        produce = wire.request(wire.PRODUCE, wire.produce_body("t", 0, batch), 2)
        client.fetch("empty", 0, 0, wait_ms=1)
        before = _read(broker)
        began = time.monotonic()
        for _ in range(HELD_ROUNDS):
            # In one packet: they come in one turn. The second is taken up when the first is answered.
            client.socket.sendall(fetch + produce)
            data, _ = client.fetched(client.receive()[1])
            equal(len(data), 0, "bytes of an empty topic")
            client.produced(client.receive()[1])
        after = _read(broker)
        round_trips_s = time.monotonic() - began
    spent = {name: after[name] - before[name] for name in after}
    equal(spent["count"], HELD_ROUNDS, "produce requests counted")
    held_s = HELD_ROUNDS * HELD_MS / 1000
    check(
        held_s <= spent["whole"] <= round_trips_s,
        f"{spent['whole']:.3f} s are the broker's, held up for {held_s} s of {round_trips_s:.3f} s at the client",
    )
    check(spent["admission"] >= held_s, f"{spent['admission']:.3f} s of admission, held up for {held_s} s")
    _stages_near(spent)


def _read(broker):
    """Sums in seconds, and counts, of all since the broker's start."""
    samples, _ = parse(admin(broker, "/metrics"))
    read = {stage: samples[f'ringmq_produce_stage_seconds_sum{{stage="{stage}"}}'] for stage in STAGES}
    read["whole"], read["count"] = samples["ringmq_produce_seconds_sum"], samples["ringmq_produce_seconds_count"]
    read["writes"], read["blocks"] = samples["ringmq_log_write_seconds_sum"], samples["ringmq_log_write_seconds_count"]
    return read


def _stages_near(spent):
    _near(sum(spent[stage] for stage in STAGES), spent["whole"], "the sum of the stages", "the whole")


def _near(got, expected, what, other):
    check(abs(got - expected) <= 0.05 * expected, f"{what} is {got:.6f} s, {other} {expected:.6f} s")


CASES = {
    "latency/round trips": no_more_than_the_round_trips,
    "latency/held up": a_held_up_request_is_timed_from_its_arrival,
}
