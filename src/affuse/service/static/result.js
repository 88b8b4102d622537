// A finished analysis: the viewer of reports, with the user's own copy of the recording and the downloads.

import { request, save, sentence } from "./api.js";
import { byId, problem } from "./dom.js";
import { language, onLanguage, palette, say, translate } from "./language.js";
import { make } from "./report/elements.js";
import { formatTime } from "./report/timeline.js";
import { createViewer } from "./report/viewer.js";

const DOWNLOADS = [["csv", "table.csv"], ["parquet", "table.parquet"], ["json", null], ["report", "report.html"]];
let shown = null;

/** Show a job with its result; `words` holds its sentences by language, `recordings` the files of this visit by id. */
export function showResult(job, words, recordings) {
  closeResult();
  shown = { job, words, recordings, url: null, viewer: null };
  draw();
}

export function closeResult() {
  if (!shown) return;
  shown.viewer.destroy();
  if (shown.url) URL.revokeObjectURL(shown.url);
  byId("viewer").replaceChildren();
  shown = null;
}

/** Nothing goes on playing behind another tab. */
export const pauseResult = () => byId("viewer").querySelector("#media")?.pause();

function draw(state = {}) {
  const { job, words } = shown;
  const { source, notes } = job.result;
  const root = byId("viewer");
  root.replaceChildren(byId("skeleton").content.cloneNode(true));
  translate(root);
  root.querySelector("#whole").textContent = say(["picture", "text"].includes(source.kind) ? `whole.${source.kind}` : "whole");
  root.querySelector("#notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  byId("result-name").replaceChildren(make("bdi", {}, job.name), ` · ${say("kind." + source.kind)}${source.duration ? ` · ${formatTime(source.duration)}` : ""}`);
  byId("result-downloads").replaceChildren(...DOWNLOADS.map(download));
  const medium = place(source);
  shown.viewer = createViewer(root, { analysis: job.result, medium, ...words[language()], say, palette, ...state });
  if (medium.kind === "none" && source.kind !== "text") root.querySelector("#player").append(attach());
}

/** Put the user's recording onto the stage; a video tells its shape itself. */
function place(source) {
  const file = shown.recordings.get(shown.job.id);
  const kind = file ? source.kind : "none";
  const medium = { kind, ratio: null, stills: [], note: "", details: {} };
  if (kind === "none" || kind === "text") return { ...medium, kind: "none" };
  shown.url ??= URL.createObjectURL(file);
  const stage = make("div", { class: `stage ${kind}`, id: "stage" }, kind === "picture"
    ? make("img", { src: shown.url, alt: file.name })
    : make(kind, { id: "media", src: shown.url, preload: "auto", playsinline: true, "aria-label": file.name }));
  byId("player").append(stage);
  const media = stage.firstChild;
  media.addEventListener("loadedmetadata", () => { if (media.videoWidth) stage.style.setProperty("--ratio", String(media.videoWidth / media.videoHeight)); });
  return medium;
}

/** A recording of an earlier visit can be chosen again. */
function attach() {
  const input = make("input", { type: "file", id: "attach", accept: "video/*,audio/*,image/*" });
  input.addEventListener("change", () => {
    if (!input.files.length) return;
    shown.recordings.set(shown.job.id, input.files[0]);
    redraw();
  });
  const field = make("div", { class: "file-field" }, input, make("label", { for: "attach", class: "quiet" }, say("result.attach")));
  return make("div", { class: "attach" }, field, make("p", { class: "help" }, say("result.attach_hint")));
}

function redraw() {
  if (!shown) return;
  const state = shown.viewer.state();
  shown.viewer.destroy();
  draw(state);
}

function download([name, path]) {
  const button = make("button", { type: "button", class: "quiet", id: `download-${name}` }, say(`result.${name}`));
  button.addEventListener("click", async () => {
    problem("result-problem");
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
