"""An attack on a broker of its own, beside a well-behaved client that writes and reads, with the memory measured."""

import socket
import struct

import wire
from rig import Neighbour, admin, check, equal, resident_bytes

# What an attack may leave behind: receive buffers, the allocator's slack.
GROWTH_BYTES_MAX = 96 << 20
ANSWER_S_MAX = 15
# Of the question that is asked last on each connection.
LAST = 77_777


class Attack:
    """A broker, a neighbour that must not notice, and the memory before."""

    def __init__(self, rig, settings=(), shards=2):
        # Memory of its own that it touches meanwhile would count as the attack's.
        self.broker = rig.running(shards=shards, settings=["log.pretouch=false", *settings])
        self.neighbour = rig.beside(Neighbour(self.broker))
        self.neighbour.goes_on()
        self.start_of_memory()

    def start_of_memory(self):
        """What memory holds now is not the attack's."""
        self._before_bytes = resident_bytes(self.broker)

    def connect(self):
        return wire.Client(self.broker.kafka, ANSWER_S_MAX).socket

    def goes_on(self):
        """In the middle of an attack."""
        self.neighbour.goes_on()
        equal(admin(self.broker, "/livez"), "ok\n", "/livez")

    def memory(self, growth_bytes_max=GROWTH_BYTES_MAX):
        grown = resident_bytes(self.broker) - self._before_bytes
        check(grown <= growth_bytes_max, f"resident memory grew by {grown >> 20} MiB")

    def send(self, data):
        """Sends bytes on a connection of their own, then an honest question, and no more.

        Returns the responses before the one to the question, and whether that one came. The connection
        must end either way: whoever waits for more bytes must notice that there will be none.
        """
        with self.connect() as connection:
            received = bytearray()
            try:
                connection.sendall(data + wire.request(wire.API_VERSIONS, b"", LAST))
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except TimeoutError:
                check(False, f"neither answered nor closed within {ANSWER_S_MAX} s: {bytes(data[:60])!r}")
            except ConnectionError:
                pass  # Closed with bytes of ours unread.
        frames = []
        while received:
            (length,) = struct.unpack_from(">i", received)
            check(4 <= length <= len(received) - 4, f"half a response to {bytes(data[:60])!r}")
            frames.append(bytes(received[4 : 4 + length]))
            del received[: 4 + length]
        answered = bool(frames) and struct.unpack_from(">i", frames[-1])[0] == LAST
        return (frames[:-1], True) if answered else (frames, False)


# --- Single frames. ---
