"""How a report looks: both schemes with a contrast of 4.5 to 1 or more, one column where it is narrow, and on paper."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --good: #116329; --bad: #b3121d; --doubt: #7d4e00; --cool: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9da7b3; --line: #3d444d;
  --card: #161b22; --good: #56d364; --bad: #ff7b72; --doubt: #e3b341; --cool: #79c0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2rem 0 .25rem; }
h3 { font-size: 1rem; margin: 0; } h1, h2, h3, p, dd, td, li { overflow-wrap: anywhere; }
.note, footer, .who, dt { color: var(--soft); font-size: .875rem; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; }
.totals b { font-size: 1.5rem; } .totals .good, .good .verdict strong { color: var(--good); }
.totals .bad, .bad .verdict strong { color: var(--bad); }
.totals .doubt, .doubt .verdict strong { color: var(--doubt); }
.legend li { display: flex; align-items: center; gap: .4rem; font-size: .875rem; }
.legend svg { width: 10px; height: 20px; }
.pairs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
article { min-width: 0; background: var(--card); border: 1px solid var(--line); border-left: 6px solid var(--good);
  border-radius: 6px; padding: .75rem 1rem; margin: .75rem 0; break-inside: avoid; }
article.bad { border-left-color: var(--bad); border-left-style: double; }
article.doubt { border-left-color: var(--doubt); }
.verdict { margin: .25rem 0; } .verdict strong { text-transform: uppercase; font-size: .8rem; letter-spacing: .05em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .75rem; margin: .5rem 0; } dd { margin: 0; }
.lanes { display: grid; grid-template-columns: minmax(4rem, 14rem) 1fr; gap: 2px .75rem; align-items: center;
  margin: .5rem 0; }
.who { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lanes svg { width: 100%; height: 20px; display: block; }
line { vector-effect: non-scaling-stroke; stroke-width: 3; stroke: var(--soft); }
.rail { stroke: var(--line); stroke-width: 1; } line.landed { stroke: var(--good); } line.told { stroke: var(--soft); }
line.refused { stroke: var(--cool); } line.failed, line.outside { stroke: var(--doubt); }
line.lost { stroke: var(--bad); stroke-width: 4; stroke-dasharray: 3 2; } line.checked { stroke: var(--good); }
line.outside { stroke-dasharray: 2 2; }
summary { cursor: pointer; font-size: .875rem; } :focus-visible { outline: 3px solid var(--cool); outline-offset: 2px; }
.scroll { overflow-x: auto; max-height: 24rem; } table { border-collapse: collapse; font-size: .8125rem; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .2rem .75rem .2rem 0; border-top: 1px solid var(--line); }
td:first-child { white-space: nowrap; font-variant-numeric: tabular-nums; } tr.lost b { color: var(--bad); }
tr.refused b { color: var(--cool); } tr.landed b, tr.checked b { color: var(--good); }
tr.failed b, tr.outside b { color: var(--doubt); }
footer { border-top: 1px solid var(--line); margin-top: 2rem; }
@media (max-width: 40rem) { td:first-child { white-space: normal; } .lanes { grid-template-columns: 1fr; } }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --card: #fff; --good: #116329;
  --bad: #b3121d; --doubt: #7d4e00; --cool: #0550ae; } .scroll { max-height: none; overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; } main { max-width: none; padding: 0; } }
"""
