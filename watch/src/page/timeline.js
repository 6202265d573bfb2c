// SPDX-License-Identifier: MPL-2.0
// The timeline of all cameras, from five minutes to thirty days: drawn, and as a list.

import { api, at, call, cameras, day, make, now, page, show } from "./lib.js";
import { locale, many, t } from "./words.js";

const shortest = 5 * 60e3;
const longest = 30 * 86400e3;
const height = 46;
const spans = [[t("5 min"), 300], [t("1 h"), 3600], [t("6 h"), 21600], [t("1 day"), 86400], [t("7 days"), 604800], [t("30 days"), 2592000]];
/** Steps between times that are written below, in seconds. */
const steps = [60, 300, 900, 3600, 10800, 21600, 43200, 86400, 432000];
const short = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric" });

/** What a span is, in words. */
const named = (state) => ({ connecting: t("connecting"), offline: t("offline"), disabled: t("switched off"), "no-model": t("no model"), gated: t("nothing moved") })[state] ?? state;
/** In a list: shape beside the word. Times without captions are lines, those without a picture surfaces. */
const shapes = { "no-model": "┄", gated: "─" };

/** A name as far as there is room. */
function cut(pen, name, room) {
  let letters = [...name];
  if (pen.measureText(name).width <= room) return name;
  while (letters.length > 1 && pen.measureText(`${letters.join("")}…`).width > room) letters = letters.slice(0, -1);
  return `${letters.join("")}…`;
}

export function timelinePage(query) {
  const asked = Date.parse(query.get("at") ?? "");
  let to = asked ? asked + 30 * 60e3 : now();
  let from = to - 3600e3;
  let cursor = asked || null;
  let data = null;
  let follows = !asked;
  let waiting = null;
  let asking = 0;

  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-describedby": "spoken" });
  const spoken = make("p", { id: "spoken", class: "small", role: "status" });
  // Tells what a colour of the style sheet is, dark or light.
  const probe = make("span", { hidden: true });
  const moment = make("ul", { class: "moment", "aria-label": t("All cameras at the cursor") });
  const list = make("ul", { class: "list" });
  const goto = make("input", { id: "goto", type: "datetime-local", onchange: () => {
    const time = new Date(goto.value).getTime();
    if (time) { follows = false; cursor = time; view(time - (to - from) / 2, time + (to - from) / 2); }
  } });
  const button = (label, words, act) => make("button", { type: "button", "aria-label": words, onclick: act }, label);
  show(t("Timeline"),
    make("div", { class: "tools" }, ...spans.map(([label, seconds]) => make("button", { type: "button", "data-span": seconds, onclick: () => zoomTo(seconds * 1000) }, label)),
      button("−", t("Longer"), () => zoom(2)), button("+", t("Shorter"), () => zoom(0.5)),
      button("◀", t("Earlier"), () => pan(-0.5)), button("▶", t("Later"), () => pan(0.5)),
      button(t("Now"), t("Now"), () => { follows = true; cursor = null; view(now() - (to - from), now()); }),
      make("div", { class: "goto" }, make("label", { for: "goto", class: "small" }, t("Go to")), goto)),
    make("div", { class: "card line" }, canvas, make("p", { class: "small" }, t("▲ alarm, ▨ no picture, ┄ no model, ─ nothing moved; bars: captions")), spoken, probe), moment,
    make("section", { class: "card" }, make("h2", {}, t("The same as a list")), list));

  const x = (time) => (time - from) / (to - from) * canvas.clientWidth;
  const timeAt = (px) => from + px / canvas.clientWidth * (to - from);

  function view(first, last) {
    const span = Math.min(longest, Math.max(shortest, last - first));
    const middle = (first + last) / 2;
    to = Math.min(middle + span / 2, now());
    from = to - span;
    draw();
    clearTimeout(waiting);
    waiting = setTimeout(load, 150);
  }
  const centre = () => (cursor && cursor > from && cursor < to ? cursor : (from + to) / 2);
  function zoom(factor, around = centre()) {
    const span = Math.min(longest, Math.max(shortest, (to - from) * factor));
    const part = (around - from) / (to - from);
    follows = follows && to >= now() - 2000;
    view(around - part * span, around + (1 - part) * span);
  }
  function zoomTo(span) { const end = follows ? now() : centre() + span / 2; view(end - span, end); }
  function pan(part) { follows = false; view(from + part * (to - from), to + part * (to - from)); }
  function point(time) {
    cursor = Math.min(Math.max(time, from), to);
    draw();
    clearTimeout(point.waiting);
    point.waiting = setTimeout(look, 120);
  }

  async function load() {
    const mine = ++asking;
    try {
      const found = await call(`timeline?from=${new Date(from).toISOString()}&to=${new Date(to).toISOString()}&buckets=${Math.min(600, Math.max(60, Math.round(canvas.clientWidth / 2)))}`);
      if (mine !== asking) return;
      data = found;
      draw();
      tell();
    } catch (error) { spoken.textContent = error.message; }
  }

  /** The pictures of all cameras at the cursor. */
  async function look() {
    const when = new Date(cursor).toISOString();
    try {
      const found = await call(`moment?at=${when}`);
      if (when !== new Date(cursor).toISOString()) return;
      const said = new Map(found.cameras.map((seen) => [seen.camera, seen]));
      moment.replaceChildren(...[...cameras.values()].map((camera) => {
        const seen = said.get(camera.id);
        return make("li", {}, make("a", { href: `#/moment/${encodeURIComponent(camera.id)}/${when}` },
          make("div", { class: "picture" }, ...(seen?.thumb ? [make("img", { src: `${api}captions/${seen.thumb}/thumb.jpg`, alt: t("Picture of {0}", camera.name) })] : [])),
          make("strong", {}, camera.name), make("div", { class: seen ? "" : "old" }, seen?.caption.text ?? t("nothing was said"))));
      }));
    } catch (error) { moment.replaceChildren(make("li", {}, error.message)); }
    spoken.textContent = t("Cursor at {0}", day.format(cursor));
  }

  function draw() {
    const width = canvas.clientWidth;
    const rows = data?.cameras ?? [];
    const tall = Math.max(1, rows.length) * height + 22;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(tall * scale);
    canvas.style.height = `${tall}px`;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const colour = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
    pen.scale(scale, scale);
    pen.font = `13px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    const bar = (start, end, top, tall) => {
      const left = Math.max(0, x(start));
      return [left, top, Math.max(2, Math.min(width, x(end)) - left), tall];
    };
    rows.forEach((row, n) => {
      const top = n * height;
      const base = top + height - 4;
      pen.fillStyle = colour("line");
      pen.fillRect(0, base, width, 1);
      for (const span of row.spans.filter((span) => span.state !== "connecting" || span.end)) {
        const [left, , wide] = bar(Date.parse(span.start), Date.parse(span.end ?? new Date(now())), 0, 0);
        if (shapes[span.state]) {
          pen.fillStyle = colour(span.state === "gated" ? "quiet" : "wait");
          if (span.state === "gated") pen.fillRect(left, base - 5, wide, 2);
          else for (let at = left; at < left + wide; at += 6) pen.fillRect(at, base - 8, Math.min(3, left + wide - at), 3);
          continue;
        }
        pen.save();
        pen.beginPath();
        pen.rect(left, top + 20, wide, height - 24);
        pen.clip();
        pen.strokeStyle = colour(span.state === "offline" ? "bad" : "quiet");
        pen.beginPath();
        for (let at = left - height; at < left + wide; at += 7) { pen.moveTo(at, base); pen.lineTo(at + height, base - height); }
        pen.stroke();
        pen.restore();
      }
      const most = Math.max(1, ...(row.ticks ?? [0]));
      const first = Date.parse(data.from);
      const step = (Date.parse(data.to) - first) / data.buckets;
      pen.fillStyle = colour("link");
      (row.ticks ?? []).forEach((count, k) => {
        if (!count) return;
        const tall = 3 + 12 * count / most;
        const left = x(first + k * step);
        pen.fillRect(left, base - tall, Math.max(1, x(first + (k + 1) * step) - left - 0.5), tall);
      });
      for (const event of row.events) {
        const end = event.end ? Date.parse(event.end) : now();
        pen.fillStyle = colour(event.acknowledged ? "quiet" : "bad");
        pen.fillRect(...bar(Date.parse(event.start), end, top + 20, 8));
        const left = Math.max(0, x(Date.parse(event.start)));
        pen.beginPath();
        pen.moveTo(left, top + 20); pen.lineTo(left + 5, top + 12); pen.lineTo(left + 10, top + 20);
        pen.fill();
      }
      pen.fillStyle = colour("text");
      pen.fillText(cut(pen, row.name, width - 4), 2, top + 10);
    });
    pen.fillStyle = colour("quiet");
    const step = (steps.find((step) => (to - from) / 1000 / step <= width / 80) ?? steps.at(-1)) * 1000;
    const zone = new Date(from).getTimezoneOffset() * 60e3;
    for (let time = Math.ceil((from - zone) / step) * step + zone; time < to; time += step) {
      pen.fillRect(x(time), tall - 20, 1, 5);
      pen.fillText((step >= 86400e3 ? date : short).format(time), x(time) + 3, tall - 9);
    }
    if (cursor && cursor >= from && cursor <= to) {
      pen.fillStyle = colour("text");
      pen.fillRect(x(cursor) - 1, 0, 2, tall - 20);
    }
  }

  /** The same in words: what a screen reader gets. */
  function tell() {
    const entries = [];
    for (const row of data.cameras) {
      const n = (row.ticks ?? []).reduce((sum, count) => sum + count, 0);
      entries.push({ time: -Infinity, words: `${row.name}: ${many(n, "{0} caption", "{0} captions")}, ${many(row.events.length, "{0} alarm", "{0} alarms")}` });
      for (const event of row.events) entries.push({ time: Date.parse(event.start), words: `${event.end ? "△" : "▲"} ${row.name}: ${event.alarm}, ${event.end ? t("until {0}", at(event.end)) : t("and still")}` });
      // Of long times the short ones without words are left out: there are many.
      for (const span of row.spans.filter((span) => span.state !== "gated" || Date.parse(span.end ?? data.to) - Date.parse(span.start) > (to - from) / 100)) entries.push({ time: Date.parse(span.start), words: `${shapes[span.state] ?? "▨"} ${row.name}: ${named(span.state)}${span.reason ? `, ${span.reason}` : ""}, ${span.end ? t("until {0}", at(span.end)) : t("and still")}` });
    }
    entries.sort((one, other) => one.time - other.time);
    const cut = entries.slice(0, 300);
    list.replaceChildren(...cut.map(({ time, words }) => make("li", {}, time === -Infinity ? words
      : make("button", { type: "button", class: "plain", onclick: () => { follows = false; point(time); } }, `${day.format(time)} ${words}`))));
    if (entries.length > cut.length) list.append(make("li", {}, t("and {0} more: a shorter time shows them", entries.length - cut.length)));
    canvas.setAttribute("aria-label", t("Timeline of {0} cameras from {1} to {2}", data.cameras.length, day.format(from), day.format(to)));
    if (!cursor) spoken.textContent = t("{0} to {1}", day.format(from), day.format(to));
  }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / canvas.clientWidth);
    else zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event.offsetX));
  }, { passive: false });
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, from, to, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const moved = event.clientX - held.x;
    if (Math.abs(moved) > 4) held.moved = true;
    if (!held.moved) return;
    follows = false;
    const by = moved / canvas.clientWidth * (held.to - held.from);
    view(held.from - by, held.to - by);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) point(timeAt(event.offsetX));
    held = null;
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
  page.key = (key) => {
    if (key === "+" || key === "=") zoom(0.5);
    else if (key === "-") zoom(2);
    else if (key === "ArrowLeft" || key === "ArrowRight") {
      const next = (cursor ?? to) + (key === "ArrowLeft" ? -1 : 1) * (to - from) / 60;
      follows = false;
      if (next < from) pan(-0.5);
      else if (next > to && to < now() - 2000) pan(0.5);
      point(next);
    } else return false;
    return true;
  };
  const resized = new ResizeObserver(draw);
  resized.observe(canvas);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw);
  const turn = setInterval(() => { if (follows) view(now() - (to - from), now()); }, 5000);
  page.ends.push(() => { clearInterval(turn); clearTimeout(waiting); resized.disconnect(); dark.removeEventListener("change", draw); });
  load();
  if (cursor) look();
}
