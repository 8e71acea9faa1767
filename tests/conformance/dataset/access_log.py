"""A web server's access log, made up from a seed: the same seed and count give the same bytes on any machine.

It imitates what matters to a broker: keys that repeat (some visitors come far more often than others),
values of 150 to 500 bytes that compress like text, headers on every record, and time that moves on
unevenly. `python3 access_log.py [count]` prints some.
"""

import random
import sys

VISITORS = 50_000
START_MS = 1_700_000_000_000

_METHODS = ["GET"] * 17 + ["POST"] * 2 + ["HEAD"]
_STATUS = [200] * 16 + [304] * 2 + [404, 500]
_SECTIONS = ["shop", "blog", "docs", "api/v2", "static/js", "static/img", "search", "account"]
_WORDS = "amber basalt cedar delta ember fjord garnet harbor indigo juniper kelp lagoon maple".split()
_HOSTS = ["www.example.com", "shop.example.com", "api.example.net"]
_AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "curl/8.8.0",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
]


class AccessLog:
    """Iterates over (visitor, key, value, headers, timestamp in ms)."""

    def __init__(self, seed, count):
        self._seed = seed
        self._count = count

    def __iter__(self):
        rng = random.Random(self._seed)
        uniform = rng.random
        bits = rng.getrandbits
        now_ms = START_MS
        for i in range(self._count):
            # The square makes low numbers frequent: a few visitors are most of the traffic.
            visitor = int(uniform() ** 2 * VISITORS)
            now_ms += bits(4)
            roll = bits(62)
            status = _STATUS[roll % 20]
            path = f"/{_SECTIONS[roll >> 5 & 7]}/{_WORDS[(roll >> 8) % 13]}-{_WORDS[(roll >> 12) % 13]}"
            query = f"?session={roll:016x}&page={roll >> 20 & 63}" if roll >> 26 & 1 else ""
            address = f"10.{visitor >> 8 & 255}.{visitor & 255}.{visitor % 251}"
            value = (
                f"{address} - user{visitor} [{now_ms // 1000}.{now_ms % 1000:03d}] "
                f'"{_METHODS[(roll >> 27) % 20]} {path}{query} HTTP/1.1" {status} {roll >> 32 & 0xFFFFF} '
                f'"https://{_HOSTS[(roll >> 52) % 3]}{path}" "{_AGENTS[visitor % 5]}"'
            )
            headers = [
                ("host", _HOSTS[(roll >> 52) % 3].encode()),
                ("request-id", roll.to_bytes(8, "big")),
            ]
            if status == 500:
                headers.append(("error", None))
            key = None if i % 97 == 0 else address.encode()
            yield visitor, key, value.encode(), headers, now_ms


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for _, key, value, headers, _ in AccessLog(1, count):
        print(key, value.decode(), headers)


if __name__ == "__main__":
    main()
