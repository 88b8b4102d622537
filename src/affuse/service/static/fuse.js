// The tab that fuses tables of predictions and compares rules.

import { getJson, save, sendForm, sentence } from "./api.js";
import { csvOf } from "./csv.js";
import { byId, filesOf, form, input, problem, select, sizeOf, wireDrop, wireFile } from "./dom.js";
import { language, onLanguage, palette, say } from "./language.js";
import { make, percent } from "./report/elements.js";
import { createParts } from "./report/parts.js";

const PAGE = 50;
const COLUMNS = ["label", "confidence", "conflict"];

/** @typedef {Record<string, any> & { id: string, label: string | null, confidence: number | null, conflict: number | null }} Row */
/** @typedef {{ method: string | null, modality: string, accuracy: number, ci95: [number, number] | null, ece: number }} Compared */
/** @typedef {{ method: string, chosen: string, labels: string[], modalities: Record<string, number>, rows: Row[], compared: Compared[] | null }} Fused */

/** @type {File[]} */
let files = [];
/** @type {{ methods: string[], rules: string[] } | null} */
let models = null;
/** @type {Fused | null} */
let answer = null;
let first = 0;

const labelled = () => filesOf(input("fuse-truth")).length > 0;

/** @param {File[]} chosen */
function take(chosen) {
  const names = new Set(chosen.map((file) => file.name));
  files = [...files.filter((file) => !names.has(file.name)), ...chosen];
  problem("fuse-problem");
  drawFiles();
}

function drawFiles() {
  byId("fuse-picked").replaceChildren(...files.map((file) => {
    const button = make("button", { type: "button", class: "quiet", "aria-label": say("drop.remove", { name: file.name }) }, "×");
    button.addEventListener("click", () => {
      files = files.filter((other) => other !== file);
      drawFiles();
      byId("fuse-files").focus();
    });
    return make("li", {}, make("bdi", {}, file.name), make("span", { class: "help" }, sizeOf(file.size)), button);
  }));
}

/** Methods that learn are offered where there are true labels to learn from. */
function drawMethods() {
  const field = select("fuse-method");
  const kept = field.value;
  const names = models ? (labelled() ? models.methods : models.rules) : [];
  field.replaceChildren(make("option", { value: "" }, say("fuse.method_default")), ...names.map((name) => make("option", { value: name }, name)));
  field.value = names.includes(kept) ? kept : "";
  input("fuse-compare").disabled = !labelled();
  if (!labelled()) input("fuse-compare").checked = false;
}

/** @param {SubmitEvent} event */
async function submit(event) {
  event.preventDefault();
  if (files.length < 2) {
    problem("fuse-problem", say("fuse.few"));
    byId("fuse-files").focus();
    return;
  }
  const body = new FormData();
  for (const file of files) body.append("files", file);
  if (labelled()) body.append("truth", filesOf(input("fuse-truth"))[0]);
  if (select("fuse-method").value) body.append("method", select("fuse-method").value);
  if (input("fuse-compare").checked) body.append("compare", "true");
  await fuse(() => sendForm("v1/fuse/files", body, () => {}));
}

/** @param {() => Promise<Fused>} send */
async function fuse(send) {
  const button = byId("fuse-submit", HTMLButtonElement);
  problem("fuse-problem");
  button.disabled = true;
  byId("fuse-state").textContent = say("fuse.working");
  try {
    answer = await send();
    first = 0;
    byId("fuse-state").textContent = "";
    draw();
    byId("fuse-result-title").focus();
    byId("fuse-result").scrollIntoView({ block: "start" });
  } catch (error) {
    byId("fuse-state").textContent = "";
    problem("fuse-problem", sentence(error));
  } finally {
    button.disabled = false;
  }
}

/** Three moments as face, voice and words see them; they contradict each other in the second, and the face is absent in the third. */
async function example() {
  const tables = {
    face: [[0.05, 0.8, 0.15], [0.06, 0.82, 0.12], [null, null, null]],
    voice: [[0.1, 0.6, 0.3], [0.62, 0.08, 0.3], [0.2, 0.2, 0.6]],
    words: [[0.1, 0.55, 0.35], [0.78, 0.04, 0.18], [0.15, 0.25, 0.6]],
  };
  take(Object.entries(tables).map(([name, rows]) => {
    const text = csvOf(["id", "anger", "happiness", "neutral"], rows.map((row, i) => [`moment ${i + 1}`, ...row]));
    return new File([text], `${name}.csv`, { type: "text/csv" });
  }));
  form("fuse-form").requestSubmit();
}

// -------------------------------------------------------------------------------------------------------------- drawing

/** @param {number | null} value */
const number = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));

/**
 * The head of a table whose columns are numbers from the one at `numbers` on.
 * @param {string[]} names
 * @param {number} numbers
 */
const head = (names, numbers) => make("thead", {}, make("tr", {}, ...names.map((name, i) => make("th", { scope: "col", class: i < numbers ? null : "number" }, name))));

function draw() {
  if (!answer) return;
  const { method, chosen, modalities, rows } = answer;
  const list = Object.entries(modalities).map(([name, count]) => `${name} ${count}`).join(", ");
  byId("fuse-result").hidden = false;
  byId("fuse-result-title").textContent = say("fuse.done", { count: rows.length.toLocaleString(language()) });
  byId("fuse-facts").textContent = say(chosen === method ? "fuse.facts" : "fuse.chosen", { method, chosen, modalities: list });
  drawRows(answer);
  byId("fuse-compared").hidden = !answer.compared;
  if (answer.compared) drawComparison(answer.compared);
}

/** @param {Fused} fused */
function drawRows({ labels, rows }) {
  const shares = Object.keys(rows[0] ?? {}).filter((name) => name.startsWith("share_"));
  const last = Math.min(rows.length, first + PAGE);
  const caption = say("fuse.rows", { first: first + 1, last, total: rows.length });
  const names = ["id", ...COLUMNS.map((name) => say(`table.${name}`)), ...labels.map((label) => say(`emotion.${label}`)), ...shares.map((name) => say("fuse.shares", { name: name.slice(6) }))];
  const pages = make("div", { class: "pages" }, turn("fuse.previous", -PAGE, first > 0), turn("fuse.next", PAGE, last < rows.length));
  pages.hidden = rows.length <= PAGE;
  byId("fuse-rows").replaceChildren(
    make("div", { class: "scroll", id: "fuse-table", tabindex: "0", role: "region", "aria-label": caption },
      make("table", {}, make("caption", {}, caption), head(names, 2), make("tbody", {}, ...rows.slice(first, last).map((row) => drawRow(row, labels, shares))))),
    pages);
}

/**
 * @param {Row} row
 * @param {string[]} labels
 * @param {string[]} shares
 */
function drawRow(row, labels, shares) {
  const label = row.label === null ? say("no_evidence") : row.label in palette.colours ? createParts(say, palette).chip(row.label) : row.label;
  const values = [row.confidence === null ? "–" : percent(row.confidence), number(row.conflict), ...labels.map((name) => number(row[name], 3)), ...shares.map((name) => number(row[name]))];
  return make("tr", {}, make("th", { scope: "row" }, String(row.id)), make("td", {}, label), ...values.map((text) => make("td", { class: "number" }, text)));
}

/**
 * @param {string} key
 * @param {number} step
 * @param {boolean} possible
 */
function turn(key, step, possible) {
  const button = make("button", { type: "button", class: "quiet", disabled: !possible }, say(key));
  button.addEventListener("click", () => {
    first += step;
    if (answer) drawRows(answer);
    byId("fuse-table").focus();
  });
  return button;
}

/** @param {Compared[]} compared */
function drawComparison(compared) {
  const names = ["column_method", "accuracy", "interval", "ece"].map((key) => say(`fuse.${key}`));
  byId("fuse-comparison").replaceChildren(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("fuse.compared") },
    make("table", {}, head(names, 1), make("tbody", {}, ...compared.map((row, i) => make("tr", { class: i ? null : "best" },
      make("th", { scope: "row" }, row.method ?? say("fuse.alone", { name: row.modality })),
      ...[percent1(row.accuracy), row.ci95 ? row.ci95.map(percent1).join(" – ") : "–", number(row.ece, 3)].map((text) => make("td", { class: "number" }, text))))))));
}

/** @param {number} value */
const percent1 = (value) => `${(100 * value).toFixed(1)}\u00a0%`;

function download() {
  const rows = answer?.rows ?? [];
  const columns = Object.keys(rows[0] ?? {});
  save(new Blob([csvOf(columns, rows.map((row) => columns.map((name) => row[name])))], { type: "text/csv" }), "fused.csv");
}

/** Returns what is done when the tab opens. */
export function wireFuse() {
  wireDrop(byId("fuse-drop"), input("fuse-files"), take);
  form("fuse-form").addEventListener("submit", submit);
  wireFile(input("fuse-truth"), drawMethods);
  byId("fuse-example").addEventListener("click", example);
  byId("fuse-download").addEventListener("click", download);
  onLanguage(() => { drawFiles(); drawMethods(); draw(); });
  drawMethods();
  return async () => {
    try {
      models ??= await getJson("v1/models");
      drawMethods();
    } catch (error) {
      problem("fuse-problem", sentence(error));
    }
  };
}
