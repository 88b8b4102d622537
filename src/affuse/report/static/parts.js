import { capital, make, percent, signed, topOf } from "./elements.js";

/**
 * The pieces that answers are drawn from, in one language and one set of colours.
 * @param {Say} say
 * @param {Palette} palette
 */
export function createParts(say, palette) {
  /** @param {string} label */
  const emotion = (label) => say(`emotion.${label}`);
  /** @param {string} name */
  const modalityName = (name) => say(`modality.${name}`);
  /** @param {string} label */
  const chip = (label) => make("span", { class: "chip", style: { background: palette.colours[label], color: palette.inks[label] } }, emotion(label));

  /**
   * @param {string} label
   * @param {number | null} value
   */
  const bar = (label, value) =>
    make("li", {}, make("span", { class: "name" }, emotion(label)),
      make("span", { class: "track", "aria-hidden": "true" }, make("i", { style: { width: `${100 * (value ?? 0)}%`, background: palette.colours[label] } })),
      make("span", { class: "value" }, value === null ? "–" : percent(value)));

  /** @param {Evidence | undefined} evidence */
  const says = (evidence) => evidence?.probabilities
    ? [chip(topOf(evidence.probabilities)), ` ${percent(evidence.probabilities[topOf(evidence.probabilities)])}`]
    : [make("span", { class: "reason" }, evidence?.reason || say("no_evidence"))];

  return {
    emotion,
    modalityName,
    chip,

    legend: () => palette.stack.map((label) => make("li", {}, make("i", { style: { background: palette.colours[label] } }), emotion(label))),

    /**
     * One bar, divided by the probabilities of the labels.
     * @param {Record<string, number>} fused
     */
    distribution(fused) {
      const order = Object.keys(fused).sort((a, b) => fused[b] - fused[a]);
      const text = order.map((label) => `${emotion(label)} ${percent(fused[label])}`).join(", ");
      const whole = make("div", { class: "distribution", role: "img", "aria-label": text });
      for (const label of order) {
        const part = make("span", { title: `${emotion(label)} ${percent(fused[label])}`, style: { background: palette.colours[label], color: palette.inks[label], "flex-grow": String(fused[label]) } });
        whole.append(part);
      }
      return whole;
    },

    /** @param {number} value */
    gauge: (value) =>
      make("div", { class: "gauge", role: "img", "aria-label": `${say("row.sentiment")} ${signed(value, 2)}` },
        make("span", {}, `−1 ${say("sentiment.negative")}`),
        make("div", { class: "rail" }, make("i", { class: "zero" }), make("i", { class: "dot", style: { left: `${50 + 50 * value}%` } }), make("b", { style: { left: `${50 + 44 * value}%` } }, signed(value, 2))),
        make("span", {}, `+1 ${say("sentiment.positive")}`)),

    /**
     * What was expected before anything was seen, and how far each modality moved the answer.
     * @param {Verdict} verdict
     * @param {string[]} modalities
     */
    shares(verdict, modalities) {
      if (!verdict.label) return [make("p", { class: "help" }, say("shares.none"))];
      const all = modalities.map((m) => verdict.evidence[m]);
      const told = all.some((evidence) => typeof evidence?.points === "number");  // earlier documents have log-odds alone
      /** @param {number} value */
      const change = (value) => (told ? signed(Math.round(100 * value) || 0, 0) : signed(value, 2));
      /** @type {[string, number | null, string][]} */
      const rows = all.map((evidence, i) => {
        const value = (told ? evidence?.points : evidence?.share) ?? null;
        return [modalityName(modalities[i]), value, value === null ? say("share.absent") : change(value)];
      });
      if (typeof verdict.prior === "number") {
        const before = 1 / (1 + Math.exp(-verdict.prior));
        rows.unshift([say("share.prior"), told ? before : verdict.prior, told ? percent(before) : change(verdict.prior)]);
      }
      const largest = Math.max(0.01, ...rows.map(([, value]) => Math.abs(value ?? 0)));
      const bars = rows.map(([name, value, text]) => {
        const signedBar = make("i", { class: (value ?? 0) < 0 ? "away" : "towards", style: { width: `${(50 * Math.abs(value ?? 0)) / largest}%` } });
        return make("li", {}, make("span", { class: "name" }, capital(name)), make("span", { class: "signed", "aria-hidden": "true" }, value === null ? null : signedBar),
          make("span", { class: "value" }, text));
      });
      if (told && verdict.confidence !== null) {
        bars.push(make("li", { class: "total" }, make("span", { class: "name" }, capital(say("shares.answer"))), make("span", {}, capital(emotion(verdict.label))), make("span", { class: "value" }, percent(verdict.confidence))));
      }
      const help = say(told ? "shares.help" : "shares.help_log_odds", { label: emotion(verdict.label) });
      return [make("ul", { class: "shares" }, ...bars), make("p", { class: "help" }, help)];
    },

    /**
     * One window in full: answer, probabilities, what each modality says, and the conflict.
     * @param {Verdict | null} window
     * @param {string[]} labels
     * @param {string[]} modalities
     */
    now: (window, labels, modalities, words = "") => [
      make("p", { class: "verdict" }, ...(window?.label
        ? [make("i", { class: "swatch", style: { background: palette.colours[window.label] } }), capital(emotion(window.label)), make("b", {}, percent(window.confidence ?? 0))]
        : [say("now.none")])),
      make("ul", { class: "bars", "aria-label": say("now.probability") }, ...labels.map((label) => bar(label, window?.fused?.[label] ?? null))),
      make("h3", {}, say("now.says")),
      make("ul", { class: "says" }, ...modalities.map((name) => make("li", {}, make("span", { class: "name" }, capital(modalityName(name))), make("span", {}, ...says(window?.evidence[name]))))),
      ...(window?.conflict_text ? [make("p", { class: "clash" }, "≠ ", window.conflict_text)] : []),
      ...(words ? [make("blockquote", {}, words)] : []),
    ],

    /**
     * A frame around a face, in fractions of the picture, in the colour of its label.
     * @param {Omit<Box, "time">} box
     * @param {string | null | undefined} label
     * @param {string} name
     * @param {Node | null} mark that the person speaks
     */
    face(box, label, name, mark = null) {
      const colour = label ? palette.colours[label] : "#ffffff";
      const kind = `face${box.y < 0.09 ? " low" : ""}${box.y + box.height > 0.8 ? " deep" : ""}`;
      return make("div", { class: kind, style: { left: `${100 * box.x}%`, top: `${100 * box.y}%`, width: `${100 * box.width}%`, height: `${100 * box.height}%`, "border-color": colour } },
        name ? make("span", { style: { background: colour, color: label ? palette.inks[label] : "#14171a" } }, name) : null, mark);
    },

    /**
     * A mark on the picture that somebody speaks, or perhaps speaks.
     * @param {boolean} sure
     */
    speaks: (sure) => make("b", { class: sure ? "speaks" : "speaks unsure" }, say(sure ? "speaks.mark" : "speaks.mark_perhaps")),
  };
}

/**
 * Name and number in every part of the distributions inside `root` where both fit, else the number, else nothing.
 * @param {ParentNode} root
 */
export function fitDistributions(root) {
  for (const part of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(".distribution span"))) {
    const [, name = "", number = ""] = part.title.match(/^(.*) (\d+.%)$/) ?? [];
    for (const text of [`${name} ${number}`, number, ""]) {
      part.textContent = text;
      if (part.scrollWidth <= part.clientWidth) break;
    }
  }
}
