"""The report's line plots as inline SVG: small, sharp in print, and in the page's colours in light and dark."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 380, 260
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 12, 40
COLOURS = 6  # of the style sheet, c0 to c5; then again with dashes, then with dots
STROKES = ("", " dashed", " dotted")
MARGIN = 8  # px inside the axes, left and right
BESIDE = 2.5  # px between the error bars of two lines


class Point(NamedTuple):
    """A place of a line; `low` and `high` bound its spread, both None if there is none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """A line of a plot. `style` chooses colour and dashes: the same method has the same one in all plots."""

    name: str
    style: int
    points: list[Point]
    family: str = ""


def plot(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: dict[float, str] | None = None,
    band: bool = False,
) -> str:
    """An SVG image of the lines, with the spread as error bars, or as a band.

    Args:
        title: what a screen reader says of the image.
        x_ticks: place -> its text; chosen from the data if not given.
    """
    points = [point for line in lines for point in line.points]
    bounds = [y for p in points for y in (p.y, p.low, p.high) if y is not None]
    x_low, x_high = _range([p.x for p in points])
    ticks = _ticks(*_range(bounds))
    y_low, y_high = ticks[0], ticks[-1]
    if x_ticks is None:
        x_ticks = {x: f"{x:g}" for x in _ticks(x_low, x_high) if x == int(x) and x_low <= x <= x_high}

    # the lines' error bars stand beside each other
    bars = not band and any(point.low is not None for point in points)
    spread = BESIDE * (len(lines) - 1) / 2 if bars else 0.0
    inner = WIDTH - LEFT - RIGHT - 2 * (MARGIN + spread)

    def place(x: float, y: float, shift: float = 0.0) -> str:
        across = LEFT + MARGIN + spread + (x - x_low) / (x_high - x_low) * inner + shift
        return f"{across:.1f},{TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<path class="axis" d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>',
    ]
    for y in ticks:
        height = place(x_low, y).split(",")[1]
        parts.append(f'<path class="grid" d="M{LEFT},{height}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{height}" dy=".35em" text-anchor="end">{y:g}</text>')
    for x, text in x_ticks.items():
        across = place(x, y_low).split(",")[0]
        parts.append(
            f'<text x="{across}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(text)}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>',
    ]
    for i, line in enumerate(lines):
        parts += _line(line, place, BESIDE * i - spread if bars else 0.0, band)
    return "".join([*parts, "</svg>"])


def style(number: int) -> str:
    """The class of a line, or of its sample in a legend."""
    return f"line c{number % COLOURS}{STROKES[number // COLOURS % len(STROKES)]}"


def sample(number: int) -> str:
    """A piece of line for the legend."""
    return f'<svg viewBox="0 0 28 10" width="28" height="10" aria-hidden="true"><path class="{style(number)}" d="M1,5H27"/></svg>'


def thin(points: Sequence[Point], most: int = 40) -> list[Point]:
    """At most `most` points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _line(line: Line, place, shift: float, band: bool) -> list[str]:
    known = [p for p in line.points if p.low is not None and p.high is not None]
    told = f"{line.name}: " + ", ".join(f"{p.y:.4g}" for p in line.points[-3:])
    parts = [
        f'<g data-method="{escape(line.name)}" data-family="{escape(line.family)}"><title>{escape(told)}</title>'
    ]
    if band and known:
        edge = [place(p.x, p.high) for p in known] + [place(p.x, p.low) for p in reversed(known)]
        parts.append(f'<path class="band c{line.style % COLOURS}" d="M{"L".join(edge)}Z"/>')
    if len(line.points) > 1:
        way = "L".join(place(p.x, p.y, shift) for p in line.points)
        parts.append(f'<path class="{style(line.style)}" d="M{way}"/>')
    if not band:
        bars = "".join(f"M{place(p.x, p.low, shift)}L{place(p.x, p.high, shift)}" for p in known)
        parts += [f'<path class="bar c{line.style % COLOURS}" d="{bars}"/>'] if bars else []
    if not band or len(line.points) == 1:
        for p in line.points:
            x, y = place(p.x, p.y, shift).split(",")
            parts.append(f'<circle class="dot c{line.style % COLOURS}" cx="{x}" cy="{y}" r="2.5"/>')
    return [*parts, "</g>"]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest value; never equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, number: int = 5) -> list[float]:
    """About `number` round numbers from at or below `low` to at or above `high`."""
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(k for k in (1, 2, 5, 10) if k * power >= rough * 0.999)
    return [round(i * step, 12) for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
