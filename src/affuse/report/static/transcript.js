import { capital, make } from "./elements.js";
import { formatTime } from "./timeline.js";

const CHUNK = 100;  // lines that are put into the document at once
const AHEAD = "800px";  // how far beyond the edge lines are there already

/**
 * Which cues are said at a time. They are in order of their start; the longest says how far back to look.
 * @param {Cue[]} cues
 * @returns {(time: number) => number[]}
 */
export function createCueFinder(cues) {
  const longest = cues.reduce((most, cue) => Math.max(most, cue.end - cue.start), 0);
  return (time) => {
    let low = 0;
    let high = cues.length;
    while (low < high) {
      const half = (low + high) >> 1;
      if (cues[half].start <= time + 1e-6) low = half + 1;
      else high = half;
    }
    const found = [];
    for (let i = low - 1; i >= 0 && cues[i].start > time - longest - 1e-6; i--) if (time < cues[i].end) found.unshift(i);
    return found;
  };
}

/**
 * The words in `list`, a line a cue: when, who says it, what, and the emotion. Where something can be sought, a line leads
 * to its time. Long transcripts are in the document only where they are in view.
 *
 * `labelOf` gives the emotion of whoever says it, and a cue's own label is that of its words alone, which is shown too where
 * it is another one. All lines are one stop of the Tab key; arrow keys go from one to the next. Returns `setTime`, which
 * marks the line of a time and keeps it in sight, and `show`, which brings a line into sight.
 * @param {HTMLElement} list
 * @param {{ cues: Cue[], cuesAt: (time: number) => number[], people: People, parts: ReturnType<typeof import("./parts.js").createParts>, palette: Palette, say: Say, labelOf: (cue: Cue) => string | null, onSeek: ((seconds: number) => void) | null, signal: AbortSignal }} options
 */
export function createTranscript(list, { cues, cuesAt, people, parts, palette, say, labelOf, onSeek, signal }) {
  const named = cues.some((cue) => cue.speaker);
  /** @type {Map<number, HTMLElement>} */
  const lines = new Map();
  let current = -1;
  let stop = 0;  // the line that the Tab key reaches

  /** @param {number} i */
  function line(i) {
    const cue = cues[i];
    const label = labelOf(cue);
    const words = cue.label && label && cue.label !== label ? make("span", { class: "chip words", title: say("transcript.words") }, parts.emotion(cue.label)) : null;
    const who = make("span", { class: "who" }, ...(cue.speaker ? [people.dot(cue.speaker), capital(people.name(cue.speaker))] : []));
    const content = [
      make("span", { class: "time" }, onSeek ? formatTime(cue.start) : String(i + 1)), named ? who : null,
      make("span", { class: "cue-text", lang: cue.language ?? null }, cue.text),
      make("span", { class: "felt" }, label ? parts.chip(label) : null, words),
    ];
    const style = { "border-left-color": label ? palette.colours[label] : "transparent" };
    if (!onSeek) return make("div", { class: "line", style }, ...content);
    const button = make("button", { type: "button", class: "line", tabindex: i === stop ? "0" : "-1", style }, ...content);
    button.addEventListener("click", () => onSeek(cue.start));
    button.addEventListener("focus", () => {
      lines.get(stop)?.setAttribute("tabindex", "-1");
      stop = i;
      button.tabIndex = 0;
    });
    if (i === current) button.setAttribute("aria-current", "true");
    return button;
  }

  /** @param {number} from @param {number} to */
  function items(from, to) {
    return cues.slice(from, to).map((_, k) => {
      const node = line(from + k);
      lines.set(from + k, node);
      return make("li", {}, node);
    });
  }

  /** @type {HTMLElement[]} */
  let chunks = [];
  /** @param {number} k */
  function fill(k) {
    const chunk = chunks[k];
    if (!chunk || chunk.childElementCount) return;
    chunk.replaceChildren(make("ol", {}, ...items(k * CHUNK, Math.min(cues.length, (k + 1) * CHUNK))));
    chunk.style.removeProperty("min-height");
  }

  /** @param {number} k */
  function empty(k) {
    const chunk = chunks[k];
    if (!chunk.childElementCount || chunk.contains(document.activeElement)) return;
    chunk.style.setProperty("min-height", `${chunk.offsetHeight}px`);
    for (let i = k * CHUNK; i < (k + 1) * CHUNK; i++) lines.delete(i);
    chunk.replaceChildren();
  }

  function drawChunks() {
    chunks = Array.from({ length: Math.ceil(cues.length / CHUNK) }, (_, k) => {
      const count = Math.min(cues.length, (k + 1) * CHUNK) - k * CHUNK;
      return make("li", { class: "chunk", style: { "min-height": `${count * 2}rem` } });
    });
    list.replaceChildren(...chunks);
    const numbers = new Map(chunks.map((chunk, k) => [chunk, k]));
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) (isIntersecting ? fill : empty)(numbers.get(/** @type {HTMLElement} */ (target)) ?? 0);
    }, { root: list, rootMargin: AHEAD });
    for (const chunk of chunks) observer.observe(chunk);
    signal.addEventListener("abort", () => observer.disconnect());
    fill(0);
  }

  /**
   * The element of a line, which is brought into the document if need be.
   * @param {number} i
   */
  function reach(i) {
    if (chunks.length) fill(Math.floor(i / CHUNK));
    return lines.get(i);
  }

  /** @param {number} i */
  function show(i) {
    const node = reach(i);
    if (!node) return;
    const { top, bottom } = list.getBoundingClientRect();
    const box = node.getBoundingClientRect();
    if (box.top < top || box.bottom > bottom) list.scrollTop += box.top - top - (bottom - top - box.height) / 2;
  }

  list.addEventListener("keydown", (event) => {
    if (!(event.target instanceof HTMLElement) || lines.get(stop) !== event.target) return;
    /** @type {Record<string, number>} */
    const goals = { ArrowDown: stop + 1, ArrowUp: stop - 1, Home: 0, End: cues.length - 1 };
    if (!(event.key in goals)) return;
    event.preventDefault();
    const goal = goals[event.key];
    if (goal >= 0 && goal < cues.length) reach(goal)?.focus();
  }, { signal });
  list.classList.toggle("named", named);
  if (cues.length > 3 * CHUNK) drawChunks();
  else list.replaceChildren(...items(0, cues.length));

  return {
    show,
    /** @param {number} time */
    setTime(time) {
      const next = cuesAt(time).at(-1) ?? -1;
      if (next === current) return;
      lines.get(current)?.removeAttribute("aria-current");
      current = next;
      if (next < 0) return;
      show(next);
      lines.get(next)?.setAttribute("aria-current", "true");
    },
  };
}
