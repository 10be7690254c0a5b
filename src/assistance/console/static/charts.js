// Draws the charts of the overview from the numbers that stand beside them in the page, and asks for newer ones once a
// minute. Without this script the same numbers stand in tables.
"use strict";

(() => {
  const EVERY_MS = 60_000;
  const HEIGHT = 210;
  const LEAST_SECONDS = 0.01; // what is less has no place on a scale of powers
  const drawn = new Map(); // by the element that a chart was drawn into

  const colour = (look, strength = 1) => {
    const found = getComputedStyle(document.documentElement).getPropertyValue(`--chart-${look}`).trim() || "#777777";
    return strength === 1 ? found : found + Math.round(strength * 255).toString(16).padStart(2, "0");
  };

  const inSeconds = (value) => {
    if (value == null) return "–";
    if (value < 10) return `${+value.toPrecision(2)} s`;
    if (value < 120) return `${Math.round(value)} s`;
    if (value < 7200) return `${Math.round(value / 60)} min`;
    return `${+(value / 3600).toFixed(1)} h`;
  };
  const inNumbers = (value) => (value == null ? "–" : (+value.toFixed(2)).toLocaleString("en"));

  const kept = (name) => {
    try { return localStorage.getItem(`assistance.${name}`); } catch { return null; } // as console.js keeps it
  };
  const inUtc = () => kept("times") === "utc";
  const isPaused = () => kept("interval") === "0";
  const two = (number) => String(number).padStart(2, "0");
  const dateOf = (seconds) => {
    const date = new Date(seconds * 1000);
    return inUtc() ? date : new Date(date - date.getTimezoneOffset() * 60_000); // whose UTC is local
  };
  const day = (seconds) => `${two(dateOf(seconds).getUTCMonth() + 1)}-${two(dateOf(seconds).getUTCDate())}`;
  const time = (seconds) => `${two(dateOf(seconds).getUTCHours())}:${two(dateOf(seconds).getUTCMinutes())}`;
  const onlyPowers = (_plot, splits) => splits.map((split) => (Number.isInteger(Math.log10(split)) ? split : null));

  // What is stacked is drawn as sums, the largest first, so that each layer covers the part that is not its own.
  const layers = (series) => {
    const sums = new Map();
    let below = null;
    for (const one of series.filter((each) => each.draw !== "line")) {
      const onto = below;
      below = one.values.map((value, place) => (value == null ? null : value + (onto ? onto[place] ?? 0 : 0)));
      sums.set(one, below);
    }
    const stacked = series.filter((each) => each.draw !== "line").reverse();
    return [...stacked, ...series.filter((each) => each.draw === "line")].map((one) => ({
      one,
      values: sums.get(one) ?? one.values,
    }));
  };

  const onScale = (value) => (value == null ? null : Math.max(value, LEAST_SECONDS));

  const options = (data, ordered, width) => {
    const words = data.unit === "seconds" ? inSeconds : inNumbers;
    const isLong = data.x.at(-1) - data.x[0] > 2 * 86_400;
    const axis = { stroke: colour("text"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid") } };
    const bars = uPlot.paths.bars({ size: [0.85, 40], align: 1 });
    const steps = uPlot.paths.linear();
    return {
      width,
      height: HEIGHT,
      cursor: { sync: { key: "console" }, points: { size: 6 } },
      legend: { live: true },
      tzDate: (seconds) => (inUtc() ? uPlot.tzDate(new Date(seconds * 1000), "UTC") : new Date(seconds * 1000)),
      scales: {
        x: { time: true },
        y: data.log
          ? { distr: 3, range: (_plot, low, high) => [Math.min(low ?? 0.1, 0.1), Math.max(high ?? 1, 1) * 1.5] }
          : { range: (_plot, _low, high) => [0, Math.max(high ?? 0, 1) * 1.08] },
        right: { range: (_plot, _low, high) => [0, Math.max(high ?? 0, 1) * 1.08] },
      },
      axes: [
        { ...axis, values: (_plot, splits) => splits.map(isLong ? day : time) },
        {
          ...axis,
          size: 58,
          ...(data.log ? { filter: onlyPowers, grid: { ...axis.grid, filter: onlyPowers }, ticks: { ...axis.ticks, filter: onlyPowers } } : {}),
          values: (_plot, splits) => splits.map((split) => (split == null ? "" : words(split))),
        },
        ...(data.right
          ? [{ ...axis, side: 1, scale: "right", size: 50, grid: { show: false },
               values: (_plot, splits) => splits.map(inNumbers) }]
          : []),
      ],
      series: [
        { value: (_plot, seconds) => (seconds == null ? "–" : `${day(seconds)} ${time(seconds)}`) },
        ...ordered.map(({ one }) => ({
          label: one.label,
          scale: one.label === data.right ? "right" : "y",
          stroke: colour(one.look),
          width: one.draw === "bar" ? 0 : 1.5,
          fill: one.draw === "line" ? undefined : colour(one.look, one.draw === "bar" ? 1 : 0.75),
          paths: one.draw === "bar" ? bars : steps,
          points: { show: one.draw === "line" && one.values.filter((value) => value != null).length < 3 },
          spanGaps: false,
          value: (_plot, _value, _series, place) =>
            place == null ? "–" : (one.label === data.right ? inNumbers : words)(one.values[place]),
        })),
      ],
    };
  };

  const draw = (figure) => {
    const place = figure.querySelector(".plot");
    const numbers = figure.querySelector("script[type='application/json']");
    if (!place || !numbers || drawn.has(place)) return;
    const data = JSON.parse(numbers.textContent);
    place.hidden = false;
    const ordered = layers(data.series);
    const width = Math.max(place.clientWidth, 200);
    const plot = new uPlot(
      options(data, ordered, width),
      [data.x, ...ordered.map(({ values }) => (data.log ? values.map(onScale) : values))],
      place,
    );
    plot.root.setAttribute("aria-hidden", "true"); // the summary and the table say the same
    const sizes = new ResizeObserver(() => {
      const now = Math.max(place.clientWidth, 200);
      if (now !== plot.width) plot.setSize({ width: now, height: HEIGHT });
    });
    sizes.observe(place);
    drawn.set(place, () => { sizes.disconnect(); plot.destroy(); });
  };

  const forget = () => {
    for (const end of drawn.values()) end();
    drawn.clear();
  };

  const drawAll = (section) => {
    for (const figure of section.querySelectorAll("figure[data-chart]")) draw(figure);
  };

  // Tables are open for those who have no script; with charts they stay as they were left.
  const setTables = (section, open) => {
    for (const table of section.querySelectorAll("details[data-table]")) table.open = open.has(table.dataset.table);
  };

  const refresh = async () => {
    const section = document.getElementById("charts");
    if (!section || document.hidden || isPaused()) return;
    let html;
    try {
      const answer = await fetch(section.dataset.from, { headers: { "X-Refresh": "1" }, credentials: "same-origin" });
      if (!answer.ok) return; // the page's own refresh says what is wrong
      html = await answer.text();
    } catch {
      return;
    }
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("charts");
    if (!fresh) return;
    const open = new Set([...section.querySelectorAll("details[data-table][open]")].map((each) => each.dataset.table));
    const focused = document.activeElement?.closest?.("details[data-table]")?.dataset.table;
    forget();
    section.replaceChildren(...fresh.childNodes);
    setTables(section, open);
    drawAll(section);
    if (focused) section.querySelector(`details[data-table="${CSS.escape(focused)}"] summary`)?.focus({ preventScroll: true });
  };

  const begin = () => {
    const section = document.getElementById("charts");
    if (!section || typeof uPlot === "undefined") return;
    setTables(section, new Set());
    drawAll(section);
    setInterval(refresh, EVERY_MS);
    document.getElementById("times")?.addEventListener("change", () => { forget(); drawAll(section); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forget(); drawAll(section); });
  };
  begin();
})();
