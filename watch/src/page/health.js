// SPDX-License-Identifier: MPL-2.0
// How everything stands, and a report to copy. Only ever put in as text.

import { call, make, page, show } from "./lib.js";
import { t } from "./words.js";

const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < 4) { bytes /= 1000; unit += 1; }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
};

/** The lines of the report, which is also what the page shows. */
export function lines(health) {
  const out = [["", health.well ? ["● All well."] : health.words.map((word) => `✕ ${word}`)]];
  out.push(["Cameras", health.cameras.map((camera) =>
    `${camera.id}: ${camera.state} since ${camera.since}${camera.reason ? `, ${camera.reason}` : ""}; lost ${camera.times_lost} times; ` +
    `last caption ${camera.caption ?? "never"}; model ${camera.model}`)]);
  const { model, disk } = health;
  out.push(["Model", [[model.name, model.backend, model.device].filter(Boolean).join(", ")]]);
  if (disk) {
    out.push(["Disk", [`${disk.path}: ${size(disk.used)} of ${size(disk.max_size)} at most; ${size(disk.free ?? 0)} free, ` +
      `${size(disk.keep_free)} are to stay free; oldest week ${disk.oldest_week ?? "none"}`]]);
  }
  if (health.out.length) {
    out.push(["Told", health.out.map((one) =>
      `${one.name} (${one.address}): ${one.well === null ? "not tried yet" : one.well ? "well" : `ill, ${one.reason}`} since ${one.since}; ` +
      `${one.waiting} wait, ${one.told} told, ${one.given_up} given up`)]);
  }
  out.push(["Store", [`${health.captions} captions and ${health.events} alarms since the start, ${health.lost} lost`]]);
  out.push(["Program", [`started ${health.started}`, ...Object.entries(health.versions).map(([name, version]) => `${name} ${version}`)]]);
  return out;
}

/** Draws the page. */
export async function healthPage() {
  page.redraw = () => {};
  const box = make("div");
  const said = make("span", { role: "status", class: "small" });
  let report = "";
  const copy = make("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(report);
      said.textContent = t("copied");
    } catch {
      // Without TLS browsers give no clipboard: it is marked instead.
      getSelection().selectAllChildren(box);
      said.textContent = t("marked: copy it with Ctrl+C");
    }
  } }, t("Copy the report"));
  show(t("Health"), make("p", {}, copy, " ", said), box);
  const load = async () => {
    if (!box.isConnected) return clearInterval(again);
    if (getSelection().containsNode?.(box, true) && !getSelection().isCollapsed) return;
    try {
      const parts = lines(await call("health?disk=true"));
      report = parts.map(([title, texts]) => `${title ? `${title}\n` : ""}${texts.map((text) => `  ${text}`).join("\n")}`).join("\n");
      box.replaceChildren(...parts.map(([title, texts]) => make("section", { class: "card" },
        title ? make("h2", {}, title) : null, ...texts.map((text) => make("p", {}, text)))));
    } catch (error) { box.replaceChildren(make("p", { class: "wrong" }, error.message)); }
  };
  const again = setInterval(load, 5000);
  await load();
}
