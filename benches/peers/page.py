"""The report: one HTML file with its style and its charts inside, nothing from the network, light and dark."""

import html
import os
import re

import charts
from lib.toolchain import ROOT
from summary import ALL_REQUESTS, rows, void_reasons
from table import HEADS, MARK, duration, findings, lines, preface, title_of

# The look of the reports of `ringmq bench`.
STYLE = os.path.join(ROOT, "src", "bench", "output", "report.css")
MORE_STYLE = """
svg .name { fill: var(--ink); font-size: 13px; }
svg .value { fill: var(--ink); font-weight: 600; font-size: 13px; }
svg .invalid { fill: var(--bad); font-size: 13px; }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
svg .warmup { fill: var(--dim); opacity: .12; }
svg .line { stroke-width: 1.5; }
td.first { font-weight: 600; min-width: 150px; }
tr.group td { border-top: 2px solid var(--rule); }
td.n { white-space: normal; min-width: 84px; }
.ratio .badge { font-size: 20px; padding: 4px 14px; }
"""
LATENCY = charts.Axis("latency", "log", duration)
PERCENTILE = charts.Axis("percentile", "nines", lambda q: f"{q * 100:.6g}")
SECONDS = charts.Axis("seconds from the begin of the load; shaded: warming up", "linear", lambda s: f"{s:.0f}")


def page(result):
    found = rows(result)
    void = void_reasons(result, found)
    colours = {system["key"]: index for index, system in enumerate(result["systems"])}
    title = "RingMQ and " + " and ".join(
        dict.fromkeys(f"{s['name']} {s['version']}" for s in result["systems"] if s["key"] != result["ours"])
    )
    body = [
        f"<header><h1>{_text(title)}, side by side</h1>",
        *(f'<p class="dim">{_inline(sentence)}</p>' for sentence in preface(result)),
        '<span class="badge bad">MUST NOT BE USED</span>' + _list(void, "reasons")
        if void else '<span class="badge good">every system has valid runs in every scenario</span>',
        "</header>",
        _advantages(result, found),
        *(_scenario(result, scenario, found, colours) for scenario in result["scenarios"]),
        f"<section><h2>The table</h2>{_table(HEADS, lines(result, found))}</section>",
        *(_words(title, said or ["Nothing."]) for title, said in findings(result, found)),
        _costs(found),
        _machine(result),
        *map(_configuration, result["systems"]),
        _every_run(result),
    ]  # fmt: skip
    with open(STYLE, encoding="utf-8") as file:
        style = file.read()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>\n{style}{MORE_STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "</main></body></html>\n"
    )


def _advantages(result, found):
    """The ratios, large: a line for each thing that is compared, a column for each peer."""
    peers = [system for system in result["systems"] if system["key"] != result["ours"]]
    ratios = {}
    for row in found:
        for name, spread in row.advantage.items():
            ratios.setdefault((title_of(result, row.scenario), name), {})[row.system["key"]] = spread
    body = []
    for (title, name), by_peer in ratios.items():
        cells = "".join(_ratio(by_peer.get(peer["key"])) for peer in peers)
        body.append(f"<tr><td><b>{_text(title)}</b><br><span class=\"dim\">{_text(name)}</span></td>{cells}</tr>")
    heads = "".join(f"<th>than {_text(peer['label'])}</th>" for peer in peers)
    dim = (
        '<p class="dim">Above 1 it is better, below 1 it is worse; in brackets the least and the most of the '
        "alternations: undecided when 1 lies between them.</p>"
    )
    table = f'<div class="scroll"><table><tr><th>RingMQ is better</th>{heads}</tr>{"".join(body)}</table></div>'
    return f"<section><h2>By how many times</h2>{dim}{table}</section>"


def _ratio(spread):
    if spread is None:
        return '<td class="bad">no valid runs to compare</td>'
    kind = "" if spread.is_undecided() else "good" if spread.median >= 1 else "bad"
    return (
        f'<td class="ratio"><span class="badge {kind}">{spread.median:.2f}×</span> '
        f'<span class="dim">({spread.least:.2f}–{spread.most:.2f}){"" if kind else " undecided"}</span></td>'
    )


def _scenario(result, scenario, found, colours):
    here = [row for row in found if row.scenario is scenario]
    figures = []
    if scenario["loop"] != "open":
        entries = [_bar(row, colours, row.records_per_s) for row in here]
        drawn = charts.bars(entries, lambda spread: f"{spread.median:,.0f}")
        figures.append(_figure("Records/s: median, least and most", drawn))
        series = [
            (row.system["label"], colours[row.system["key"]], list(enumerate(run["per_second"])))
            for row in here for run in _runs(result, row) if run.get("per_second")
        ]  # fmt: skip
        axis = charts.Axis("records/s", "linear", _count)
        if scenario["loop"] == "closed" and series:
            drawn = charts.lines(SECONDS, axis, series, pale_before=result["warmup_s"])
            figures.append(_figure("Records/s, second by second, every run", drawn))
    else:
        for name in ("p50", "p99", "p99.9"):
            entries = [_bar(row, colours, row.latency.get(name)) for row in here]
            figures.append(_figure(f"{name}: median, least and most", charts.bars(entries, _marked)))
        series = [
            (row.system["label"], colours[row.system["key"]], run["curve"])
            for row in here for run in _runs(result, row) if run["valid"] and run["curve"]
        ]  # fmt: skip
        if series:
            drawn = charts.lines(PERCENTILE, LATENCY, series)
            figures.append(_figure("Latency by percentile, every valid run", drawn))
    flags = f"ringmq bench {scenario['flags']}"
    return (
        f'<section><h2>{_text(title_of(result, scenario))}</h2><p class="dim">{_text(flags)}</p>'
        f'<div class="charts">{"".join(figures)}</div></section>'
    )


def _marked(spread):
    """As in the table: with few samples beyond it, it says little."""
    return ("" if spread.sound else "~") + duration(spread.median)


def _bar(row, colours, spread):
    instead = f"INVALID: {row.reasons[0]}" if row.reasons else "not measured"
    return row.system["label"], colours[row.system["key"]], spread, instead


def _costs(found):
    cells = [
        [
            row.scenario["title"], row.system["label"],
            f"{row.cpu_s_per_gb.median:.2f}" if row.cpu_s_per_gb else "–",
            f"{row.resident_bytes.median / 2**20:,.0f}",
            ", ".join(f"{name} {share:.0%}" for name, share in row.stages.get(ALL_REQUESTS, {}).items() if share >= 0.01),
        ]
        for row in found if row.resident_bytes
    ]  # fmt: skip
    heads = ["work", "who", "CPU s per GB", "resident MiB", "where it says the time goes"]
    dim = (
        '<p class="dim">Of the broker\'s process, the page cache not counted. CPU per GB written; a RingMQ that has '
        "work spins and takes its whole core. What a reader costs is in it.</p>"
    )
    return f"<section><h2>What it costs</h2>{dim}{_table(heads, cells)}</section>"


def _machine(result):
    cells = [[name, value] for name, value in result["machine"].items()]
    cells.append(["load average before, after", f"{result['load_average_before']}, {result.get('load_average_after')}"])
    cells.append(["stolen by the hypervisor", f"{result.get('steal_share', 0):.2%}"])
    for probe in result["probe"]:
        cells.append([f"closed loop of the open loop's requests: {probe['system']}",
                      f"{probe.get('records_per_s', 0):,.0f} records/s {'; '.join(probe['reasons'])}"])  # fmt: skip
    return f"<section><h2>The machine</h2>{_table(['what', 'value'], cells)}</section>"


def _configuration(system):
    return (
        f"<section><details><summary>Configuration of {_text(system['label'])}</summary>"
        f"<pre>{_text(system['configuration'])}</pre></details></section>"
    )


def _every_run(result):
    cells = [
        [
            str(run["round"] + 1), run["scenario"], run["system"],
            f"{run['records_per_s']:,.0f}" if "records_per_s" in run else "–",
            duration(run["latency"]["p99_ns"]) if run.get("latency") else "–",
            f"{run['steal_share']:.2%}",
            "valid" if run["valid"] else f"INVALID: {'; '.join(run['reasons'])}",
        ]
        for run in result["runs"]
    ]  # fmt: skip
    heads = ["alternation", "scenario", "system", "records/s", "p99", "stolen", "verdict"]
    return f"<section><details><summary>Every run</summary>{_table(heads, cells)}</details></section>"


def _runs(result, row):
    return [run for run in result["runs"] if (run["scenario"], run["system"]) == (row.scenario["key"], row.system["key"])]


def _figure(title, chart):
    return f"<figure><h3>{_text(title)}</h3>{chart}</figure>"


def _words(title, said):
    return f"<section><h2>{_text(title)}</h2>{_list(said)}</section>"


def _list(said, kind=""):
    return f'<ul class="{kind}">{"".join(f"<li>{_inline(line)}</li>" for line in said)}</ul>'


def _table(heads, cells):
    top = "".join(f"<th>{_text(head)}</th>" for head in heads)
    body = []
    for line in cells:
        group = ' class="group"' if line[0] else ""
        inside = "".join(
            f'<td class="{"first" if index == 0 else "n" if index > 1 and len(cell) < 60 else ""}">{_inline(cell)}</td>'
            for index, cell in enumerate(line)
        )
        body.append(f"<tr{group}>{inside}</tr>")
    return f'<div class="scroll"><table><tr>{top}</tr>{"".join(body)}</table></div>'


def _inline(text):
    """The Markdown that the table's cells have."""
    text = _text(text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"\*([^*]+)\*", r"<i>\1</i>", text).replace(MARK, "~")
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _text(text):
    return html.escape(text, quote=False)


def _count(value):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"
