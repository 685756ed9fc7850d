# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The page's script: a filter box, and unfolding before printing.  The page works without it."""

from __future__ import annotations

SCRIPT = """
"use strict";
(() => {
  const box = document.getElementById("filter"), said = document.getElementById("found");
  const rows = [...document.querySelectorAll("[data-row]")]
    .map(element => [element, element.textContent.toLowerCase(), element.tagName === "TR"]);
  const folds = [...document.querySelectorAll("details.fold")];
  const before = folds.map(fold => fold.open);
  const apply = () => {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    const found = new Set();
    let tables = 0, total = 0;
    for (const [element, text, isRow] of rows) {
      const hit = words.every(word => text.includes(word));
      if (isRow) {
        element.hidden = !hit;
        total += 1;
        tables += hit;
      } else {
        element.classList.toggle("off", !hit);
      }
      const fold = element.closest("details.fold");
      if (hit && fold) found.add(fold);
    }
    folds.forEach((fold, place) => {
      fold.open = words.length ? found.has(fold) : before[place];
      fold.hidden = words.length > 0 && !found.has(fold);
    });
    said.textContent = words.length ? `${tables} of ${total} rows` : "";
  };
  let waiting;
  box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  const find = text => { box.value = text; apply(); };
  document.getElementById("all").addEventListener("click", () => { find(""); box.focus(); });
  for (const element of document.querySelectorAll("[data-find]")) {
    element.addEventListener("click", () => find(element.dataset.find));
  }
  document.addEventListener("keydown", event => {
    if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
    if (event.key === "Escape" && document.activeElement === box) find("");
  });
  const every = [...document.querySelectorAll("details")];
  let open = [];
  window.addEventListener("beforeprint", () => {
    open = every.map(fold => fold.open);
    every.forEach(fold => { fold.open = true; });
  });
  window.addEventListener("afterprint", () => every.forEach((fold, place) => { fold.open = open[place]; }));
  document.querySelector(".filter").hidden = false;
})();
"""
