"""Two kinds of plot as SVG text, on logarithmic scales: the compared values differ by up to a factor of a hundred."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH = 800
LABELS = 130
"""Width of the left margin (names or the scale) and of the right margin (values or names)."""
ROW = 26
HEAD = 40
LABEL_HEIGHT = 17
COLORS = ("#2da44e", "#d4622a", "#3b8eea", "#b58900", "#9a6df0", "#1f9e9e", "#e0569b", "#8a8f98", "#a5793f", "#6f8fb0")
"""Colors that can be read on white and on black."""
STYLE = """<style>
.paper { fill: #ffffff } .ink { fill: #1f2328 } .grid { stroke: #d8dee4 } .range { stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 } .ink { fill: #e6edf3 } .grid { stroke: #30363d } .range { stroke: #e6edf3 }
}
</style>"""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    median: float
    low: float
    high: float


class LogScale:
    """A mapping from whole powers of ten around the values to a range of pixels."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        logs = [log10(value) for value in values if value > 0] or [0.0]
        self.first = floor(min(logs))
        self.last = max(ceil(max(logs)), self.first + 1)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (log10(value) - self.first) / (self.last - self.first) if value > 0 else 0.0
        return self.start + share * (self.end - self.start)

    def powers(self) -> list[float]:
        return [10.0**exponent for exponent in range(self.first, self.last + 1)]


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Draw a bar up to each median, with a line from the lowest to the highest value."""
    bottom = HEAD + ROW * len(bars)
    scale = LogScale([value for bar in bars for value in (bar.low, bar.high)], LABELS, WIDTH - LABELS)
    parts = [_line(scale(power), HEAD, scale(power), bottom, "grid") for power in scale.powers()]
    parts += [_text(scale(power), bottom + 16, number(power), "middle") for power in scale.powers()]
    for row, bar in enumerate(bars):
        top, middle = HEAD + ROW * row, HEAD + ROW * row + ROW / 2
        parts += [
            _rectangle(LABELS, top + 4, scale(bar.median) - LABELS, ROW - 8, COLORS[row % len(COLORS)]),
            _line(scale(bar.low), middle, scale(bar.high), middle, "range"),
            _text(LABELS - 8, middle + 4, bar.label, "end"),
            _text(scale(bar.high) + 8, middle + 4, number(bar.median), "start"),
        ]
    return _document(title, bottom + 30, parts)


def line_chart(title: str, axis: str, marks: Sequence[str], lines: Mapping[str, Sequence[float | None]]) -> str:
    """Draw one line for each name, with a point above each mark for which it has a value; the first one is bold."""
    bottom, right = HEAD + 340, WIDTH - LABELS
    scale = LogScale([value for line in lines.values() for value in line if value], bottom, HEAD)
    step = (right - LABELS) / max(len(marks) - 1, 1)
    places = [LABELS + step * place for place in range(len(marks))]
    parts = [_line(LABELS, scale(power), right, scale(power), "grid") for power in scale.powers()]
    parts += [_text(LABELS - 8, scale(power) + 4, number(power), "end") for power in scale.powers()]
    parts += [_text(place, bottom + 18, mark, "middle") for place, mark in zip(places, marks, strict=True)]
    parts.append(_text((LABELS + right) / 2, bottom + 38, axis, "middle"))
    curves = {
        name: [(place, scale(value)) for place, value in zip(places, values, strict=True) if value]
        for name, values in lines.items()
    }
    heights = _apart({name: points[-1][1] for name, points in curves.items()})
    for row, (name, points) in reversed(list(enumerate(curves.items()))):
        parts += _curve(points, COLORS[row % len(COLORS)], 4 if row == 0 else 1.5)
        parts.append(_text(right + 10, heights[name] + 4, name, "start", COLORS[row % len(COLORS)], bold=row == 0))
    return _document(title, bottom + 52, parts)


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """Move labels up and down until none covers another one."""
    order = sorted(heights, key=lambda name: heights[name])
    moved = [heights[name] for name in order]
    for _ in range(100):
        for place in range(len(moved) - 1):
            if (overlap := LABEL_HEIGHT - (moved[place + 1] - moved[place])) > 0:
                moved[place] -= overlap / 2
                moved[place + 1] += overlap / 2
    return dict(zip(order, moved, strict=True))


def _curve(points: Sequence[tuple[float, float]], color: str, width: float) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 1}" fill="{color}"/>' for x, y in points]
    return [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"/>', *dots]


def number(value: float) -> str:
    """Format with three significant digits, and with commas from a thousand up."""
    if value >= 1000:
        return f"{round(value, 2 - floor(log10(value))):,.0f}"
    return f"{value:.3g}" if value else "0"


def _document(title: str, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="13">'
    )
    background = f'<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>'
    heading = f'<text class="ink" x="{WIDTH / 2:.0f}" y="24" text-anchor="middle" font-size="16">{escape(title)}</text>'
    return "\n".join([head, STYLE, background, heading, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, color: str = "", *, bold: bool = False) -> str:
    look = f'fill="{color}"' if color else 'class="ink"'
    weight = ' font-weight="bold"' if bold else ""
    return f'<text {look} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rectangle(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{color}"/>'
