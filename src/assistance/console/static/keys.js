// Lets the console be used from the keyboard. Whatever a key does is a visible button or link as well.
"use strict";

(() => {
  const { find, all, kept, keep, main, countSelected, pauseOrGoOn } = window.assistance;
  const help = document.getElementById("help");
  const keysOn = document.getElementById("keys-on");
  const rows = () => all("[data-rows] > [data-id]", main);
  let lastSelected = -1, going = false;
  const here = () => rows().findIndex((row) => row.hasAttribute("data-here"));
  const moveTo = (index) => {
    const list = rows();
    if (!list.length) return;
    const row = list[Math.max(0, Math.min(index, list.length - 1))];
    for (const other of list) other.removeAttribute("data-here");
    row.setAttribute("data-here", "");
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  };
  const select = (from, to, on) => {
    for (const row of rows().slice(Math.min(from, to), Math.max(from, to) + 1)) {
      const box = find("input[data-select]", row);
      if (box) box.checked = on ?? !box.checked;
    }
    lastSelected = to;
    countSelected();
  };
  const openConfirm = (key) => {
    const panel = all(`details[data-key="${key}"]`, main).find((node) => node.offsetParent !== null);
    if (!panel) return;
    panel.open = true;
    panel.scrollIntoView({ block: "nearest" });
    (find("input:not([type=hidden]), form button", panel) || panel).focus();
  };
  const follow = (selector) => { const link = find(selector); if (link) link.click(); };
  const KEYS = {
    "?": () => help.showModal(),
    "/": () => { const field = document.getElementById("find"); field.focus(); field.select(); },
    j: () => moveTo(here() + 1),
    k: () => moveTo(here() - 1),
    Enter: () => { const row = rows()[here()]; if (row) (find("a[data-open]", row) || find("a", row))?.click(); },
    x: () => { if (here() >= 0) select(here(), here()); },
    X: () => { if (here() >= 0) select(lastSelected < 0 ? here() : lastSelected, here(), true); },
    "*": () => { select(0, rows().length - 1, true); },
    r: () => openConfirm("r"), c: () => openConfirm("c"),
    ".": () => document.getElementById("show-new")?.click(),
    p: pauseOrGoOn,
    "[": () => follow("a[data-prev]"), "]": () => follow("a[data-next]"),
    g: () => { going = true; setTimeout(() => { going = false; }, 1500); },
  };
  const escape = () => {
    const open = all("details.confirm[open]", main).pop();
    if (open) { open.open = false; find("summary", open)?.focus(); } else follow("a[data-back]");
  };
  const inField = (node) => node.closest?.("input:not([type=checkbox]), select, textarea, [contenteditable]");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || help?.open || !help) return;
    if (event.key === "Escape") { if (inField(event.target)) event.target.blur(); else escape(); return; }
    if (inField(event.target) || kept("keys", "on") !== "on") return;
    if (event.key === "Enter" && event.target.closest("a, button, summary, input")) return;
    if (going) {
      going = false;
      const link = find(`a[data-go="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); }
      return;
    }
    if (Object.hasOwn(KEYS, event.key)) { event.preventDefault(); KEYS[event.key](); }
  });
  if (help) {
    document.getElementById("help-button").addEventListener("click", () => help.showModal());
    keysOn.checked = kept("keys", "on") === "on";
    keysOn.addEventListener("change", () => keep("keys", keysOn.checked ? "on" : "off"));
  }
})();
