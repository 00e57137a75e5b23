"""Tables and plots of what was measured: ratios only, for absolute times are the machine's."""

from __future__ import annotations

import re
from pathlib import Path

from measure import OURS, Comparison

_COLOURS = {
    OURS: "#2b6cb0",
    "C": "#718096",
    "Popen": "#dd6b20",
    "os.posix_spawn": "#b7791f",
    "subprocess": "#dd6b20",
    "Node": "#38a169",
    "Go": "#319795",
}
# Narrow, so that its words can be read on a phone.
_BAR, _WIDTH, _LEFT = 20, 560, 130
_STYLE = (
    "<style>svg{--paper:#fff;--ink:#1f2937}"
    "@media(prefers-color-scheme:dark){svg{--paper:#1c2027;--ink:#e6e9ee}}"
    "text{fill:var(--ink);font:14px system-ui,sans-serif}"
    ".title{font-size:15px}.case{font-weight:600}.name{text-anchor:end}</style>"
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


def plot(comparison: Comparison) -> str:
    """Return an SVG: a bar for each contender, as long as it takes; noinherit's is 1."""
    longest = max(
        value / medians[OURS] for medians in comparison.cases.values() for value in medians.values()
    )
    scale = (_WIDTH - _LEFT - 60) / longest
    parts: list[str] = []
    y = 34
    for case, medians in comparison.cases.items():
        y += _BAR
        parts.append(f'<text class="case" x="12" y="{y - 4}">{_escaped(case)}</text>')
        for name, value in medians.items():
            ratio = value / medians[OURS]
            length = max(ratio * scale, 1)
            parts.append(
                f'<text class="name" x="{_LEFT - 8}" y="{y + 15}">{_escaped(name)}</text>'
                f'<rect x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_BAR - 4}" '
                f'fill="{_COLOURS.get(name, "#805ad5")}"/>'
                f'<text x="{_LEFT + length + 6:.1f}" y="{y + 15}">{ratio:.2f}</text>'
            )
            y += _BAR
        y += 8
    title = f"{_escaped(comparison.title)} (noinherit = 1)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
        f'role="img" aria-label="{title}">{_STYLE}'
        f'<rect width="{_WIDTH}" height="{y}" rx="8" style="fill:var(--paper)"/>'
        f'<text class="title" x="12" y="24">{title}</text>\n' + "\n".join(parts) + "</svg>\n"
    )


def write(comparison: Comparison, page: Path) -> None:
    """Put the table between its markers in `page`, and the plot beside it."""
    picture = page.parent / "performance" / f"{comparison.name}.svg"
    picture.parent.mkdir(exist_ok=True)
    picture.write_text(plot(comparison), encoding="utf-8")
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
