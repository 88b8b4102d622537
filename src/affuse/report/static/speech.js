// One language: its texts, and what turns the English sentences of an analysis into it.

import { formatter } from "./timeline.js";

/**
 * The tag of a language (BCP 47), for the attribute `lang` and for dates.
 * @param {string} language
 */
export const tagOf = (language) => (language === "zh" ? "zh-CN" : language);

/**
 * The language that a button switches to.
 * @param {string} language
 */
export const otherThan = (language) => (language === "zh" ? "en" : "zh");

/**
 * The same as affuse.report.messages.translate and affuse.report.sentences.conflict_text, for what comes in English.
 * @param {Messages} messages
 * @param {string} language
 * @returns {Speech}
 */
export function createSpeech(messages, language) {
  const say = formatter(messages[language]);
  const patterns = language === "en" ? [] : patternsOf(messages.en);

  /**
   * @param {string} text
   * @param {string[]} prefixes
   * @returns {string | null}
   */
  function translated(text, prefixes) {
    for (const { key, names, expression } of patterns) {
      const match = prefixes.some((prefix) => key.startsWith(prefix)) ? expression.exec(text) : null;
      if (match) return say(key, Object.fromEntries(names.map((name, i) => [name, translated(match[i + 1], ["sentence.", "phrase."]) ?? match[i + 1]])));
    }
    return null;
  }

  /** @type {Map<string, string>} */
  const known = new Map();  // windows of an hour repeat few sentences

  /** @param {string} text */
  function sentence(text) {
    if (!patterns.length || !text) return text;
    const found = known.get(text) ?? translation(text);
    known.set(text, found);
    return found;
  }

  /** @param {string} text */
  function translation(text) {
    const whole = translated(text, ["sentence."]);
    if (whole !== null) return whole;
    const parts = text.split("; ").map((part) => translated(part, ["sentence."]));
    return parts.includes(null) ? text : parts.join("；");
  }

  /**
   * Who contradicts whom: "face says happiness, voice and text say anger".
   * @param {string} text
   */
  function conflict(text) {
    if (!patterns.length || !text) return text;
    const clauses = text.split(", ").map((clause) => /^(.+) says? (.+)$/.exec(clause));
    if (clauses.includes(null)) return text;
    return clauses.map((clause) => {
      const [, names, label] = /** @type {RegExpExecArray} */ (clause);
      return say("conflict.says", { names: names.split(" and ").map((name) => say(`modality.${name}`)).join(say("conflict.and")), label: say(`emotion.${label}`) });
    }).join(say("conflict.comma"));
  }

  return {
    language,
    say,
    sentence,
    conflict,
    verdict: (verdict) => ({
      ...verdict,
      conflict_text: conflict(verdict.conflict_text),
      evidence: Object.fromEntries(Object.entries(verdict.evidence).map(([name, e]) => [name, { ...e, reason: sentence(e.reason) }])),
    }),
  };
}

const PLACE = /\{(\w+)\}/g;

/**
 * Expressions that match the English sentences, those that say most first.
 * @param {Record<string, string>} texts
 */
function patternsOf(texts) {
  const keys = Object.keys(texts).filter((key) => key.startsWith("sentence.") || key.startsWith("phrase."));
  /** @param {string} key */
  const literal = (key) => texts[key].replace(PLACE, "").length;
  return keys.sort((a, b) => literal(b) - literal(a)).map((key) => ({
    key,
    names: [...texts[key].matchAll(PLACE)].map(([, name]) => name),
    expression: new RegExp(`^${texts[key].split(PLACE).map((piece, i) => (i % 2 ? "(.+)" : piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))).join("")}$`, "s"),
  }));
}

/**
 * Put the texts into all elements inside `root` that name one.
 * @param {ParentNode} root
 * @param {Say} say
 */
export function translate(root, say) {
  /** @type {[string, (node: HTMLElement, text: string) => void][]} */
  const kinds = [
    ["say", (node, text) => { node.textContent = text; }],
    ["label", (node, text) => node.setAttribute("aria-label", text)],
    ["placeholder", (node, text) => node.setAttribute("placeholder", text)],
  ];
  for (const [kind, set] of kinds) {
    for (const node of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(`[data-${kind}]`))) set(node, say(node.dataset[kind] ?? ""));
  }
}
