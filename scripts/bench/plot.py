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
COLORS = ("#0b6e4f", "#c0392b", "#2c6fbb", "#d68910", "#7d3c98", "#16a085", "#7f8c8d", "#a04000", "#2e4053", "#b03a8c")


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
    parts = [_line(scale(power), HEAD, scale(power), bottom, "#ddd") for power in scale.powers()]
    parts += [_text(scale(power), bottom + 16, number(power), "middle") for power in scale.powers()]
    for row, bar in enumerate(bars):
        top, middle = HEAD + ROW * row, HEAD + ROW * row + ROW / 2
        parts += [
            _rectangle(LABELS, top + 4, scale(bar.median) - LABELS, ROW - 8, COLORS[row % len(COLORS)]),
            _line(scale(bar.low), middle, scale(bar.high), middle, "#000"),
            _text(LABELS - 8, middle + 4, bar.label, "end"),
            _text(scale(bar.high) + 8, middle + 4, number(bar.median), "start"),
        ]
    return _document(title, bottom + 30, parts)


def line_chart(title: str, marks: Sequence[str], lines: Mapping[str, Sequence[float | None]]) -> str:
    """Draw one line for each name, with a point above each mark for which it has a value."""
    bottom = HEAD + 320
    right = WIDTH - LABELS
    scale = LogScale([value for line in lines.values() for value in line if value], bottom, HEAD)
    places = [LABELS + (right - LABELS) * (place + 0.5) / len(marks) for place in range(len(marks))]
    parts = [_line(LABELS, scale(power), right, scale(power), "#ddd") for power in scale.powers()]
    parts += [_text(LABELS - 8, scale(power) + 4, number(power), "end") for power in scale.powers()]
    parts += [_text(place, bottom + 16, mark, "middle") for place, mark in zip(places, marks, strict=True)]
    for row, (name, values) in enumerate(lines.items()):
        color = COLORS[row % len(COLORS)]
        points = [(place, scale(value)) for place, value in zip(places, values, strict=True) if value]
        parts.append(_polyline(points, color))
        parts.append(_text(right + 8, HEAD + 12 + 18 * row, name, "start", color))
    return _document(title, bottom + 30, parts)


def number(value: float) -> str:
    """Format with three significant digits, and with commas from a thousand up."""
    if value >= 1000:
        return f"{round(value, 2 - floor(log10(value))):,.0f}"
    return f"{value:.3g}" if value else "0"


def _document(title: str, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        'font-family="sans-serif" font-size="13">'
    )
    background = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>'
    heading = f'<text x="{WIDTH / 2:.0f}" y="24" text-anchor="middle" font-size="16">{escape(title)}</text>'
    return "\n".join([head, background, heading, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, color: str = "#000") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _rectangle(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{color}"/>'


def _polyline(points: Iterable[tuple[float, float]], color: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
