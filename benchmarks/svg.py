"""Small plots as SVG, readable on light and on dark pages: horizontal bars, and lines over a logarithmic axis."""

import math
from collections.abc import Sequence
from html import escape

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.faint { fill: #6e7781 }
.axis { stroke: #d0d7de; stroke-width: 1 }
.ours { fill: #0a7d5a; stroke: #0a7d5a }
.other { fill: #8c959f; stroke: #8c959f }
.line { fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #9198a1 } .axis { stroke: #3d444d }
  .ours { fill: #3fb98f; stroke: #3fb98f } .other { fill: #7d8590; stroke: #7d8590 }
}
</style>"""
WIDTH = 760


def _document(height: float, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return "\n".join([head, STYLE, f'<text class="title" x="0" y="18">{escape(title)}</text>', *parts, "</svg>"]) + "\n"


def bars(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float]]]], unit: str, ours: str) -> str:
    """A group of bars for each workload, each group on a scale of its own, so that the small ones can be read too."""
    parts, y = [], 46.0
    for name, values in groups:
        parts.append(f'<text x="0" y="{y:.0f}" font-weight="600">{escape(name)}</text>')
        y += 8
        most = max((value for _, value in values), default=1.0)
        for label, value in values:
            length = max(1.0, value / most * (WIDTH - 260))
            kind = "ours" if label == ours else "other"
            parts.append(f'<text x="120" y="{y + 13:.0f}" text-anchor="end">{escape(label)}</text>')
            parts.append(f'<rect class="{kind}" stroke="none" x="130" y="{y + 2:.0f}" width="{length:.1f}" height="14" rx="2"/>')
            parts.append(f'<text class="faint" x="{138 + length:.1f}" y="{y + 13:.0f}">{value:.3g} {escape(unit)}</text>')
            y += 20
        y += 22
    return _document(y, title, parts)


def lines(title: str, curves: Sequence[tuple[str, Sequence[tuple[int, float]]]], unit: str) -> str:
    """One small plot per curve, side by side: the size on a logarithmic axis, the cost on one that begins at zero."""
    parts: list[str] = []
    wide, high = (WIDTH - 40 * (len(curves) - 1)) / max(1, len(curves)), 150
    for number, (name, points) in enumerate(curves):
        left = number * (wide + 40)
        top = max(cost for _, cost in points) * 1.15
        last = math.log2(max(size for size, _ in points) + 1)
        places = [(left + 34 + math.log2(size + 1) / last * (wide - 44), 60 + high * (1 - cost / top)) for size, cost in points]
        parts.append(f'<text x="{left:.0f}" y="44">{escape(name)}</text>')
        for share in (0, 0.5, 1):
            at = 60 + high * (1 - share)
            parts.append(f'<line class="axis" x1="{left + 34:.1f}" x2="{left + wide:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text class="faint" x="{left + 28:.1f}" y="{at + 4:.1f}" text-anchor="end">{top * share:.3g}</text>')
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="ours line" style="fill: none" points="{path}"/>')
        parts += [f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        for index in (0, -1):
            anchor = "end" if index else "start"
            parts.append(
                f'<text class="faint" x="{places[index][0]:.1f}" y="{60 + high + 18}" text-anchor="{anchor}">{points[index][0]:,}</text>'
            )
    parts.append(f'<text class="faint" x="0" y="{60 + high + 40}">{escape(unit)}</text>')
    return _document(60 + high + 50, title, parts)
