// SPDX-License-Identifier: MPL-2.0
// The page. Captions, names and reasons are only ever put in as text.

const api = "api/v1/";
const cameras = new Map();
const main = document.getElementById("main");
const images = new Map();
const stale = 60e3;
let clockAhead = 0;
let me = null;
let source = null;
let redraw = () => {};

/** Makes an element: attributes, then children that are elements or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const response = await fetch(api + path, options);
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && me) leave();
  if (!response.ok) throw new Error(answer.error?.message ?? `the server said ${response.status}`);
  return answer;
}

const now = () => Date.now() + clockAhead;
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const at = (text) => (Math.abs(now() - Date.parse(text)) < 20 * 3600e3 ? time : day).format(Date.parse(text));

function age(text) {
  const seconds = Math.max(0, Math.round((now() - Date.parse(text)) / 1000));
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return at(text);
}

/** The state of a camera: class, shape, words. A shape and a word stand beside each colour. */
function state(camera) {
  switch (camera.state) {
    case "live": return ["live", "●", "live"];
    case "connecting": return ["wait", "◌", "connecting"];
    case "stalled": return ["wait", "◐", "stalled"];
    case "disabled": return ["", "–", "switched off"];
    default: return ["bad", "✕", `offline since ${at(camera.since)}`];
  }
}

function modelWords(camera) {
  const model = camera.model;
  if (model.state === "loading") return `model loading ${Math.round(100 * model.progress)} %`;
  if (model.state === "failing") return `model failing: ${model.reason}`;
  return null;
}

const isLive = (camera) => camera.state === "live";
const open = (camera) => camera.alarms.filter((alarm) => alarm.open);
const isOld = (camera) => !camera.caption || now() - Date.parse(camera.caption.end) > stale;

function picture(camera) {
  const box = make("div", { class: "picture" });
  if (camera.still) {
    // One element for each camera, so that a picture stays until the next one is there.
    let image = images.get(camera.id);
    if (!image) images.set(camera.id, image = make("img", { alt: `Picture of ${camera.name}` }));
    const address = `${api}cameras/${encodeURIComponent(camera.id)}/still.jpg?at=${encodeURIComponent(camera.still)}`;
    if (image.getAttribute("src") !== address) image.setAttribute("src", address);
    box.append(image);
  }
  if (!isLive(camera)) {
    const [, shape, words] = state(camera);
    const seen = camera.still ? `, picture of ${at(camera.still)}` : "";
    box.append(make("span", { class: "over" }, `${shape} ${words}${camera.reason ? `: ${camera.reason}` : ""}${seen}`));
  }
  return box;
}

function stateWord(camera) {
  const [kind, shape, words] = state(camera);
  return make("span", { class: `state ${kind}` }, `${shape} ${words}`);
}

function chips(camera) {
  const words = open(camera).map((alarm) =>
    make("span", { class: "chip" }, `▲ alarm: ${alarm.id}, since ${at(alarm.open)}`));
  if (camera.masked) words.push(make("span", { class: "small" }, "▨ masked"));
  const model = modelWords(camera);
  if (model) words.push(make("span", { class: "small" }, model));
  return words.length ? make("div", { class: "chips" }, ...words) : null;
}

function said(camera, kind) {
  if (!camera.caption) return make("p", { class: `${kind} old` }, camera.state === "disabled" ? "" : "no caption yet");
  return make("p", { class: isOld(camera) ? `${kind} old` : kind }, camera.caption.text);
}

function captionAge(camera) {
  if (!camera.caption) return null;
  return make("span", { class: "age" }, `${isOld(camera) ? "old caption, " : ""}${age(camera.caption.end)}`);
}

function tile(camera, number) {
  const classes = ["tile", isLive(camera) ? "" : "off", open(camera).length ? "alarm" : ""];
  return make("li", { class: classes.join(" "), "data-camera": camera.id },
    make("a", { href: `#/camera/${encodeURIComponent(camera.id)}`, "aria-keyshortcuts": number < 10 ? `${number}` : null },
      picture(camera),
      make("div", { class: "body" },
        make("div", { class: "head" }, make("h2", {}, camera.name), stateWord(camera)),
        said(camera, "caption"), captionAge(camera), chips(camera))));
}

function live() {
  const list = make("ul", { class: "grid" });
  show("Live", list);
  redraw = (id) => {
    const all = [...cameras.values()];
    if (!all.length) list.replaceChildren(make("li", {}, "There is no camera that you may see."));
    all.forEach((camera, index) => {
      const before = list.querySelector(`[data-camera="${CSS.escape(camera.id)}"]`);
      if (before && id && id !== camera.id) return;
      const focused = before?.contains(document.activeElement);
      const fresh = tile(camera, index + 1);
      before ? before.replaceWith(fresh) : list.append(fresh);
      if (focused) fresh.querySelector("a").focus({ preventScroll: true });
    });
  };
  redraw();
}

function bar(alarm) {
  const known = alarm.probability != null;
  const words = known ? `${Math.round(100 * alarm.probability)} %` : "not asked yet";
  return make("div", { class: "bar" },
    make("span", {}, alarm.question), make("span", {}, alarm.open ? `▲ ${words}` : words),
    make("meter", {
      min: 0, max: 1, low: alarm.off, high: alarm.on, optimum: 0, value: known ? alarm.probability : 0,
      "aria-label": `${alarm.question} ${words}`,
    }),
    make("span", { class: "small" }, `begins at ${Math.round(100 * alarm.on)} %, ends below ${Math.round(100 * alarm.off)} %`));
}

async function cameraPage(id) {
  const camera = cameras.get(id);
  if (!camera) return show("Camera", make("p", {}, "There is no such camera, or you may not see it."));
  const left = make("div");
  const bars = make("div", { class: "card" });
  const input = make("input", { id: "question", maxlength: 500, required: true, autocomplete: "off" });
  const answer = make("p", { role: "status" });
  const button = make("button", {}, "Ask");
  const ask = make("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    answer.textContent = "asking …";
    try {
      answer.textContent = (await call(`cameras/${encodeURIComponent(id)}/ask`, { text: input.value })).answer;
    } catch (error) { answer.textContent = error.message; }
    button.disabled = false;
  } }, make("label", { for: "question" }, "Ask about this moment"), input, button, answer);
  const list = make("ul", { class: "list" });
  show(camera.name, make("div", { class: "two" }, left,
    make("div", {}, bars, ask, make("section", { class: "card" }, make("h2", {}, "Captions"), list))));
  let last = null;
  let pending = false;
  const captions = async () => {
    if (pending) return;
    pending = true;
    try {
      const found = await call(`captions?camera=${encodeURIComponent(id)}&limit=50`);
      list.replaceChildren(...found.captions.map(captionRow));
      if (!found.captions.length) list.replaceChildren(make("li", {}, "Captions are listed some seconds after they are made."));
    } catch (error) { list.replaceChildren(make("li", {}, error.message)); }
    pending = false;
  };
  redraw = (changed) => {
    if (changed && changed !== id) return;
    const camera = cameras.get(id);
    const fresh = make("div", { class: `tile ${isLive(camera) ? "" : "off"} ${open(camera).length ? "alarm" : ""}` },
      picture(camera),
      make("div", { class: "body" }, make("div", { class: "head" }, stateWord(camera)),
        said(camera, "large"), captionAge(camera),
        camera.partial ? make("p", { class: "old" }, `${camera.partial} …`) : null, chips(camera),
        camera.caption ? make("p", { class: "small" }, `model ${camera.caption.model}`) : null));
    left.replaceChildren(fresh);
    bars.hidden = !camera.alarms.length;
    bars.replaceChildren(make("h2", {}, "Questions"), ...camera.alarms.map(bar));
    if (camera.caption?.end !== last) { last = camera.caption?.end; captions(); }
  };
  redraw();
  // A caption is kept with its batch, some seconds after it was made.
  const again = setInterval(() => (left.isConnected ? captions() : clearInterval(again)), 12e3);
}

function thumb(id, there, name) {
  return there ? make("img", { src: `${api}captions/${id}/thumb.jpg`, alt: `Picture of ${name}`, loading: "lazy" }) : null;
}

function captionRow(caption) {
  const times = caption.count > 1 ? `${at(caption.start)} to ${at(caption.until)}, ${caption.count} times` : at(caption.start);
  return make("li", {}, thumb(caption.id, caption.thumb, caption.camera),
    make("div", {}, make("div", {}, caption.text), make("div", { class: "small" }, times)));
}

const nameOf = (id) => cameras.get(id)?.name ?? id;

async function alarmsPage() {
  const list = make("ul", { class: "list" });
  show("Alarms", make("div", { class: "card" }, list));
  const load = async () => {
    try {
      const { events } = await call("events?limit=100");
      list.replaceChildren(...events.map((event) => make("li", {}, make("div", {},
        make("div", {}, `${event.end ? "" : "▲ "}${event.alarm}, ${nameOf(event.camera)}`),
        event.caption ? make("div", {}, event.caption) : null,
        make("div", { class: "small" }, `${day.format(Date.parse(event.start))} ${event.end
          ? `to ${at(event.end)} (${event.reason})` : "and still"}${event.peak != null ? `, at most ${Math.round(100 * event.peak)} %` : ""}`)))));
      if (!events.length) list.replaceChildren(make("li", {}, "No alarm yet."));
    } catch (error) { list.replaceChildren(make("li", {}, error.message)); }
  };
  let before = "";
  redraw = () => {
    const standing = JSON.stringify([...cameras.values()].map((camera) => open(camera).map((alarm) => alarm.open)));
    if (standing !== before) { before = standing; load(); }
  };
  redraw();
}

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

async function searchPage(query) {
  const input = make("input", { id: "query", type: "search", value: query, autocomplete: "off",
    placeholder: "dog  \"red coat\"  walk*  -cat  camera:front  after:2h" });
  const list = make("ul", { class: "list", "aria-live": "polite" });
  show("Search", make("form", { class: "row", onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#/search?q=${encodeURIComponent(input.value)}`;
  } }, make("label", { for: "query", class: "small" }, "Words in captions"), input, make("button", {}, "Find")),
  make("div", { class: "card" }, list));
  redraw = () => {};
  if (!query) return list.replaceChildren(make("li", {}, "Captions are found by words, all of which must be there."));
  try {
    const { visits } = await call(`search?limit=200&q=${encodeURIComponent(query)}`);
    list.replaceChildren(...visits.map((visit) => make("li", {}, thumb(visit.id, visit.thumb, nameOf(visit.camera)),
      make("div", {}, marked(visit.caption, visit.marks), make("div", { class: "small" },
        `${nameOf(visit.camera)}, ${day.format(Date.parse(visit.from))}${visit.count > 1 ? ` to ${at(visit.to)}, ${visit.count} captions` : ""}`)))));
    if (!visits.length) list.replaceChildren(make("li", {}, "Nothing was found."));
  } catch (error) { list.replaceChildren(make("li", { class: "wrong" }, error.message)); }
}

function show(title, ...content) {
  document.title = `${title} – vlmcaption watch`;
  main.replaceChildren(make("h1", {}, title), ...content);
}

/** The log-in, or the first user's form if the address has a link. */
function login() {
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  const name = make("input", { id: "name", autocomplete: "username", required: true, autocapitalize: "none" });
  const password = make("input", { id: "password", type: "password", required: true,
    autocomplete: link ? "new-password" : "current-password", minlength: link ? 10 : null });
  const wrong = make("p", { class: "wrong", role: "alert" });
  const button = make("button", {}, link ? "Make the first user" : "Log in");
  document.querySelector("header").hidden = true;
  show(link ? "First user" : "Log in", make("form", { class: "card login", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      const body = { name: name.value, password: password.value };
      me = await call(link ? "first" : "login", link ? { ...body, link } : body);
      if (link) history.replaceState(null, "", "#/");
      enter();
    } catch (error) { wrong.textContent = error.message; }
    button.disabled = false;
  } }, make("label", { for: "name" }, "Name"), name,
  make("label", { for: "password" }, link ? "Password, 10 characters at least" : "Password"), password, button, wrong));
  name.focus();
}

function leave() {
  me = null;
  source?.close();
  cameras.clear();
  images.clear();
  redraw = () => {};
  login();
}

function header() {
  const all = [...cameras.values()];
  const offline = all.filter((camera) => camera.state === "offline").length;
  const failing = all.map(modelWords).find((words) => words);
  const alarms = all.flatMap(open).length;
  document.getElementById("health").textContent = offline
    ? `✕ ${offline} camera${offline > 1 ? "s" : ""} offline` : failing ?? (all.every(isLive) ? "● all well" : "◌ some cameras are not live");
  const count = document.getElementById("open-alarms");
  count.textContent = alarms;
  count.hidden = !alarms;
}

function lost(yes) {
  const banner = document.getElementById("banner");
  banner.hidden = !yes;
  banner.textContent = yes ? "The connection to the server is lost: what you see is old. Trying again …" : "";
  main.classList.toggle("off", yes);
}

function enter() {
  document.querySelector("header").hidden = false;
  document.getElementById("who").textContent = `${me.name} (${me.role})`;
  source?.close();
  source = new EventSource(`${api}stream`);
  source.addEventListener("camera", (event) => {
    const camera = JSON.parse(event.data);
    clockAhead = Date.parse(camera.now) - Date.now();
    cameras.set(camera.id, camera);
    header();
    redraw(camera.id);
  });
  source.addEventListener("still", (event) => {
    const { camera, at } = JSON.parse(event.data);
    const known = cameras.get(camera);
    if (!known) return;
    known.still = at;
    redraw(camera);
  });
  source.onopen = () => lost(false);
  source.onerror = async () => {
    lost(true);
    const response = await fetch(`${api}me`).catch(() => null);
    if (response?.status === 401) { lost(false); leave(); }
  };
  call("cameras").then((found) => {
    for (const camera of found.cameras) cameras.set(camera.id, camera);
    header();
    route();
  }).catch((error) => show("Live", make("p", { class: "wrong" }, error.message)));
}

function route() {
  if (!me) return;
  const [path, query] = location.hash.slice(1).split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.getAttribute("href") === `#/${parts[0] && parts[0] !== "camera" ? parts[0] : ""}`;
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (parts[0] === "camera") cameraPage(parts[1]);
  else if (parts[0] === "alarms") alarmsPage();
  else if (parts[0] === "search") searchPage(new URLSearchParams(query).get("q") ?? "");
  else live();
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  route();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
addEventListener("keydown", (event) => {
  if (!me || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
  if (event.key === "/") { event.preventDefault(); location.hash = "#/search"; setTimeout(() => document.getElementById("query")?.focus()); }
  else if (event.key === "a") location.hash = "#/alarms";
  else if (event.key === "Escape") location.hash = "#/";
  else if (/^[1-9]$/.test(event.key)) {
    const id = [...cameras.keys()][event.key - 1];
    if (id) location.hash = `#/camera/${encodeURIComponent(id)}`;
  }
});
document.getElementById("logout").addEventListener("click", async () => { await call("logout", {}).catch(() => {}); leave(); });
setInterval(() => { if (me) redraw(); }, 5000);

fetch(`${api}me`).then(async (response) => {
  if (!response.ok) return login();
  me = await response.json();
  enter();
}).catch(() => lost(true));
