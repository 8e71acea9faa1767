"""What the harness needs of a broker that is measured."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    """One configuration of a broker. Its durability stands in every row: numbers mean nothing without it."""

    key: str
    # What an ack means.
    durability: str
    # Lines of the broker's configuration that make this variant.
    settings: dict = field(default_factory=dict)


class Peer:
    """A kind of broker. Nothing runs before `server(...).start()`."""

    name = ""
    variants = ()
    # What it is loaded with: one of generator.DRIVERS.
    driver = "kafka"
    # Whether it keeps to what its topics may keep while it is loaded. Else a run may leave all that it wrote.
    recycles = False

    def prepare(self):
        """Fetches and builds what it runs with. Raises toolchain.Missing or toolchain.BuildError."""
        raise NotImplementedError

    def version(self):
        """Of the program, after `prepare`."""
        raise NotImplementedError

    def runtime(self):
        """What it runs on and in which version, where that decides its speed; with a word when its makers recommend
        another. After `prepare`."""
        return ""

    def delete_topic(self, server, topic, ringmq):
        """`ringmq` runs a command of RingMQ's program, which administers any Kafka endpoint."""
        ringmq("topic", "delete", "--if-exists", "--bootstrap", server.bootstrap, topic)

    def configuration(self, variant, cpus):
        """Everything that decides its speed, as text for the report: command line and configuration."""
        raise NotImplementedError

    def server(self, variant, folder, cpus):
        """A `lib.broker.Server` on an empty data directory in `folder`, to run on the cores `cpus`.

        It may have `admin`, the HOST:PORT of a RingMQ's admin listener.
        """
        raise NotImplementedError
