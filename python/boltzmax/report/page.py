"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from boltzmax.report.numbers import Report
from boltzmax.report.plots import Figure, figures
from boltzmax.report.summary import (
    Table,
    abstention_table,
    calibration_table,
    classes_table,
    errors_table,
    headline,
    nodes_table,
    over_sure,
    sets_table,
    where_measured,
)

_MOST_CLASSES = 2000  # in the table

_CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f24; --faint: #5c6470; --line: #d9dde3;
  --before: #2456c7; --after: #b3500b; --wrong: #b0235f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171c; --ink: #e6e9ee; --faint: #a3abb8; --line: #343a44;
    --before: #84aaff; --after: #f0a05a; --wrong: #f285b1; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 72rem; margin: 0 auto; padding: 1.5rem; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.2rem; }
.headline { font-size: 1.1rem; } .faint, figcaption { color: var(--faint); }
.notes { border-left: 3px solid var(--wrong); padding-left: 1rem; }
.figures { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  font-weight: normal; } thead th { font-weight: 600; } .right { text-align: right; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible, .wide:focus-visible { outline: 2px solid var(--before); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const isNumber = head.classList.contains("right");
    const key = row => {
      const text = row.cells[column].textContent;
      return isNumber ? (text === "-" ? Infinity : parseFloat(text)) : text;
    };
    const compare = (a, b) => isNumber
      ? (a[0] < b[0] ? -1 : +(a[0] > b[0])) : a[0].localeCompare(b[0], undefined, {numeric: true});
    const rows = [...body.rows].map(row => [key(row), row]);
    rows.sort((a, b) => sign * compare(a, b));
    body.append(...rows.map(pair => pair[1]));
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  }));
}
"""


def page_of(report: Report, names: Sequence[str], title: str) -> str:
    """Return the page."""
    nodes = nodes_table(report)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="headline">{escape(headline(report))}</p>',
        f'<p class="faint">{escape(where_measured(report))}</p>',
        _notes(report.notes),
        '<div class="figures">' + "\n".join(map(_figure, figures(report))) + "</div>",
        _section(calibration_table(report), f"The temperature is {over_sure(report)}."),
        _section(abstention_table(report.abstention)),
        "" if nodes is None else _section(nodes),
        _section(sets_table(report)),
        _section(errors_table(report, names), "Of all rows; rows are counted from 0."),
        _classes(report, names),
    ]
    body = "\n".join(section for section in sections if section)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<main>
{body}
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<section class="notes"><h2>Notes</h2><ul>{items}</ul></section>'


def _figure(figure: Figure) -> str:
    title, alt = escape(figure.title), escape(figure.alt)
    return (
        f'<figure><h2>{title}</h2><div role="img" aria-label="{alt}">{figure.svg}</div>'
        f"<figcaption>{alt}</figcaption></figure>"
    )


def _classes(report: Report, names: Sequence[str]) -> str:
    found = classes_table(report, names, _MOST_CLASSES)
    caption = "Of all rows; the worst first. The head of a column sorts by it."
    left_out = len(report.classes.worst) - len(found.rows)
    if left_out:
        caption += f" {left_out:,} better classes are left out."
    return _section(found._replace(title="Classes"), caption, sortable=True)


def _section(table: Table, caption: str = "", *, sortable: bool = False) -> str:
    """Return a heading and a table, whose first column has the heads of its rows."""
    if not table.rows:
        return f"<h2>{escape(table.title)}</h2><p>None.</p>"
    right = [name.startswith(">") for name in table.header]

    def cell(text: str, column: int, tag: str) -> str:
        attributes = ' scope="row"' if tag == "th" else ""
        attributes += ' class="right"' if right[column] else ""
        return f"<{tag}{attributes}>{escape(text)}</{tag}>"

    def head(name: str, column: int) -> str:
        text = escape(name.removeprefix(">"))
        inner = f'<button type="button">{text}</button>' if sortable else text
        return f'<th scope="col"{" class=right" if right[column] else ""}>{inner}</th>'

    heads = "".join(head(name, i) for i, name in enumerate(table.header))
    rows = "\n".join(
        "<tr>" + "".join(cell(t, i, "td" if i else "th") for i, t in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    title = escape(table.title)
    return (
        f'<h2>{title}</h2>\n<div class="wide" tabindex="0" role="region" aria-label="{title}">'
        f"<table{' class=sortable' if sortable else ''}>"
        + (f"<caption>{escape(caption)}</caption>" if caption else "")
        + f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )
