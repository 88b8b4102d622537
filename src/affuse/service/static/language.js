// The language of the page: what it says, and who must say it anew when the language changes.

import { formatter } from "./report/timeline.js";
import { STRINGS } from "./strings.js";

const KEPT = "affuse.language";
const vocabulary = await (await fetch("static/vocabulary.json")).json();
const changed = new EventTarget();
let current = localStorage.getItem(KEPT) ?? (navigator.language.startsWith("zh") ? "zh" : "en");
let speak = formatter({});

export const palette = vocabulary.palette;
export const language = () => current;
export const say = (key, values) => speak(key, values);
export const onLanguage = (act) => changed.addEventListener("change", act);

/** Put the texts into all elements inside `root` that name one. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const node of root.querySelectorAll("[data-placeholder]")) node.setAttribute("placeholder", say(node.dataset.placeholder));
}

function use(name) {
  current = name in STRINGS ? name : "en";
  speak = formatter({ ...vocabulary.strings[current], ...STRINGS[current] });
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  translate(document);
  changed.dispatchEvent(new Event("change"));
}

/** The button names the other language, in that language. */
export function wireLanguage(button) {
  const name = () => {
    button.textContent = say("page.other");
    button.lang = current === "zh" ? "en" : "zh-CN";
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEPT, current === "zh" ? "en" : "zh");
    use(localStorage.getItem(KEPT));
    name();
  });
  use(current);
  name();
}
