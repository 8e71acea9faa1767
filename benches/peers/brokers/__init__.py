"""The brokers that are measured: one file each, with what a peer must do in peer.py.

A further peer is a file with a class, and its line here.
"""

from .kafka import Kafka
from .ringmq import RingMQ

# RingMQ is what the others are compared with.
OURS = RingMQ
PEERS = {"kafka": Kafka}
