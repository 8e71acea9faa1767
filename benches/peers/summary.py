"""The arithmetic: many runs become rows with a median and its spread, and ratios run by run.

A ratio is taken within one alternation, between runs that were minutes apart on the same machine, and only
then the median of the alternations: the machine's own drift falls out.
"""

import itertools
import math
import statistics
from dataclasses import dataclass

PERCENTILES = {"p50": "p50_ns", "p99": "p99_ns", "p99.9": "p99_9_ns"}
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
# A percentile with fewer samples beyond it is marked: it says little. As in `ringmq bench`.
SAMPLES_BEYOND_MIN = 100
# Of an open loop, what is compared.
COMPARED = ("p50", "p99")
# A closed loop whose first and last third differ by more is told in thirds: its mean is a number of neither.
DRIFT_MAX = 0.2
ALL_REQUESTS = "all requests"


@dataclass(frozen=True)
class Spread:
    """Median of the alternations, and the least and the most of them."""

    median: float
    least: float
    most: float
    # Of a percentile: each run had enough samples beyond it.
    sound: bool = True

    @staticmethod
    def of(values, sound=True):
        values = list(values)
        return Spread(statistics.median(values), min(values), max(values), sound) if values else None

    def is_undecided(self):
        """Of ratios: some alternations were won and some lost, or all were equal."""
        return self.least <= 1 <= self.most


@dataclass(frozen=True)
class Row:
    """One system in one scenario."""

    scenario: dict
    system: dict
    runs: int
    valid: int
    # Of the runs that may be used: None when there is none.
    records_per_s: Spread | None
    bytes_per_s: Spread | None
    latency: dict
    # How many times better RingMQ is, by what is compared: below 1 it is worse. Empty for RingMQ itself.
    advantage: dict
    # Each reason once.
    reasons: tuple
    # What an invalid run reached: to be shown, not to be compared.
    reached_per_s: float | None
    cpu_s_per_gb: Spread | None
    resident_bytes: Spread | None
    # RingMQ's own account: share of each stage, of all requests and of those around each compared percentile.
    stages: dict
    # Records/s in the first and the last third of closed loops, where a run's differ much; else empty.
    thirds: tuple
    # Of them, how many times better RingMQ is in the first and in the last third; empty as `thirds`.
    third_advantage: tuple

    def usable(self):
        return self.valid > 0


def rows(result):
    """All rows of a result, in the order of its scenarios and systems."""
    return [_row(result, scenario, system) for scenario in result["scenarios"] for system in result["systems"]]


def void_reasons(result, found):
    """Why the comparison must not be used; empty when it may."""
    reasons = [] if result["complete"] else ["it ended before its time"]
    reasons += [f"{name} was not measured: {why}" for name, why in result["missing"].items()]
    for row in found:
        # What was not run because it ended early need not be said again.
        if not row.usable() and (row.runs or result["complete"]):
            reasons.append(f"{row.scenario['title']}, {row.system['label']}: no valid run")
    for run in result["runs"]:
        if run.get("fatal"):
            reasons.append(f"{run['scenario']}, {run['system']}, alternation {run['round'] + 1}: {run['reasons'][0]}")
    return reasons


def losses(found):
    """The rows in which RingMQ is behind in each alternation, with how much and, where it says so, what took the time."""
    stages = {row.scenario["key"]: row.stages for row in found if row.stages}
    lines = []
    for row in found:
        for name, spread in row.advantage.items():
            if spread.median >= 1 or spread.is_undecided():
                continue
            line = f"{row.scenario['title']}, {name}: {1 / spread.median:.2f} times behind {row.system['label']}"
            told = stages.get(row.scenario["key"], {})
            at = name if name in COMPARED else ALL_REQUESTS
            if told.get(at):
                stage, share = max(told[at].items(), key=lambda item: item[1])
                whose = "its requests" if at == ALL_REQUESTS else f"the requests around its {name}"
                line += f"; {share:.0%} of the broker's time for {whose} is its stage `{stage}`"
            lines.append(line)
    return lines


def undecided(found):
    """The comparisons that some alternations won and others lost."""
    return [
        f"{row.scenario['title']}, {name}: {spread.median:.2f}× ({spread.least:.2f}–{spread.most:.2f}) "
        f"beside {row.system['label']}"
        for row in found
        for name, spread in row.advantage.items()
        if spread.is_undecided()
    ]


def drifts(found):
    """The closed loops that were much faster or slower in their last third than in their first."""
    lines = []
    for row in found:
        if row.thirds:
            first, last = (f"{s.median:,.0f} ({s.least:,.0f}–{s.most:,.0f})" for s in row.thirds)
            line = f"{row.scenario['title']}, {row.system['label']}: first third {first}, last third {last} records/s"
            if row.third_advantage:
                line += ": RingMQ is **{:.2f}×**, then **{:.2f}×**".format(*(s.median for s in row.third_advantage))
            lines.append(line)
    return lines


def raw_rows(result):
    """The device: the most it writes durably, and its latency for the smallest write at depth 1."""
    groups = {}
    for rows_of_round in result["raw"]:
        for row in rows_of_round:
            if row["direction"] == "durable_write":
                groups.setdefault((row["bytes"], row["depth"]), []).append(row)
    if not groups:
        return []
    fastest = max(groups, key=lambda key: statistics.median(row["bytes_per_s"] for row in groups[key]))
    smallest = min(key for key in groups if key[1] == 1)
    return [
        {
            "bytes": size,
            "depth": depth,
            "bytes_per_s": Spread.of(row["bytes_per_s"] for row in groups[size, depth]),
            "latency": latencies(row["latency"] for row in groups[size, depth]),
        }
        for size, depth in dict.fromkeys([fastest, smallest])
    ]


def latencies(percentiles):
    """Spread of each percentile in nanoseconds. Percentiles of runs are never averaged: this is their median run."""
    percentiles = list(percentiles)
    if not percentiles:
        return {}
    samples = min(p["samples"] for p in percentiles)
    return {
        name: Spread.of((p[field] for p in percentiles), is_sound(samples, QUANTILES[name]))
        for name, field in PERCENTILES.items()
    }


def is_sound(samples, quantile):
    """Whether so many samples say something about a quantile."""
    # A hair less: 1 - 0.99 is below a hundredth in binary.
    return samples * (1 - quantile) >= SAMPLES_BEYOND_MIN * 0.999_999


def nice_rate(limit):
    """The largest 1, 2 or 5 times a power of ten that is at most `limit`."""
    decade = 10 ** math.floor(math.log10(max(limit, 1)))
    return int(max(step * decade for step in (1, 2, 5) if step * decade <= max(limit, 1)))


def stage_shares(stages, quantile):
    """Share of each stage in the time of the requests of the bucket in which `quantile` lies; None: of all."""
    buckets = stages["buckets"]
    if quantile is not None:
        total = sum(bucket["count"] for bucket in buckets)
        rank = max(math.ceil(total * quantile - 1e-6), 1)
        counts = itertools.accumulate(bucket["count"] for bucket in buckets)
        buckets = [next((bucket for bucket, count in zip(buckets, counts, strict=True) if count >= rank), None)]
    sums = [0.0] * len(stages["names"])
    for bucket in filter(None, buckets):
        sums = [a + b for a, b in zip(sums, bucket["sum_us"], strict=True)]
    whole = sum(sums)
    return {name: us / whole for name, us in zip(stages["names"], sums, strict=True)} if whole else {}


def _row(result, scenario, system):
    runs = _runs(result, scenario, system["key"])
    valid = [run for run in runs if run["valid"]]
    others = [run for run in runs if not run["valid"] and "records_per_s" in run]
    used = [run for run in valid if run.get("broker") and run["bytes_all"] > 0]
    thirds, third_advantage = _thirds(result, scenario, system, valid)
    return Row(
        scenario=scenario,
        system=system,
        runs=len(runs),
        valid=len(valid),
        records_per_s=Spread.of(run["records_per_s"] for run in valid),
        bytes_per_s=Spread.of(run["bytes_per_s"] for run in valid),
        latency=latencies(run["latency"] for run in valid if run["latency"]),
        advantage=_advantage(result, scenario, system, valid),
        reasons=tuple(dict.fromkeys(reason for run in runs for reason in run["reasons"])),
        reached_per_s=statistics.median(run["records_per_s"] for run in others) if others else None,
        cpu_s_per_gb=Spread.of(
            run["broker"]["cpu_s"] / (run["bytes_all"] / 1e9) for run in used
        ) if scenario["loop"] != "catch-up" else None,
        resident_bytes=Spread.of(run["broker"]["resident_bytes_after"] for run in used),
        stages=_stages(valid),
        thirds=thirds,
        third_advantage=third_advantage,
    )  # fmt: skip


def _advantage(result, scenario, system, valid):
    pairs = _pairs(result, scenario, system, valid)
    if scenario["loop"] != "open":
        ratios = {"records/s": [our["records_per_s"] / their["records_per_s"] for our, their in pairs]}
    else:
        # Less is better: the other way round, so that above 1 is always better.
        ratios = {
            name: [their["latency"][PERCENTILES[name]] / our["latency"][PERCENTILES[name]] for our, their in pairs]
            for name in COMPARED
        }
    return {name: Spread.of(values) for name, values in ratios.items() if values}


def _pairs(result, scenario, system, valid):
    """RingMQ's run and the other's, of each alternation in which both are valid; none for RingMQ itself."""
    if system["key"] == result["ours"]:
        return []
    ours = {run["round"]: run for run in _runs(result, scenario, result["ours"]) if run["valid"]}
    return [(ours[run["round"]], run) for run in valid if run["round"] in ours]


def _thirds(result, scenario, system, valid):
    """`Row.thirds` and `Row.third_advantage`."""
    told = [thirds_of(result, run) for run in valid] if scenario["loop"] == "closed" else []
    told = [each for each in told if each]
    if not any(abs(last / first - 1) > DRIFT_MAX for first, last in told):
        return (), ()
    pairs = [
        (thirds_of(result, our), thirds_of(result, their)) for our, their in _pairs(result, scenario, system, valid)
    ]
    pairs = [(our, their) for our, their in pairs if our and their]
    ratios = [Spread.of(our[at] / their[at] for our, their in pairs) for at in (0, 1)] if pairs else []
    return tuple(Spread.of(each[at] for each in told) for at in (0, 1)), tuple(ratios)


def thirds_of(result, run):
    """Records/s in the first and in the last third of what was measured; None when it is too short to tell."""
    measured = run["per_second"][result["warmup_s"] :][: result["seconds"]]
    part = len(measured) // 3
    if part == 0 or not all((sum(measured[:part]), sum(measured[-part:]))):
        return None
    return sum(measured[:part]) / part, sum(measured[-part:]) / part


def _runs(result, scenario, system):
    return [run for run in result["runs"] if run["scenario"] == scenario["key"] and run["system"] == system]


def _stages(valid):
    """Of the run that is in the middle by what is asked for: shares of several runs need not add up to one."""
    told = [run for run in valid if run.get("stages")]
    if not told:
        return {}

    def middle(measure):
        return sorted(told, key=measure)[len(told) // 2]["stages"]

    shares = {ALL_REQUESTS: stage_shares(middle(lambda run: run["records_per_s"]), None)}
    if all(run["latency"] for run in told):
        for name in COMPARED:
            shares[name] = stage_shares(middle(lambda run: run["latency"][PERCENTILES[name]]), QUANTILES[name])
    return shares
