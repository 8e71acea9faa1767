"""Counts words with any number of workers, and loses none when one of them is killed.

    python3 docs/demo/wordcount.py work      # start as many as you like; they share the topic `lines`
    python3 docs/demo/wordcount.py tally     # waits until all lines are counted, and prints the sums

A worker writes what it counted before it commits what it read. So a line that it had not committed when it died is
counted again by another one, and the tally takes each line once: it knows it by its partition and offset.
"""

import collections
import json
import os
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
GROUP = "wordcount"


def work():
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000,
    })  # fmt: skip
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})

    def tell(_, partitions):
        print(f"worker {os.getpid()} has partitions {[one.partition for one in partitions]}\n", end="", flush=True)

    consumer.subscribe(["lines"], on_assign=tell)
    while True:
        lines = [line for line in consumer.consume(100, timeout=0.5) if line.error() is None]
        for line in lines:
            counts = collections.Counter(line.value().decode().split())
            producer.produce("counts", key=f"{line.partition()}-{line.offset()}", value=json.dumps(counts))
        producer.flush()
        if lines:
            time.sleep(0.01)  # Stands for harder work.
            consumer.commit(asynchronous=False)


def tally():
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "enable.partition.eof": True})
    while behind(consumer):
        time.sleep(0.2)
    reader = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "tally", "enable.partition.eof": True})
    reader.assign([TopicPartition("counts", p, 0) for p in partitions_of(reader, "counts")])
    ends, unread, seen, words = 0, len(reader.assignment()), set(), collections.Counter()
    repeated = 0
    while ends < unread:
        for record in reader.consume(1000, timeout=1):
            if record.error() is not None:
                ends += 1
            elif record.key() in seen:
                repeated += 1
            else:
                seen.add(record.key())
                words.update(json.loads(record.value()))
    print(f"{len(seen)} lines, {repeated} of them counted twice")
    for word, count in words.most_common(3):
        print(f"{count} {word}")


def partitions_of(consumer, topic):
    return list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)


def behind(consumer):
    """Are there lines that the workers have not committed?"""
    asked = [TopicPartition("lines", p) for p in partitions_of(consumer, "lines")]
    ends = {one.partition: consumer.get_watermark_offsets(one, timeout=10)[1] for one in asked}
    return any(max(one.offset, 0) < ends[one.partition] for one in consumer.committed(asked, timeout=10))


if __name__ == "__main__":
    {"work": work, "tally": tally}[sys.argv[1]]()
