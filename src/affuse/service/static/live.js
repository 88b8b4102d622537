// The live tab: devices, the stream, and what comes back as picture, numbers and curves.

import { getJson, sentence } from "./api.js";
import { capturePictures, captureSound, devices, openDevices, reasonOf } from "./capture.js";
import { byId, problem } from "./dom.js";
import { onLanguage, palette, say } from "./language.js";
import { capital, make, signed } from "./report/elements.js";
import { localised } from "./report/localise.js";
import { createParts } from "./report/parts.js";
import { createTimeline } from "./report/timeline.js";
import { openStream } from "./stream.js";

const SPAN = 60;  // seconds of curves
const MODALITIES = ["face", "voice", "text"];
const STATES = { connecting: "live.connecting", loading: "live.loading", on: "live.on", lost: "live.lost" };

let run = null;  // what runs between start and stop
let steps = [];  // windows of the last minute, at their times since the start
let last = null;
let curves = null;
let state = "";
let wrong = () => "";
let announced = "";

// -------------------------------------------------------------------------------------------------------------- devices

async function drawDevices() {
  const { cameras, microphones } = await devices();
  for (const [id, found] of [["live-camera", cameras], ["live-microphone", microphones]]) {
    const select = byId(id);
    const kept = select.value;
    const named = found.filter((device) => device.deviceId && device.label);
    select.replaceChildren(make("option", { value: "" }, say("live.default")), ...named.map((d) => make("option", { value: d.deviceId }, d.label)), make("option", { value: "off" }, say("live.off")));
    select.value = [...select.options].some((option) => option.value === kept) ? kept : "";
  }
}

function fail(text) {
  wrong = text;
  problem("live-problem", wrong());
}

// ----------------------------------------------------------------------------------------------------- starting, stopping

async function start() {
  const camera = byId("live-camera").value;
  const microphone = byId("live-microphone").value;
  fail(() => "");
  if (!window.isSecureContext || !navigator.mediaDevices) return fail(() => say("live.insecure"));
  if (camera === "off" && microphone === "off") return fail(() => say("live.nothing"));
  const mine = { ends: [], stream: null };
  run = mine;
  steps = [];
  drawControls("live.asking");
  try {
    await getJson("v1/models");  // asks for the token where one is needed: a socket could not tell why it was refused
    const source = await openDevices(camera, microphone);
    mine.ends.push(() => source.getTracks().forEach((track) => track.stop()));
    if (run !== mine) return end(mine);
    await begin(mine, source);
    drawDevices();
  } catch (error) {
    if (run !== mine) return end(mine);
    stop();
    if (error instanceof DOMException || error instanceof TypeError) fail(() => say(reasonOf(error)));
    else fail(() => sentence(error));
  }
}

async function begin(mine, source) {
  const video = byId("live-video");
  mine.stream = openStream({ language: byId("live-language").value || null }, {
    state: (name) => drawControls(STATES[name]),
    step: onStep,
    end: (reason) => {
      stop();
      fail(() => (reason ? say("live.refused", { reason }) : say("live.unreachable")));
    },
  });
  mine.ends.push(() => mine.stream.close());
  if (source.getVideoTracks().length) {
    video.srcObject = new MediaStream(source.getVideoTracks());
    mine.ends.push(() => { video.srcObject = null; });
    await video.play();
    byId("live-stage").style.setProperty("--ratio", String(video.videoWidth / video.videoHeight));
    mine.ends.push(capturePictures(video, mine.stream.picture));
  }
  if (source.getAudioTracks().length) mine.ends.push(await captureSound(new MediaStream(source.getAudioTracks()), mine.stream.sound));
  if (run !== mine) end(mine);
  drawControls(state);
}

function end(mine) {
  for (const act of mine.ends.splice(0)) act();
}

function stop() {
  if (!run) return;
  end(run);
  run = null;
  byId("live-faces").replaceChildren();
  drawControls("live.stopped");
}

// -------------------------------------------------------------------------------------------------------------- drawing

function drawControls(key) {
  state = key;
  byId("live-start").hidden = run !== null;
  byId("live-stop").hidden = run === null;
  byId("live-state").textContent = key ? say(key) : "";
  for (const id of ["live-camera", "live-microphone", "live-language"]) byId(id).disabled = run !== null;
  for (const field of byId("live-words").elements) field.disabled = key !== "live.on";
  const seen = run && byId("live-video").srcObject;
  byId("live-curtain").textContent = seen ? "" : say(run && byId("live-camera").value === "off" ? "live.no_picture" : "live.idle");
}

/** An answer, as a window on our own clock. */
function onStep(answer, time, dropped) {
  last = { ...answer, start: time + answer.start - answer.end, end: time, person: null, dropped };
  steps = [...steps.filter((step) => step.end > time - SPAN), last];
  draw();
}

function draw() {
  const parts = createParts(say, palette);
  byId("live-now").replaceChildren(...(last ? parts.now(localised(last, say), palette.stack, MODALITIES) : [make("p", { class: "lead" }, say("live.hint"))]));
  drawFace(parts);
  drawFigures();
  byId("live-over-time").hidden = !steps.length;
  curves?.update(rolling());
  announce(parts);
}

/** The self-view is a mirror, and so is the frame in it. */
function drawFace(parts) {
  const box = run && last?.evidence.face?.box;
  byId("live-faces").replaceChildren(...(box ? [parts.face({ ...box, x: 1 - box.x - box.width }, last.label, last.label ? parts.emotion(last.label) : "")] : []));
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

/** The last minute as an analysis whose time ends now. */
function rolling() {
  const shift = SPAN - (steps.at(-1)?.end ?? 0);
  const windows = steps.map((step) => ({ ...localised(step, say), start: step.start + shift, end: step.end + shift }));
  return { source: { kind: "video", duration: SPAN }, modalities: MODALITIES, windows, cues: [], persons: [] };
}

function announce(parts) {
  const label = last?.label ?? "";
  if (label === announced) return;
  announced = label;
  byId("live-status").textContent = label ? capital(parts.emotion(label)) : "";
}

function drawCurves() {
  byId("live-curves").replaceChildren();
  byId("live-legend").replaceChildren(...createParts(say, palette).legend());
  const clock = (seconds) => (SPAN - seconds < 0.05 ? say("live.now") : say("live.ago", { seconds: Math.round(SPAN - seconds) }));
  curves = createTimeline(byId("live-curves"), rolling(), { say, palette, clock });
  byId("live-curves").firstChild.setAttribute("aria-label", say("live.curves_label"));
}

function send(event) {
  event.preventDefault();
  const field = byId("live-text");
  if (field.value.trim()) run?.stream?.text(field.value.trim());
  field.value = "";
}

/** Returns what stops it: the camera is not left on behind another tab. */
export function wireLive() {
  byId("live-start").addEventListener("click", start);
  byId("live-stop").addEventListener("click", () => { stop(); byId("live-start").focus(); });
  byId("live-words").addEventListener("submit", send);
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
