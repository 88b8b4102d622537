import { find, make, search } from "./elements.js";
import { createSpeech, otherThan, tagOf, translate } from "./speech.js";
import { wireTheme } from "./theme.js";
import { formatTime } from "./timeline.js";
import { createViewer } from "./viewer.js";

/** @type {{ analysis: Analysis, medium: Medium, palette: Palette, language: string, messages: Messages, answers: Record<string, Answers> }} */
const data = JSON.parse(find(document, "affuse-data").textContent ?? "");
const { analysis, medium, palette, messages, answers } = data;
let speech = createSpeech(messages, data.language);

/**
 * The leaves of nested settings, each with the way to it.
 * @param {unknown} value
 * @param {string} path
 * @returns {[string, string][]}
 */
const flat = (value, path = "") =>
  value !== null && typeof value === "object" && Object.keys(value).length
    ? Object.entries(value).flatMap(([key, item]) => flat(item, path ? `${path} · ${settingName(key)}` : settingName(key)))
    : [[path, typeof value === "string" ? value : settingValue(value)]];

/** @param {string} key */
const settingName = (key) => (`setting.${key}` in messages.en ? speech.say(`setting.${key}`) : key);

/** @param {unknown} value */
const settingValue = (value) => (value === null || (Array.isArray(value) && !value.length) ? speech.say("setting.none") : JSON.stringify(value));

/** What is written outside the viewer. */
function drawFrame() {
  const { source, settings, notes } = analysis;
  const { say } = speech;
  document.documentElement.lang = tagOf(speech.language);
  const unnamed = source.kind === "text" && source.name === "text" && medium.note === "";
  const name = unnamed ? say("kind.text") : source.name;
  document.title = `${name} · ${say("title")}`;
  find(document, "name").textContent = name;
  find(document, "length").textContent = ` · ${say(`kind.${source.kind}`)}${source.duration ? ` · ${formatTime(source.duration)}` : ""}`;
  find(document, "settings").replaceChildren(...flat(settings).filter(([path]) => path).flatMap(([path, value]) => [make("dt", {}, path), make("dd", {}, value)]));
  search(document, "notes")?.replaceChildren(...notes.map((note) => make("li", {}, speech.sentence(note))));
  find(document, "language").textContent = say("language.other");
  find(document, "language").lang = tagOf(otherThan(speech.language));
}

/** The page as it was before the viewer filled it, but for the recording, which is never loaded twice. */
const main = find(document, "main");
const media = search(document, "media");
const stand = document.createElement("i");
stand.id = "stand";
media?.replaceWith(stand);
const pristine = [...main.children].map((child) => child.cloneNode(true));
stand.replaceWith(...(media ? [media] : []));

const show = (state = {}) => createViewer(document, { analysis, medium, palette, speech, ...answers[speech.language], ...state });

function switchLanguage() {
  const state = viewer.state();
  viewer.destroy();
  speech = createSpeech(messages, otherThan(speech.language));
  const old = [...main.children];
  main.append(...pristine.map((child) => child.cloneNode(true)));
  const place = search(main, "stand");
  if (place && media) place.replaceWith(media);
  for (const child of old) child.remove();
  translate(document, speech.say);
  drawFrame();
  nameTheme();
  viewer = show(state);
  find(document, "language").focus();
}

drawFrame();
const nameTheme = wireTheme(find(document, "theme"), (key) => speech.say(key));
let viewer = show();
find(document, "language").hidden = false;
find(document, "language").addEventListener("click", switchLanguage);
