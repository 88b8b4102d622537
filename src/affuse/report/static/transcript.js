import { capital, make } from "./elements.js";
import { formatTime } from "./timeline.js";

/**
 * The words in `list`, a line a cue: when, who says it, what, and that person's emotion then. A line leads to its time.
 *
 * All lines are one stop of the Tab key; arrow keys go from one to the next. Returns `setTime`, which marks the line of a
 * time and keeps it in sight.
 * @param {HTMLElement} list
 * @param {{ cues: Cue[], people: People, parts: ReturnType<typeof import("./parts.js").createParts>, palette: Palette, labelOf: (cue: Cue) => string | null, onSeek: (seconds: number) => void }} options
 */
export function createTranscript(list, { cues, people, parts, palette, labelOf, onSeek }) {
  const named = cues.some((cue) => cue.speaker);
  const lines = cues.map(line);
  let current = -1;

  /**
   * @param {Cue} cue
   * @param {number} i
   */
  function line(cue, i) {
    const label = labelOf(cue);
    const who = make("span", { class: "who" }, ...(cue.speaker ? [people.dot(cue.speaker), capital(people.name(cue.speaker))] : []));
    const button = make("button", { type: "button", tabindex: i ? "-1" : "0", style: { "border-left-color": label ? palette.colours[label] : "transparent" } },
      make("span", { class: "time" }, formatTime(cue.start)), named ? who : null,
      make("span", { class: "cue-text", lang: cue.language ?? null }, cue.text), label ? parts.chip(label) : make("span"));
    button.addEventListener("click", () => onSeek(cue.start));
    button.addEventListener("focus", () => lines.forEach((other) => { other.tabIndex = other === button ? 0 : -1; }));
    return button;
  }

  list.addEventListener("keydown", (event) => {
    const at = lines.findIndex((other) => other === event.target);
    /** @type {Record<string, number>} */
    const goals = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 };
    const goal = lines[goals[event.key]];
    if (at < 0 || !(event.key in goals)) return;
    event.preventDefault();
    goal?.focus();
  });
  list.classList.toggle("named", named);
  list.replaceChildren(...lines.map((button) => make("li", {}, button)));

  return {
    /** @param {number} time */
    setTime(time) {
      const next = cues.findLastIndex((cue) => cue.start <= time + 1e-6 && time < cue.end);
      if (next === current) return;
      lines[current]?.removeAttribute("aria-current");
      current = next;
      const button = lines[next];
      if (!button) return;
      button.setAttribute("aria-current", "true");
      const { top, bottom } = list.getBoundingClientRect();
      const box = button.getBoundingClientRect();
      if (box.top < top || box.bottom > bottom) list.scrollTop += box.top - top - (bottom - top - box.height) / 2;
    },
  };
}
