import { top } from "./elements.js";

/** Who says what, in a language whose sentences do not come ready-made; see fusion/explain.py, conflict_in_words. */
function conflictText(window, say) {
  const speakers = new Map();
  for (const [name, { probabilities }] of Object.entries(window.evidence)) {
    if (!probabilities) continue;
    const label = top(probabilities);
    speakers.set(label, [...(speakers.get(label) ?? []), say("modality." + name)]);
  }
  return [...speakers].map(([label, names]) => say("conflict.says", { names: names.join(say("conflict.and")), label: say("emotion." + label) })).join(say("conflict.comma"));
}

/** A window with its reasons and its conflict in the language of `say`; sentences that nobody translated stay as they are. */
export function localised(window, say) {
  const evidence = Object.fromEntries(Object.entries(window.evidence).map(([name, e]) => [name, { ...e, reason: e.reason && say("reason." + e.reason) }]));
  const ready = !window.conflict_text || !say("conflict.says");
  return { ...window, evidence, conflict_text: ready ? window.conflict_text : conflictText(window, say) };
}
