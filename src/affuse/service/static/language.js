// The language of the page: what it says, and who must say it anew when the language changes.

import { createSpeech, otherThan, tagOf, translate as put } from "./report/speech.js";

const KEPT = "affuse.language";
/** @type {{ messages: Messages, palette: Palette }} */
const vocabulary = await (await fetch("static/vocabulary.json")).json();
const changed = new EventTarget();
let current = createSpeech(vocabulary.messages, localStorage.getItem(KEPT) === "zh" || (!localStorage.getItem(KEPT) && navigator.language.startsWith("zh")) ? "zh" : "en");

export const { palette } = vocabulary;
export const language = () => current.language;
export const speech = () => current;

/** @type {Say} */
export const say = (key, values) => current.say(key, values);

/** @param {() => void} act */
export const onLanguage = (act) => changed.addEventListener("change", act);

/**
 * Put the texts into all elements inside `root` that name one.
 * @param {ParentNode} root
 */
export const translate = (root) => put(root, say);

/** @param {string} name */
function use(name) {
  current = createSpeech(vocabulary.messages, name);
  document.documentElement.lang = tagOf(name);
  translate(document);
  changed.dispatchEvent(new Event("change"));
}

/**
 * The button names the other language, in that language.
 * @param {HTMLElement} button
 */
export function wireLanguage(button) {
  const other = () => otherThan(language());
  const name = () => {
    button.textContent = say("language.other");
    button.lang = tagOf(other());
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEPT, other());
    use(other());
    name();
  });
  use(language());
  name();
}
