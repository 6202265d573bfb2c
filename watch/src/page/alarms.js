// SPDX-License-Identifier: MPL-2.0
// Alarms: what is to be seen to, what was; clips, how likely they were, and what people say of them.

import { api, at, call, cameras, day, make, nameOf, page, show, twice } from "./lib.js";
import { t } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const percent = (part) => `${Math.round(100 * part)} %`;

function drawn(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

/** How likely "yes" was over time, with the thresholds; and the same in words. */
export function trace(found, event) {
  if (!found.points.length) return make("p", { class: "small" }, t("No answers are kept of this time."));
  const times = found.points.map((point) => Date.parse(point.at));
  const first = Math.min(times[0], Date.parse(event.start));
  const last = Math.max(times.at(-1), first + 1000);
  const x = (time) => 300 * (time - first) / (last - first);
  const y = (part) => 62 - 60 * part;
  const words = t("{0} answers from {1} to {2}, {3} to {4}", found.points.length, at(found.points[0].at), at(found.points.at(-1).at),
    percent(Math.min(...found.points.map((point) => point.probability))), percent(Math.max(...found.points.map((point) => point.probability))));
  const svg = drawn("svg", { viewBox: "0 0 300 64", class: "trace", role: "img", "aria-label": words, preserveAspectRatio: "none" });
  const end = event.end ? Date.parse(event.end) : last;
  svg.append(drawn("rect", { x: x(Date.parse(event.start)), y: 0, width: Math.max(1, x(Math.min(end, last)) - x(Date.parse(event.start))), height: 64, class: "span" }));
  for (const name of ["on", "off"]) {
    if (found[name] != null) svg.append(drawn("line", { x1: 0, x2: 300, y1: y(found[name]), y2: y(found[name]), class: name }));
  }
  svg.append(drawn("polyline", { points: found.points.map((point, n) => `${x(times[n]).toFixed(1)},${y(point.probability).toFixed(1)}`).join(" ") }));
  return make("figure", {}, svg, make("figcaption", { class: "small" },
    found.on == null ? words : `${words}; ${t("begins at {0}, ends below {1}", percent(found.on), percent(found.off))}`));
}

/** When an event was, and how it ended. */
export function eventTimes(event) {
  return (event.end ? t("{0} to {1} ({2})", day.format(Date.parse(event.start)), at(event.end), event.reason)
    : t("{0} and still", day.format(Date.parse(event.start)))) + (event.peak != null ? t(", at most {0}", percent(event.peak)) : "");
}

/** The clip of an event, or why there is none. */
export function clip(event) {
  if (!event.clip) return event.no_clip ? make("p", { class: "small" }, t("No clip: {0}", event.no_clip)) : null;
  return make("video", { controls: true, preload: "metadata", playsinline: true, class: "clip",
    "aria-label": t("Clip of {0}, {1}", event.alarm, nameOf(event.camera)), src: `${api}events/${event.id}/clip.mp4` });
}

/** The latest and open alarms in a line, for the first page. */
export async function strip(box) {
  try {
    const { events } = await call("events?limit=4");
    box.hidden = !events.length;
    box.replaceChildren(...events.map((event) => make("li", {}, make("a", { href: "#/alarms", class: event.end ? "" : "chip" },
      `${event.end ? "△" : "▲"} ${event.alarm}, ${nameOf(event.camera)}, ${event.end ? at(event.start) : t("{0}, and still", at(event.start))}`))));
  } catch { box.hidden = true; }
}

export async function alarmsPage(all) {
  const list = make("ul", { class: "list events" });
  const tab = (name, href, here) => make("a", { href, "aria-current": here ? "page" : null }, name);
  show(t("Alarms"), make("nav", { class: "tabs", "aria-label": t("Which alarms") },
    tab(t("To do"), "#/alarms", !all), tab(t("All"), "#/alarms/all", all)), make("div", { class: "card" }, list));
  let events = [];
  let most = 100;
  let picked = null;

  async function say(event, body) {
    try {
      Object.assign(event, await call(`events/${event.id}`, body));
      draw();
    } catch (error) { document.getElementById(`wrong-${event.id}`).textContent = error.message; }
  }

  async function snooze(event, minutes) {
    try { await call(`cameras/${encodeURIComponent(event.camera)}/snooze`, { minutes: Number(minutes) }); }
    catch (error) { document.getElementById(`wrong-${event.id}`).textContent = error.message; }
  }

  const toggle = (event, key, off, on) => make("button", { type: "button", "aria-pressed": String(event[key]), "data-key": key,
    onclick: () => say(event, { [key]: !event[key] }) }, event[key] ? on : off);

  function row(event) {
    const more = make("details", { ontoggle: async () => {
      if (!more.open || more.children.length > 1) return;
      const found = await call(`events/${event.id}/trace`).catch(() => ({ points: [] }));
      more.append(...[clip(event), trace(found, event)].filter(Boolean));
    } }, make("summary", {}, event.clip ? t("Clip, and how likely it was") : t("How likely it was")));
    const note = make("input", { id: `note-${event.id}`, maxlength: 1000, value: event.note, autocomplete: "off",
      onchange: () => say(event, { note: note.value }) });
    const until = cameras.get(event.camera)?.snoozed;
    const rest = make("select", { id: `snooze-${event.id}`, onchange: () => snooze(event, rest.value) },
      make("option", { value: "0" }, until ? t("Not snoozed") : t("No")),
      ...[[10, t("10 minutes")], [30, t("30 minutes")], [60, t("1 hour")], [120, t("2 hours")], [480, t("8 hours")]]
        .map(([minutes, words]) => make("option", { value: minutes }, words)));
    if (until) rest.prepend(make("option", { value: "", selected: true, disabled: true }, t("until {0}", at(until))));
    return make("li", { id: `event-${event.id}`, class: event.id === picked ? "picked" : "", tabindex: -1 }, make("div", { class: "event" },
      make("h2", {}, `${event.end ? "△" : "▲"} ${event.alarm}, ${nameOf(event.camera)}`,
        ...[[event.starred, t("★ starred")], [event.false_alarm, t("✕ false alarm")], [event.acknowledged, t("✓ seen to")]]
          .filter(([is]) => is).map(([, words]) => make("span", { class: "small" }, ` ${words}`))),
      event.caption ? make("div", {}, event.caption) : null,
      make("div", { class: "small" }, eventTimes(event), " ",
        make("a", { href: `#/moment/${encodeURIComponent(event.camera)}/${event.start}` }, t("what was around it"))),
      make("div", { class: "buttons" }, toggle(event, "acknowledged", t("Acknowledge"), t("Acknowledged")),
        toggle(event, "starred", t("Star"), t("Starred")), toggle(event, "false_alarm", t("False alarm"), t("A false alarm"))),
      make("div", { class: "fields" },
        make("div", {}, make("label", { for: note.id }, t("Note")), note),
        make("div", {}, make("label", { for: rest.id }, t("Snooze the camera")), rest)),
      more, make("p", { class: "wrong", id: `wrong-${event.id}`, role: "alert" })));
  }

  function draw() {
    const held = document.activeElement;
    const focus = [held?.closest?.("li")?.id, held?.id || held?.dataset?.key];
    const open = new Map([...list.querySelectorAll("details[open]")].map((more) => [more.closest("li").id, more]));
    list.replaceChildren(...events.map((event) => {
      const fresh = row(event);
      // A clip that plays goes on.
      const more = open.get(fresh.id);
      if (more) fresh.querySelector("details").replaceWith(more);
      return fresh;
    }));
    if (events.length >= most) list.append(make("li", {}, make("button", { type: "button", onclick: () => { most += 100; load(); } }, t("Older ones"))));
    if (!events.length) list.replaceChildren(make("li", {}, all ? t("No alarm yet.") : t("Nothing is to do.")));
    const again = focus[0] && document.getElementById(focus[0]);
    if (again) (focus[1] ? again.querySelector(`[id="${focus[1]}"],[data-key="${focus[1]}"]`) ?? again : again).focus({ preventScroll: true });
  }

  async function load() {
    try {
      const found = [];
      // The server gives a hundred at a time.
      while (found.length < most) {
        const last = found.at(-1);
        const { events: more } = await call(`events?limit=100${all ? "" : "&to_do=1"}${last ? `&before=${last.id}` : ""}`);
        found.push(...more);
        if (more.length < 100) break;
      }
      events = found;
      draw();
    } catch (error) { list.replaceChildren(make("li", { class: "wrong" }, error.message)); }
  }

  /** The keys of this page; true if it was one. */
  page.key = (key) => {
    const n = events.findIndex((event) => event.id === picked);
    if (key === "j" || key === "k") {
      const next = events[n < 0 ? 0 : Math.min(events.length - 1, Math.max(0, n + (key === "j" ? 1 : -1)))];
      if (!next) return true;
      picked = next.id;
      draw();
      document.getElementById(`event-${picked}`).focus();
      document.getElementById(`event-${picked}`).scrollIntoView({ block: "nearest" });
      return true;
    }
    const event = events[Math.max(n, 0)];
    if (!event || !["a", "s", "f", "p", " "].includes(key)) return false;
    if (key === "a") say(event, { acknowledged: !event.acknowledged });
    else if (key === "s") say(event, { starred: !event.starred });
    else if (key === "f") say(event, { false_alarm: !event.false_alarm });
    else {
      const more = document.querySelector(`#event-${event.id} details`);
      const video = more.querySelector("video");
      if (video) video.paused ? video.play() : video.pause();
      else more.open = true;
    }
    return true;
  };

  let before = null;
  page.redraw = () => {
    const standing = JSON.stringify([...cameras.values()].map((camera) => [camera.snoozed, camera.alarms.map((alarm) => alarm.open)]));
    if (standing !== before) { before = standing; twice(load); }
  };
  page.redraw();
}
