"""Long polls: who asks for so many bytes is answered when they are there, not when its time is over."""

import wire
from rig import equal, metric, until


def enough_bytes_end_a_poll(rig):
    broker = rig.running(shards=2)
    batch = wire.batch([bytes(1000)])
    # Its time is over only after the client has lost patience.
    patience_s, wait_ms = 20, 60_000
    with wire.Client(broker.kafka) as writer, wire.Client(broker.kafka, patience_s) as reader:
        # On the reader's shard, and on the other one.
        writer.create_topic("t", partitions=2)
        for partition in range(2):
            writer.produce("t", partition, batch)
            ask = wire.fetch_body("t", partition, 0, wait_ms=wait_ms, min_bytes=2 * len(batch))
            reader.send(wire.FETCH, ask)
            until(lambda: metric(broker, "ringmq_fetches_parked") == 1, "the fetch does not wait")
            writer.produce("t", partition, batch)
            data, _ = reader.fetched(reader.receive()[1])
            equal(len(data), 2 * len(batch), "bytes")


CASES = {"long poll/enough bytes": enough_bytes_end_a_poll}
