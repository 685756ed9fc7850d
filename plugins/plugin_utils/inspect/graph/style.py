# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The page's style sheet, for light and dark screens and for paper.  The page allows it by its hash."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #ffffff; --head: #eef1f6; --line: #d5dae3; --text:
  #1b212c; --soft: #525c6d; --halo: #ffffff; --accent: #0b5cad; --mark: #e8f0fb; --fine: #1a6e36; --new:
  #0b5cad; --lost: #b3261e; --differs: #8a4b00; --left: #7a2f8a; --unknown: #525c6d; --fine-b: #e4f3e8;
  --new-b: #e3eefb; --lost-b: #fce8e6; --differs-b: #fdf0dc; --left-b: #f5e8f8; --unknown-b: #e9ebef; --c0:
  #1766c2; --c1: #0a7d6c; --c2: #8a43c9; --c3: #b55300; --c4: #c02a7b; --c5: #4b7a00; --c6: #5a58d6; --c7:
  #66717f; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f131a; --card: #181e28; --head: #202835; --line: #364153; --text: #e8ecf3; --soft:
    #a9b4c4; --halo: #181e28; --accent: #7db8ff; --mark: #1d2c42; --fine: #6fd58d; --new: #7db8ff; --lost:
    #ff8f87; --differs: #f2b35e; --left: #d9a0ea; --unknown: #a9b4c4; --fine-b: #17301f; --new-b: #152a45;
    --lost-b: #3d1b1b; --differs-b: #38290f; --left-b: #321f3a; --unknown-b: #2a3240; --c0: #69aefc; --c1:
    #3ecbb3; --c2: #c598ff; --c3: #f2a24f; --c4: #ff8ac6; --c5: #9ed45a; --c6: #a3a2ff; --c7: #aeb9c8; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI",
  "Liberation Sans", "DejaVu Sans", sans-serif; }
main, header.top { max-width: 1720px; margin: 0 auto; padding: 0 24px; }
header.top { padding-top: 28px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 36px 0 10px; }
p { margin: 6px 0; }
.soft, .note { color: var(--soft); }
.note { font-weight: 400; font-size: 13px; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, input:focus-visible, [tabindex]:focus-visible, button:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -9999px; }
.skip:focus { left: 12px; top: 8px; background: var(--card); padding: 6px 12px; }
.verdict { font-size: 17px; margin: 10px 0 16px; }
.verdict b { font-weight: 650; }
.cards { display: flex; flex-wrap: wrap; gap: 10px; padding: 0; margin: 0; list-style: none; }
.cards li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 8px 16px;
  min-width: 104px; }
.cards b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: 13px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0; margin: 18px 0 0; }
.filter { position: sticky; top: 0; z-index: 2; background: var(--page); padding: 12px 0; display: flex;
  flex-wrap: wrap; gap: 8px 14px; align-items: center; border-bottom: 1px solid var(--line); margin-top: 12px;
  }
.filter[hidden] { display: none; }
.filter input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--soft);
  border-radius: 8px; padding: 7px 12px; width: min(420px, 100%); }
.filter button { font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--soft);
  border-radius: 8px; padding: 6px 12px; cursor: pointer; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  margin: 10px 0; }
.picture { padding: 4px; }
details.fold { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 10px 0; }
details.fold > .scroll { border: 0; border-top: 1px solid var(--line); border-radius: 0 0 12px 12px; margin:
  0; }
summary { cursor: pointer; }
details.fold > summary { padding: 10px 16px; font-weight: 600; }
details.fold > summary .soft { font-weight: 400; }
details.inline > .scroll { margin: 6px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; padding: 10px 16px 4px; font-weight: 600; }
details.fold caption, details.inline caption, .plain caption { position: absolute; width: 1px; height: 1px;
  overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; vertical-align: top; padding: 7px 16px; border-top: 1px solid var(--line); }
thead th { color: var(--soft); font-size: 12.5px; font-weight: 600; white-space: nowrap; border-top: 0; }
tbody th { font-weight: 600; }
td code { white-space: nowrap; }
td.wrap code { white-space: normal; overflow-wrap: anywhere; }
code { font: 13px/1.5 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", "Liberation Mono", monospace; }
.state { white-space: nowrap; border-radius: 6px; padding: 1px 8px; font-size: 13px; font-weight: 600;
  display: inline-block; }
.w-fine { color: var(--fine); fill: var(--fine); }
.w-new { color: var(--new); fill: var(--new); }
.w-lost { color: var(--lost); fill: var(--lost); }
.w-differs { color: var(--differs); fill: var(--differs); }
.w-left { color: var(--left); fill: var(--left); }
.w-unknown { color: var(--unknown); fill: var(--unknown); }
.state.w-fine { background: var(--fine-b); }
.state.w-new { background: var(--new-b); }
.state.w-lost { background: var(--lost-b); }
.state.w-differs { background: var(--differs-b); }
.state.w-left { background: var(--left-b); }
.state.w-unknown { background: var(--unknown-b); }
.calm { background: var(--fine-b); color: var(--fine); border-radius: 10px; padding: 10px 16px; font-weight:
  600; }
footer { color: var(--soft); font-size: 13px; padding: 28px 0 40px; }
svg.deck { display: block; }
svg text { fill: var(--text); font-size: 13px; }
svg .section { font-size: 12px; font-weight: 650; fill: var(--soft); text-transform: uppercase;
  letter-spacing: .08em; }
svg .host { fill: var(--page); stroke: var(--line); }
svg .head { fill: var(--head); }
svg .h-lost { stroke: var(--lost); stroke-width: 2; }
svg .h-differs { stroke: var(--differs); stroke-width: 2; }
svg .h-new { stroke: var(--new); stroke-width: 2; stroke-dasharray: 7 4; }
svg .h-left { stroke: var(--left); stroke-width: 2; }
svg .h-unknown { stroke: var(--unknown); stroke-width: 2; stroke-dasharray: 2 4; }
svg .hostname { font-size: 16px; font-weight: 650; }
svg .words { font-size: 12.5px; font-weight: 600; }
svg .w-fine.words { fill: var(--fine); }
svg .w-new.words { fill: var(--new); }
svg .w-lost.words { fill: var(--lost); }
svg .w-differs.words { fill: var(--differs); }
svg .w-left.words { fill: var(--left); }
svg .w-unknown.words { fill: var(--unknown); }
svg .name { font-weight: 600; }
svg .name.w-fine { fill: var(--text); }
svg .address, svg .cell { font: 11px ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", "Liberation Mono",
  monospace; fill: var(--soft); }
svg .about, svg .none { font-size: 11.5px; fill: var(--soft); }
svg .lane { font-weight: 650; }
.c0 { --c: var(--c0); }
.c1 { --c: var(--c1); }
.c2 { --c: var(--c2); }
.c3 { --c: var(--c3); }
.c4 { --c: var(--c4); }
.c5 { --c: var(--c5); }
.c6 { --c: var(--c6); }
.c7 { --c: var(--c7); }
svg .swatch { fill: var(--c, var(--soft)); }
svg .bar { stroke: var(--c); stroke-width: 5; stroke-linecap: round; fill: none; }
svg .bar.local { stroke-width: 3; stroke-dasharray: 1 6; }
svg .bar.more { stroke-dasharray: 1 9; }
svg .node { fill: var(--c); stroke: var(--page); stroke-width: 2; }
svg .drop { stroke: var(--c); stroke-width: 3; fill: none; stroke-linecap: round; opacity: .75; }
svg .wire { stroke: var(--soft); stroke-width: 1.5; fill: none; }
svg .row { fill: none; }
svg .sandbox:hover .name { text-decoration: underline; }
svg .r-lost { fill: var(--lost-b); }
svg .r-new { fill: var(--new-b); }
svg .r-differs { fill: var(--differs-b); }
svg .r-left { fill: var(--left-b); }
svg .sign { fill: var(--halo); stroke: var(--soft); stroke-width: 2.2; stroke-linecap: round; stroke-linejoin:
  round; }
svg .s-fine { stroke: var(--fine); fill: var(--fine); }
svg .end .s-fine { fill: var(--c); stroke: var(--page); stroke-width: 1.5; }
svg .s-new { stroke: var(--new); stroke-width: 3.4; fill: none; }
svg .s-lost { stroke: var(--lost); stroke-width: 3.4; fill: none; }
svg .s-differs { stroke: var(--differs); }
svg .s-left { stroke: var(--left); }
svg .s-unknown { stroke: var(--unknown); }
svg .port { fill: var(--mark); stroke: var(--accent); stroke-width: 1; }
svg .ports { font: 11px ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: var(--text); }
svg .diamond { fill: var(--soft); }
svg .tasks { fill: var(--card); stroke: var(--line); }
svg .task { font-size: 12.5px; }
svg .tie { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 2 5; fill: none; stroke-linecap: round; }
svg .guide { stroke: var(--line); }
svg .turned { font-size: 12px; }
svg .cellbox { fill: var(--head); }
svg .count { fill: var(--c, var(--soft)); fill-opacity: .18; }
svg .number { font-size: 11.5px; font-weight: 600; }
svg .k-lost, svg .k-new, svg .k-differs, svg .k-left, svg .k-unknown { fill-opacity: 1; stroke-width: 1.5; }
svg .k-lost { fill: var(--lost-b); stroke: var(--lost); }
svg .k-new { fill: var(--new-b); stroke: var(--new); }
svg .k-differs { fill: var(--differs-b); stroke: var(--differs); }
svg .k-left { fill: var(--left-b); stroke: var(--left); }
svg .k-unknown { fill: var(--unknown-b); stroke: var(--unknown); stroke-dasharray: 2 3; }
.off { opacity: .12; }
[data-find] { cursor: pointer; }
@media (max-width: 640px) {
  .filter { position: static; }
  main, header.top { padding-left: 12px; padding-right: 12px; }
  th, td { padding: 6px 10px; }
}
@media print {
  body { background: #fff; font-size: 11px; }
  .filter, nav, .skip { display: none !important; }
  .scroll { overflow: visible; border-color: #999; }
  .fold, .scroll { break-inside: auto; }
  tr, svg { break-inside: avoid; }
  svg.deck { width: 100%; height: auto; }
  details::details-content { content-visibility: visible; block-size: auto; }
  @page { size: A4 landscape; margin: 12mm; }
}
"""
