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

    def prepare(self):
        """Fetches and builds what it runs with. Raises toolchain.Missing or toolchain.BuildError."""
        raise NotImplementedError

    def version(self):
        """Of the program, after `prepare`."""
        raise NotImplementedError

    def configuration(self, variant, cpus):
        """Everything that decides its speed, as text for the report: command line and configuration."""
        raise NotImplementedError

    def server(self, variant, folder, cpus):
        """A `lib.broker.Server` on an empty data directory in `folder`, to run on the cores `cpus`.

        It may have `admin`, the HOST:PORT of a RingMQ's admin listener.
        """
        raise NotImplementedError
