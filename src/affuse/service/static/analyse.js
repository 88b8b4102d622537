// The tab that analyses: compose, follow the job, show the result.

import { ApiError, getJson, request, sendForm, sentence } from "./api.js";
import { byId, filesOf, form, input, problem, select, showOnly, sizeOf, wireDrop, wireFile } from "./dom.js";
import { onLanguage, say } from "./language.js";
import { pairs, sendMany } from "./many.js";
import { createRecent } from "./recent.js";
import { make } from "./report/elements.js";
import { closeResult, showResult } from "./result.js";
import { goTo } from "./tabs.js";

const VIEWS = ["compose", "working", "result"];
const JOBS = "v1/analyses";
const POLL = [300, 300, 500, 500, 1000];  // milliseconds between questions, the last one for all further

/**
 * Recordings of this visit by the id of their job: the service gives none back.
 * @type {Map<string, File>}
 */
const recordings = new Map();

/** The files that were chosen: recordings, and words beside them. */
/** @type {File[]} */
let chosen = [];
/** @type {AbortController | null} */
let sending = null;
let opened = "";
let redraw = () => {};
const recent = createRecent(byId("recent"), async (id) => {
  await request(`${JOBS}/${id}`, { method: "DELETE" });
  recordings.delete(id);
});

/** The choice between a recording and a text. */
const kinds = () => /** @type {RadioNodeList} */ (form("compose-form").elements.namedItem("kind"));
const kind = () => kinds().value;

/** @param {File[]} files */
function pick(files) {
  chosen = files;
  kinds().value = "recording";
  drawComposer();
  problem("compose-problem");
}

function drawComposer() {
  byId("compose-recording").hidden = kind() !== "recording";
  const found = pairs(chosen);
  byId("compose-transcript-field").hidden = kind() !== "recording" || found.length > 1;
  byId("compose-text").hidden = kind() !== "text";
  const picked = byId("compose-picked");
  picked.hidden = !found.length;
  if (!found.length) return;
  const [{ recording }] = found;
  const name = found.length > 1 ? say("compose.many", { count: found.length }) : recording.name;
  const button = make("button", { type: "button", class: "quiet", "aria-label": say("drop.remove", { name }) }, "×");
  button.addEventListener("click", () => {
    chosen = [];
    drawComposer();
    byId("compose-file").focus();
  });
  const size = found.reduce((sum, one) => sum + one.recording.size, 0);
  const words = found.filter((one) => one.transcript).length;
  picked.replaceChildren(make("bdi", {}, name), ` · ${sizeOf(size)}${words ? ` · ${say("compose.words_beside", { count: words })}` : ""} `, button);
}

// -------------------------------------------------------------------------------------------------------------- sending

/** @param {SubmitEvent} event */
function submit(event) {
  event.preventDefault();
  problem("compose-problem");
  const language = select("compose-language").value;
  if (kind() === "text") {
    const text = byId("compose-words", HTMLTextAreaElement).value.trim();
    if (text) start(say("compose.text"), () => sendText(text, language));
    else complain("compose.no_text", "compose-words");
  } else if (pairs(chosen).length > 1) startMany(language);
  else if (pairs(chosen).length) {
    const [{ recording, transcript: beside }] = pairs(chosen);
    const transcript = filesOf(input("compose-transcript"))[0] ?? beside;
    start(recording.name, (signal) => sendRecording(recording, transcript, language, signal));
  } else complain("compose.nothing", "compose-file");
}

/**
 * @param {string} key
 * @param {string} field
 */
function complain(key, field) {
  problem("compose-problem", say(key));
  byId(field).focus();
}

async function demo() {
  problem("compose-problem");
  start("clip.mp4", async (signal) => {
    const [clip, words] = await Promise.all(["clip.mp4", "clip.srt"].map(async (name) =>
      new File([await (await request(`static/demo/${name}`)).blob()], name, { type: name.endsWith("mp4") ? "video/mp4" : "text/plain" })));
    return sendRecording(clip, words, "en", signal);
  });
}

/**
 * @param {string} text
 * @param {string} language
 * @returns {Promise<Job>}
 */
async function sendText(text, language) {
  const body = JSON.stringify({ text, ...(language ? { language } : {}) });
  return (await request(JOBS, { method: "POST", body, headers: { "Content-Type": "application/json" } })).json();
}

/**
 * @param {File} recording
 * @param {File | undefined} transcript
 * @param {string} language
 * @param {AbortSignal} signal
 * @returns {Promise<Job>}
 */
async function sendRecording(recording, transcript, language, signal) {
  const body = new FormData();
  body.append("file", recording);
  if (transcript) body.append("transcript", transcript);
  if (language) body.append("language", language);
  const job = await sendForm(JOBS, body, (share) => {
    const whole = share >= 1;
    drawWorking({ title: recording.name, stage: say(whole ? "working.uploaded" : "working.upload", { percent: Math.round(100 * share) }), share: whole ? null : share });
  }, signal);
  recordings.set(job.id, recording);
  return job;
}

/**
 * Send, then go to the job; errors come back to where the user was.
 * @param {string} name
 * @param {(signal: AbortSignal) => Promise<Job>} send
 */
async function start(name, send) {
  sending = new AbortController();
  showOnly("working", VIEWS);
  drawWorking({ title: name, stage: say("working.upload", { percent: 0 }), share: 0 });
  byId("working-title").focus();
  try {
    const job = await send(sending.signal);
    chosen = [];
    drawComposer();
    goTo("analyse", job.id);
  } catch (error) {
    showOnly("compose", VIEWS);
    if (!(error instanceof DOMException && error.name === "AbortError")) problem("compose-problem", sentence(error));
    byId("compose-submit").focus();
  } finally {
    sending = null;
  }
}

/**
 * Send all recordings and stay here, where the list below shows their answers as they come.
 * @param {string} language
 */
async function startMany(language) {
  const all = pairs(chosen);
  const state = byId("compose-sending");
  const end = byId("compose-end");
  sending = new AbortController();
  byId("compose-submit").hidden = true;
  end.hidden = false;
  end.onclick = () => sending?.abort();
  const { refused } = await sendMany(all, (recording, transcript, signal) => sendRecording(recording, transcript, language, signal), (sent, wrong) => {
    state.textContent = say("compose.sent", { sent, count: all.length });
    problem("compose-problem", wrong.map(([name, text]) => (text.includes(name) ? text : `${name}: ${text}`)).join("\n"));
    recent.refresh();
  }, sending.signal);
  sending = null;
  chosen = chosen.filter((file) => refused.some(([name]) => name === file.name));
  end.hidden = true;
  byId("compose-submit").hidden = false;
  drawComposer();
  byId("recent-title").focus({ preventScroll: false });
}

// ------------------------------------------------------------------------------------------------------------ following

/** @param {{ title: string, stage: string, share: number | null, failed?: string }} state */
function drawWorking({ title, stage, share, failed = "" }) {
  redraw = () => {};
  byId("working-title").textContent = say(failed ? "working.failed" : "working.title", { name: title });
  byId("working-stage").textContent = stage;
  const bar = byId("working-bar", HTMLProgressElement);
  bar.hidden = Boolean(failed);
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
  byId("working-cancel").hidden = Boolean(failed);
  byId("working-back").hidden = !failed;
  problem("working-problem", failed);
}

/** @type {Record<string, string>} */
const RUNNING = { "": "working.running", writing: "working.writing" };

/** @param {Job} job */
function stageOf(job) {
  if (job.state === "failed") return "";
  if (job.state !== "running") return say(job.state === "done" ? "working.fetching" : "working.queued");
  if (job.stage in RUNNING) return say(RUNNING[job.stage]);
  return say("working.stage", { modality: say(`modality.${job.stage}`), percent: Math.round(100 * job.progress) });
}

/** @param {Job} job */
function drawJob(job) {
  drawWorking({ title: job.name, stage: stageOf(job), share: job.state === "queued" ? null : job.progress, failed: job.error });
  redraw = () => drawJob(job);
}

/**
 * The service could not be asked about a job, or knows none of this id.
 * @param {ApiError} error
 */
function drawLost(error) {
  drawWorking({ title: "", stage: "", share: null, failed: error.status === 404 ? say("error.missing") : sentence(error) });
  byId("working-title").textContent = say("working.lost");
  byId("working-back").focus();
  redraw = () => drawLost(error);
}

/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Follow a job to its end; whoever opens something else meanwhile ends the following.
 * @param {string} id
 */
async function follow(id) {
  showOnly("working", VIEWS);
  for (let asked = 0; opened === id; asked++) {
    const job = await ask(id);
    if (opened !== id) return;
    if (job?.state === "done") {
      await show(job);
      return;
    }
    if (job) drawJob(job);
    if (job?.state === "failed") {
      byId("working-back").focus();
      return;
    }
    await pause(POLL[Math.min(asked, POLL.length - 1)]);
  }
}

/**
 * The job as it stands, or null while the service is away: it forgets no job, so that asking again is worth it.
 * @param {string} id
 * @returns {Promise<Job | null>}
 */
async function ask(id) {
  try {
    return await getJson(`${JOBS}/${id}`);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 0) throw error;
    problem("working-problem", sentence(error));
    return null;
  }
}

/** @param {Job} job */
async function show(job) {
  const words = await getJson(`${JOBS}/${job.id}/words.json`);
  if (opened !== job.id) return;
  showOnly("result", VIEWS);
  showResult(job, words, recordings);
  byId("result-name").focus();
}

async function cancel() {
  if (sending) {
    sending.abort();
    return;
  }
  await remove(opened);
}

/** @param {string} id */
async function remove(id) {
  try {
    await request(`${JOBS}/${id}`, { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) {
      problem(byId("result").hidden ? "working-problem" : "result-problem", sentence(error));
      return;
    }
  }
  recordings.delete(id);
  goTo("analyse");
}

/**
 * Open a job by its id, or the composer.
 * @param {string} id
 */
async function open(id) {
  if (sending || (id && id === opened)) return;
  opened = id;
  closeResult();
  problem("result-problem");
  if (!id) {
    const came = byId("compose").hidden;
    showOnly("compose", VIEWS);
    if (came) byId("compose-title").focus({ preventScroll: true });
    recent.refresh();
    return;
  }
  try {
    await follow(id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    drawLost(error);
  }
}

/** Returns what opens a job of this tab by its id. */
export function wireAnalyse() {
  const home = () => goTo("analyse");
  wireDrop(byId("compose-drop"), input("compose-file"), pick);
  wireFile(input("compose-transcript"));
  form("compose-form").addEventListener("submit", submit);
  for (const radio of kinds()) radio.addEventListener("change", () => { drawComposer(); problem("compose-problem"); });
  byId("compose-demo").addEventListener("click", demo);
  byId("working-cancel").addEventListener("click", cancel);
  byId("working-back").addEventListener("click", home);
  byId("result-new").addEventListener("click", home);
  byId("result-delete").addEventListener("click", () => remove(opened));
  onLanguage(() => { drawComposer(); redraw(); recent.draw(); });
  return open;
}
