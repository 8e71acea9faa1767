"""The Markdown of a result, and its place in benches/README.md."""

from summary import (
    COMPARED,
    DRIFT_MAX,
    SAMPLES_BEYOND_MIN,
    drifts,
    latencies,
    losses,
    raw_rows,
    rows,
    undecided,
    void_reasons,
)

BEGIN = "<!-- peers: begin; written by `make bench-peers ARGS=--write-readme` -->"
END = "<!-- peers: end -->"
HEADS = ["work", "who, and what an ack means", "records/s", "MB/s", "p50", "p99", "p99.9", "RingMQ is"]
NOTHING = "–"
# Of a percentile with too few samples beyond it. Escaped: two of them would strike out what is between.
MARK = "\\~"


def markdown(result):
    """One table, what is to be known of it before, and what it does not say after it."""
    found = rows(result)
    void = void_reasons(result, found)
    parts = [" ".join(preface(result))]
    if void:
        parts.append("**This comparison must not be used:**\n\n" + "\n".join(f"- {reason}" for reason in void))
    parts.append("\n".join([_line(HEADS), _line(["---"] * len(HEADS)), *(_line(cells) for cells in lines(result, found))]))
    for title, said in findings(result, found):
        if said:
            parts.append(f"{title}:\n\n" + "\n".join(f"- {line}" for line in said))
    return "\n\n".join(parts) + "\n"


def findings(result, found):
    """Titles and the lines below each, of what the table's numbers do not say by themselves."""
    return [
        ("Where RingMQ is behind", losses(found)),
        ("Undecided: ahead in one alternation and behind in another", undecided(found)),
        (f"What changed by more than {DRIFT_MAX:.0%} within a run", drifts(found)),
        ("What could not be measured, or not each time", remarks(result, found)),
    ]


def preface(result):
    """Sentences."""
    machine = result["machine"]
    alone = f"{machine.get('processor', 'unknown processor')}, {machine.get('cores')} cores, {machine.get('memory')}"
    storage = ", ".join(machine[name] for name in ("device", "file system") if name in machine)
    storage += f", write cache {machine['write cache']}" if "write cache" in machine else ""
    yield f"{result['date']}, one machine: {alone}, Linux {machine.get('kernel')}; {storage}."
    revisions = dict.fromkeys(run["revision"] for run in result["runs"] if run.get("revision"))
    yield f"RingMQ at revision {', '.join(revisions)}." if revisions else "RingMQ's revision was not recorded."
    for runtime in dict.fromkeys(system["runtime"] for system in result["systems"] if system.get("runtime")):
        yield f"{runtime}."
    yield (
        f"Brokers on core {_cpus(result['broker_cpus'])}, load on core {_cpus(result['load_cpus'])}; "
        f"load average {result['load_average_before']:.2f} before, {result.get('load_average_after', 0):.2f} after, "
        f"stolen by the hypervisor {result.get('steal_share', 0):.1%}."
    )
    yield (
        f"Each number: median (least–most) of {result['alternations']} alternations of {result['seconds']} s, acks=all, "
        f"after {result['preheat_s']} s of every kind of load and {result['warmup_s']} s of its own; "
        "without a rate a closed loop, which has no latency to compare."
    )
    if result["alternations"] > 1:
        yield (
            "In each alternation another system came first." if result.get("rotated")
            else "The systems took their turns in the same order in each alternation."
        )  # fmt: skip
    yield (
        "*RingMQ is*: by how many times better, run against run in the same alternation; below 1 it is worse, and "
        "undecided when some alternations were won and others lost."
    )
    if any(not spread.sound for row in rows(result) for spread in row.latency.values()):
        yield f"{MARK}: fewer than {SAMPLES_BEYOND_MIN} samples of a run lie beyond this percentile; it says little."


def lines(result, found=None):
    """The cells of the table, line by line."""
    found = rows(result) if found is None else found
    for scenario in result["scenarios"]:
        title = title_of(result, scenario)
        for row in found:
            if row.scenario is scenario:
                yield [title, row.system["label"], *_numbers(row)]
                title = ""
        if sink := result["ceilings"].get(scenario["key"]):
            latency = latencies([sink["response"]]) if scenario["loop"] == "open" else {}
            yield ["", "*null sink: the load generator's own limit*", f"{sink['records_per_s']:,.0f}",
                   f"{sink['bytes_per_s'] / 1e6:,.0f}", *_percentiles(latency), NOTHING]  # fmt: skip
    for index, raw in enumerate(raw_rows(result)):
        yield [
            "" if index else "the device alone, durable writes (`O_DIRECT`, `O_DSYNC`)",
            f"*raw: {raw['bytes'] >> 10} KiB, {raw['depth']} at a time*", NOTHING,
            _spread(raw["bytes_per_s"], 1e6), *_percentiles(raw["latency"]), NOTHING,
        ]  # fmt: skip
    for name, why in result["missing"].items():
        yield ["all", f"{name}: not measured: {why}", *[NOTHING] * 6]


def title_of(result, scenario):
    if scenario["loop"] == "closed":
        return scenario["title"]
    rate = "a rate that was not found" if result["rate"] is None else f"{result['rate']:,} records/s"
    return f"{scenario['title']}, at {rate}"


def remarks(result, found):
    said = [f"{name}: {why}" for name, why in result["missing"].items()] + result["notes"]
    for probe in result["probe"]:
        if not probe["valid"]:
            why = "; ".join(probe["reasons"])
            said.append(f"{probe['system']}: its probe is invalid, the rate of the open loops was found without it: {why}")
    for row in found:
        if row.runs and row.valid < row.runs:
            counts = f"{row.valid} of {row.runs} runs valid"
            said.append(f"{row.scenario['title']}, {row.system['label']}: {counts}: {'; '.join(row.reasons)}")
    for scenario in result["scenarios"]:
        if invalid := result["ceilings"].get(scenario["key"], {}).get("invalid"):
            said.append(f"{scenario['title']}, null sink: {'; '.join(invalid)}")
    return said


def write_readme(path, text):
    """Puts `text` between the markers. Raises ValueError when they are not there."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks the lines between which the table goes: {BEGIN} and {END}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")


def duration(ns):
    """Three digits and a unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            value = ns / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{ns:.0f} ns"


def _numbers(row):
    if not row.runs:
        return ["not run", *[NOTHING] * 5]
    if not row.usable():
        reached = f" (reached {row.reached_per_s:,.0f})" if row.reached_per_s is not None else ""
        return [f"INVALID{reached}: {row.reasons[0]}", *[NOTHING] * 5]
    part = "" if row.valid == row.runs else f", {row.valid} of {row.runs} valid"
    return [
        _spread(row.records_per_s, 1) + part,
        _spread(row.bytes_per_s, 1e6),
        *_percentiles(row.latency),
        advantage(row) or NOTHING,
    ]


def advantage(row):
    return ", ".join(
        f"{name + ' ' if name in COMPARED else ''}**{spread.median:.2f}×** ({spread.least:.2f}–{spread.most:.2f})"
        + (" undecided" if spread.is_undecided() else "")
        for name, spread in row.advantage.items()
    )


def _percentiles(latency):
    return [
        _mark(spread) + (
            f"{duration(spread.median)} ({duration(spread.least)}–{duration(spread.most)})"
            if spread.least != spread.most else duration(spread.median)
        )
        for spread in latency.values()
    ] or [NOTHING] * 3  # fmt: skip


def _mark(spread):
    return "" if spread.sound else MARK


def _spread(spread, unit):
    digits = 0 if spread.median / unit >= 20 else 1
    median, least, most = (f"{value / unit:,.{digits}f}" for value in (spread.median, spread.least, spread.most))
    return median if least == most else f"{median} ({least}–{most})"


def _cpus(cpus):
    return ", ".join(map(str, cpus))


def _line(cells):
    # A bar would end the cell.
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"
