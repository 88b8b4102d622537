// The live tab: devices, the stream, and what comes back as picture, numbers and curves.

import { getJson, sentence } from "./api.js";
import { capturePictures, captureSound, devices, openDevices, reasonOf } from "./capture.js";
import { byId, form, input, problem, select } from "./dom.js";
import { onLanguage, palette as common, say, speech } from "./language.js";
import { capital, make, signed } from "./report/elements.js";
import { createParts } from "./report/parts.js";
import { createTimeline } from "./report/timeline.js";
import { openStream } from "./stream.js";

const SPAN = 60;  // seconds of curves
const SURE = 0.6;  // probability from which a face is said to speak
/** @type {Record<import("./stream.js").State, string>} */
const STATES = { connecting: "live.connecting", loading: "live.loading", on: "live.on", lost: "live.lost" };

/** @typedef {{ ends: (() => void)[], stream: ReturnType<typeof openStream> | null }} Run */
/** @typedef {import("./stream.js").Step} Step */

/**
 * What runs between start and stop.
 * @type {Run | null}
 */
let run = null;
/**
 * Windows of the last minute, at their times since the start.
 * @type {Step[]}
 */
let steps = [];
/** @type {Step | null} */
let last = null;
/** @type {ReturnType<typeof createTimeline> | null} */
let curves = null;
let palette = common;
let labels = common.stack;
let modalities = ["face", "voice", "text"];
let state = "";
let wrong = () => "";
let announced = "";

// -------------------------------------------------------------------------------------------------------------- devices

async function drawDevices() {
  const { cameras, microphones } = await devices();
  /** @type {[string, MediaDeviceInfo[]][]} */
  const fields = [["live-camera", cameras], ["live-microphone", microphones]];
  for (const [id, found] of fields) {
    const field = select(id);
    const kept = field.value;
    const named = found.filter((device) => device.deviceId && device.label);
    field.replaceChildren(make("option", { value: "" }, say("live.default")), ...named.map((d) => make("option", { value: d.deviceId }, d.label)), make("option", { value: "off" }, say("live.off")));
    field.value = [...field.options].some((option) => option.value === kept) ? kept : "";
  }
}

/** @param {() => string} text */
function fail(text) {
  wrong = text;
  problem("live-problem", wrong());
}

// ----------------------------------------------------------------------------------------------------- starting, stopping

async function start() {
  const camera = select("live-camera").value;
  const microphone = select("live-microphone").value;
  fail(() => "");
  if (!window.isSecureContext || !navigator.mediaDevices) {
    fail(() => say("live.insecure"));
    return;
  }
  if (camera === "off" && microphone === "off") {
    fail(() => say("live.nothing"));
    return;
  }
  /** @type {Run} */
  const mine = { ends: [], stream: null };
  run = mine;
  steps = [];
  drawControls("live.asking");
  try {
    await getJson("v1/models");  // asks for the token where one is needed: a socket could not tell why it was refused
    const source = await openDevices(camera, microphone);
    mine.ends.push(() => source.getTracks().forEach((track) => track.stop()));
    if (run !== mine) {
      end(mine);
      return;
    }
    await begin(mine, source);
    drawDevices();
  } catch (error) {
    if (run !== mine) {
      end(mine);
      return;
    }
    stop();
    if (error instanceof DOMException || error instanceof TypeError) fail(() => say(reasonOf(error)));
    else fail(() => sentence(error));
  }
}

/**
 * @param {Run} mine
 * @param {MediaStream} source
 */
async function begin(mine, source) {
  const video = byId("live-video", HTMLVideoElement);
  const stream = openStream({ language: select("live-language").value || null }, {
    state: (name) => drawControls(STATES[name]),
    ready: onReady,
    step: onStep,
    end: (reason) => {
      stop();
      fail(() => (reason ? say("live.refused", { reason }) : say("live.unreachable")));
    },
  });
  mine.stream = stream;
  mine.ends.push(() => stream.close());
  if (source.getVideoTracks().length) {
    video.srcObject = new MediaStream(source.getVideoTracks());
    mine.ends.push(() => { video.srcObject = null; });
    await video.play();
    byId("live-stage").style.setProperty("--ratio", String(video.videoWidth / video.videoHeight));
    mine.ends.push(capturePictures(video, stream.picture));
  }
  if (source.getAudioTracks().length) mine.ends.push(await captureSound(new MediaStream(source.getAudioTracks()), stream.sound));
  if (run !== mine) end(mine);
  drawControls(state);
}

/** @param {Run} mine */
function end(mine) {
  for (const act of mine.ends.splice(0)) act();
}

function stop() {
  if (!run) return;
  end(run);
  run = null;
  byId("live-faces").replaceChildren();
  byId("live-note").textContent = "";
  drawControls("live.stopped");
}

// -------------------------------------------------------------------------------------------------------------- drawing

/** @param {string} key */
function drawControls(key) {
  state = key;
  byId("live-start").hidden = run !== null;
  byId("live-stop").hidden = run === null;
  byId("live-state").textContent = key ? say(key) : "";
  for (const id of ["live-camera", "live-microphone", "live-language"]) select(id).disabled = run !== null;
  input("live-text").disabled = byId("live-send", HTMLButtonElement).disabled = key !== "live.on";
  const seen = run && byId("live-video", HTMLVideoElement).srcObject;
  byId("live-curtain").textContent = seen ? "" : say(run && select("live-camera").value === "off" ? "live.no_picture" : "live.idle");
}

/**
 * What the service answers with; its labels may be others than the common ones.
 * @param {import("./stream.js").Ready} about
 */
function onReady(about) {
  modalities = about.modalities;
  labels = about.palette?.stack ?? common.stack;
  palette = about.palette ?? common;
  drawCurves();
}

/**
 * An answer, as a window on our own clock.
 * @param {Step} answer
 * @param {number} time
 * @param {number} dropped
 */
function onStep(answer, time, dropped) {
  last = { ...answer, start: time + answer.start - answer.end, end: time, dropped };
  if (answer.note) byId("live-note").textContent = speech().sentence(answer.note);
  steps = [...steps.filter((step) => step.end > time - SPAN), last];
  draw();
}

function draw() {
  const parts = createParts(say, palette);
  byId("live-now").replaceChildren(...(last ? parts.now(speech().verdict(last), labels, modalities) : [make("p", { class: "lead" }, say("live.hint"))]));
  drawFace(parts);
  drawFigures();
  byId("live-over-time").hidden = !steps.length;
  curves?.update(rolling());
  announce(parts);
}

/** @typedef {ReturnType<typeof createParts>} Parts */

/**
 * The self-view is a mirror, and so is the frame in it.
 * @param {Parts} parts
 */
function drawFace(parts) {
  const box = run && last?.evidence.face?.box;
  byId("live-faces").replaceChildren(...(box && last ? [parts.face({ ...box, x: 1 - box.x - box.width }, last.label, last.label ? parts.emotion(last.label) : "", speaks(parts, last))] : []));
}

/**
 * A mark where the face that is followed is the one that most probably speaks.
 * @param {Parts} parts
 * @param {Step} step
 */
function speaks(parts, step) {
  const all = step.speakers ?? [];
  const heard = all.toSorted((a, b) => b.probability - a.probability)[0];
  const nobody = 1 - all.reduce((sum, one) => sum + one.probability, 0);
  return heard?.name === step.person && heard.probability > nobody ? parts.speaks(heard.probability >= SURE) : null;
}

function drawFigures() {
  const figures = [
    ["live.delay", last ? say("live.ms", { value: Math.round(last.delay_ms) }) : "–"],
    ["live.dropped", last ? String(last.dropped) : "–"],
    ["live.sentiment", last && last.sentiment !== null ? signed(last.sentiment, 2) : "–"],
  ];
  byId("live-figures").hidden = !last;
  byId("live-figures").replaceChildren(...figures.map(([key, value]) => make("div", {}, make("dt", {}, say(key)), make("dd", {}, value))));
}

/**
 * The last minute as an analysis whose time ends now.
 * @returns {Curves}
 */
function rolling() {
  const shift = SPAN - (steps.at(-1)?.end ?? 0);
  const windows = steps.map((step) => ({ ...speech().verdict(step), person: null, start: step.start + shift, end: step.end + shift }));
  return { source: { kind: "video", duration: SPAN }, modalities, windows, cues: [] };
}

/** @param {Parts} parts */
function announce(parts) {
  const label = last?.label ?? "";
  if (label === announced) return;
  announced = label;
  byId("live-status").textContent = label ? capital(parts.emotion(label)) : "";
}

function drawCurves() {
  byId("live-curves").replaceChildren();
  byId("live-legend").replaceChildren(...createParts(say, palette).legend());
  /** @param {number} seconds */
  const clock = (seconds) => (SPAN - seconds < 0.05 ? say("live.now") : say("live.ago", { seconds: Math.round(SPAN - seconds) }));
  curves = createTimeline(byId("live-curves"), rolling(), { say, palette, clock });
  byId("live-curves").firstElementChild?.setAttribute("aria-label", say("live.curves_label"));
}

/** @param {SubmitEvent} event */
function send(event) {
  event.preventDefault();
  const field = input("live-text");
  if (field.value.trim()) run?.stream?.text(field.value.trim());
  field.value = "";
}

/** Returns what stops it: the camera is not left on behind another tab. */
export function wireLive() {
  byId("live-start").addEventListener("click", start);
  byId("live-stop").addEventListener("click", () => { stop(); byId("live-start").focus(); });
  form("live-words").addEventListener("submit", send);
  navigator.mediaDevices?.addEventListener("devicechange", drawDevices);
  window.addEventListener("pagehide", stop);
  const redraw = () => {
    drawDevices();
    drawControls(state);
    problem("live-problem", wrong());
    drawCurves();
    draw();
  };
  onLanguage(redraw);
  redraw();
  return stop;
}
