import { Clock } from "./clock.js";
import { capital, find, make, percent, search, signed } from "./elements.js";
import { drawHighlights } from "./highlights.js";
import { createNumbers } from "./numbers.js";
import { createParts, fitDistributions } from "./parts.js";
import { createPeople } from "./people.js";
import { conflictsOf, createIndex, createTimeline, formatTime, hasEvidence } from "./timeline.js";
import { createOverview } from "./overview.js";
import { createCueFinder, createTranscript } from "./transcript.js";

const AT_A_GLANCE = 40;  // windows up to which a timeline is neither zoomed nor has an overview
const CLOSE = 30;  // seconds that are shown before and after a highlight
const MOST_CONFLICTS = 200;
const MOST_SENTENCES = 12;  // of a text above its answer; all of them are in the transcript

/**
 * Brings an analysis to life in the skeleton inside `root` (see report.html.j2): answer, player, timeline, transcript and
 * numbers.
 *
 * `chosen` is the number of the person to begin with, and `time` the seconds. Returns `state()`, which gives those two as
 * they are now, and `destroy()`.
 * @param {Document | HTMLElement} root
 * @param {{ analysis: Analysis, medium: Medium, speech: Speech, palette: Palette, chosen?: number, time?: number } & Answers} data
 * @returns {Viewer}
 */
export function createViewer(root, { analysis: given, medium, headlines, absences, highlights = [], speech, palette, chosen = 0, time: start = 0 }) {
  const { say } = speech;
  /** @param {string} id */
  const byId = (id) => find(root, id);
  /** @param {string} id */
  const perhaps = (id) => search(root, id);
  const analysis = { ...given, windows: given.windows.map(speech.verdict), summary: given.summary.map(speech.verdict) };
  const parts = createParts(say, palette);
  const { emotion, modalityName } = parts;
  const people = createPeople(analysis, speech);
  const indexes = new Map([...analysis.persons.map((person) => person.id), ...people.answered].map((id) => [id, createIndex(analysis, id)]));
  const ended = new AbortController();
  const summary = () => analysis.summary[chosen];
  let index = createIndex(analysis, summary().person);
  const timed = analysis.windows.length > 0 && index.windows.length > 0 && (analysis.source.duration > 0 || index.windows.length > 1);
  /** @type {Player | null} */
  let media = search(root, "media", HTMLMediaElement) ?? (timed ? new Clock(index.extent) : null);
  /** @type {ReturnType<typeof createTimeline> | null} */
  let timeline = null;
  /** @type {ReturnType<typeof createTranscript> | null} */
  let transcript = null;
  /** @type {ReturnType<typeof createOverview> | null} */
  let overview = null;
  const said = createCueFinder(analysis.cues);
  /** @type {(() => void) | null} */
  let transport = null;
  let resetNumbers = () => {};
  /** @type {string | null} */
  let shown = null;
  let announced = "";

  // ------------------------------------------------------------------------------------------------------------ answer

  function drawHeader() {
    const [answer, ...rest] = headlines[chosen].map((text) => text.replaceAll(" %", "\u00a0%"));
    byId("headline").replaceChildren(answer, " ", make("span", { class: "aside" }, capital(rest.join(say("headline.semicolon")))));
    const { fused, sentiment } = summary();
    byId("distribution").replaceChildren(...(fused ? [parts.distribution(fused)] : []));
    fitDistributions(root);
    byId("gauge").replaceChildren(...(sentiment === null ? [] : [parts.gauge(sentiment)]));
    byId("shares").replaceChildren(...parts.shares(summary(), analysis.modalities));
    byId("evidence").replaceChildren(...analysis.modalities.map(coverage), ...(people.turns.length && summary().person !== null ? [speechTime()] : []), ...headDirection());
  }

  /**
   * @param {string} name
   * @param {number} share
   * @param {string} amount
   * @param {string[]} reasons
   */
  const meter = (name, share, amount, reasons) =>
    make("li", {}, make("span", { class: "name" }, capital(name)), make("span", { class: "meter", "aria-hidden": "true" }, make("i", { style: { width: `${100 * share}%` } })),
      make("span", { class: "value" }, amount), ...reasons.map((text) => make("span", { class: "reason" }, capital(text))));

  /**
   * How much evidence one modality had, and why it had no more.
   * @param {string} name
   */
  function coverage(name) {
    const windows = index.windows.length ? index.windows : [summary()];
    const present = windows.filter((w) => hasEvidence(w, name)).length;
    const amount = windows.length > 1 ? say("evidence.windows", { count: present, total: windows.length }) : say(present ? "evidence.yes" : "evidence.no");
    return meter(modalityName(name), present / windows.length, amount, absences[chosen][name]);
  }

  /** How long the person speaks, of all speech. */
  function speechTime() {
    const own = people.turnsOf(summary().person).reduce((sum, turn) => sum + turn.end - turn.start, 0);
    return meter(say("evidence.speaks"), own / people.spoken, say("evidence.seconds", { count: own.toFixed(1), total: people.spoken.toFixed(1) }), []);
  }

  /** In how much of the pictures the head is directed at the camera, and how it is turned; nothing where nobody measured it. */
  function headDirection() {
    const { head = null } = summary();
    if (!head) return [];
    /** @param {number} angle */
    const degrees = (angle) => `${signed(Math.round(angle), 0)}°`;
    const turned = say("evidence.head_turned", { yaw: degrees(head.yaw), pitch: degrees(head.pitch), roll: degrees(head.roll) });
    return [meter(say("evidence.head"), head.towards_camera, percent(head.towards_camera), [turned])];
  }

  function drawPeople() {
    const field = byId("people");
    field.hidden = analysis.summary.length < 2;
    analysis.summary.forEach((verdict, i) => {
      const radio = make("input", { type: "radio", name: "person", value: String(i), checked: i === chosen });
      radio.addEventListener("change", () => choose(i));
      field.append(make("label", {}, radio, make("span", {}, people.dot(verdict.person), capital(people.name(verdict.person)))));
    });
  }

  /** @param {number} i */
  function choose(i) {
    chosen = i;
    index = createIndex(analysis, summary().person);
    shown = null;
    announced = "";
    drawHeader();
    timeline?.setPerson(summary().person);
    overview?.draw();
    drawMoments();
    drawConflicts();
    resetNumbers();
    tick();
  }

  // --------------------------------------------------------------------------------------------------------------- now

  /** @param {number} time */
  function nowAt(time) {
    if (timed) return index.at(time);
    return index.windows[0] ?? summary();
  }

  /** @param {number} time */
  const cuesAt = (time) => (timed ? said(time).map((i) => analysis.cues[i]) : analysis.cues.slice(0, MOST_SENTENCES));

  /**
   * What the chosen person says.
   * @param {number} time
   */
  const wordsAt = (time) => cuesAt(time).filter((cue) => people.owns(summary().person, cue)).map((cue) => cue.text).join(" ");

  /**
   * @param {Verdict | null} window
   * @param {number} time
   */
  function drawNow(window, time) {
    const turn = people.turnAt(time);
    byId("now").replaceChildren(make("p", { class: "eyebrow", id: "now-time" }), ...parts.now(window, analysis.labels, analysis.modalities, perhaps("caption") ? "" : wordsAt(time)),
      ...(turn ? [make("p", { class: "speaker" }, people.dot(turn.speaker), capital(people.speaks(turn)), ` (${percent(turn.probability)})`)] : []));
  }

  /**
   * Told to screen readers when the answer changes, not every time the clock moves.
   * @param {Verdict | null} window
   * @param {number} time
   */
  function announce(window, time) {
    const turn = people.turnAt(time);
    const key = `${summary().person} ${window?.label} ${turn?.speaker}`;
    if (key === announced) return;
    announced = key;
    const answer = window?.label ? say("status", { time: formatTime(time), label: emotion(window.label), percent: Math.round(100 * (window.confidence ?? 0)) }) : say("now.none");
    byId("status").textContent = [answer, ...(turn ? [people.speaks(turn)] : [])].join(say("headline.semicolon"));
  }

  // ------------------------------------------------------------------------------------------------------------ player

  function drawPlayer() {
    const player = byId("player");
    const note = medium.note ? make("p", { class: "notice", id: "media-note" }, say(medium.note, medium.details), medium.kind !== "video" && medium.kind !== "audio" && timed ? ` ${say("player.silent")}` : "") : null;
    const stage = perhaps("stage");
    if (stage && medium.ratio) stage.style.setProperty("--ratio", String(medium.ratio));
    if (stage && medium.kind !== "audio") stage.append(make("div", { class: "faces", id: "faces", "aria-hidden": "true" }));
    if (!stage || medium.kind === "audio") player.prepend(make("div", { class: "caption", id: "caption" }));
    if (media && timed) player.append(controls(media));
    if (note) player.append(note);
    if (media instanceof HTMLMediaElement) wireMedia(media, player);
    else if (media) wireClock(media);
  }

  /**
   * @param {HTMLMediaElement} element
   * @param {HTMLElement} player
   */
  function wireMedia(element, player) {
    element.removeAttribute("controls");
    element.tabIndex = -1;
    element.addEventListener("click", toggle, { signal: ended.signal });
    const replace = () => {
      element.remove();
      media = new Clock(index.extent);
      wireClock(media);
      tick();
      player.append(make("p", { class: "notice" }, say("media.error")));
    };
    const refused = element.querySelector("source") !== null && element.networkState === HTMLMediaElement.NETWORK_NO_SOURCE;
    if (element.error || refused) {
      replace();
      return;
    }
    // Of several sources, the error of the last one says that none can be played.
    (element.querySelector("source:last-of-type") ?? element).addEventListener("error", replace, { signal: ended.signal });
    wireClock(element);
  }

  /** @param {Player} player */
  function wireClock(player) {
    for (const name of ["play", "pause", "ended"]) player.addEventListener(name, () => { transport?.(); tick(); }, { signal: ended.signal });
    for (const name of ["timeupdate", "seeked", "seeking", "loadedmetadata"]) player.addEventListener(name, tick, { signal: ended.signal });
  }

  /** @param {Player} first what plays at the beginning: a clock may take its place */
  function controls(first) {
    const playing = () => media ?? first;
    /**
     * @param {string} label
     * @param {string} text
     * @param {() => void} act
     */
    const button = (label, text, act) => {
      const node = make("button", { type: "button", "aria-label": say(label), title: say(label) }, text);
      node.addEventListener("click", act);
      return node;
    };
    const play = button("play", "", toggle);
    play.classList.add("play");
    const speed = make("select", { "aria-label": say("speed") }, ...[0.5, 1, 1.5, 2].map((rate) => make("option", { value: String(rate), selected: rate === playing().playbackRate }, `${rate}×`)));
    speed.addEventListener("change", () => { playing().playbackRate = Number(speed.value); });
    const mute = first instanceof HTMLMediaElement ? button("mute", "", () => { first.muted = !first.muted; transport?.(); }) : null;
    mute?.classList.add("mute");
    transport = () => {
      const { paused } = playing();
      play.classList.toggle("playing", !paused);
      play.setAttribute("aria-label", say(paused ? "play" : "pause"));
      play.title = say(paused ? "play" : "pause");
      const muted = first instanceof HTMLMediaElement && first.muted;
      mute?.classList.toggle("muted", muted);
      mute?.setAttribute("aria-label", say(muted ? "unmute" : "mute"));
    };
    transport();
    return make("div", { class: "transport" }, button("previous", "‹", () => seek(index.step(playing().currentTime, -1))), play, button("next", "›", () => seek(index.step(playing().currentTime, 1))),
      make("output", { id: "clock", "aria-live": "off" }), mute, speed);
  }

  function toggle() {
    if (!media) return;
    if (media.paused) media.play().catch(() => {});
    else media.pause();
  }

  /** @param {number} seconds */
  function seek(seconds) {
    if (!media) return;
    media.currentTime = Math.min(seconds, Number.isFinite(media.duration) ? media.duration : index.extent);
    tick();
  }

  /**
   * Where a person's face is at a time: between the two nearest looks, or nowhere where the nearest is too far away.
   * @param {Person} person
   * @param {number} time
   * @returns {Omit<Box, "time"> | null}
   */
  function boxAt(person, time) {
    const boxes = person.boxes;
    if (!timed) return boxes[0] ?? null;
    let i = boxes.findIndex((b) => b.time > time);
    if (i < 0) i = boxes.length;
    const before = boxes[i - 1];
    const after = boxes[i];
    if (before && after && after.time - before.time <= 2) {
      const weight = (time - before.time) / (after.time - before.time);
      /** @param {"x" | "y" | "width" | "height"} side */
      const between = (side) => before[side] * (1 - weight) + after[side] * weight;
      return { x: between("x"), y: between("y"), width: between("width"), height: between("height") };
    }
    const nearest = [before, after].filter((box) => box !== undefined).sort((a, b) => Math.abs(a.time - time) - Math.abs(b.time - time))[0];
    return nearest && Math.abs(nearest.time - time) <= 0.6 ? nearest : null;
  }

  /** @param {number} time */
  function drawFaces(time) {
    const turn = people.turnAt(time);
    const mark = turn && parts.speaks(people.sure(turn));
    const faces = analysis.persons.flatMap((person) => {
      const box = boxAt(person, time);
      if (!box) return [];
      const own = indexes.get(person.id);
      const label = (timed ? own?.at(time) : own?.windows[0])?.label;
      const name = analysis.persons.length > 1 ? capital(people.name(person.id)) + (label ? ` · ${emotion(label)}` : "") : label ? emotion(label) : "";
      return [parts.face(box, label, name, turn?.speaker === person.id ? mark : null)];
    });
    // Whoever speaks without a face in the picture is named in its corner.
    if (turn && mark && !mark.parentNode) faces.push(make("div", { class: "heard" }, people.dot(turn.speaker), capital(people.name(turn.speaker)), mark));
    perhaps("faces")?.replaceChildren(...faces);
  }

  /** @param {number} time */
  function drawStill(time) {
    const still = search(root, "still", HTMLImageElement);
    if (!still || !medium.stills.length) return;
    const [, uri] = medium.stills.findLast(([at]) => at <= time + 1e-3) ?? medium.stills[0];
    if (still.src !== uri) still.src = uri;
  }

  /**
   * @param {Verdict | null} window
   * @param {number} time
   */
  function drawCaption(window, time) {
    const caption = perhaps("caption");
    if (!caption) return;
    caption.style.setProperty("border-color", window?.label ? palette.colours[window.label] : "transparent");
    const cues = cuesAt(time);
    const words = cues.flatMap((cue) => [...(cue.speaker ? [make("b", {}, people.dot(cue.speaker), capital(people.name(cue.speaker)))] : []), cue.text, " "]).slice(0, -1);
    if (cues.length < analysis.cues.length && !timed) words.push(" …");
    const text = words.map((part) => (typeof part === "string" ? part : part.textContent)).join("");
    if (caption.textContent !== text) caption.replaceChildren(make("span", {}, ...words));
    caption.classList.toggle("empty", !text);
  }

  function tick() {
    const time = media ? media.currentTime : 0;
    const window = nowAt(time);
    timeline?.setTime(time);
    overview?.setTime(time);
    if (timed) transcript?.setTime(time);
    const key = `${chosen} ${window?.start} ${people.turnAt(time)?.start} ${wordsAt(time)}`;
    if (key !== shown) {
      shown = key;
      drawNow(window, time);
      announce(window, time);
    }
    const whose = analysis.summary.length > 1 ? ` · ${capital(people.name(summary().person))}` : "";
    byId("now-time").textContent = (timed ? say("now", { time: formatTime(time) }) : say(`now.${analysis.source.kind}`)) + whose;
    drawFaces(time);
    drawStill(time);
    drawCaption(window, time);
    const clock = perhaps("clock");
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
    const curves = createTimeline(byId("timeline"), analysis, { say, palette, people, person: summary().person, onSeek: seek, onToggle: toggle, onView: (from, to) => overview?.setView(from, to) });
    timeline = curves;
    byId("timeline").querySelector("svg")?.setAttribute("aria-describedby", "timeline-help");
    const strip = perhaps("overview");
    if (strip && index.windows.length > AT_A_GLANCE) overview = createOverview(strip, { say, palette, index: () => index, timeline: curves, onSeek: seek });
    document.addEventListener("keydown", (event) => {
      const busy = event.target instanceof Element && event.target.closest("input, select, textarea, button, summary, a, [role=slider], [role=tab]");
      const seen = byId("timeline").offsetParent !== null;
      if (seen && !busy && !event.defaultPrevented && /^(Arrow(Left|Right)| )$/.test(event.key)) curves.onKey(event);
    }, { signal: ended.signal });
  }

  /**
   * The emotion of whoever says a cue, as it is said; none where several answers are there and it is not known whose counts.
   * @param {Cue} cue
   */
  function labelOf(cue) {
    if (!timed) return cue.label ?? null;
    const whole = analysis.summary.length === 1 && !people.turns.length ? index : null;
    const own = indexes.get(cue.speaker ?? "") ?? whole;
    return own?.at((cue.start + cue.end) / 2)?.label ?? null;
  }

  function drawTranscript() {
    byId("transcript").hidden = false;
    if (!timed) byId("transcript").querySelector(".help")?.replaceChildren(say("transcript.help_text"));
    transcript = createTranscript(byId("lines"), { cues: analysis.cues, cuesAt: said, people, parts, palette, say, labelOf, onSeek: timed ? seek : null, signal: ended.signal });
  }

  /** The moments of the chosen person that are worth a look first. */
  function drawMoments() {
    const section = perhaps("highlights");
    const moments = highlights[chosen] ?? [];
    if (!section) return;
    section.hidden = moments.length < 2;
    drawHighlights(byId("moments"), {
      highlights: moments,
      thumbnails: new Map(medium.thumbnails ?? []),
      parts,
      speech,
      timed,
      wordsOf: (moment) => (timed ? wordsAt((moment.start + moment.end) / 2) : analysis.cues[moment.cue ?? -1]?.text ?? ""),
      onChoose: lookAt,
    });
  }

  /** @param {Highlight} moment */
  function lookAt(moment) {
    if (!timed) {
      transcript?.show(moment.cue ?? 0);
      return;
    }
    if (overview) timeline?.setView(moment.start - CLOSE, moment.end + CLOSE);
    seek((moment.start + moment.end) / 2);
    byId("watch").scrollIntoView({ block: "nearest" });
  }

  /** Neighbouring windows with the same conflict are one entry. */
  function drawConflicts() {
    const merged = conflictsOf(index.cells);
    const more = merged.length - MOST_CONFLICTS;
    const list = make("ol", { class: "clashes" }, ...merged.slice(0, MOST_CONFLICTS).map((entry) => {
      const button = make("button", { type: "button" }, make("b", {}, `${formatTime(entry.start)}–${formatTime(entry.end)}`), " ", entry.key);
      button.addEventListener("click", () => seek((entry.groups[0].start + entry.groups[0].end) / 2));
      return make("li", {}, button);
    }));
    if (more > 0) list.append(make("li", { class: "help" }, say("conflicts.more", { count: more })));
    byId("conflicts").replaceChildren(merged.length ? list : make("p", { class: "help" }, say(index.windows.some((w) => w.conflict !== null) ? "conflicts.none" : "conflicts.alone")));
  }

  // ------------------------------------------------------------------------------------------------------------- start

  drawPeople();
  drawHeader();
  drawPlayer();
  const observer = new ResizeObserver(() => fitDistributions(root));
  observer.observe(byId("distribution"));
  if (timed) {
    drawTimeline();
    drawConflicts();
    if (start) seek(start);
  }
  if (analysis.cues.length > (timed ? 0 : 1)) drawTranscript();
  drawMoments();
  if (index.windows.length) {
    byId("numbers").hidden = false;
    resetNumbers = createNumbers(find(root, "table", HTMLDetailsElement), byId("table-body"), { speech, parts, modalities: analysis.modalities, windows: () => index.windows, signal: ended.signal });
  }
  tick();
  follow();

  return {
    state: () => ({ chosen, time: media ? media.currentTime : 0 }),
    destroy: () => {
      ended.abort();
      observer.disconnect();
      media?.pause();
    },
  };
}
