// SPDX-License-Identifier: MPL-2.0
// The page. Captions, names and reasons are only ever put in as text.

import { api, at, age, call, cameras, main, make, now, page, show, thumb, twice } from "./lib.js";
import { alarmsPage, strip } from "./alarms.js";
import { healthPage } from "./health.js";
import { play } from "./player.js";
import { momentPage, searchPage, tryPage } from "./search.js";
import { timelinePage } from "./timeline.js";
import { begin, many, t } from "./words.js";

const images = new Map();
const stale = 60e3;
let source = null;
let wrong = 0;

/** The state of a camera: class, shape, words. A shape and a word stand beside each colour. */
function state(camera) {
  switch (camera.state) {
    case "live": return ["live", "●", t("live")];
    case "connecting": return ["wait", "◌", t("connecting")];
    case "stalled": return ["wait", "◐", t("stalled")];
    case "disabled": return ["", "–", t("switched off")];
    default: return ["bad", "✕", t("offline since {0}", at(camera.since))];
  }
}

function modelWords(camera) {
  const model = camera.model;
  if (model.state === "loading") return t("model loading {0} %", Math.round(100 * model.progress));
  if (model.state === "failing") return t("model failing: {0}", model.reason);
  return null;
}

const isLive = (camera) => camera.state === "live";
const open = (camera) => camera.alarms.filter((alarm) => alarm.open);
/** What was said still holds if nothing has moved since. */
const isStill = (camera) => isLive(camera) && camera.quiet?.why === "gated";
const isOld = (camera) => !camera.caption || (!isStill(camera) && now() - Date.parse(camera.caption.end) > stale);

/** The still of a camera; one element for each, so that a picture stays until the next one is there. */
function still(camera) {
  if (!camera.still) return null;
  let image = images.get(camera.id);
  if (!image) images.set(camera.id, image = make("img", { alt: t("Picture of {0}", camera.name) }));
  const address = `${api}cameras/${encodeURIComponent(camera.id)}/still.jpg?at=${encodeURIComponent(camera.still)}`;
  if (image.getAttribute("src") !== address) image.setAttribute("src", address);
  return image;
}

/** What lies over the picture of a camera that is not live. */
function over(camera) {
  if (isLive(camera)) return null;
  const [, shape, words] = state(camera);
  const seen = camera.still ? `, ${t("picture of {0}", at(camera.still))}` : "";
  return make("span", { class: "over" }, `${shape} ${words}${camera.reason ? `: ${camera.reason}` : ""}${seen}`);
}

function stateWord(camera) {
  const [kind, shape, words] = state(camera);
  return make("span", { class: `state ${kind}` }, `${shape} ${words}`);
}

function chips(camera) {
  const words = open(camera).map((alarm) =>
    make("span", { class: "chip" }, t("▲ alarm: {0}, since {1}", alarm.id, at(alarm.open))));
  if (camera.snoozed) words.push(make("span", { class: "small" }, t("☾ snoozed until {0}", at(camera.snoozed))));
  if (isStill(camera)) words.push(make("span", { class: "small" }, t("─ nothing moved since {0}", at(camera.quiet.since))));
  if (camera.masked) words.push(make("span", { class: "small" }, t("▨ masked")));
  const model = modelWords(camera);
  if (model) words.push(make("span", { class: "small" }, model));
  return words.length ? make("div", { class: "chips" }, ...words) : null;
}

function said(camera, kind) {
  if (!camera.caption) return make("p", { class: `${kind} old` }, camera.state === "disabled" ? "" : t("no caption yet"));
  return make("p", { class: isOld(camera) ? `${kind} old` : kind }, camera.caption.text);
}

function captionAge(camera) {
  if (!camera.caption) return null;
  return make("span", { class: "age" }, isOld(camera) ? t("old caption, {0}", age(camera.caption.end)) : age(camera.caption.end));
}

/** Draws into a box what is seen of a camera; what is in it otherwise stays where it is: a video that is moved stops. */
function drawPicture(box, camera) {
  const image = still(camera);
  if (image && image.parentNode !== box) box.prepend(image);
  box.querySelector(".over")?.remove();
  const veil = over(camera);
  if (veil) box.append(veil);
}

/** A camera among others: made once, then drawn again. */
function tile(id, number) {
  const box = make("div", { class: "picture" });
  const body = make("div", { class: "body" });
  const element = make("li", { "data-camera": id },
    make("a", { href: `#/camera/${encodeURIComponent(id)}`, "aria-keyshortcuts": number < 10 ? `${number}` : null }, box, body));
  let stop = null;
  const moving = (yes) => {
    const camera = cameras.get(id);
    if (!(yes && camera && isLive(camera) && camera.live !== "stills")) { stop?.(); stop = null; return; }
    if (stop) return;
    const video = make("video", { muted: true, playsinline: true, hidden: true, tabindex: -1, "aria-hidden": "true" });
    box.append(video);
    const end = play(video, `${api}cameras/${encodeURIComponent(id)}/live`, () => {});
    stop = () => { end(); video.remove(); };
  };
  const self = { element, moving, draw, isSeen: false, inView: false };
  function draw() {
    const camera = cameras.get(id);
    if (!camera) return;
    element.className = ["tile", isLive(camera) ? "" : "off", open(camera).length ? "alarm" : ""].join(" ");
    // Of what nobody sees no picture is asked for.
    if (self.isSeen) drawPicture(box, camera);
    body.replaceChildren(...[make("div", { class: "head" }, make("h2", {}, camera.name), stateWord(camera)),
      said(camera, "caption"), captionAge(camera), chips(camera)].filter(Boolean));
  }
  draw();
  return self;
}

/** Whether people want video in tiles; a choice of this browser. */
const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* It holds until the page is left. */ } };
let moves = stored("tiles") === "video";

function live() {
  const list = make("ul", { class: "grid" });
  const alarms = make("ul", { class: "strip", "aria-label": t("Latest alarms"), hidden: true });
  const tiles = new Map();
  const video = make("button", { type: "button", "aria-pressed": String(moves), onclick: () => {
    moves = !moves;
    store("tiles", moves ? "video" : "stills");
    video.setAttribute("aria-pressed", String(moves));
    move();
  } }, t("Video in the tiles"));
  const choice = make("p", { class: "small", hidden: true }, video, " ", t("of those in sight, six at most; the others are stills, one a second"));
  show(t("Live"), alarms, list, choice);
  // Eight look at video at the same time; two places are left for others.
  const move = () => {
    const wanted = [...tiles].filter(([id, tile]) => tile.inView && cameras.get(id)?.live !== "stills").slice(0, 6).map(([id]) => id);
    for (const [id, tile] of tiles) tile.moving(moves && wanted.includes(id));
  };
  const sight = new IntersectionObserver((seen) => {
    for (const entry of seen) {
      const tile = tiles.get(entry.target.dataset.camera);
      if (!tile) continue;
      tile.isSeen = entry.isIntersecting;
      tile.inView = entry.intersectionRatio >= 0.3;
      if (tile.isSeen) tile.draw();
    }
    move();
  }, { threshold: [0, 0.3] });
  page.ends.push(() => { sight.disconnect(); for (const tile of tiles.values()) tile.moving(false); });
  let standing = null;
  page.redraw = (id) => {
    const all = [...cameras.values()];
    const now = JSON.stringify(all.map((camera) => camera.alarms.map((alarm) => alarm.open)));
    if (now !== standing) { standing = now; twice(() => strip(alarms)); }
    if (!all.length) list.replaceChildren(make("li", {}, t("There is no camera that you may see.")));
    all.forEach((camera, index) => {
      const before = tiles.get(camera.id);
      if (before && id && id !== camera.id) return;
      if (before) before.draw();
      else {
        const fresh = tile(camera.id, index + 1);
        tiles.set(camera.id, fresh);
        list.append(fresh.element);
        sight.observe(fresh.element);
      }
    });
    choice.hidden = !all.some((camera) => camera.live !== "stills");
    move();
  };
  page.redraw();
}

function bar(alarm) {
  const known = alarm.probability != null;
  const words = known ? `${Math.round(100 * alarm.probability)} %` : t("not asked yet");
  return make("div", { class: "bar" },
    make("span", {}, alarm.question), make("span", {}, alarm.open ? `▲ ${words}` : words),
    make("meter", {
      min: 0, max: 1, low: alarm.off, high: alarm.on, optimum: 0, value: known ? alarm.probability : 0,
      "aria-label": `${alarm.question} ${words}`,
    }),
    make("span", { class: "small" }, t("begins at {0}, ends below {1}", `${Math.round(100 * alarm.on)} %`, `${Math.round(100 * alarm.off)} %`)));
}

async function cameraPage(id) {
  const camera = cameras.get(id);
  if (!camera) return show(t("Camera"), make("p", {}, t("There is no such camera, or you may not see it.")));
  const box = make("div", { class: "picture" });
  const words = make("div", { class: "body" });
  const left = make("div", { class: "tile" }, box, words);
  const video = make("video", { muted: true, playsinline: true, hidden: true, "aria-label": t("Video of {0}", camera.name) });
  const shown = make("p", { class: "small", role: "status" });
  const bars = make("div", { class: "card" });
  const input = make("input", { id: "question", maxlength: 500, required: true, autocomplete: "off" });
  const answer = make("p", { role: "status" });
  const button = make("button", {}, t("Ask"));
  const ask = make("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    answer.textContent = t("asking …");
    try {
      answer.textContent = (await call(`cameras/${encodeURIComponent(id)}/ask`, { text: input.value })).answer;
    } catch (error) { answer.textContent = error.message; }
    button.disabled = false;
  } }, make("label", { for: "question" }, t("Ask about this moment")), input, button, answer);
  const list = make("ul", { class: "list" });
  show(camera.name, make("div", { class: "two" }, left,
    make("div", {}, bars, ask, make("section", { class: "card" }, make("h2", {}, t("Captions")), list))));
  box.append(video);
  let stop = null;
  page.ends.push(() => stop?.());
  const watchVideo = (camera) => {
    if (camera.live === "stills") {
      stop?.();
      stop = null;
      shown.textContent = t("Stills, one a second: {0}", camera.no_video);
    } else if (!stop) {
      stop = play(video, `${api}cameras/${encodeURIComponent(id)}/live`, (why) => {
        shown.textContent = why === "live" ? t("Video, live") : t("Stills, one a second: {0}", why);
      });
    }
  };
  let last = null;
  let pending = false;
  const captions = async () => {
    if (pending) return;
    pending = true;
    try {
      const found = await call(`captions?camera=${encodeURIComponent(id)}&limit=50`);
      list.replaceChildren(...found.captions.map(captionRow));
      if (!found.captions.length) list.replaceChildren(make("li", {}, t("Captions are listed some seconds after they are made.")));
    } catch (error) { list.replaceChildren(make("li", {}, error.message)); }
    pending = false;
  };
  page.redraw = (changed) => {
    if (changed && changed !== id) return;
    const camera = cameras.get(id);
    left.className = `tile ${isLive(camera) ? "" : "off"} ${open(camera).length ? "alarm" : ""}`;
    drawPicture(box, camera);
    watchVideo(camera);
    words.replaceChildren(...[make("div", { class: "head" }, stateWord(camera)),
      said(camera, "large"), captionAge(camera),
      camera.partial ? make("p", { class: "old" }, `${camera.partial} …`) : null, chips(camera), shown,
      camera.caption ? make("p", { class: "small" }, t("model {0}", camera.caption.model)) : null].filter(Boolean));
    bars.hidden = !camera.alarms.length;
    bars.replaceChildren(make("h2", {}, t("Questions")), ...camera.alarms.map(bar));
    if (camera.caption?.end !== last) { last = camera.caption?.end; captions(); }
  };
  page.redraw();
  // A caption is kept with its batch, some seconds after it was made.
  const again = setInterval(() => (left.isConnected ? captions() : clearInterval(again)), 12e3);
}

function captionRow(caption) {
  const times = caption.count > 1 ? t("{0} to {1}, {2} times", at(caption.start), at(caption.until), caption.count) : at(caption.start);
  return make("li", {}, thumb(caption.id, caption.thumb, caption.camera),
    make("div", {}, make("div", {}, caption.text), make("div", { class: "small" }, times)));
}


/** The log-in, or the first user's form if the address has a link. */
function login() {
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  const name = make("input", { id: "name", autocomplete: "username", required: true, autocapitalize: "none" });
  const password = make("input", { id: "password", type: "password", required: true,
    autocomplete: link ? "new-password" : "current-password", minlength: link ? 10 : null });
  const wrong = make("p", { class: "wrong", role: "alert" });
  const button = make("button", {}, link ? t("Make the first user") : t("Log in"));
  document.querySelector("header").hidden = true;
  show(link ? t("First user") : t("Log in"), make("form", { class: "card login", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      const body = { name: name.value, password: password.value };
      page.me = await call(link ? "first" : "login", link ? { ...body, link } : body);
      if (link) history.replaceState(null, "", "#/");
      enter();
    } catch (error) { wrong.textContent = error.message; }
    button.disabled = false;
  } }, make("label", { for: "name" }, t("Name")), name,
  make("label", { for: "password" }, link ? t("Password, 10 characters at least") : t("Password")), password, button, wrong));
  name.focus();
}

page.leave = function leave() {
  page.me = null;
  source?.close();
  cameras.clear();
  images.clear();
  login();
};

function header() {
  const all = [...cameras.values()];
  const offline = all.filter((camera) => camera.state === "offline").length;
  const failing = all.map(modelWords).find((words) => words);
  const alarms = all.filter((camera) => !camera.snoozed).flatMap(open).length;
  document.getElementById("health").textContent = offline
    ? many(offline, "✕ {0} camera offline", "✕ {0} cameras offline") : failing ?? (wrong ? many(wrong, "✕ {0} thing wrong", "✕ {0} things wrong")
      : all.every(isLive) ? t("● all well") : t("◌ some cameras are not live"));
  const count = document.getElementById("open-alarms");
  count.textContent = alarms;
  count.hidden = !alarms;
}

/** What is wrong with the program itself is in no camera's state. */
async function lookAtHealth() {
  if (!page.me) return;
  try { wrong = (await call("health")).words.length; } catch { return; }
  header();
}
setInterval(lookAtHealth, 15e3);

function lost(yes) {
  const banner = document.getElementById("banner");
  banner.hidden = !yes;
  banner.textContent = yes ? t("The connection to the server is lost: what you see is old. Trying again …") : "";
  main.classList.toggle("off", yes);
}

function enter() {
  document.querySelector("header").hidden = false;
  document.getElementById("try").hidden = page.me.role !== "admin";
  document.getElementById("who").textContent = `${page.me.name} (${page.me.role})`;
  lookAtHealth();
  listen();
  call("cameras").then((found) => {
    for (const camera of found.cameras) cameras.set(camera.id, camera);
    header();
    route();
  }).catch((error) => show(t("Live"), make("p", { class: "wrong" }, error.message)));
}

/** Has the server tell of changes. */
function listen() {
  source?.close();
  source = new EventSource(`${api}stream`);
  source.addEventListener("camera", (event) => {
    const camera = JSON.parse(event.data);
    page.clockAhead = Date.parse(camera.now) - Date.now();
    cameras.set(camera.id, camera);
    header();
    page.redraw(camera.id);
  });
  source.addEventListener("still", (event) => {
    const { camera, at } = JSON.parse(event.data);
    const known = cameras.get(camera);
    if (!known) return;
    known.still = at;
    page.redraw(camera);
  });
  source.addEventListener("cameras", (event) => {
    const { ids } = JSON.parse(event.data);
    for (const id of cameras.keys()) if (!ids.includes(id)) { cameras.delete(id); images.delete(id); }
    header();
    route();
  });
  source.onopen = () => lost(false);
  source.onerror = async () => {
    lost(true);
    const response = await fetch(`${api}me`).catch(() => null);
    if (response?.status === 401) { lost(false); page.leave(); }
  };
}

/** A browser has six connections to a server: pages that nobody looks at would hold them all. */
let leaving = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (!page.me) return;
  if (document.hidden) leaving = setTimeout(() => { source?.close(); source = null; }, 20e3);
  else if (!source) listen();
});

function route() {
  if (!page.me) return;
  const [path, query] = location.hash.slice(1).split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.getAttribute("href") === `#/${parts[0] && parts[0] !== "camera" ? parts[0] : ""}`;
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (parts[0] === "camera") cameraPage(parts[1]);
  else if (parts[0] === "alarms") alarmsPage(parts[1] === "all");
  else if (parts[0] === "search") searchPage(new URLSearchParams(query).get("q") ?? "");
  else if (parts[0] === "timeline") timelinePage(new URLSearchParams(query));
  else if (parts[0] === "moment") momentPage(parts[1], parts[2]);
  else if (parts[0] === "try") tryPage();
  else if (parts[0] === "health") healthPage();
  else live();
}

/** The camera after or before the one that is shown, in a circle. */
function another(step) {
  const ids = [...cameras.keys()];
  const here = ids.indexOf(decodeURIComponent(location.hash.match(/^#\/camera\/(.+)/)?.[1] ?? ""));
  if (ids.length) location.hash = `#/camera/${encodeURIComponent(ids[here < 0 ? (step > 0 ? 0 : ids.length - 1) : (here + step + ids.length) % ids.length])}`;
}

const keys = [[t("1 to 9"), t("a camera")], ["n p", t("the next and the previous camera")], ["/", t("search")], ["a", t("alarms; there: acknowledge")],
  ["j k", t("the next and the previous alarm")], ["s f", t("star, false alarm")], [t("space"), t("the clip of an alarm")], ["t", t("timeline")],
  ["+ −", t("a shorter and a longer time")], ["← →", t("the cursor; another moment")], ["Esc", t("back to Live")], ["?", t("this list")]];

/** What can be done by keys. */
function help() {
  if (document.querySelector("dialog")) return;
  const box = make("dialog", { "aria-labelledby": "keys", onclose: () => box.remove() }, make("h2", { id: "keys" }, t("Keys")),
    make("dl", {}, ...keys.flatMap(([key, words]) => [make("dt", {}, key), make("dd", {}, words)])),
    make("form", { method: "dialog" }, make("button", {}, t("Close"))));
  document.body.append(box);
  box.showModal();
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  route();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
addEventListener("keydown", (event) => {
  if (!page.me || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,select,textarea,video,dialog")) return;
  if (page.key?.(event.key)) return event.preventDefault();
  if (event.key === "/") { event.preventDefault(); location.hash = "#/search"; setTimeout(() => document.getElementById("query")?.focus()); }
  else if (event.key === "a") location.hash = "#/alarms";
  else if (event.key === "?") help();
  else if (event.key === "n" || event.key === "p") another(event.key === "n" ? 1 : -1);
  else if (event.key === "t") location.hash = "#/timeline";
  else if (event.key === "Escape") location.hash = "#/";
  else if (/^[1-9]$/.test(event.key)) {
    const id = [...cameras.keys()][event.key - 1];
    if (id) location.hash = `#/camera/${encodeURIComponent(id)}`;
  }
});
document.getElementById("logout").addEventListener("click", async () => { await call("logout", {}).catch(() => {}); page.leave(); });
setInterval(() => { if (page.me) page.redraw(); }, 5000);

begin();
fetch(`${api}me`).then(async (response) => {
  if (!response.ok) return login();
  page.me = await response.json();
  enter();
}).catch(() => lost(true));
