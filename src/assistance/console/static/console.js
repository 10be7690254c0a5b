// Keeps a page of the console fresh, without disturbing who uses it. Every page works without this file, but for the
// live refresh. Nothing here decides anything: it shows what the server made.
"use strict";

(() => {
  const main = document.getElementById("main");
  const banner = document.getElementById("banner");
  const announcer = document.getElementById("announce");
  const find = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // What the user chose, on this machine only; a browser that keeps nothing is fine.
  const kept = (name, otherwise) => {
    try { return localStorage.getItem(`assistance.${name}`) ?? otherwise; } catch { return otherwise; }
  };
  const keep = (name, value) => {
    try { localStorage.setItem(`assistance.${name}`, value); } catch { /* then it holds for this page */ }
  };
  const say = (words) => { announcer.textContent = words; };
  const clock = (date) => date.toLocaleTimeString([], { hour12: false });

  // --- times -------------------------------------------------------------------------------------------------------
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const ago = (date) => {
    const seconds = (Date.now() - date) / 1000;
    if (Math.abs(seconds) < 1) return "just now";
    const [size, unit] = UNITS.find(([size]) => Math.abs(seconds) >= size);
    const words = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
    return seconds > 0 ? `${words} ago` : `in ${words}`;
  };
  const two = (number) => String(number).padStart(2, "0");
  const local = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock(d)}`;
  const utc = (d) => `${d.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const FORMATS = { relative: ago, local, utc };
  const showTimes = (from = document) => {
    const format = FORMATS[kept("times", "relative")] || ago;
    for (const time of all("time[datetime]", from)) {
      const date = new Date(time.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      const words = format(date);
      if (time.textContent !== words) time.textContent = words;
    }
  };

  // --- putting new content in place of the old, without touching what the user does with it ------------------------
  const keyOf = (node) => (node.nodeType === 1 ? node.id || node.dataset.id : "") || "";
  // What the user or this script changed on an element is theirs.
  const THEIRS = { DETAILS: ["open"], DIALOG: ["open"], TR: ["data-here", "tabindex"] };
  const morph = (old, fresh) => {
    if (old.nodeType !== 1) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.hasAttribute("data-keep")) return;
    const theirs = THEIRS[old.nodeName] || [];
    const script = old.classList.contains("needs-script") ? ["hidden"] : [];
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !theirs.includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (!theirs.includes(name) && !script.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morphChildren(old, fresh);
  };
  const morphChildren = (old, fresh) => {
    const keyed = new Map([...old.childNodes].map((node) => [keyOf(node), node]));
    const spare = [...old.childNodes].filter((node) => !keyOf(node));
    const result = [...fresh.childNodes].map((wanted) => {
      const key = keyOf(wanted);
      const place = key ? -1 : spare.findIndex((node) => node.nodeName === wanted.nodeName);
      const match = key ? keyed.get(key) : spare[place];
      if (!match || match.nodeName !== wanted.nodeName) return document.importNode(wanted, true);
      if (key) keyed.delete(key);
      else spare.splice(place, 1);
      morph(match, wanted);
      return match;
    });
    // What goes is removed first: whatever stays then stays in its place, and does not lose the focus.
    const stays = new Set(result);
    for (const node of [...old.childNodes]) if (!stays.has(node)) node.remove();
    let at = old.firstChild;
    for (const node of result) {
      if (node === at) at = at.nextSibling;
      else old.insertBefore(node, at);
    }
  };

  // Rows of a list stay where they are: new ones are counted and come when asked for.
  let waitingMain = null;
  const holdNewRows = (fresh) => {
    const oldRows = find("[data-rows]", main);
    const newRows = find("[data-rows]", fresh);
    if (!main.hasAttribute("data-steady") || !oldRows || !newRows) return 0;
    const byId = new Map(all(":scope > [data-id]", newRows).map((row) => [row.dataset.id, row]));
    const shown = all(":scope > [data-id]", oldRows);
    const known = new Set(shown.map((row) => row.dataset.id));
    const added = [...byId.keys()].filter((id) => !known.has(id)).length;
    const rows = shown.map((row) => {
      const found = byId.get(row.dataset.id);
      if (found) return found;
      const copy = row.cloneNode(true);
      copy.classList.add("gone");
      return copy;
    });
    if (shown.length) newRows.replaceChildren(...rows);
    return shown.length ? added : 0;
  };
  const offer = (count) => {
    let button = document.getElementById("show-new");
    if (!count) { button?.remove(); return; }
    if (!button) {
      button = document.createElement("button");
      button.id = "show-new";
      button.type = "button";
      button.className = "new-rows";
      button.addEventListener("click", () => {
        if (waitingMain) { morphChildren(main, waitingMain); waitingMain = null; afterChange(); }
        button.remove();
        main.focus();
      });
      main.before(button);
    }
    const words = `${count} new – show`;
    if (button.textContent !== words) { button.textContent = words; say(`${count} new rows`); }
  };

  const afterChange = (fresh) => {
    showTimes();
    countSelected();
    for (const node of all(".needs-script[hidden]")) node.hidden = false;
    document.dispatchEvent(new CustomEvent("assistance:refreshed", { detail: { main: fresh } }));
  };

  // --- live refresh --------------------------------------------------------------------------------------------------
  const interval = document.getElementById("interval");
  const byDefault = () => Number(main.dataset.refresh || 0);
  const isLive = main.hasAttribute("data-refresh") && Boolean(interval);
  const seconds = () => Number(byDefault() ? kept("interval", byDefault()) : 0);
  let etag = "", timer = 0, busy = false, failures = 0, readAt = new Date();

  const warn = (words, link) => {
    banner.replaceChildren(words);
    if (link) {
      const anchor = document.createElement("a");
      anchor.href = link;
      anchor.textContent = " Sign in again";
      banner.append(anchor);
    }
    banner.hidden = !words;
    main.classList.toggle("stale", Boolean(words));
  };
  const take = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const part = find("[data-part=main]", fresh);
    if (!part) throw new Error("not a page of ours");
    const health = find("#health", fresh);
    if (health && document.getElementById("health")) morph(document.getElementById("health"), health);
    main.dataset.refresh = part.dataset.refresh || "0";
    const whole = part.cloneNode(true);
    const added = holdNewRows(part);
    waitingMain = added ? whole : null;
    offer(added);
    morphChildren(main, part);
    afterChange(whole);
  };
  const refresh = async () => {
    if (busy || !isLive) return;
    busy = true;
    const patience = new AbortController();
    const stop = setTimeout(() => patience.abort(), 10000);
    try {
      const headers = { "X-Refresh": "1", ...(etag ? { "If-None-Match": etag } : {}) };
      const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "error", signal: patience.signal });
      if (answer.status === 401) { warn("Your session has ended.", `/console/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`); return; }
      if (answer.status !== 304 && !answer.ok) throw new Error(`HTTP ${answer.status}`);
      if (answer.ok) {
        take(await answer.text());
        etag = answer.headers.get("ETag") || "";
        const title = answer.headers.get("X-Title");
        if (title) document.title = `${decodeURIComponent(title)} · assistance`;
      }
      failures = 0;
      readAt = new Date();
      const readTime = find(".read-at time");
      if (readTime) { readTime.dateTime = readAt.toISOString(); readTime.title = utc(readAt); }
      warn("");
      showTimes();
    } catch {
      failures += 1;
      if (failures >= 2) warn(`Not updated since ${clock(readAt)}, retrying.`);
    } finally {
      clearTimeout(stop);
      busy = false;
      plan();
    }
  };
  const plan = () => {
    clearTimeout(timer);
    if (isLive && seconds() && !document.hidden) timer = setTimeout(refresh, seconds() * 1000);
  };
  const showInterval = () => {
    if (!interval) return;
    interval.disabled = !isLive || !byDefault();
    interval.value = String(seconds());
  };
  if (interval) {
    interval.addEventListener("change", () => { keep("interval", interval.value); say(interval.value === "0" ? "Refresh is paused" : "Refresh is on"); plan(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && seconds()) refresh(); else plan(); });
  }
  const pauseOrGoOn = () => {
    if (!isLive || !byDefault()) return;
    const next = seconds() ? "0" : kept("before", String(byDefault()));
    if (seconds()) keep("before", String(seconds()));
    keep("interval", next);
    showInterval();
    say(next === "0" ? "Refresh is paused" : "Refresh is on");
    plan();
  };

  // A page that could not be made because the database was away comes back by itself.
  if (find("[data-away]")) {
    const retry = async () => {
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (answer.status < 500) { location.reload(); return; }
      } catch { /* not yet */ }
      setTimeout(retry, 3000);
    };
    if (find("[data-away] a[role=button]")?.pathname === location.pathname) setTimeout(retry, 3000);
  }

  // --- selection -----------------------------------------------------------------------------------------------------
  const boxes = () => all("input[data-select]", main);
  const countSelected = () => {
    const chosen = boxes().filter((box) => box.checked).length;
    for (const place of all("[data-selected-count]", main)) place.textContent = String(chosen);
    for (const part of all("[data-needs-selection]", main)) part.hidden = !chosen;
    const every = find("input[data-select-all]", main);
    if (every) { every.checked = chosen > 0 && chosen === boxes().length; every.indeterminate = chosen > 0 && !every.checked; }
  };
  main.addEventListener("change", (event) => {
    if (event.target.matches("input[data-select-all]")) for (const box of boxes()) box.checked = event.target.checked;
    if (event.target.matches("input[data-select], input[data-select-all]")) countSelected();
  });

  // --- copying -------------------------------------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const target = button.dataset.copy.startsWith("#") ? document.getElementById(button.dataset.copy.slice(1)) : null;
    try {
      await navigator.clipboard.writeText(target ? target.textContent : button.dataset.copy);
      say("Copied");
      const words = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = words; }, 1500);
    } catch { say("The browser did not let this be copied"); }
  });

  const times = document.getElementById("times");
  if (times) {
    times.value = kept("times", "relative");
    times.addEventListener("change", () => { keep("times", times.value); showTimes(); });
  }

  // What keys.js goes on with.
  window.assistance = { find, all, kept, keep, main, countSelected, pauseOrGoOn };

  showInterval();
  afterChange();
  plan();
  setInterval(showTimes, 1000);
})();
