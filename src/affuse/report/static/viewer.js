import { Clock } from "./clock.js";
import { capital, make } from "./elements.js";
import { localised } from "./localise.js";
import { createNumbers } from "./numbers.js";
import { createParts, fitDistributions } from "./parts.js";
import { conflictsOf, createIndex, createTimeline, formatTime, hasEvidence } from "./timeline.js";

/**
 * Brings an analysis to life in the skeleton inside `root` (see report.html.j2): answer, player, timeline and numbers.
 *
 * data: analysis (the JSON of Analysis.to_dict), medium (kind, ratio, stills, note, details), headlines and absences (a
 * list each, an entry a person), say (a formatter), palette; optionally the number of the person `chosen` and the
 * `time` to begin at. Returns `state()`, which gives those two as they are now, and `destroy()`.
 */
export function createViewer(root, { analysis: given, medium, headlines, absences, say, palette, chosen = 0, time: start = 0 }) {
  const byId = (id) => root.querySelector("#" + id);
  const inWords = (windows) => windows.map((window) => localised(window, say));
  const analysis = { ...given, windows: inWords(given.windows), summary: inWords(given.summary) };
  const parts = createParts(say, palette);
  const { emotion, modalityName } = parts;
  const ended = new AbortController();
  const summary = () => analysis.summary[chosen];
  let index = createIndex(analysis, summary().person);
  const timed = analysis.windows.length > 0 && index.windows.length > 0 && (analysis.source.duration > 0 || index.windows.length > 1);
  let media = byId("media") ?? (timed ? new Clock(index.extent) : null);
  let timeline = null;
  let transport = null;
  let resetNumbers = () => {};
  let shown = null;
  let announced = "";

  // ------------------------------------------------------------------------------------------------------------ answer

  function drawHeader() {
    const [answer, ...rest] = headlines[chosen].map((text) => text.replaceAll(" %", "\u00a0%"));
    byId("headline").replaceChildren(answer, " ", make("span", { class: "aside" }, capital(rest.join("; "))));
    byId("distribution").replaceChildren(...(summary().fused ? [parts.distribution(summary().fused)] : []));
    fitDistributions(root);
    byId("gauge").replaceChildren(...(summary().sentiment === null ? [] : [parts.gauge(summary().sentiment)]));
    byId("shares").replaceChildren(...parts.shares(summary(), analysis.modalities));
    byId("evidence").replaceChildren(...analysis.modalities.map(coverage));
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
    resetNumbers();
    tick();
  }

  // --------------------------------------------------------------------------------------------------------------- now

  function nowAt(time) {
    if (timed) return index.at(time);
    return index.windows[0] ?? summary();
  }

  const wordsAt = (time) => analysis.cues.filter((c) => !timed || (c.start <= time + 1e-6 && time < c.end)).map((c) => c.text).join(" ");

  function drawNow(window, time) {
    byId("now").replaceChildren(make("p", { class: "eyebrow", id: "now-time" }), ...parts.now(window, analysis.labels, analysis.modalities, byId("caption") ? "" : wordsAt(time)));
  }

  /** Told to screen readers when the answer changes, not every time the clock moves. */
  function announce(window, time) {
    const key = `${summary().person} ${window?.label}`;
    if (key === announced) return;
    announced = key;
    byId("status").textContent = window?.label ? say("status", { time: formatTime(time), label: emotion(window.label), percent: Math.round(100 * window.confidence) }) : say("now.none");
  }

  // ------------------------------------------------------------------------------------------------------------ player

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
    else if (media) wireClock();
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
    element.addEventListener("error", replace, { signal: ended.signal });
    wireClock();
  }

  function wireClock() {
    for (const name of ["play", "pause", "ended"]) media.addEventListener(name, () => { transport?.(); tick(); }, { signal: ended.signal });
    for (const name of ["timeupdate", "seeked", "seeking", "loadedmetadata"]) media.addEventListener(name, tick, { signal: ended.signal });
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
    byId("faces")?.replaceChildren(...analysis.persons.flatMap((person) => {
      const box = boxAt(person, time);
      if (!box) return [];
      const own = indexes.get(person.id);
      const label = (timed ? own.at(time) : own.windows[0])?.label;
      const name = analysis.persons.length > 1 ? capital(person.id) + (label ? ` · ${emotion(label)}` : "") : label ? emotion(label) : "";
      return [parts.face(box, label, name)];
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
    if (ended.signal.aborted) return;
    if (media && !media.paused) tick();
    requestAnimationFrame(follow);
  }

  // ----------------------------------------------------------------------------------------------------- over all time

  function drawTimeline() {
    byId("over-time").hidden = false;
    byId("legend").append(...parts.legend());
    timeline = createTimeline(byId("timeline"), analysis, { say, palette, person: summary().person, onSeek: seek, onToggle: toggle });
    byId("timeline").querySelector("svg").setAttribute("aria-describedby", "timeline-help");
    document.addEventListener("keydown", (event) => {
      const busy = event.target.closest("input, select, textarea, button, summary, a, [role=slider], [role=tab]");
      const seen = byId("timeline").offsetParent !== null;
      if (seen && !busy && !event.defaultPrevented && /^(Arrow(Left|Right)| )$/.test(event.key)) timeline.onKey(event);
    }, { signal: ended.signal });
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

  // ------------------------------------------------------------------------------------------------------------- start

  drawPeople();
  drawHeader();
  drawPlayer();
  new ResizeObserver(() => fitDistributions(root)).observe(byId("distribution"));
  if (timed) {
    drawTimeline();
    drawConflicts();
    if (start) seek(start);
  }
  if (index.windows.length) {
    byId("numbers").hidden = false;
    resetNumbers = createNumbers(byId("table"), byId("table-body"), { say, parts, modalities: analysis.modalities, windows: () => index.windows });
  }
  tick();
  follow();

  return {
    state: () => ({ chosen, time: media ? media.currentTime : 0 }),
    destroy: () => {
      ended.abort();
      media?.pause();
    },
  };
}
