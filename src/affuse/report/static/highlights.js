import { capital, make, percent } from "./elements.js";
import { formatTime } from "./timeline.js";

/**
 * The moments of one person that are worth a look first: what happens, the words, and a small picture where there is one.
 * @param {HTMLElement} list
 * @param {{ highlights: Highlight[], thumbnails: Map<number, string>, parts: ReturnType<typeof import("./parts.js").createParts>, speech: Speech, timed: boolean, wordsOf: (moment: Highlight) => string, onChoose: (moment: Highlight) => void }} options
 */
export function drawHighlights(list, { highlights, thumbnails, parts, speech, timed, wordsOf, onChoose }) {
  const { say } = speech;

  /** @param {Highlight} moment */
  function told(moment) {
    if (moment.label) return [parts.chip(moment.label), ` ${percent(moment.value)}`];
    if (moment.kind === "conflict") return [make("span", { class: "clash" }, "≠ ", speech.conflict(moment.text))];
    return [make("b", {}, say(moment.value > 0 ? "highlights.rise" : "highlights.fall", { change: Math.abs(moment.value).toFixed(1) }))];
  }

  /** @param {Highlight} moment */
  function entry(moment) {
    const picture = thumbnails.get(moment.start);
    const words = wordsOf(moment);
    const button = make("button", { type: "button" },
      picture ? make("img", { src: picture, alt: "" }) : null,
      make("span", { class: "told" }, timed ? make("span", { class: "time" }, formatTime(Math.round(moment.start))) : null, ...told(moment)),
      words ? make("q", {}, capital(words)) : null);
    button.addEventListener("click", () => onChoose(moment));
    return make("li", {}, button);
  }

  list.replaceChildren(...highlights.map(entry));
}
