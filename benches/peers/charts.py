"""Charts as inline SVG: bars with their spread, and lines over linear, logarithmic and log-nines axes.

Nothing here knows what is drawn. Colours are the page's: classes s0 to s7 of src/bench/output/report.css.
"""

import html
import math

WIDTH = 720
HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 40
# Narrower, so that their words are as large as the page's.
BARS_WIDTH = 540
BAR_HEIGHT = 16
BAR_PITCH = 42
# About the width of a digit of the axes.
GLYPH = 7
# Room for a value beside its bar.
VALUE_WIDTH = 100
TICKS = 6


def bars(entries, text):
    """`entries`: name, colour, Spread or None, and what to say instead of None. Bars begin at 0.

    `text` writes a Spread's value.
    """
    most = max((spread.most for _, _, spread, _ in entries if spread), default=1) or 1
    width = BARS_WIDTH - VALUE_WIDTH - 8
    parts = []
    for index, (name, colour, spread, instead) in enumerate(entries):
        top = index * BAR_PITCH
        parts.append(f'<text class="name" x="0" y="{top + 12}">{html.escape(name)}</text>')
        top += 17
        if spread is None:
            parts.append(f'<text class="invalid" x="0" y="{top + 13}">{html.escape(shorten(instead))}</text>')
            continue
        scale = width / most
        end, least, highest = spread.median * scale, spread.least * scale, spread.most * scale
        middle = top + BAR_HEIGHT / 2
        parts.append(
            f'<rect class="bar s{colour}" x="0" y="{top}" width="{max(end, 1):.1f}" height="{BAR_HEIGHT}" rx="3"/>'
            f'<path class="whisker" d="M{least:.1f} {middle}H{highest:.1f}M{least:.1f} {middle - 4}v8'
            f'M{highest:.1f} {middle - 4}v8"/>'
            f'<text class="value" x="{max(end, highest) + 8:.1f}" y="{top + 13}">{html.escape(text(spread))}</text>'
        )
    return _svg(BARS_WIDTH, len(entries) * BAR_PITCH, "".join(parts))


class Axis:
    """`scale`: "linear" from 0 on, "log" in decades, "nines" for quantiles below 1."""

    def __init__(self, title, scale, text):
        self.title, self.scale, self.text = title, scale, text

    def raw(self, value):
        match self.scale:
            case "log":
                return math.log10(max(value, 1))
            case "nines":
                return -math.log10(1 - min(max(value, 0), 0.9999999))
            case _:
                return value

    def bounds(self, values):
        raws = [self.raw(value) for value in values]
        if not raws:
            return 0, 1
        least = math.floor(min(raws)) if self.scale == "log" else 0
        most = math.ceil(max(raws)) if self.scale == "log" else max(raws) * (1.05 if self.scale == "linear" else 1)
        return least, most if most > least else least + 1

    def ticks(self, least, most):
        match self.scale:
            case "log":
                return [10.0**decade for decade in range(int(least), int(most) + 1)]
            case "nines":
                return [0, 0.5, *(1 - 10.0**-nines for nines in range(1, int(most + 1e-6) + 1))]
            case _:
                # Seconds and records come whole.
                step = max(round_step(most / TICKS), 1)
                return [index * step for index in range(int(most / step) + 1)]


def lines(x, y, series, pale_before=None):
    """`series`: name, colour, points. Of one name, only the first is in the legend."""
    xs = [point[0] for _, _, points in series for point in points]
    ys = [point[1] for _, _, points in series for point in points]
    (x_least, x_most), (y_least, y_most) = x.bounds(xs), y.bounds(ys)

    def at_x(value):
        return LEFT + (x.raw(value) - x_least) / (x_most - x_least) * (WIDTH - LEFT - RIGHT)

    def at_y(value):
        return HEIGHT - BOTTOM - (y.raw(value) - y_least) / (y_most - y_least) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in x.ticks(x_least, x_most):
        at = at_x(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        text = x.text(tick)
        # One that would go beyond the edge ends there.
        where = f'x="{at:.1f}"' if at + len(text) * GLYPH / 2 <= WIDTH else f'x="{WIDTH}" style="text-anchor:end"'
        parts.append(f'<text class="tx" {where} y="{HEIGHT - BOTTOM + 16}">{html.escape(text)}</text>')
    for tick in y.ticks(y_least, y_most):
        at = at_y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="ty" x="{LEFT - 6}" y="{at + 4:.1f}">{html.escape(y.text(tick))}</text>')
    parts.append(f'<text class="tx" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}">{html.escape(x.title)}</text>')
    if pale_before is not None:
        parts.append(
            f'<rect class="warmup" x="{LEFT}" y="{TOP}" width="{max(at_x(pale_before) - LEFT, 0):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/>'
        )
    for _, colour, points in series:
        path = " ".join(f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="line s{colour}" points="{path}"/>')
    names = dict.fromkeys((name, colour) for name, colour, _ in series)
    legend = "".join(f'<span><i class="s{colour}"></i>{html.escape(name)}</span>' for name, colour in names)
    return f'<div class="legend">{legend}</div>' + _svg(WIDTH, HEIGHT, "".join(parts))


def round_step(step):
    """1, 2 or 5 times a power of ten, at least `step`."""
    decade = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= step * 0.999)


def shorten(text, most=70):
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(width, height, inside):
    return f'<svg viewBox="0 0 {width} {height}" role="img">{inside}</svg>'
