// SPDX-License-Identifier: MPL-2.0
// Search; what was around a moment; and how often an alarm would have begun.

import { clip, eventTimes } from "./alarms.js";
import { at, call, cameras, day, make, nameOf, page, show, thumb } from "./lib.js";
import { many, t } from "./words.js";

/** The text with its marked parts. */
function marked(text, marks) {
  const parts = [];
  let done = 0;
  for (const [from, to] of marks) {
    parts.push(text.slice(done, from), make("mark", {}, text.slice(from, to)));
    done = to;
  }
  return make("div", {}, ...parts, text.slice(done));
}

const momentOf = (camera, time) => `#/moment/${encodeURIComponent(camera)}/${time}`;
const times = (n) => many(n, "once", "{0} times");
const filter = /(?:^|\s)((camera|alarm|after|before):\S+)/g;

/** The filters of a query as chips that can be taken out, and lists to add some. */
function chips(query, go) {
  const found = [...query.matchAll(filter)].map((match) => match[1]);
  const without = (chip) => query.split(/\s+/).filter((piece) => piece !== chip).join(" ");
  const add = (label, key, values) => {
    if (!values.length) return null;
    const select = make("select", { "aria-label": label, onchange: () => go(`${query} ${key}:${select.value}`.trim()) },
      make("option", { value: "" }, label), ...values.map(([value, words]) => make("option", { value }, words)));
    return select;
  };
  const all = [...cameras.values()];
  const alarms = [...new Set(all.flatMap((camera) => camera.alarms.map((alarm) => alarm.id)))];
  return make("div", { class: "chips filters" },
    ...found.map((chip) => make("button", { type: "button", class: "chip", "aria-label": t("Without {0}", chip), onclick: () => go(without(chip)) }, `${chip} ✕`)),
    ...[add(t("+ camera"), "camera", all.map((camera) => [camera.id, camera.name])),
      add(t("+ alarm"), "alarm", alarms.map((alarm) => [alarm, alarm])),
      add(t("+ since"), "after", [["1h", t("1 hour ago")], ["6h", t("6 hours ago")], ["1d", t("1 day ago")], ["7d", t("7 days ago")], ["30d", t("30 days ago")]])].filter(Boolean));
}

/** Searches that were saved in this browser, the newest first. */
const kept = {
  all() { try { return JSON.parse(localStorage.getItem("searches")) ?? []; } catch { return []; } },
  put(list) { try { localStorage.setItem("searches", JSON.stringify(list.slice(0, 20))); } catch { /* A browser that keeps nothing. */ } },
};

/** The saved searches as links, and a button that saves or forgets the one that is shown. */
function saved(query) {
  const box = make("div", { class: "chips filters", role: "group", "aria-label": t("Saved searches") });
  const draw = () => {
    const all = kept.all();
    const has = all.includes(query);
    const turn = () => { kept.put(has ? all.filter((other) => other !== query) : [query, ...all]); draw(); };
    box.replaceChildren(
      ...(query ? [make("button", { type: "button", "aria-pressed": String(has), onclick: turn }, has ? t("Saved here") : t("Save"))] : []),
      ...all.filter((other) => other !== query).map((other) => make("a", { href: `#/search?q=${encodeURIComponent(other)}` }, other)));
  };
  draw();
  return box;
}

export async function searchPage(query) {
  const go = (text) => { location.hash = `#/search?q=${encodeURIComponent(text)}`; };
  const input = make("input", { id: "query", type: "search", value: query, autocomplete: "off",
    placeholder: "dog  \"red coat\"  walk*  -cat" });
  const list = make("ul", { class: "list", "aria-live": "polite" });
  const status = make("p", { class: "small", role: "status" });
  const more = make("button", { type: "button", hidden: true }, t("Look further back"));
  show(t("Search"), make("form", { class: "row", onsubmit: (event) => { event.preventDefault(); go(input.value); } },
    make("label", { for: "query", class: "small" }, t("Words in captions")), input, make("button", {}, t("Find"))),
  chips(query, go), saved(query), make("div", { class: "card" }, list, status, more));
  if (!query) return list.replaceChildren(make("li", {}, t("Captions are found by words, all of which must be there.")));
  const row = (visit) => make("li", {}, thumb(visit.id, visit.thumb, nameOf(visit.camera)),
    make("div", {}, marked(visit.caption, visit.marks), make("div", { class: "small" },
      make("a", { href: momentOf(visit.camera, visit.from) }, `${nameOf(visit.camera)}, ${day.format(Date.parse(visit.from))}`),
      visit.count > 1 ? ` ${t("to {0}, {1} captions", at(visit.to), visit.count)}` : "")));
  let next = null;
  // An answer comes within a moment, whatever is asked: then it says how far back it has looked.
  const look = async () => {
    more.hidden = true;
    const enough = list.children.length + 20;
    try {
      do {
        const found = await call(`search?limit=200&q=${encodeURIComponent(query)}${next ? `&before=${next}` : ""}`);
        list.append(...found.visits.map(row));
        next = found.next;
        status.textContent = found.looked_to ? t("Looked back to {0}", day.format(Date.parse(found.looked_to))) : "";
      } while (next && list.children.length < enough && list.isConnected);
      more.hidden = !next;
      if (!next) status.textContent = list.children.length ? t("That is all.") : t("Nothing was found.");
    } catch (error) {
      status.textContent = error.message;
      more.hidden = !next;
    }
  };
  more.addEventListener("click", look);
  await look();
}

/** What was said of a camera around a moment, with pictures, and its alarms with their clips. */
export async function momentPage(id, when) {
  const middle = Date.parse(when);
  if (!cameras.has(id) || Number.isNaN(middle)) return show(t("Moment"), make("p", {}, t("There is no such moment, or you may not see it.")));
  const list = make("ul", { class: "list" });
  const alarms = make("div");
  const step = (minutes) => `#/moment/${encodeURIComponent(id)}/${new Date(middle + 60e3 * minutes).toISOString()}`;
  show(`${nameOf(id)}, ${day.format(middle)}`,
    make("nav", { class: "tabs", "aria-label": t("Another moment") },
      make("a", { href: step(-4) }, t("◀ before")), make("a", { href: step(4) }, t("after ▶")),
      make("a", { href: `#/timeline?at=${when}` }, t("on the timeline")),
      make("a", { href: `#/camera/${encodeURIComponent(id)}` }, t("live"))),
    alarms, make("section", { class: "card" }, make("h2", {}, t("Captions around it")), list));
  page.key = (key) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return false;
    location.hash = step(key === "ArrowLeft" ? -4 : 4);
    return true;
  };
  const span = `from=${new Date(middle - 150e3).toISOString()}&to=${new Date(middle + 150e3).toISOString()}`;
  const camera = `camera=${encodeURIComponent(id)}`;
  try {
    const [{ captions }, { events }] = await Promise.all([call(`captions?${camera}&${span}&limit=200`), call(`events?${camera}&${span}`)]);
    let nearest = null;
    for (const caption of captions) if (Date.parse(caption.start) <= middle) nearest = caption.id;
    list.replaceChildren(...captions.map((caption) => make("li", { class: caption.id === nearest ? "picked" : "", "aria-current": caption.id === nearest ? "true" : null },
      thumb(caption.id, caption.thumb, nameOf(id)), make("div", {}, make("div", {}, caption.text),
        make("div", { class: "small" }, caption.count > 1 ? t("{0} to {1}, {2} times", at(caption.start), at(caption.until), caption.count) : at(caption.start))))));
    if (!captions.length) list.replaceChildren(make("li", {}, t("Nothing was said in these five minutes.")));
    alarms.replaceChildren(...events.map((event) => make("section", { class: "card" },
      ...[make("h2", {}, `${event.end ? "△" : "▲"} ${event.alarm}`), make("div", { class: "small" }, eventTimes(event)), clip(event)].filter(Boolean))));
    list.querySelector(".picked")?.scrollIntoView({ block: "nearest" });
  } catch (error) { list.replaceChildren(make("li", { class: "wrong" }, error.message)); }
}

/** A question now, and an alarm with other thresholds over the last days. For an admin. */
export function tryPage() {
  const all = [...cameras.values()];
  const pick = make("select", { id: "try-camera" }, ...all.map((camera) => make("option", { value: camera.id }, camera.name)));
  const question = make("input", { id: "try-question", maxlength: 500, required: true, autocomplete: "off" });
  const answer = make("p", { role: "status" });
  const asks = all.flatMap((camera) => camera.alarms.map((alarm) => ({ camera, alarm })));
  const which = make("select", { id: "try-alarm" }, ...asks.map(({ camera, alarm }, n) => make("option", { value: n }, `${camera.name}: ${alarm.question}`)));
  const range = (id) => make("input", { id, type: "number", min: 0, max: 1, step: 0.01, required: true });
  const on = range("try-on");
  const off = range("try-off");
  const found = make("div", { role: "status" });
  const set = () => {
    const asked = asks[which.value];
    if (asked) { on.value = asked.alarm.on; off.value = asked.alarm.off; }
  };
  which.addEventListener("change", set);
  set();
  const field = (label, input) => make("div", {}, make("label", { for: input.id }, label), input);
  const ask = async (event) => {
    event.preventDefault();
    answer.textContent = t("asking …");
    try { answer.textContent = (await call(`cameras/${encodeURIComponent(pick.value)}/ask`, { text: question.value })).answer; }
    catch (error) { answer.textContent = error.message; }
  };
  const count = async (event) => {
    event.preventDefault();
    const { camera, alarm } = asks[which.value];
    try {
      const told = await call(`cameras/${encodeURIComponent(camera.id)}/fires?alarm=${encodeURIComponent(alarm.id)}&on=${on.value}&off=${off.value}`);
      found.replaceChildren(
        make("p", {}, t("It would have begun {0} since {1}; it did {2}. {3} answers of {4} minutes are kept.",
          times(told.count), day.format(Date.parse(told.from)), times(told.began), told.answers, told.minutes)),
        make("p", { class: "small" }, t("By the minute: the shortest duration and the cool-down of the alarm are not counted in.")),
        make("ul", { class: "list" }, ...told.fires.slice(0, 20).map(([from, to]) => make("li", {},
          make("a", { href: momentOf(camera.id, from) }, t("{0} to {1}", day.format(Date.parse(from)), at(to)))))));
    } catch (error) { found.replaceChildren(make("p", { class: "wrong" }, error.message)); }
  };
  show(t("Try a question"),
    make("form", { class: "card", onsubmit: ask }, make("h2", {}, t("The answer now")), field(t("Camera"), pick), field(t("Question"), question), make("button", {}, t("Ask")), answer,
      make("p", { class: "small" }, t("Of a question that no alarm asks nothing is kept: how often it would have alarmed can only be told of alarms."))),
    asks.length ? make("form", { class: "card", onsubmit: count }, make("h2", {}, t("How often it would have alarmed")), field(t("Alarm"), which),
      make("div", { class: "fields" }, field(t("Begins at"), on), field(t("Ends below"), off)), make("button", {}, t("Count")), found) : make("p", {}, t("No camera has an alarm.")));
  page.redraw = () => {};
}
