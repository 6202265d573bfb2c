// SPDX-License-Identifier: MPL-2.0
// What all pages have: elements, questions to the server, times. Captions, names and reasons are only
// ever put in as text.

import { locale, t } from "./words.js";

export const api = "api/v1/";
export const cameras = new Map();
export const main = document.getElementById("main");
/** What is shown now: who looks, how to draw it again, its keys, what to end when another page comes. */
export const page = { me: null, clockAhead: 0, redraw: () => {}, leave: () => {}, key: null, ends: [] };

/** Makes an element: attributes, then children that are elements or texts. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const response = await fetch(api + path, options);
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && page.me) page.leave();
  if (!response.ok) throw new Error(answer.error?.message ?? t("the server said {0}", response.status));
  return answer;
}

export const now = () => Date.now() + page.clockAhead;
const time = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });
export const at = (text) => (Math.abs(now() - Date.parse(text)) < 20 * 3600e3 ? time : day).format(Date.parse(text));

export function age(text) {
  const seconds = Math.max(0, Math.round((now() - Date.parse(text)) / 1000));
  if (seconds < 90) return t("{0} s ago", seconds);
  if (seconds < 5400) return t("{0} min ago", Math.round(seconds / 60));
  return at(text);
}

export function thumb(id, there, name) {
  return there ? make("img", { src: `${api}captions/${id}/thumb.jpg`, alt: t("Picture of {0}", name), loading: "lazy" }) : null;
}

export const nameOf = (id) => cameras.get(id)?.name ?? id;

/** Now and a little later: what was told of just now is kept only in a moment. */
export function twice(act) {
  act();
  const later = setTimeout(act, 1500);
  page.ends.push(() => clearTimeout(later));
}

/** Puts another page in place of the one that is shown. */
export function show(title, ...content) {
  for (const end of page.ends.splice(0)) end();
  page.redraw = () => {};
  page.key = null;
  document.title = `${title} – vlmcaption watch`;
  main.replaceChildren(make("h1", {}, title), ...content);
}
