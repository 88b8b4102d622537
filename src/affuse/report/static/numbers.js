import { capital, make, percent, signed, topOf } from "./elements.js";
import { formatTime } from "./timeline.js";

const PAGE = 200;

/**
 * All windows as a table inside `body`, some at a time, once `details` is opened; returns what starts it anew.
 * @param {HTMLDetailsElement} details
 * @param {HTMLElement} body
 * @param {{ speech: Speech, parts: ReturnType<typeof import("./parts.js").createParts>, modalities: string[], windows: () => Verdict[], signal: AbortSignal }} options
 */
export function createNumbers(details, body, { speech, parts, modalities, windows, signal }) {
  const { say } = speech;
  let filled = 0;
  let told = false;  // whether the answers say who speaks
  let turned = false;  // and where heads are directed

  function reset() {
    filled = 0;
    body.replaceChildren();
    if (details.open) fill();
  }

  function fill() {
    if (filled) return;
    told = windows().some(({ speaking = null }) => speaking !== null);
    turned = windows().some(({ head = null }) => head !== null);
    const names = ["start", "end", "person", ...(told ? ["speaking"] : []), "label", "confidence", "sentiment", "conflict", ...(turned ? ["head"] : [])].map((key) => say(`table.${key}`));
    const rows = make("tbody");
    const more = make("button", { type: "button", class: "quiet" });
    more.addEventListener("click", () => add(rows, more));
    body.replaceChildren(
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("table") },
        make("table", {}, make("caption", {}, say("table.caption", { total: windows().length })),
          make("thead", {}, make("tr", {}, ...[...names, ...modalities.map((m) => capital(parts.modalityName(m)))].map((text) => make("th", { scope: "col" }, text)))), rows)),
      more);
    add(rows, more);
  }

  /**
   * @param {HTMLElement} rows
   * @param {HTMLButtonElement} more
   */
  function add(rows, more) {
    rows.append(...windows().slice(filled, filled + PAGE).map(row));
    filled = Math.min(windows().length, filled + PAGE);
    const left = windows().length - filled;
    more.hidden = left === 0;
    more.textContent = say("table.more", { count: Math.min(PAGE, left) });
  }

  /** @param {Verdict} window */
  function row(window) {
    const cells = [
      formatTime(window.end), window.person ? speech.sentence(window.person) : "–",
      ...(told ? [typeof window.speaking === "number" ? percent(window.speaking) : "–"] : []),
      window.label ? parts.emotion(window.label) : say("no_evidence"),
      window.confidence === null ? "–" : percent(window.confidence), window.sentiment === null ? "–" : signed(window.sentiment, 2),
      window.conflict === null ? "–" : window.conflict.toFixed(2) + (window.conflict_text ? ` (${window.conflict_text})` : ""),
      ...(turned ? [window.head ? percent(window.head.towards_camera) : "–"] : []),
      ...modalities.map((name) => {
        const evidence = window.evidence[name];
        return evidence?.probabilities ? `${parts.emotion(topOf(evidence.probabilities))} ${percent(evidence.probabilities[topOf(evidence.probabilities)])}` : evidence?.reason || "–";
      }),
    ];
    return make("tr", {}, make("th", { scope: "row" }, formatTime(window.start)), ...cells.map((text) => make("td", {}, text)));
  }

  details.addEventListener("toggle", fill, { signal });
  return reset;
}
