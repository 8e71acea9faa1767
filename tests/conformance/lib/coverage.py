"""Which client has sent which API in which version, as the broker counted it.

The broker counts requests by API and version in /metrics, and forgets at a restart: the counters are read
after every case, and before every restart. What is advertised comes from the broker, the names from the table
in docs/PROTOCOLS.md.
"""

import os
import re
import urllib.error
import urllib.request

from . import toolchain
from .wire import ask_versions

DOCUMENT = os.path.join(toolchain.ROOT, "docs", "PROTOCOLS.md")
BEGIN = "<!-- begin: kafka clients (generated) -->\n"
END = "<!-- end: kafka clients -->"
# Advertised for clients that look at the minimum only, and refused: see docs/PROTOCOLS.md.
MINIMA = {("Produce", version) for version in range(3)}
# Sent when something lasts long enough, as on a slow machine. The table has what was seen when it was written.
BY_THE_CLOCK = {"Heartbeat", "OffsetForLeaderEpoch"}
# Of another version on each machine.
UNPINNED = {"kcat"}
# The client that sends every version of every API because it is told to, and not by itself.
SWEEP = "sweep"

COUNTER = re.compile(r'^ringmq_requests_total\{.*api="(\w+)",version="(\d+)"\} (\d+)', re.MULTILINE)
API_ROW = re.compile(r"^\| (\d+) \| (\w+) \|", re.MULTILINE)


class Coverage:
    def __init__(self, broker):
        self._broker = broker
        self._counted = {}
        # Client to {(api, version)}.
        self.sent = {}

    def note(self, client):
        """What was counted since the last time came from this client, or, without one, from several."""
        try:
            with urllib.request.urlopen(f"http://{self._broker.admin}/metrics", timeout=5) as reply:
                text = reply.read().decode()
        except (urllib.error.URLError, OSError):
            # A broker that is away has nothing to tell; whoever needs it will say so.
            return
        counted = {}
        for api, version, count in COUNTER.findall(text):
            counted[api, int(version)] = counted.get((api, int(version)), 0) + int(count)
        new = {pair for pair, count in counted.items() if count > self._counted.get(pair, 0)}
        if client is not None:
            self.sent.setdefault(client, set()).update(new)
        self._counted = counted

    def restarted(self):
        self._counted = {}

    def advertised(self):
        """The (api, version) pairs that the broker says it takes, by ApiVersions."""
        with open(DOCUMENT, encoding="utf-8") as file:
            names = {int(key): name for key, name in API_ROW.findall(file.read())}
        pairs = set()
        for key, first, last in ask_versions(self._broker.kafka):
            name = names.get(key, f"API {key}, which docs/PROTOCOLS.md lacks")
            pairs.update((name, version) for version in range(first, last + 1))
        return pairs

    def missing(self):
        """What is advertised, and was sent neither by a client of its own accord nor by the sweep."""
        seen = set().union(*self.sent.values())
        return sorted(self.advertised() - seen - MINIMA)

    def unlisted(self):
        """What a client of a column has sent, and the table in docs/PROTOCOLS.md does not say.

        Only that: whether a client comes to ask some things depends on the moment, so what was not sent this
        time may stay.
        """
        with open(DOCUMENT, encoding="utf-8") as file:
            listed = listed_in(file.read())
        advertised = self.advertised()
        return sorted(
            (client, api, version)
            for client in listed
            if client not in UNPINNED
            for api, version in self.sent.get(client, set()) & advertised
            if api not in BY_THE_CLOCK and (api, version) not in listed[client]
        )

    def write_table(self, clients):
        """Rewrites the generated block of docs/PROTOCOLS.md; `clients` are the columns."""
        with open(DOCUMENT, encoding="utf-8") as file:
            text = file.read()
        before, rest = text.split(BEGIN)
        _, after = rest.split(END)
        text = before + BEGIN + self._table(clients) + END + after
        with open(DOCUMENT, "w", encoding="utf-8") as file:
            file.write(text)

    def _table(self, clients):
        with open(DOCUMENT, encoding="utf-8") as file:
            order = {name: int(key) for key, name in API_ROW.findall(file.read())}
        advertised = self.advertised()
        lines = [f"| API | {' | '.join(clients)} | sweep only |\n", f"|:--|{':--|' * (len(clients) + 1)}\n"]
        for api in sorted({api for api, _ in advertised}, key=lambda api: order.get(api, 1000)):
            of_api = {version for name, version in advertised if name == api}
            columns = [{v for name, v in self.sent.get(client, ()) if name == api} & of_api for client in clients]
            rest = {v for name, v in self.sent.get(SWEEP, ()) if name == api} & of_api
            rest = rest.difference(*columns)
            cells = [ranges(versions) for versions in (*columns, rest)]
            lines.append(f"| {api} | {' | '.join(cells)} |\n")
        return "".join(lines)


def listed_in(document):
    """What the table says: client to {(api, version)}."""
    head, _, *rows = document.split(BEGIN)[1].split(END)[0].splitlines()
    clients = head.strip("| ").split(" | ")[1:-1]
    listed = {client: set() for client in clients}
    for row in rows:
        api, *cells = [cell.strip() for cell in row.split("|")[1:-1]]
        for client, cell in zip(clients, cells):
            for part in filter(None, cell.split(", ")):
                first, _, last = part.partition("–")
                listed[client].update((api, version) for version in range(int(first), int(last or first) + 1))
    return listed


def ranges(versions):
    """{0, 1, 2, 5} as "0–2, 5"."""
    parts = []
    for version in sorted(versions):
        if parts and parts[-1][1] == version - 1:
            parts[-1][1] = version
        else:
            parts.append([version, version])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in parts)
