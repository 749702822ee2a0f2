"""A profile as one HTML page without external resources: a bar for each layer, and a table that sorts by a click."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from graphnn.inspect.cards import clean
from graphnn.inspect.figures import bytes_text, count_text, rate_text, time_text
from graphnn.inspect.profile import Line, Profile

_STYLE = """
:root{color-scheme:light dark;--ink:#1e293b;--soft:#64748b;--line:#e2e8f0;--page:#fff;--card:#f8fafc;
--fore:#4f46e5;--back:#e07a4f}
@media(prefers-color-scheme:dark){:root{--ink:#e2e8f0;--soft:#94a3b8;--line:#334155;--page:#0f172a;--card:#1e293b;
--fore:#818cf8;--back:#f0936b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1360px;padding:32px 28px;background:var(--page);color:var(--ink);
font:14px/1.45 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,"DejaVu Sans",sans-serif}
h1{font-size:22px;margin:0 0 4px}h2{font-size:15px;margin:32px 0 10px}p{margin:0;color:var(--soft)}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin-top:20px}
.figures div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 16px;min-width:120px}
.figures b{display:block;font-size:19px}.figures span{color:var(--soft);font-size:12px}
.chart{display:grid;grid-template-columns:max-content 1fr max-content;gap:6px 12px;align-items:center}
.chart .bar{height:18px;display:flex;border-radius:4px;overflow:hidden;background:var(--card)}
.bar i{display:block;height:100%;background:var(--fore)}.bar i.b{background:var(--back)}
.chart .much{font-variant-numeric:tabular-nums;color:var(--soft);text-align:right}
.key{margin-top:10px;font-size:12px;color:var(--soft)}
.key i{display:inline-block;width:10px;height:10px;border-radius:3px;margin:0 5px 0 14px;background:var(--fore)}
.key i.b{background:var(--back)}.key i:first-child{margin-left:0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{cursor:pointer;color:var(--soft);font-weight:600;font-size:12px;user-select:none}
th:hover{color:var(--ink)}th[aria-sort=ascending]::after{content:" ↑"}th[aria-sort=descending]::after{content:" ↓"}
th.t,td.t{text-align:left}tbody tr:hover{background:var(--card)}
td small{color:var(--soft);display:block;max-width:340px;min-width:220px;white-space:normal}
code{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.share{display:inline-block;width:64px;height:8px;border-radius:3px;background:var(--card);margin-left:8px;vertical-align:middle}
.share i{display:block;height:100%;border-radius:3px;background:var(--fore)}tr.b .share i{background:var(--back)}
"""
_SCRIPT = """
document.querySelectorAll("th").forEach((head, column) => head.onclick = () => {
  const body = document.querySelector("tbody"), down = head.getAttribute("aria-sort") !== "descending";
  document.querySelectorAll("th").forEach(h => h.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const of = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
  const order = (a, b) => isNaN(of(a)) || isNaN(of(b)) ? of(b).localeCompare(of(a)) : of(b) - of(a);
  [...body.rows].sort((a, b) => down ? order(a, b) : order(b, a)).forEach(row => body.append(row));
});
"""
_HEADS = (("#", ""), ("node", "t"), ("layer", "t"), ("output", "t"), ("time", ""), ("share", ""), ("GFLOP/s", ""), ("bytes", ""),
          ("GB/s", ""))


def page(profile: Profile) -> str:
    """The page's text."""
    name = escape(clean(profile.name))
    sizes = ", ".join(f"{escape(key)} = {size}" for key, size in profile.sizes.items())
    heads = "".join(f'<th class="{kind}">{text}</th>' if kind else f"<th>{text}</th>" for text, kind in _HEADS)
    rows = "\n".join(_row(i, line, profile) for i, line in enumerate(profile.lines))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>profile of {name}</title><style>{_STYLE}</style></head><body>
<h1>profile of {name}</h1><p>{f"one run for {sizes}" if sizes else "one run"}</p>
<div class="figures">{_figures(profile)}</div>
<h2>Time by layer</h2>
<div class="chart">
{_chart(profile)}
</div>{_key(profile)}
<h2>Nodes</h2>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div>
<script>{_SCRIPT}</script>
</body></html>
"""


def _figures(profile: Profile) -> str:
    spent, flops, nbytes = profile.nanoseconds, sum(x.flops for x in profile.lines), sum(x.nbytes for x in profile.lines)
    per = 1 / spent if spent else 0.0
    figures = ((time_text(spent), "in all nodes"), (str(len(profile.lines)), "nodes"), (count_text(flops), "FLOP"),
               (rate_text(flops * per) or "0", "GFLOP/s"), (bytes_text(nbytes), "read and written"),
               (rate_text(nbytes * per) or "0", "GB/s"))
    return "".join(f"<div><b>{figure}</b><span>{words}</span></div>" for figure, words in figures)


def _chart(profile: Profile) -> str:
    layers = sorted(profile.by_layer().items(), key=lambda item: -_spent(item[1]))
    longest = max((_spent(lines) for _, lines in layers), default=0.0) or 1.0
    parts: list[str] = []
    for layer, lines in layers:
        back = _spent([line for line in lines if line.backward])
        fore = _spent(lines) - back
        bars = "".join(f'<i{mark} style="width:{100 * part / longest:.2f}%"></i>'
                       for part, mark in ((fore, ""), (back, ' class="b"')) if part)
        share = f"{time_text(fore + back)} · {profile.share(fore + back):.1%}"
        parts.append(f'<span>{escape(clean(layer))}</span><span class="bar">{bars}</span><span class="much">{share}</span>')
    return "\n".join(parts)


def _key(profile: Profile) -> str:
    if not any(line.backward for line in profile.lines):
        return ""
    return '<p class="key"><i></i>forward and update<i class="b"></i>backward</p>'


def _row(number: int, line: Line, profile: Profile) -> str:
    share = profile.share(line.nanoseconds)
    inside = f"<small>{escape(clean(' · '.join(line.inside)))}</small>" if line.inside else ""
    cells = [
        _cell(str(number), number), f'<td class="t" data-v="{escape(clean(line.name))}">{escape(clean(line.name))}{inside}</td>',
        f'<td class="t" title="{escape(clean(line.place))}">{escape(clean(line.full_layer))}</td>',
        f'<td class="t"><code>{escape(line.types)}</code></td>', _cell(time_text(line.nanoseconds), line.nanoseconds),
        _cell(f'{share:.1%}<span class="share"><i style="width:{100 * share:.1f}%"></i></span>', share),
        _cell(rate_text(line.gflops), line.gflops), _cell(bytes_text(line.nbytes) if line.nbytes else "", line.nbytes),
        _cell(rate_text(line.gigabytes), line.gigabytes),
    ]
    return ('<tr class="b">' if line.backward else "<tr>") + "".join(cells) + "</tr>"


def _cell(text: str, number: float) -> str:
    return f'<td data-v="{number:.6g}">{text}</td>'


def _spent(lines: Sequence[Line]) -> float:
    return sum(line.nanoseconds for line in lines)
