// A finished analysis: the viewer of reports, with the user's own copy of the recording and the downloads.

import { request, save, sentence } from "./api.js";
import { byId, filesOf, problem } from "./dom.js";
import { language, onLanguage, palette, say, speech, translate } from "./language.js";
import { find, make, search } from "./report/elements.js";
import { formatTime } from "./report/timeline.js";
import { createViewer } from "./report/viewer.js";

/** @typedef {Record<string, Answers> & { palette?: Palette }} Words */

/** @type {[string, string | null][]} */
const DOWNLOADS = [["csv", "table.csv"], ["parquet", "table.parquet"], ["json", null], ["report", "report.html"]];
/**
 * What is shown: a job, its sentences by language, the files of this visit by id of their job, and the address of one.
 * @type {{ job: Job, words: Words, recordings: Map<string, File>, url: string | null } | null}
 */
let shown = null;
/** @type {Viewer | null} */
let viewer = null;

/**
 * Show a job with its result; `words` holds its sentences by language, `recordings` the files of this visit by id.
 * @param {Job} job
 * @param {Words} words
 * @param {Map<string, File>} recordings
 */
export function showResult(job, words, recordings) {
  closeResult();
  shown = { job, words, recordings, url: null };
  draw();
}

export function closeResult() {
  if (!shown) return;
  viewer?.destroy();
  viewer = null;
  if (shown.url) URL.revokeObjectURL(shown.url);
  byId("viewer").replaceChildren();
  shown = null;
}

/** Nothing goes on playing behind another tab. */
export const pauseResult = () => search(byId("viewer"), "media", HTMLMediaElement)?.pause();

function draw(state = {}) {
  if (!shown) return;
  const { job, words } = shown;
  const { source, notes } = job.result;
  const root = byId("viewer");
  root.replaceChildren(byId("skeleton", HTMLTemplateElement).content.cloneNode(true));
  translate(root);
  find(root, "whole").textContent = say(["picture", "text"].includes(source.kind) ? `whole.${source.kind}` : "whole");
  find(root, "notes").replaceChildren(...notes.map((note) => make("li", {}, speech().sentence(note))));
  byId("result-name").replaceChildren(make("bdi", {}, job.name), ` · ${say(`kind.${source.kind}`)}${source.duration ? ` · ${formatTime(source.duration)}` : ""}`);
  byId("result-downloads").replaceChildren(...DOWNLOADS.map(download));
  const medium = place(source);
  viewer = createViewer(root, { analysis: job.result, medium, ...words[language()], speech: speech(), palette: words.palette ?? palette, ...state });
  if (medium.kind === "none" && source.kind !== "text") find(root, "player").append(attach());
}

/**
 * Put the user's recording onto the stage; a video tells its shape itself.
 * @param {Source} source
 * @returns {Medium}
 */
function place(source) {
  const file = shown?.recordings.get(shown.job.id);
  /** @type {Medium} */
  const none = { kind: "none", ratio: null, stills: [], note: "", details: {} };
  if (!shown || !file || source.kind === "text") return none;
  shown.url ??= URL.createObjectURL(file);
  const stage = make("div", { class: `stage ${source.kind}`, id: "stage" });
  byId("player").append(stage);
  if (source.kind === "picture") {
    stage.append(make("img", { src: shown.url, alt: file.name }));
    return { ...none, kind: source.kind };
  }
  const media = make(source.kind === "video" ? "video" : "audio", { id: "media", src: shown.url, preload: "auto", playsinline: true, "aria-label": file.name });
  stage.append(media);
  media.addEventListener("loadedmetadata", () => {
    if (media instanceof HTMLVideoElement && media.videoWidth) stage.style.setProperty("--ratio", String(media.videoWidth / media.videoHeight));
  });
  return { ...none, kind: source.kind };
}

/** A recording of an earlier visit can be chosen again. */
function attach() {
  const input = make("input", { type: "file", id: "attach", accept: "video/*,audio/*,image/*" });
  input.addEventListener("change", () => {
    const [file] = filesOf(input);
    if (!file || !shown) return;
    shown.recordings.set(shown.job.id, file);
    redraw();
  });
  const field = make("div", { class: "file-field" }, input, make("label", { for: "attach", class: "quiet" }, say("result.attach")));
  return make("div", { class: "attach" }, field, make("p", { class: "help" }, say("result.attach_hint")));
}

function redraw() {
  if (!viewer) return;
  const state = viewer.state();
  viewer.destroy();
  draw(state);
}

/** @param {[string, string | null]} kind */
function download([name, path]) {
  const button = make("button", { type: "button", class: "quiet", id: `download-${name}` }, say(`result.${name}`));
  button.addEventListener("click", async () => {
    problem("result-problem");
    if (!shown) return;
    const { job } = shown;
    const stem = job.name.replace(/\.[^.]*$/, "");
    try {
      if (path) save(await (await request(`v1/analyses/${job.id}/${path}`)).blob(), `${stem}.${path.split(".")[1]}`);
      else save(new Blob([JSON.stringify(job.result, null, 2)], { type: "application/json" }), `${stem}.json`);
    } catch (error) {
      problem("result-problem", sentence(error));
    }
  });
  return button;
}

onLanguage(redraw);
