// The tab that analyses: compose, follow the job, show the result.

import { ApiError, getJson, request, sendForm, sentence } from "./api.js";
import { byId, problem, showOnly, sizeOf, wireDrop, wireFile } from "./dom.js";
import { onLanguage, say } from "./language.js";
import { createRecent } from "./recent.js";
import { make } from "./report/elements.js";
import { closeResult, showResult } from "./result.js";
import { goTo } from "./tabs.js";

const VIEWS = ["compose", "working", "result"];
const JOBS = "v1/analyses";
const POLL = [300, 300, 500, 500, 1000];  // milliseconds between questions, the last one for all further

/** Recordings of this visit by the id of their job: the service gives none back. */
const recordings = new Map();

let file = null;
let sending = null;
let opened = "";
let redraw = () => {};
const recent = createRecent(byId("recent"), async (id) => {
  await request(`${JOBS}/${id}`, { method: "DELETE" });
  recordings.delete(id);
});

const kind = () => byId("compose-form").elements.kind.value;

function pick([chosen]) {
  file = chosen;
  byId("compose-form").elements.kind.value = "recording";
  drawComposer();
  problem("compose-problem");
}

function drawComposer() {
  byId("compose-recording").hidden = kind() !== "recording";
  byId("compose-transcript-field").hidden = kind() !== "recording";
  byId("compose-text").hidden = kind() !== "text";
  const picked = byId("compose-picked");
  picked.hidden = !file;
  if (!file) return;
  const remove = make("button", { type: "button", class: "quiet", "aria-label": say("drop.remove", { name: file.name }) }, "×");
  remove.addEventListener("click", () => {
    file = null;
    drawComposer();
    byId("compose-file").focus();
  });
  picked.replaceChildren(make("bdi", {}, file.name), ` · ${sizeOf(file.size)} `, remove);
}

// -------------------------------------------------------------------------------------------------------------- sending

function submit(event) {
  event.preventDefault();
  problem("compose-problem");
  const language = byId("compose-language").value;
  if (kind() === "text") {
    const text = byId("compose-words").value.trim();
    if (text) start(say("compose.text"), () => sendText(text, language));
    else complain("compose.no_text", "compose-words");
  } else if (file) {
    const [transcript] = byId("compose-transcript").files;
    const recording = file;
    start(recording.name, (signal) => sendRecording(recording, transcript, language, signal));
  } else complain("compose.nothing", "compose-file");
}

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

async function sendText(text, language) {
  const body = JSON.stringify({ text, ...(language ? { language } : {}) });
  return (await request(JOBS, { method: "POST", body, headers: { "Content-Type": "application/json" } })).json();
}

async function sendRecording(recording, transcript, language, signal) {
  const form = new FormData();
  form.append("file", recording);
  if (transcript) form.append("transcript", transcript);
  if (language) form.append("language", language);
  const job = await sendForm(JOBS, form, (share) => {
    const whole = share >= 1;
    drawWorking({ title: recording.name, stage: say(whole ? "working.uploaded" : "working.upload", { percent: Math.round(100 * share) }), share: whole ? null : share });
  }, signal);
  recordings.set(job.id, recording);
  return job;
}

/** Send, then go to the job; errors come back to where the user was. */
async function start(name, send) {
  sending = new AbortController();
  showOnly("working", VIEWS);
  drawWorking({ title: name, stage: say("working.upload", { percent: 0 }), share: 0 });
  byId("working-title").focus();
  try {
    const job = await send(sending.signal);
    file = null;
    drawComposer();
    goTo("analyse", job.id);
  } catch (error) {
    showOnly("compose", VIEWS);
    if (error.name !== "AbortError") problem("compose-problem", sentence(error));
    byId("compose-form").querySelector("[type=submit]").focus();
  } finally {
    sending = null;
  }
}

// ------------------------------------------------------------------------------------------------------------ following

function drawWorking({ title, stage, share, failed = "" }) {
  redraw = () => {};
  byId("working-title").textContent = say(failed ? "working.failed" : "working.title", { name: title });
  byId("working-stage").textContent = stage;
  const bar = byId("working-bar");
  bar.hidden = Boolean(failed);
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
  byId("working-cancel").hidden = Boolean(failed);
  byId("working-back").hidden = !failed;
  problem("working-problem", failed);
}

function drawJob(job) {
  const running = { "": "working.running", writing: "working.writing" };
  const stage = job.state === "failed" ? ""
    : job.state === "running" && !(job.stage in running) ? say("working.stage", { modality: say(`modality.${job.stage}`), percent: Math.round(100 * job.progress) })
    : say(job.state === "running" ? running[job.stage] : job.state === "done" ? "working.fetching" : "working.queued");
  drawWorking({ title: job.name, stage, share: job.state === "queued" ? null : job.progress, failed: job.error });
  redraw = () => drawJob(job);
}

/** The service could not be asked about a job, or knows none of this id. */
function drawLost(error) {
  drawWorking({ title: "", stage: "", share: null, failed: error.status === 404 ? say("error.missing") : sentence(error) });
  byId("working-title").textContent = say("working.lost");
  byId("working-back").focus();
  redraw = () => drawLost(error);
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Follow a job to its end; whoever opens something else meanwhile ends the following. */
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

/** The job as it stands, or null while the service is away: it forgets no job, so that asking again is worth it. */
async function ask(id) {
  try {
    return await getJson(`${JOBS}/${id}`);
  } catch (error) {
    if (error.status !== 0) throw error;
    problem("working-problem", sentence(error));
    return null;
  }
}

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

async function remove(id) {
  try {
    await request(`${JOBS}/${id}`, { method: "DELETE" });
  } catch (error) {
    if (error.status !== 404) {
      problem(byId("result").hidden ? "working-problem" : "result-problem", sentence(error));
      return;
    }
  }
  recordings.delete(id);
  goTo("analyse");
}

/** Open a job by its id, or the composer. */
async function open(id) {
  if (sending || (id && id === opened)) return;
  opened = id;
  closeResult();
  problem("result-problem");
  if (!id) {
    const came = byId("compose").hidden;
    showOnly("compose", VIEWS);
    if (came) byId("compose").querySelector("h1").focus({ preventScroll: true });
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
  wireDrop(byId("compose-drop"), byId("compose-file"), pick);
  wireFile(byId("compose-transcript"));
  byId("compose-form").addEventListener("submit", submit);
  for (const radio of byId("compose-form").elements.kind) radio.addEventListener("change", () => { drawComposer(); problem("compose-problem"); });
  byId("compose-demo").addEventListener("click", demo);
  byId("working-cancel").addEventListener("click", cancel);
  byId("working-back").addEventListener("click", home);
  byId("result-new").addEventListener("click", home);
  byId("result-delete").addEventListener("click", () => remove(opened));
  onLanguage(() => { drawComposer(); redraw(); recent.draw(); });
  return open;
}
