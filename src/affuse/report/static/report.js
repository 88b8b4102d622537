import {
  conflictsOf, createIndex, createTimeline, formatTime, formatter, hasEvidence,
} from "./timeline.js";

// ------------------------------------------------------------------------------------------------------------- helpers

const { analysis, medium, headlines, absences, strings, palette } = JSON.parse(document.getElementById("affuse-data").textContent);
const say = formatter(strings);
const byId = (id) => document.getElementById(id);
const emotion = (label) => say("emotion." + label);
const modalityName = (name) => say("modality." + name);
const percent = (value) => `${Math.round(100 * value)}\u00a0%`;
const signed = (value, digits) => (value < 0 ? "−" : value > 0 ? "+" : "") + Math.abs(value).toFixed(digits);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const top = (probabilities) => Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));

/** An HTML element; text is only ever set as text, and styles through the CSSOM, as the page's policy demands. */
function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") for (const [property, set] of Object.entries(value)) node.style.setProperty(property, set);
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const chip = (label) => make("span", { class: "chip", style: { background: palette.colours[label], color: palette.inks[label] } }, emotion(label));

/** Stands in for a media element where there is nothing to play: time that runs by itself. */
class Clock extends EventTarget {
  #time = 0;
  #since = null;
  playbackRate = 1;
  constructor(duration) {
    super();
    this.duration = duration;
  }
  get paused() {
    return this.#since === null;
  }
  get currentTime() {
    const time = this.#since === null ? this.#time : this.#time + ((performance.now() - this.#since) / 1000) * this.playbackRate;
    if (time < this.duration) return time;
    if (this.#since !== null) this.pause(this.duration);
    return this.duration;
  }
  set currentTime(seconds) {
    this.#time = Math.min(this.duration, Math.max(0, seconds));
    if (this.#since !== null) this.#since = performance.now();
    this.dispatchEvent(new Event("seeked"));
  }
  play() {
    if (this.#time >= this.duration) this.#time = 0;
    this.#since = performance.now();
    this.dispatchEvent(new Event("play"));
    return Promise.resolve();
  }
  pause(at = null) {
    this.#time = at ?? this.currentTime;
    this.#since = null;
    this.dispatchEvent(new Event("pause"));
  }
}

// --------------------------------------------------------------------------------------------------------------- state

let chosen = 0;
const summary = () => analysis.summary[chosen];
let index = createIndex(analysis, summary().person);
const timed = analysis.windows.length > 0 && index.windows.length > 0 && (analysis.source.duration > 0 || index.windows.length > 1);
let media = byId("media") ?? (timed ? new Clock(index.extent) : null);
let timeline = null;
let shown = null;
let announced = "";

// -------------------------------------------------------------------------------------------------------------- header

function drawHeader() {
  const [answer, ...rest] = headlines[chosen].map((text) => text.replaceAll(" %", "\u00a0%"));
  byId("headline").replaceChildren(answer, " ", make("span", { class: "aside" }, capital(rest.join("; "))));
  byId("distribution").replaceChildren(...(summary().fused ? [distribution(summary().fused)] : []));
  fitDistribution();
  byId("gauge").replaceChildren(...(summary().sentiment === null ? [] : [gauge(summary().sentiment)]));
  byId("shares").replaceChildren(...shares(summary()));
  byId("evidence").replaceChildren(...analysis.modalities.map(coverage));
}

function distribution(fused) {
  const order = Object.keys(fused).sort((a, b) => fused[b] - fused[a]);
  const text = order.map((label) => `${emotion(label)} ${percent(fused[label])}`).join(", ");
  const bar = make("div", { class: "distribution", role: "img", "aria-label": text });
  for (const label of order) {
    const part = make("span", { title: `${emotion(label)} ${percent(fused[label])}`, style: { background: palette.colours[label], color: palette.inks[label], "flex-grow": String(fused[label]) } });
    bar.append(part);
  }
  return bar;
}

/** Name and number in every part where both fit, else the number, else nothing. */
function fitDistribution() {
  for (const part of document.querySelectorAll(".distribution span")) {
    const [, name, number] = part.title.match(/^(.*) (\d+.%)$/);
    for (const text of [`${name} ${number}`, number, ""]) {
      part.textContent = text;
      if (part.scrollWidth <= part.clientWidth) break;
    }
  }
}

function gauge(value) {
  return make("div", { class: "gauge", role: "img", "aria-label": `${say("row.sentiment")} ${signed(value, 2)}` },
    make("span", {}, `−1 ${say("sentiment.negative")}`),
    make("div", { class: "rail" }, make("i", { class: "zero" }), make("i", { class: "dot", style: { left: `${50 + 50 * value}%` } }), make("b", { style: { left: `${50 + 44 * value}%` } }, signed(value, 2))),
    make("span", {}, `+1 ${say("sentiment.positive")}`));
}

function shares(verdict) {
  if (!verdict.label) return [make("p", { class: "help" }, say("shares.none"))];
  const values = analysis.modalities.map((m) => verdict.evidence[m]?.share ?? null);
  const largest = Math.max(0.01, ...values.map((v) => Math.abs(v ?? 0)));
  const bars = analysis.modalities.map((m, i) => {
    const value = values[i];
    const bar = make("i", { class: value < 0 ? "away" : "towards", style: { width: `${(50 * Math.abs(value ?? 0)) / largest}%` } });
    return make("li", {}, make("span", { class: "name" }, capital(modalityName(m))), make("span", { class: "signed", "aria-hidden": "true" }, value === null ? null : bar),
      make("span", { class: "value" }, value === null ? say("share.absent") : signed(value, 2)));
  });
  return [make("ul", { class: "shares" }, ...bars), make("p", { class: "help" }, say("shares.help", { label: emotion(verdict.label) }))];
}

/** How much evidence one modality had, and why it had no more. */
function coverage(name) {
  const windows = index.windows.length ? index.windows : [summary()];
  const present = windows.filter((w) => hasEvidence(w, name)).length;
  const why = absences[chosen][name];
  const amount = windows.length > 1 ? say("evidence.windows", { count: present, total: windows.length }) : say(present ? "evidence.yes" : "evidence.no");
  return make("li", {}, make("span", { class: "name" }, capital(modalityName(name))),
    make("span", { class: "meter", "aria-hidden": "true" }, make("i", { style: { width: `${(100 * present) / windows.length}%` } })),
    make("span", { class: "value" }, amount), ...why.map((text) => make("span", { class: "reason" }, capital(text))));
}

function drawPeople() {
  const field = byId("people");
  field.hidden = analysis.summary.length < 2;
  analysis.summary.forEach((verdict, i) => {
    const radio = make("input", { type: "radio", name: "person", value: String(i), checked: i === chosen });
    radio.addEventListener("change", () => choose(i));
    field.append(make("label", {}, radio, make("span", {}, capital(verdict.person ?? say("nobody")))));
  });
}

function choose(i) {
  chosen = i;
  index = createIndex(analysis, summary().person);
  shown = null;
  announced = "";
  drawHeader();
  timeline?.setPerson(summary().person);
  drawConflicts();
  resetTable();
  tick();
}

// ----------------------------------------------------------------------------------------------------------------- now

function nowAt(time) {
  if (timed) return index.at(time);
  return index.windows[0] ?? summary();
}

const wordsAt = (time) => analysis.cues.filter((c) => !timed || (c.start <= time + 1e-6 && time < c.end)).map((c) => c.text).join(" ");

function drawNow(window, time) {
  const words = byId("caption") ? "" : wordsAt(time);
  byId("now").replaceChildren(...[
    make("p", { class: "eyebrow", id: "now-time" }),
    make("p", { class: "verdict" }, ...(window?.label
      ? [make("i", { class: "swatch", style: { background: palette.colours[window.label] } }), capital(emotion(window.label)), make("b", {}, percent(window.confidence))]
      : [say("now.none")])),
    make("ul", { class: "bars", "aria-label": say("now.probability") }, ...analysis.labels.map((label) => bar(label, window?.fused?.[label] ?? null))),
    make("h3", {}, say("now.says")),
    make("ul", { class: "says" }, ...analysis.modalities.map((name) => statement(window, name))),
    window?.conflict_text ? make("p", { class: "clash" }, "≠ ", window.conflict_text) : null,
    words ? make("blockquote", {}, words) : null,
  ].filter(Boolean));
}

const bar = (label, value) =>
  make("li", {}, make("span", { class: "name" }, emotion(label)),
    make("span", { class: "track", "aria-hidden": "true" }, make("i", { style: { width: `${100 * (value ?? 0)}%`, background: palette.colours[label] } })),
    make("span", { class: "value" }, value === null ? "–" : percent(value)));

function statement(window, name) {
  const evidence = window?.evidence[name];
  const says = evidence?.probabilities
    ? [chip(top(evidence.probabilities)), ` ${percent(evidence.probabilities[top(evidence.probabilities)])}`]
    : [make("span", { class: "reason" }, evidence?.reason || say("no_evidence"))];
  return make("li", {}, make("span", { class: "name" }, capital(modalityName(name))), make("span", {}, ...says));
}

/** Told to screen readers when the answer changes, not every time the clock moves. */
function announce(window, time) {
  const key = `${summary().person} ${window?.label}`;
  if (key === announced) return;
  announced = key;
  byId("status").textContent = window?.label ? say("status", { time: formatTime(time), label: emotion(window.label), percent: Math.round(100 * window.confidence) }) : say("now.none");
}

// -------------------------------------------------------------------------------------------------------------- player

let transport = null;

function drawPlayer() {
  const player = byId("player");
  const note = medium.note ? make("p", { class: "notice", id: "media-note" }, say(medium.note, medium.details), medium.kind !== "video" && medium.kind !== "audio" && timed ? ` ${say("player.silent")}` : "") : null;
  const stage = byId("stage");
  if (stage && medium.ratio) stage.style.setProperty("--ratio", String(medium.ratio));
  if (stage && medium.kind !== "audio") stage.append(make("div", { class: "faces", id: "faces", "aria-hidden": "true" }));
  if (!stage || medium.kind === "audio") player.prepend(make("div", { class: "caption", id: "caption" }));
  if (media && timed) player.append(controls());
  if (note) player.append(note);
  if (media instanceof HTMLMediaElement) wireMedia(player);
}

function wireMedia(player) {
  media.removeAttribute("controls");
  media.tabIndex = -1;
  media.addEventListener("click", toggle);
  const element = media;
  const replace = () => {
    element.remove();
    media = new Clock(index.extent);
    wireClock();
    tick();
    player.append(make("p", { class: "notice" }, say("media.error")));
  };
  if (element.error) {
    replace();
    return;
  }
  element.addEventListener("error", replace);
  wireClock();
}

function wireClock() {
  for (const name of ["play", "pause", "ended"]) media.addEventListener(name, () => { transport?.(); tick(); });
  for (const name of ["timeupdate", "seeked", "seeking", "loadedmetadata"]) media.addEventListener(name, tick);
}

function controls() {
  const button = (label, text, act) => {
    const node = make("button", { type: "button", "aria-label": say(label), title: say(label) }, text);
    node.addEventListener("click", act);
    return node;
  };
  const play = button("play", "", toggle);
  play.classList.add("play");
  const speed = make("select", { "aria-label": say("speed") }, ...[0.5, 1, 1.5, 2].map((rate) => make("option", { value: String(rate), selected: rate === 1 }, `${rate}×`)));
  speed.addEventListener("change", () => { media.playbackRate = Number(speed.value); });
  const mute = media instanceof HTMLMediaElement ? button("mute", "", () => { media.muted = !media.muted; transport(); }) : null;
  mute?.classList.add("mute");
  transport = () => {
    play.classList.toggle("playing", !media.paused);
    play.setAttribute("aria-label", say(media.paused ? "play" : "pause"));
    play.title = say(media.paused ? "play" : "pause");
    mute?.classList.toggle("muted", Boolean(media.muted));
    mute?.setAttribute("aria-label", say(media.muted ? "unmute" : "mute"));
  };
  transport();
  return make("div", { class: "transport" }, button("previous", "‹", () => seek(index.step(media.currentTime, -1))), play, button("next", "›", () => seek(index.step(media.currentTime, 1))),
    make("output", { id: "clock", "aria-live": "off" }), mute, speed);
}

function toggle() {
  if (!media) return;
  if (media.paused) media.play().catch(() => {});
  else media.pause();
}

function seek(seconds) {
  media.currentTime = Math.min(seconds, Number.isFinite(media.duration) ? media.duration : index.extent);
  tick();
}

/** Boxes of a person's face at a time: between the two nearest looks, or none where the nearest is over a second away. */
function boxAt(person, time) {
  const boxes = person.boxes;
  if (!timed) return boxes[0] ?? null;
  let i = boxes.findIndex((b) => b.time > time);
  if (i < 0) i = boxes.length;
  const before = boxes[i - 1];
  const after = boxes[i];
  if (before && after && after.time - before.time <= 2) {
    const weight = (time - before.time) / (after.time - before.time);
    return Object.fromEntries(["x", "y", "width", "height"].map((k) => [k, before[k] * (1 - weight) + after[k] * weight]));
  }
  const nearest = [before, after].filter(Boolean).sort((a, b) => Math.abs(a.time - time) - Math.abs(b.time - time))[0];
  return nearest && Math.abs(nearest.time - time) <= 0.6 ? nearest : null;
}

const indexes = new Map(analysis.persons.map((p) => [p.id, createIndex(analysis, p.id)]));

function drawFaces(time) {
  const layer = byId("faces");
  if (!layer) return;
  layer.replaceChildren(...analysis.persons.flatMap((person) => {
    const box = boxAt(person, time);
    if (!box) return [];
    const own = indexes.get(person.id);
    const label = (timed ? own.at(time) : own.windows[0])?.label;
    const colour = label ? palette.colours[label] : "#ffffff";
    const name = analysis.persons.length > 1 ? capital(person.id) + (label ? ` · ${emotion(label)}` : "") : label ? emotion(label) : "";
    return [make("div", { class: box.y < 0.09 ? "face low" : "face", style: { left: `${100 * box.x}%`, top: `${100 * box.y}%`, width: `${100 * box.width}%`, height: `${100 * box.height}%`, "border-color": colour } },
      name ? make("span", { style: { background: colour, color: label ? palette.inks[label] : "#14171a" } }, name) : null)];
  }));
}

function drawStill(time) {
  const still = byId("still");
  if (!still || !medium.stills.length) return;
  const [, uri] = medium.stills.findLast(([at]) => at <= time + 1e-3) ?? medium.stills[0];
  if (still.src !== uri) still.src = uri;
}

function drawCaption(window, time) {
  const caption = byId("caption");
  if (!caption) return;
  caption.style.setProperty("border-color", window?.label ? palette.colours[window.label] : "transparent");
  const words = wordsAt(time);
  if (caption.textContent !== words) caption.textContent = words;
  caption.classList.toggle("empty", !words);
}

function tick() {
  const time = media ? media.currentTime : 0;
  const window = nowAt(time);
  timeline?.setTime(time);
  const key = `${chosen} ${window?.start} ${wordsAt(time)}`;
  if (key !== shown) {
    shown = key;
    drawNow(window, time);
    announce(window, time);
  }
  byId("now-time").textContent = timed ? say("now", { time: formatTime(time) }) : say(`now.${analysis.source.kind}`);
  drawFaces(time);
  drawStill(time);
  drawCaption(window, time);
  const clock = byId("clock");
  if (clock) clock.textContent = `${formatTime(Math.floor(time * 10) / 10)} / ${formatTime(index.extent)}`;
}

function follow() {
  if (media && !media.paused) tick();
  requestAnimationFrame(follow);
}

// ------------------------------------------------------------------------------------------------- timeline and numbers

function drawTimeline() {
  byId("over-time").hidden = false;
  byId("legend").append(...palette.stack.map((label) => make("li", {}, make("i", { style: { background: palette.colours[label] } }), emotion(label))));
  timeline = createTimeline(byId("timeline"), analysis, { say, palette, person: summary().person, onSeek: seek, onToggle: toggle });
  byId("timeline").querySelector("svg").setAttribute("aria-describedby", "timeline-help");
  document.addEventListener("keydown", (event) => {
    const busy = event.target.closest("input, select, textarea, button, summary, a, [role=slider]");
    if (!busy && !event.defaultPrevented && /^(Arrow(Left|Right)| )$/.test(event.key)) timeline.onKey(event);
  });
}

/** Neighbouring windows with the same conflict are one entry. */
function drawConflicts() {
  const merged = conflictsOf(index);
  const list = make("ol", { class: "clashes" }, ...merged.map((entry) => {
    const button = make("button", { type: "button" }, make("b", {}, `${formatTime(entry.start)}–${formatTime(entry.end)}`), " ", entry.key);
    button.addEventListener("click", () => seek((entry.groups[0].start + entry.groups[0].end) / 2));
    return make("li", {}, button);
  }));
  byId("conflicts").replaceChildren(merged.length ? list : make("p", { class: "help" }, say(index.windows.some((w) => w.conflict !== null) ? "conflicts.none" : "conflicts.alone")));
}

const PAGE = 200;
let filled = 0;

function resetTable() {
  filled = 0;
  byId("table-body").replaceChildren();
  if (byId("table").open) fillTable();
}

function fillTable() {
  if (filled) return;
  const names = ["start", "end", "person", "label", "confidence", "sentiment", "conflict"].map((key) => say("table." + key));
  const body = make("tbody");
  const more = make("button", { type: "button", class: "quiet" });
  more.addEventListener("click", () => addRows(body, more));
  byId("table-body").replaceChildren(
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("table") },
      make("table", {}, make("caption", {}, say("table.caption", { total: index.windows.length })),
        make("thead", {}, make("tr", {}, ...[...names, ...analysis.modalities.map((m) => capital(modalityName(m)))].map((text) => make("th", { scope: "col" }, text)))), body)),
    more);
  addRows(body, more);
}

function addRows(body, more) {
  body.append(...index.windows.slice(filled, filled + PAGE).map(tableRow));
  filled = Math.min(index.windows.length, filled + PAGE);
  const left = index.windows.length - filled;
  more.hidden = left === 0;
  more.textContent = say("table.more", { count: Math.min(PAGE, left) });
}

function tableRow(window) {
  const cells = [
    formatTime(window.end), window.person ?? "–", window.label ? emotion(window.label) : say("no_evidence"),
    window.confidence === null ? "–" : percent(window.confidence), window.sentiment === null ? "–" : signed(window.sentiment, 2),
    window.conflict === null ? "–" : window.conflict.toFixed(2) + (window.conflict_text ? ` (${window.conflict_text})` : ""),
    ...analysis.modalities.map((name) => {
      const evidence = window.evidence[name];
      return evidence?.probabilities ? `${emotion(top(evidence.probabilities))} ${percent(evidence.probabilities[top(evidence.probabilities)])}` : evidence?.reason || "–";
    }),
  ];
  return make("tr", {}, make("th", { scope: "row" }, formatTime(window.start)), ...cells.map((text) => make("td", {}, text)));
}

const flat = (value, path = "") =>
  value !== null && typeof value === "object" && Object.keys(value).length
    ? Object.entries(value).flatMap(([key, item]) => flat(item, path ? `${path} · ${key}` : key))
    : [[path, typeof value === "string" ? value : JSON.stringify(value)]];

function drawSettings() {
  byId("settings").append(...flat(analysis.settings).filter(([path]) => path).flatMap(([path, value]) => [make("dt", {}, path), make("dd", {}, value)]));
}

function wireTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = say(dark() ? "theme.light" : "theme.dark"); };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();
}

// --------------------------------------------------------------------------------------------------------------- start

byId("length").textContent = ` · ${say("kind." + analysis.source.kind)}${analysis.source.duration ? ` · ${formatTime(analysis.source.duration)}` : ""}`;
wireTheme();
drawPeople();
drawHeader();
drawPlayer();
if (media instanceof Clock) wireClock();
new ResizeObserver(fitDistribution).observe(byId("distribution"));
drawSettings();
if (timed) {
  drawTimeline();
  drawConflicts();
}
if (index.windows.length) {
  byId("numbers").hidden = false;
  byId("table").addEventListener("toggle", fillTable);
}
tick();
follow();
