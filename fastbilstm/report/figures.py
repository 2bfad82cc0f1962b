"""Figures of `fastbilstm report`: charts as inline SVG, each with a table of the numbers in it. Needs no script.

Colours are CSS classes: s1 and s2 are two hues that colour-blind readers can distinguish, and marks and dashes differ,
too. All text is escaped. Imports the standard library only. Matplotlib would save lines here, but its SVG holds
addresses, and colours that do not follow the reader's theme, and it is one more package to install.
"""

import math
from html import escape

WIDTH, HEIGHT = 420, 290
LEFT, RIGHT, TOP, BOTTOM = 66, 74, 14, 46
# How many layers a figure of shares shows; the others are added up, and the table lists them.
MOST_BARS = 15


def figure(title, svg, caption, header, rows):
    """A <figure>: heading, drawing, caption, and the numbers in a table."""
    return (
        f"<figure><h4>{escape(title)}</h4>{svg}<figcaption>{escape(caption)}</figcaption>"
        f"<details><summary>The numbers</summary>{table(header, rows)}</details></figure>"
    )


def table(header, rows, kind="numbers"):
    """An HTML table; cells are text, and escaped."""
    head = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in header)
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{escape(str(cell))}</th>' if k == 0 else f"<td>{escape(str(cell))}</td>"
            for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def number(value):
    """A number with three digits, without exponent if that is readable."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}"


def _svg(title, body, height=HEIGHT):
    return (
        f'<svg role="img" class="chart" viewBox="0 0 {WIDTH} {height}"><title>{escape(title)}</title>{"".join(body)}'
        "</svg>"
    )


def _text(x, y, text, anchor="middle", kind="", more=""):
    kind = f' class="{kind}"' if kind else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _axes(x_title, y_title, x_ticks, y_ticks, right):
    """Grid, ticks and titles; ticks are (place, text)."""
    bottom = HEIGHT - BOTTOM
    for y, text in y_ticks:
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>' + _text(LEFT - 6, y + 4, text, "end")
    yield f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>'
    for x, text in x_ticks:
        yield f'<path class="axis" d="M{x:.1f} {bottom}v4"/>' + _text(x, bottom + 17, text)
    yield _text((LEFT + right) / 2, HEIGHT - 8, x_title, kind="title")
    middle = (TOP + bottom) / 2
    yield _text(13, middle, y_title, kind="title", more=f' transform="rotate(-90 13 {middle:.1f})"')


def _log_ticks(low, high):
    """1, 2 and 5 times the powers of ten between two numbers; if that is too many, the powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power * 1.0000001 <= high]


def _apart(places, distance):
    """Move sorted labels until none overlap; returns {key: y}."""
    result, last = {}, -math.inf
    for y, key in sorted(places):
        last = max(y, last + distance)
        result[key] = last
    excess = last - (HEIGHT - BOTTOM)
    return {key: y - max(excess, 0) for key, y in result.items()}


def line_chart(title, x_title, y_title, series):
    """Lines over two logarithmic axes. `series`: {name: [(x, y, low, high), ...]}, two at most."""
    points = [point for line in series.values() for point in line]
    low, high = min(p[2] for p in points) / 1.15, max(p[3] for p in points) * 1.15
    if high / low < 4:
        low, high = low / 2, high * 2
    xs = sorted({p[0] for p in points})
    first, last = math.log(xs[0]), math.log(xs[-1])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place_x(x):
        part = (math.log(x) - first) / (last - first) if last > first else 0.5
        return LEFT + 12 + part * (right - LEFT - 24)

    def place_y(y):
        return bottom - (math.log(y) - math.log(low)) / (math.log(high) - math.log(low)) * (bottom - TOP)

    ticks = [(place_y(y), f"{y:g}") for y in _log_ticks(low, high)]
    body = list(_axes(x_title, y_title, [(place_x(x), f"{x:g}") for x in xs], ticks, right))
    ends = _apart([(place_y(line[-1][1]) + 4, name) for name, line in series.items()], 14)
    for k, (name, line) in enumerate(series.items(), 1):
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y, *_ in line)
        body.append(f'<polyline class="line s{k}" points="{path}"/>')
        for x, y, below, above in line:
            at, up = place_x(x), place_y(y)
            told = f"<title>{escape(name)}, {x:g}: {number(y)} ({number(below)} to {number(above)})</title>"
            whisker = f"M{at:.1f} {place_y(below):.1f}V{place_y(above):.1f}"
            body.append(f'<path class="whisker s{k}" d="{whisker}"/>')
            if k == 1:
                body.append(f'<circle class="mark s1" cx="{at:.1f}" cy="{up:.1f}" r="4">{told}</circle>')
            else:
                square = f'x="{at - 3.5:.1f}" y="{up - 3.5:.1f}" width="7" height="7"'
                body.append(f'<rect class="mark s2" {square}>{told}</rect>')
        body.append(_text(place_x(line[-1][0]) + 9, ends[name], name, "start", f"label s{k}"))
    return _svg(title, body)


def histogram(title, edges, counts, equal, band):
    """Counts between logarithmic edges, the first of them 0; at the left the equal ones; and the tolerance `band`
    (low, high).
    """
    right, bottom = WIDTH - 14, HEIGHT - BOTTOM
    start = LEFT + 56
    edges = [edges[1] / 10 ** (1 / 3), *edges[1:]] if edges else []
    low = min([*edges[:1], band[0]]) / 1.5
    high = max([*edges[-1:], band[1]]) * 1.5
    most = max([*counts, equal, 1])

    def place_x(x):
        return start + (math.log10(x) - math.log10(low)) / (math.log10(high) - math.log10(low)) * (right - start)

    def place_y(y):
        return bottom - y / most * (bottom - TOP - 14)

    step = 10.0 ** math.floor(math.log10(most / 2)) if most >= 2 else 1.0
    step *= next(factor for factor in (1, 2, 5, 10) if most / (step * factor) <= 5)
    ys = [k * step for k in range(int(most / step) + 1)]
    decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    skip = 1 + len(decades) // 7
    x_ticks = [(place_x(10.0**k), f"1e{k}") for k in decades if k % skip == 0] + [(LEFT + 24, "equal")]
    left, width = place_x(band[0]), place_x(band[1]) - place_x(band[0])
    body = [f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{max(width, 2):.1f}" height="{bottom - TOP}"/>']
    body += _axes("error / largest element", "elements", x_ticks, [(place_y(y), f"{y:,.0f}") for y in ys], right)
    body.append(_text(left - 4, TOP + 10, "tolerance", "end", "label"))
    bars = [(LEFT + 12, 24, equal, "equal")]
    for k, (a, b, count) in enumerate(zip(edges, edges[1:], counts)):
        name = f"{number(a if k else 0)} to {number(b)}"
        bars.append((place_x(a) + 0.5, place_x(b) - place_x(a) - 1, count, name))
    for x, wide, count, name in bars:
        if count:
            top = min(place_y(count), bottom - 1.5)
            shape = f'x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{bottom - top:.1f}"'
            body.append(f'<rect class="bar s1" {shape}><title>{escape(name)}: {count:,}</title></rect>')
    return _svg(title, body)


def share_chart(title, rows, names):
    """Bars for each row (name, values): milliseconds, two at most, each with its part of the sum of its kind."""
    sums = [sum(values[k] for _, values in rows) or 1.0 for k in range(len(names))]
    shown = sorted(rows, key=lambda row: -max(value / total for value, total in zip(row[1], sums)))[:MOST_BARS]
    others = [row for row in rows if row not in shown]
    shown = [row for row in rows if row in shown]
    if others:
        shown.append((f"{len(others)} others", tuple(sum(v[k] for _, v in others) for k in range(len(names)))))
    step, top = 17 * len(names) + 24, 24
    height = top + step * len(shown)
    widest = max(value / total for _, values in shown for value, total in zip(values, sums)) or 1.0
    body = []
    for k, name in enumerate(names):
        body.append(f'<rect class="bar s{k + 1}" x="{8 + 140 * k}" y="3" width="11" height="11"/>')
        body.append(_text(24 + 140 * k, 13, name, "start", "label"))
    for row, (name, values) in enumerate(shown):
        y = top + row * step
        short = name if len(name) <= 56 else name[:55] + "…"
        body.append(_text(8, y + 13, short, "start", "label"))
        for k, value in enumerate(values):
            share = value / sums[k]
            wide = max(share / widest * (WIDTH - 150), 1.0)
            at = y + 18 + 17 * k
            told = f"{number(value)} ms, {100 * share:.1f} %"
            body.append(
                f'<rect class="bar s{k + 1}" x="8" y="{at}" width="{wide:.1f}" height="13">'
                f"<title>{escape(name)}, {escape(names[k])}: {told}</title></rect>"
            )
            body.append(_text(14 + wide, at + 11, told, "start"))
    return _svg(title, body, height)
