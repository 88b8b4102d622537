// Who is who and who speaks: names, colours and turns of an analysis. Analyses of version 1 tell nothing of speech.

import { make } from "./elements.js";

const COLOURS = 6;  // of persons, in report.css
const UNSURE = 0.6;  // as in affuse.analyzer.speech

/**
 * The persons of an analysis: those with an answer first, then whoever else speaks.
 * @param {Analysis} analysis
 * @param {Speech} speech
 * @returns {People}
 */
export function createPeople({ turns = [], cues, summary }, { say, sentence }) {
  const answered = summary.map((verdict) => verdict.person).filter((id) => id !== null);
  const speakers = [...turns, ...cues].map(({ speaker }) => speaker ?? null);
  const ids = [...new Set([...answered, ...speakers])].filter((id) => id !== null);
  const spoken = turns.reduce((sum, turn) => sum + turn.end - turn.start, 0);

  /** @param {string | null} id */
  const name = (id) => (id === null ? say("nobody") : sentence(id));
  /** @param {string | null} id */
  const colour = (id) => (id === null ? "" : `person-${1 + (ids.indexOf(id) % COLOURS)}`);
  /** @param {Turn} turn */
  const sure = (turn) => turn.probability >= UNSURE;

  return {
    answered,
    turns,
    spoken,
    name,
    colour,
    sure,
    dot: (id) => make("i", { class: `dot ${colour(id)}`, "aria-hidden": "true" }),
    turnAt: (time) => turns.find((turn) => turn.start <= time + 1e-6 && time < turn.end) ?? null,
    turnsOf: (id) => turns.filter((turn) => turn.speaker === id),
    speaks: (turn) => say(sure(turn) ? "speaks" : "speaks.perhaps", { name: name(turn.speaker) }),
    owns: (id, cue) => !turns.length || id === null || (cue.speaker ?? id) === id,
  };
}
