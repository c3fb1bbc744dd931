"""The frame of a report: escaped text, tables, pictures, and how they look."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jnas.report import files

__all__ = ["GENERATOR", "Pictures", "document", "fold", "section", "table", "text"]

GENERATOR = '<meta name="generator" content="jnas report">'

# Figures are drawn for a light page; a dark one inverts them and turns the hues back.
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --soft: #5c6670; --page: #f6f7f9;
  --card: #fff; --line: #dfe3e8; --accent: #0072b2; --note: #fff6e0; --edge: #e69f00;
  --differs: #fff0d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #9ba5af;
  --page: #14171a; --card: #1c2024; --line: #343a41; --accent: #6cb8e6;
  --note: #33290f; --differs: #3d3013; }
  .picture svg { filter: invert(0.89) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; font-size: 15px; -webkit-text-size-adjust: 100%; }
main, header { max-width: 1180px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 28px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 20px 0 8px; overflow-wrap: anywhere; }
h3:first-child { margin-top: 0; }
p { margin: 0 0 10px; max-width: 75ch; }
a { color: var(--accent); }
.soft { color: var(--soft); }
.chips, nav { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 8px 0; }
.chips span { background: var(--card); border: 1px solid var(--line);
  border-radius: 999px; padding: 2px 11px; font-size: 13px; overflow-wrap: anywhere; }
.chips b { font-weight: 600; }
nav { gap: 4px 16px; font-size: 14px; margin: 12px 0 18px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 0 0 16px; }
.figures { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); margin: 0 0 14px; }
.figures div { border: 1px solid var(--line); border-radius: 8px; padding: 9px 12px; }
.figures b { display: block; font-size: 21px; line-height: 1.3; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.figures small { color: var(--soft); font-size: 13px; display: block; }
ul.notes { list-style: none; margin: 0; padding: 0; }
ul.notes li { border-left: 3px solid var(--accent); padding: 3px 0 3px 11px;
  margin: 0 0 7px; overflow-wrap: anywhere; max-width: 95ch; }
ul.notes li.warning { border-color: var(--edge); background: var(--note); }
.scroll { overflow-x: auto; margin: 0 0 12px; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: 14px; min-width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
thead th { white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
tbody th { color: var(--ink); white-space: nowrap; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--card); }
table.settings { min-width: 0; }
table.settings th { font: 13px ui-monospace, Menlo, Consolas, monospace; }
table.settings td { overflow-wrap: break-word; max-width: 420px; }
tr.differs > * { background: var(--differs); }
pre, code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px;
  padding: 9px 12px; margin: 0 0 12px; white-space: pre-wrap; overflow-wrap: anywhere;
  user-select: all; }
.picture svg { display: block; width: 100%; height: auto; }
.picture svg * { stroke-linejoin: round; stroke-linecap: butt; }
.picture { margin: 0; }
.wide { overflow-x: auto; margin: 0 0 12px; }
.panels { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.edges { display: grid; gap: 8px 10px;
  grid-template-columns: repeat(auto-fill, minmax(155px, 1fr)); }
.maps { display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: flex-start;
  margin: 0 0 18px; }
.edges { flex: 1 1 560px; }
.end { flex: 0 1 auto; max-width: 100%; }
.halves { display: grid; gap: 0 32px; grid-template-columns: minmax(0, 1fr); }
.pair { display: grid; gap: 20px; grid-template-columns: minmax(0, 1fr); }
details > summary { cursor: pointer; font-weight: 600; margin: 4px 0 10px;
  overflow-wrap: anywhere; }
footer { max-width: 1180px; margin: 0 auto; padding: 0 16px 28px; font-size: 13px; }
@media (min-width: 900px) {
  .pair { grid-template-columns: 3fr 2fr; align-items: start; }
  .halves { grid-template-columns: repeat(2, minmax(0, 1fr)); align-items: start; }
  .edges.triangle { grid-template-columns: repeat(var(--columns), minmax(0, 210px));
    flex-basis: calc(var(--columns) * 205px); }
  .edges.triangle .picture { grid-column: var(--column); grid-row: var(--row); } }
@media (max-width: 600px) { section { padding: 14px 12px; } main, header {
  padding-left: 10px; padding-right: 10px; } h1 { font-size: 21px; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


def text(value: Any) -> str:
    """Escapes any text for a page.

    Args:
      value: the text, or what `str` makes one of.

    Returns:
      Text in which nothing is markup; what no page can hold is replaced.

    Example:
      >>> text("<b> & 'c'")
      '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    # control characters and halves of surrogate pairs (of odd file names) are no text
    shown = "".join(
        letter if letter in "\n\t" or letter.isprintable() or letter == "\xa0" else "�"
        for letter in str(value)
    )
    return html.escape(shown, quote=True)


def section(name: str, title: str, *parts: str) -> str:
    """A section of the page.

    Args:
      name: its id.
      title: its heading.
      *parts: markup; empty parts leave the section out if all are.

    Returns:
      Markup, or "" without content.

    Example:
      >>> section("notes", "Notes", "")
      ''
    """
    content = "\n".join(part for part in parts if part)
    if not content:
        return ""
    return f'<section id="{name}">\n<h2>{text(title)}</h2>\n{content}\n</section>'


def fold(title: str, content: str, *, opened: bool) -> str:
    """A part that can be folded away.

    Args:
      title: what stays.
      content: markup.
      opened: whether it is shown at first.

    Returns:
      Markup.

    Example:
      >>> fold("run", "<p></p>", opened=False)
      '<details><summary>run</summary><p></p></details>'
    """
    start = "<details open>" if opened else "<details>"
    return f"{start}<summary>{text(title)}</summary>{content}</details>"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numbers: bool = True,
    kinds: Sequence[str] = (),
    name: str = "",
) -> str:
    """A table; every cell is escaped.

    Args:
      head: texts of the columns.
      rows: texts of the cells; the first of each row is its heading.
      numbers: whether the other columns are numbers, which stand at the right.
      kinds: class of each row, if any.
      name: class of the table.

    Returns:
      Markup that scrolls where the page is too narrow.

    Example:
      >>> table(["a", "b"], [["x", 1]]).count("<tr")
      2
    """
    kind = ' class="number"' if numbers else ""
    lines = [f"<th{kind if i else ''}>{text(cell)}</th>" for i, cell in enumerate(head)]
    body = []
    for index, row in enumerate(rows):
        style = kinds[index] if index < len(kinds) else ""
        mark = f' class="{style}"' if style else ""
        cells = [f'<th scope="row">{text(row[0])}</th>']
        cells += [f"<td{kind}>{text(cell)}</td>" for cell in row[1:]]
        body.append(f"<tr{mark}>{''.join(cells)}</tr>")
    mark = f' class="{name}"' if name else ""
    return (
        f'<div class="scroll"><table{mark}><thead><tr>{"".join(lines)}</tr></thead>\n'
        f"<tbody>{chr(10).join(body)}</tbody></table></div>"
    )


class Pictures:
    """Turns figures into parts of one page, in which every id is there once.

    Example:
      >>> from matplotlib.figure import Figure
      >>> Pictures().inline(Figure(), "nothing")[:23]
      '<figure class="picture"'
    """

    def __init__(self):
        self._count = 0

    def inline(self, figure: Any, label: str, *, style: str = "") -> str:
        """Makes the markup of a figure.

        Args:
          figure: the figure.
          label: what it shows, for those who can't see it.
          style: of the element, such as its place in a grid.

        Returns:
          The markup.
        """
        self._count += 1
        content = files.svg(figure)
        content = content[content.index("<svg") :]
        content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
        content = re.sub(r"<style.*?</style>", "", content, flags=re.DOTALL)
        used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", content))
        kept = {name for pair in used for name in pair if name}
        prefix = f"p{self._count}-"

        def rename(match: re.Match[str]) -> str:
            return f' id="{prefix}{match[1]}"' if match[1] in kept else ""

        content = re.sub(r' id="([^"]*)"', rename, content)
        content = content.replace("url(#", f"url(#{prefix}")
        content = content.replace('href="#', f'href="#{prefix}')
        # a hundredth of a point is finer than any screen
        content = re.sub(r' d="[^"]*"', _rounded, content)
        content = re.sub(r"\n\s*", "\n", content).strip()
        mark = f' style="{style}"' if style else ""
        content = content.replace(
            "<svg ", f'<svg role="img" aria-label="{text(label)}" ', 1
        )
        return f'<figure class="picture"{mark}>{content}</figure>'

    def wide(self, figure: Any, label: str, *, inch: float) -> str:
        """A figure that scrolls sideways rather than becoming too small to read.

        Args:
          figure: the figure.
          label: what it shows.
          inch: the least number of pixels for an inch of it.

        Returns:
          The markup.
        """
        width = figure.get_figwidth()
        style = f"min-width:{width * inch:.0f}px;max-width:{width * 120:.0f}px"
        inner = self.inline(figure, label, style=style)
        return f'<div class="wide">{inner}</div>'


def _rounded(match: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", match[0])


def document(title: str, head: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
      title: of the page.
      head: markup under the title.
      sections: pairs (title, markup of `section`); empty ones are left out.

    Returns:
      The text of the file.

    Example:
      >>> document("a", "", [])[:15]
      '<!DOCTYPE html>'
    """
    links, body = [], []
    for name, content in sections:
        if content:
            anchor = re.findall(r'<section id="([^"]+)"', content)[0]
            links.append(f'<a href="#{anchor}">{text(name)}</a>')
            body.append(content)
    newline = "\n"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{GENERATOR}
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{text(title)}</h1>
{head}
<nav>{newline.join(links)}</nav>
</header>
<main>
{newline.join(body)}
</main>
<footer class="soft">Made by <code>jnas report</code>. This file needs nothing else:
no network, no script.</footer>
</body>
</html>
"""
