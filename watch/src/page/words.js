// SPDX-License-Identifier: MPL-2.0
// The languages of the page. Its own words are English where they are used; a file for each other language has them
// translated. What the server says, and captions, stay as they are.

const languages = { en: "English", de: "Deutsch", zh: "简体中文" };

/** What was chosen on this page; nothing if the browser's languages are asked. */
function stored() {
  try { return localStorage.getItem("language"); } catch { return null; }
}
const chosen = Object.hasOwn(languages, stored() ?? "") ? stored() : null;
const language = chosen ?? navigator.languages.map((name) => name.slice(0, 2)).find((name) => Object.hasOwn(languages, name)) ?? "en";
const words = language === "en" ? {} : (await import(`./${language}.js`)).default;

/** How times are written: as the browser has it, or as the language that was chosen has. */
export const locale = chosen ? (chosen === "zh" ? "zh-Hans" : chosen) : undefined;

/** A text in the language, with what stands for {0}, {1} and so on. */
export function t(text, ...values) {
  return (words[text] ?? text).replace(/\{(\d)\}/g, (_, n) => values[n]);
}

/** The same for one and for several. */
export const many = (n, one, several) => t(n === 1 ? one : several, n);

/** Writes what is in the page itself, and lets people choose. */
export function begin() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.textContent);
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.getAttribute("aria-label")));
  const choice = document.getElementById("language");
  for (const [name, words] of Object.entries(languages)) {
    const option = new Option(words, name, false, name === language);
    option.lang = name;
    choice.append(option);
  }
  choice.addEventListener("change", () => {
    try { localStorage.setItem("language", choice.value); } catch { return; }
    location.reload();
  });
}
