"""A consumer of a group, for cases that look at it from outside. Runs where confluent-kafka is installed.

    reader.py BOOTSTRAP GROUP TOPIC PARTITIONS PROTOCOL OFFSET

When it has so many partitions it commits OFFSET for partition 0 and says so in a line. It leaves when its standard
input ends.
"""

import sys
import threading

from confluent_kafka import Consumer, TopicPartition


def main():
    bootstrap, group, topic, partitions, protocol, offset = sys.argv[1:]
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": "reader",
        "group.protocol": protocol,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })  # fmt: skip
    left = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), left.set()), daemon=True).start()
    consumer.subscribe([topic])
    told = False
    while not left.is_set():
        consumer.poll(0.05)
        if not told and len(consumer.assignment()) == int(partitions):
            consumer.commit(offsets=[TopicPartition(topic, 0, int(offset))], asynchronous=False)
            print("ready", flush=True)
            told = True
    consumer.close()


main()
