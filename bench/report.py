"""Tables and plots of what was measured: ratios only, for absolute times are the machine's."""

from __future__ import annotations

import re
from pathlib import Path

from measure import OURS, Comparison

# Narrow, so that its words can be read on a phone.
_BAR, _WIDTH, _LEFT, _LABEL = 20, 560, 150, 32
# For a page that shows the file as an image. The site takes the colours of its own theme.
_STYLE = (
    "<style>svg{--paper:#fff;--ink:#1f2937;--line:#8a93a3;--given:#2b6cb0;--other:#dd6b20}"
    "@media(prefers-color-scheme:dark){svg{--paper:#1c2027;--ink:#e6e9ee;--given:#8ab4ff}}"
    "text{fill:var(--ink);font:14px system-ui,sans-serif}.paper{fill:var(--paper)}"
    ".faster{fill:var(--given)}.slower{fill:var(--other)}.plain{stroke:var(--line)}"
    ".title{font-size:15px}.case{font-weight:600}.end{text-anchor:end}</style>"
)


def table(comparison: Comparison) -> str:
    """Return a Markdown table: what noinherit takes as a ratio of what the others take."""
    others = list(
        dict.fromkeys(
            name for medians in comparison.cases.values() for name in medians if name != OURS
        )
    )
    lines = [
        f"| {comparison.title} | {' | '.join(f'÷ {name}' for name in others)} | must reach |",
        f"|---|{'---:|' * len(others)}---|",
    ]
    for case, medians in comparison.cases.items():
        ratios = [f"{comparison.ratio(case, n):.2f}" if n in medians else "-" for n in others]
        verdicts = [
            f"{'✓' if reached else '✗'} {target.against} ≤ {target.limit:.2f}"
            for target, reached in comparison.verdicts(case)
        ]
        lines.append(f"| {case} | {' | '.join(ratios)} | {', '.join(verdicts)} |")
    return "\n".join(lines)


def ratios(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Return what the table shows, by case and by what noinherit is compared with."""
    return {
        case: {name: comparison.ratio(case, name) for name in medians if name != OURS}
        for case, medians in comparison.cases.items()
    }


def plot(title: str, cases: dict[str, dict[str, float]]) -> str:
    """Return an SVG: a bar for each ratio, and a line at 1, where both take the same time."""
    longest = max(1.0, *(ratio for each in cases.values() for ratio in each.values()))
    scale = (_WIDTH - _LEFT - 60) / longest
    parts: list[str] = []
    y = 52
    top = y
    for case, values in cases.items():
        y += _BAR
        parts.append(f'<text class="case" x="12" y="{y - 4}">{_escaped(case)}</text>')
        for name, ratio in values.items():
            length = max(ratio * scale, 1)
            kind = "faster" if ratio <= 1 else "slower"
            label = _LEFT + length + 6
            if label - 4 < _LEFT + scale < label + _LABEL:
                label = _LEFT + scale + 6  # beside the line, not below it
            parts.append(
                f'<text class="end" x="{_LEFT - 8}" y="{y + 15}">÷ {_escaped(name)}</text>'
                f'<rect class="{kind}" x="{_LEFT}" y="{y + 2}" width="{length:.1f}" '
                f'height="{_BAR - 4}"/>'
                f'<text x="{label:.1f}" y="{y + 15}">{ratio:.2f}</text>'
            )
            y += _BAR
        y += 8
    line = f"{_LEFT + scale:.1f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
        f'role="img" aria-label="{_escaped(title)}">{_STYLE}'
        f'<rect class="paper" width="{_WIDTH}" height="{y}" rx="8"/>'
        f'<text class="title" x="12" y="24">{_escaped(title)}</text>'
        '<text x="12" y="44">Shorter is better. Left of the line, noinherit takes less.</text>\n'
        + "\n".join(parts)
        + f'\n<path class="plain" d="M{line} {top} V{y - 4}"/></svg>\n'
    )


def write(comparison: Comparison, page: Path) -> None:
    """Put the table between its markers in `page`, and the plot beside it."""
    picture = page.parent / "performance" / f"{comparison.name}.svg"
    picture.parent.mkdir(exist_ok=True)
    picture.write_text(plot(comparison.title, ratios(comparison)), encoding="utf-8")
    begin, end = f"<!-- {comparison.name} -->", f"<!-- end of {comparison.name} -->"
    picture_line = f"![{comparison.title}](performance/{picture.name})"
    new = f"{begin}\n{table(comparison)}\n\n{picture_line}\n{end}"
    text, count = re.subn(
        f"{begin}.*?{end}", lambda _: new, page.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{page} has no place for {comparison.name}")
    page.write_text(text, encoding="utf-8")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
