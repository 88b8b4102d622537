// Draws an analysis (the JSON of Analysis.to_dict) over time, as one SVG that is also a slider. No libraries are needed.

import { capital, percent, topOf } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = { ribbon: 36, conflict: 18, emotions: 136, modality: 58, words: 26, sentiment: 76, head: 48, speakers: 24, track: 26, speech: 6, axis: 24, title: 24, gap: 10, handle: 12 };
const PAD = 1;
const LEAST_WINDOWS = 6;  // in view
const POINTED = 4;  // pixels from which a box has a text for the pointer
const JUMP = 1.5;  // seconds from which a change of time is no playing
let serial = 0;

// ---------------------------------------------------------------------------------------------------------------- data

/**
 * Minutes and seconds, and hours from one hour on.
 * @param {number} seconds
 */
export const formatTime = (seconds) => {
  const tenths = Math.max(0, Math.round(seconds * 10));
  const minutes = Math.floor(tenths / 600);
  const rest = (tenths - minutes * 600) / 10;
  const hours = Math.floor(minutes / 60);
  const whole = hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}` : String(minutes);
  return `${whole}:${rest < 10 ? "0" : ""}${Number.isInteger(rest) ? rest : rest.toFixed(1)}`;
};

/**
 * Texts by key, with {names} filled in; a key without a text is shown by its last part.
 * @param {Record<string, string>} strings
 * @returns {Say}
 */
export const formatter = (strings) => (key, values = {}) =>
  (strings[key] ?? key.split(".").slice(1).join(".")).replace(/\{(\w+)\}/g, (all, name) => String(values[name] ?? all));

/**
 * @param {Verdict | null} window
 * @param {string} modality
 */
export const hasEvidence = (window, modality) => Boolean(window?.evidence[modality]?.probabilities);

/**
 * @param {Verdict} window
 * @param {string} row
 */
const probabilitiesOf = (window, row) => (row === "fused" ? window.fused : window.evidence[row]?.probabilities) ?? null;

/**
 * The windows of one person, each with the cell of time that it stands for: windows overlap, cells do not.
 * @param {Curves} analysis
 * @param {string | null} person
 * @returns {Index}
 */
export function createIndex(analysis, person) {
  const own = analysis.windows.filter((w) => w.person === person);
  const taken = new Set(own.map((w) => w.start));
  const scene = person === null ? [] : analysis.windows.filter((w) => w.person === null && !taken.has(w.start));
  const windows = [...own, ...scene].sort((a, b) => a.start - b.start);
  /** @param {Verdict} w */
  const middle = (w) => (w.start + w.end) / 2;
  const cells = windows.map((window, i) => ({
    window,
    start: i ? Math.max(window.start, (middle(windows[i - 1]) + middle(window)) / 2) : window.start,
    end: i + 1 < windows.length ? Math.min(window.end, (middle(window) + middle(windows[i + 1])) / 2) : window.end,
  }));
  const extent = Math.max(analysis.source.duration, 0.001, ...windows.slice(-1).map((w) => w.end));
  /** @param {number} time */
  const position = (time) => {
    let low = 0;
    let high = cells.length - 1;
    while (low < high) {
      const half = (low + high + 1) >> 1;
      if (cells[half].start <= time + 1e-6) low = half;
      else high = half - 1;
    }
    return low;
  };
  return {
    windows,
    cells,
    extent,
    between: (from, to) => cells.slice(position(from), position(to) + 1),
    at: (time) => {
      const cell = cells[position(time)];
      return cell && time >= cell.start - 1e-6 && time <= cell.end + 1e-6 ? cell.window : null;
    },
    /** Middle of the window `steps` further than the one at `time`. */
    step: (time, steps) => {
      if (!cells.length) return 0;
      const cell = cells[Math.min(cells.length - 1, Math.max(0, position(time) + steps))];
      return (cell.start + cell.end) / 2;
    },
  };
}

/** @typedef {{ start: number, end: number, values: Record<string, number> | null, label: string | null, reason: string }} Bin */

/**
 * At most `limit` neighbourly groups of cells, with mean probabilities of `row`; a group without evidence keeps its reason.
 * @param {Cell[]} cells
 * @param {string} row
 * @param {number} limit
 */
export function binned(cells, row, limit) {
  const size = Math.max(1, Math.ceil(cells.length / limit));
  /** @type {Bin[]} */
  const groups = [];
  for (let i = 0; i < cells.length; i += size) {
    const group = cells.slice(i, i + size);
    const found = group.map((c) => probabilitiesOf(c.window, row)).filter((p) => p !== null);
    const values = found.length
      ? Object.fromEntries(Object.keys(found[0]).map((k) => [k, found.reduce((sum, p) => sum + p[k], 0) / found.length]))
      : null;
    const reason = row === "fused" ? "" : group[0].window.evidence[row]?.reason ?? "";
    groups.push({ start: group[0].start, end: group[group.length - 1].end, values, label: values && topOf(values), reason });
  }
  return groups;
}

/**
 * Merge neighbours with the same key (and without a gap between them).
 * @template {{ start: number, end: number }} G
 * @param {G[]} groups
 * @param {(group: G) => string} key
 */
export function runs(groups, key) {
  /** @type {{ key: string, start: number, end: number, groups: G[] }[]} */
  const merged = [];
  for (const group of groups) {
    const last = merged.at(-1);
    if (last && last.key === key(group) && group.start - last.end < 1e-6) {
      last.end = group.end;
      last.groups.push(group);
    } else merged.push({ key: key(group), start: group.start, end: group.end, groups: [group] });
  }
  return merged;
}

/**
 * Conflicting windows, neighbours with the same words taken together.
 * @param {Cell[]} cells
 */
export const conflictsOf = (cells) => runs(cells, (c) => c.window.conflict_text).filter((run) => run.key);

/**
 * Of boxes in order of time, those that can be told apart: what would be drawn within the pixels of the one before it is
 * left out.
 * @template T
 * @param {T[]} items
 * @param {(item: T) => [number, number]} place left and right edge
 */
function apart(items, place) {
  let reached = -Infinity;
  return items.filter((item) => {
    const [left, right] = place(item);
    if (right - left < 2 && right <= reached + 1) return false;
    reached = Math.max(reached, right);
    return true;
  });
}

// ------------------------------------------------------------------------------------------------------------- drawing

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[K]}
 */
export const element = (name, attributes = {}, ...children) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
};

const ruler = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/** @type {Map<string, number>} */
const measured = new Map();  // names of labels come again with every stretch; sentences do not

/** @param {string} text */
const widthOf = (text, size = 12, weight = 600) => {
  const key = `${weight} ${size} ${text}`;
  const known = measured.get(key);
  if (known !== undefined) return known;
  const font = `${weight} ${size}px system-ui, sans-serif`;
  if (ruler.font !== font) ruler.font = font;
  const width = ruler.measureText(text).width;
  if (text.length < 30 && measured.size < 2000) measured.set(key, width);
  return width;
};

/**
 * @param {string} text
 * @param {number} width
 */
const fitted = (text, width, size = 12, weight = 400) => {
  if (widthOf(text, size, weight) <= width) return text;
  const letters = [...text];
  let low = 0;
  let high = letters.length;
  while (low < high) {
    const half = (low + high + 1) >> 1;
    if (widthOf(`${letters.slice(0, half).join("")}…`, size, weight) <= width) low = half;
    else high = half - 1;
  }
  return low > 1 ? `${letters.slice(0, low).join("").trimEnd()}…` : "";
};

/**
 * A timeline inside `root`.
 *
 * `onSeek` hears of the seconds that are sought, `onToggle` that it shall play or pause, and `clock` writes seconds. Where
 * nothing seeks it is a picture, otherwise a slider. `update` takes a new analysis, for live pages. With `people` it shows
 * who speaks, where there are several an answer over time for each of them above all rows of the chosen one, and in how
 * much of the pictures the head of the chosen one is directed at the camera.
 *
 * Only the stretch of time in view is drawn: `setView` chooses it, `onView` hears of it. Control and the wheel zoom.
 * @param {HTMLElement} root
 * @param {Curves} analysis
 * @param {{ say: Say, palette: Palette, people?: People | null, person?: string | null, onSeek?: ((seconds: number) => void) | null, onToggle?: () => void, onView?: (from: number, to: number) => void, clock?: (seconds: number) => string }} options
 */
export function createTimeline(root, analysis, options) {
  const { say, palette, people = null, onSeek = null, onToggle = () => {}, onView = () => {}, clock = formatTime } = options;
  const id = `affuse-${serial++}`;
  const svg = element("svg", { class: "timeline", "aria-label": say("timeline.label"), ...(onSeek ? { role: "slider", tabindex: "0" } : { role: "img" }) });
  let data = analysis;
  let person = options.person ?? null;
  /** @type {Map<string | null, Index>} */
  let indexes = new Map();
  /** @param {string | null} name */
  const indexOf = (name) => {
    const found = indexes.get(name) ?? createIndex(data, name);
    indexes.set(name, found);
    return found;
  };
  let index = indexOf(person);
  const view = { from: 0, to: index.extent };
  let due = 0;
  let time = 0;
  let width = 0;
  let height = 0;
  let playhead = element("g");
  let hover = element("g");
  let hoverText = element("text");

  /** @param {number} seconds */
  const x = (seconds) => PAD + ((Math.min(view.to, Math.max(view.from, seconds)) - view.from) / (view.to - view.from)) * (width - 2 * PAD);
  /** Whether a stretch is in view. @param {{ start: number, end: number }} stretch */
  const inView = (stretch) => stretch.end > view.from && stretch.start < view.to;
  const cells = () => index.between(view.from, view.to);
  /** @param {MouseEvent} event */
  const timeAt = (event) => {
    const box = svg.getBoundingClientRect();
    const fraction = (event.clientX - box.left - PAD) / Math.max(1, box.width - 2 * PAD);
    return view.from + Math.min(1, Math.max(0, fraction)) * (view.to - view.from);
  };

  /**
   * @param {string} text
   * @param {number} y
   * @param {string} kind
   */
  const title = (text, y, kind = "") => element("text", { x: 0, y: y + 15, class: `row-title ${kind}` }, capital(text));

  /**
   * The heading of a person's own row: the name behind a dot of the person's colour.
   * @param {People} everybody
   * @param {string} name
   * @param {number} y
   */
  const heading = (everybody, name, y) => {
    const text = title(fitted(capital(everybody.name(name)), width - 20, 13, 600), y, name === person ? "" : "other");
    text.setAttribute("x", "16");
    return element("g", {}, element("circle", { cx: 6, cy: y + 11, r: 5, class: `turn ${everybody.colour(name)}` }), text);
  };

  /**
   * @param {number} from
   * @param {number} to
   * @param {number} y
   * @param {number} tall
   * @param {string} reason
   */
  const blank = (from, to, y, tall, reason) => {
    const wide = x(to) - x(from);
    const ground = element("rect", { x: x(from), y, width: Math.max(0, wide), height: tall, class: "blank", fill: `url(#${id}-hatch)` });
    const group = element("g", {}, ground);
    const text = reason || say("no_evidence");
    ground.append(element("title", {}, `${clock(from)}–${clock(to)} ${text}`));
    if (widthOf(text, 12, 400) <= wide - 12) {
      const label = element("text", { x: x(from) + wide / 2, y: y + tall / 2, class: "blank-text" }, text);
      const plate = widthOf(text, 12, 400) + 12;
      group.append(element("rect", { x: x(from) + (wide - plate) / 2, y: y + tall / 2 - 9, width: plate, height: 18, rx: 4, class: "plate" }), label);
    }
    return group;
  };

  /**
   * @param {Bin[]} groups
   * @param {number} y
   * @param {number} tall
   */
  function ribbon(groups, y, tall) {
    const layer = element("g");
    for (const run of runs(groups, (g) => g.label ?? `\u0000${g.reason}`)) {
      const label = run.groups[0].label;
      if (!label) {
        layer.append(blank(run.start, run.end, y, tall, run.groups[0].reason));
        continue;
      }
      const left = x(run.start);
      const wide = Math.max(1, x(run.end) - left);
      const rect = element("rect", { x: left + (wide > 6 ? 1 : 0), y, width: wide > 6 ? wide - 2 : wide, height: tall, rx: wide > 12 ? 5 : 0, fill: palette.colours[label] });
      if (wide >= POINTED) rect.append(element("title", {}, `${clock(run.start)}–${clock(run.end)} ${say(`emotion.${label}`)}`));
      layer.append(rect);
      const text = say(`emotion.${label}`);
      const size = [13, 11].find((pixels) => widthOf(text, pixels, 600) <= wide - 5);
      if (size) layer.append(element("text", { x: left + wide / 2, y: y + tall / 2, class: "on-colour", "font-size": size, fill: palette.inks[label] }, text));
    }
    return layer;
  }

  /** @typedef {{ label: string, bottom: number[], top: number[] }} Band */

  /**
   * Corner points of one stretch with evidence: values hold from a middle to the next, and flat to the ends.
   * @param {{ start: number, end: number, groups: Bin[] }} run
   */
  const outline = (run) => {
    /** @param {Bin} bin */
    const values = (bin) => bin.values ?? {};
    const points = [{ at: run.start, values: values(run.groups[0]) }];
    for (const g of run.groups) points.push({ at: (g.start + g.end) / 2, values: values(g) });
    points.push({ at: run.end, values: values(run.groups[run.groups.length - 1]) });
    let floor = points.map(() => 0);
    return { points, bands: palette.stack.map((label) => {
      const bottom = floor;
      floor = floor.map((value, i) => value + points[i].values[label]);
      return { label, bottom, top: floor };
    }) };
  };

  /**
   * The name of a band where the band is thick enough all along the name, at the thickest such place.
   * @param {ReturnType<typeof outline>} shape
   * @param {Band} band
   * @param {number} y
   * @param {number} tall
   */
  function bandLabel({ points }, band, y, tall) {
    const text = say(`emotion.${band.label}`);
    const half = widthOf(text, 12, 600) / 2 + 5;
    const thick = points.map((_, i) => (band.top[i] - band.bottom[i]) * tall);
    const xs = points.map((p) => x(p.at));
    /** @type {{ free: number, x: number, y: number } | null} */
    let best = null;
    for (let i = 0; i < points.length; i++) {
      if (xs[i] - half < xs[0] || xs[i] + half > xs[xs.length - 1]) continue;
      let from = i;
      let to = i;
      while (from > 0 && xs[from] > xs[i] - half) from--;
      while (to < xs.length - 1 && xs[to] < xs[i] + half) to++;
      // The name is level: what counts is the strip that is free from the highest bottom to the lowest top.
      const free = Math.min(...band.top.slice(from, to + 1)) - Math.max(...band.bottom.slice(from, to + 1));
      if (thick[i] >= 15 && free * tall >= 15 && (!best || free > best.free)) {
        best = { free, x: xs[i], y: y + tall * (1 - (Math.min(...band.top.slice(from, to + 1)) + Math.max(...band.bottom.slice(from, to + 1))) / 2) };
      }
    }
    return best && element("text", { x: best.x, y: best.y, class: "on-colour small", fill: palette.inks[band.label] }, text);
  }

  /**
   * @param {Bin[]} groups
   * @param {number} y
   * @param {number} tall
   */
  function stack(groups, y, tall) {
    const layer = element("g");
    for (const run of runs(groups, (g) => (g.values ? "" : `\u0000${g.reason}`))) {
      if (run.key) {
        layer.append(blank(run.start, run.end, y, tall, run.groups[0].reason));
        continue;
      }
      const shape = outline(run);
      /**
       * @param {number} i
       * @param {number} value
       */
      const corner = (i, value) => `${x(shape.points[i].at).toFixed(1)},${(y + tall * (1 - Math.min(1, value))).toFixed(1)}`;
      for (const band of shape.bands) {
        const top = band.top.map((value, i) => corner(i, value));
        const bottom = band.bottom.map((value, i) => corner(i, value)).reverse();
        layer.append(element("path", { d: `M${top.join("L")}L${bottom.join("L")}Z`, fill: palette.colours[band.label], class: "band" }));
      }
      for (const band of shape.bands) layer.append(bandLabel(shape, band, y, tall) ?? "");
    }
    return layer;
  }

  /**
   * @param {number} y
   * @param {number} tall
   */
  function conflicts(y, tall) {
    const layer = element("g");
    for (const run of apart(conflictsOf(cells()), (clash) => [x(clash.start), x(clash.end)])) {
      const left = x(run.start);
      const wide = Math.max(3, x(run.end) - left);
      const mark = element("rect", { x: left, y: y + 2, width: wide, height: tall - 4, rx: 3, class: "conflict" });
      mark.append(element("title", {}, `${clock(run.start)}–${clock(run.end)} ${run.key}`));
      layer.append(mark);
      const full = `≠ ${run.key}`;
      const short = fitted(full, wide - 8, 11, 600);
      const text = short.length * 2 > full.length ? short : "≠";
      if (wide > 16) layer.append(element("text", { x: left + 5, y: y + tall / 2, class: "conflict-text" }, text));
    }
    return layer;
  }

  /**
   * One number a window as a line, with the area between it and 0.
   * @param {number} y
   * @param {number} tall
   * @param {(window: Verdict) => number | null} valueOf
   * @param {(value: number) => number} level its height
   * @param {string} reason why there is none, where it is another than for all rows
   */
  function curve(y, tall, valueOf, level, reason = "") {
    const layer = element("g");
    const limit = Math.max(50, width / 2);
    const shown = cells();
    const size = Math.max(1, Math.ceil(shown.length / limit));
    /** @type {{ start: number, end: number, value: number | null }[]} */
    const groups = [];
    for (let i = 0; i < shown.length; i += size) {
      const group = shown.slice(i, i + size);
      const found = group.map((c) => valueOf(c.window)).filter((v) => v !== null);
      groups.push({ start: group[0].start, end: group[group.length - 1].end, value: found.length ? found.reduce((a, b) => a + b, 0) / found.length : null });
    }
    for (const run of runs(groups, (g) => (g.value === null ? "none" : ""))) {
      if (run.key) {
        layer.append(blank(run.start, run.end, y, tall, reason));
        continue;
      }
      const values = run.groups.map((g) => g.value ?? 0);
      const middles = run.groups.map((g) => (g.start + g.end) / 2);
      const points = [[run.start, values[0]], ...middles.map((at, i) => [at, values[i]]), [run.end, values[values.length - 1]]];
      const line = points.map(([at, value]) => `${x(at).toFixed(1)},${level(value).toFixed(1)}`).join("L");
      layer.append(
        element("path", { d: `M${x(run.start)},${level(0)}L${line}L${x(run.end)},${level(0)}Z`, class: "curve-area" }),
        element("path", { d: `M${line}`, class: "curve-line" }),
      );
    }
    return layer;
  }

  /**
   * Levels across the row, 0 the strongest, and a curve on them between texts for its highest and its lowest value.
   * @param {number[]} values from the highest to the lowest
   * @param {(value: number) => number} level
   * @param {Node} drawn
   * @param {string} high
   * @param {string} low
   */
  const scaled = (values, level, drawn, high, low) => element("g", {},
    ...values.map((value) => element("line", { x1: 0, x2: width, y1: level(value), y2: level(value), class: value ? "grid" : "grid zero" })),
    drawn,
    element("text", { x: 4, y: level(values[0]) + 11, class: "scale" }, high),
    element("text", { x: 4, y: level(values[values.length - 1]) - 5, class: "scale" }, low));

  /**
   * @param {number} y
   * @param {number} tall
   */
  function sentiment(y, tall) {
    /** @param {number} value */
    const level = (value) => y + tall * (0.5 - value / 2);
    const drawn = curve(y, tall, (window) => window.sentiment, level);
    return scaled([1, 0, -1], level, drawn, `+1 ${say("sentiment.positive")}`, `−1 ${say("sentiment.negative")}`);
  }

  /**
   * In how much of the pictures of each window the head is directed at the camera.
   * @param {number} y
   * @param {number} tall
   */
  function towards(y, tall) {
    /** @param {number} value */
    const level = (value) => y + tall * (1 - value);
    const drawn = curve(y, tall, (window) => window.head?.towards_camera ?? null, level, say("row.head_none"));
    return scaled([1, 0], level, drawn, percent(1), percent(0));
  }

  /**
   * Turns as boxes in the colour of who speaks, the less sure the paler; with names where they fit.
   * @param {People} everybody
   * @param {Turn[]} turns
   * @param {number} y
   * @param {number} tall
   * @param {boolean} named
   */
  function speakers(everybody, turns, y, tall, named) {
    const layer = element("g");
    for (const turn of apart(turns.filter(inView), (box) => [x(box.start), x(box.end)])) {
      const left = x(turn.start);
      const wide = Math.max(1, x(turn.end) - left);
      const name = capital(everybody.name(turn.speaker));
      const kind = `turn ${everybody.colour(turn.speaker)}${everybody.sure(turn) ? "" : " unsure"}`;
      const box = element("rect", { x: left, y, width: wide, height: tall, rx: Math.min(4, wide / 2, tall / 2), class: kind, "fill-opacity": turn.probability });
      if (wide >= POINTED) box.append(element("title", {}, say("turn", { start: clock(turn.start), end: clock(turn.end), name, percent: Math.round(100 * turn.probability) })));
      layer.append(box);
      const text = named && wide > 24 ? fitted(name, wide - 10, 12, 600) : "";
      if (text) layer.append(element("text", { x: left + 6, y: y + tall / 2, class: "turn-text" }, text));
    }
    return layer;
  }

  /**
   * What the chosen person says.
   * @param {number} y
   * @param {number} tall
   */
  function words(y, tall) {
    const layer = element("g");
    for (const cue of data.cues.filter((said) => inView(said) && (!people || people.owns(person, said)))) {
      const left = x(cue.start);
      const wide = x(cue.end) - left;
      if (wide < 2) continue;
      const box = element("rect", { x: left + 0.5, y, width: Math.max(1, wide - 1), height: tall, rx: 4, class: "cue" });
      box.append(element("title", {}, cue.text));
      layer.append(box);
      const text = wide > 30 ? fitted(cue.text, wide - 10, 12, 400) : "";
      if (text) layer.append(element("text", { x: left + 5, y: y + tall / 2, class: "cue-text" }, text));
    }
    return layer;
  }

  /** @param {number} y */
  function axis(y) {
    const layer = element("g");
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600].find((s) => (s / (view.to - view.from)) * width >= 56) ?? 7200;
    for (let tick = Math.ceil(view.from / step - 1e-9) * step; tick <= view.to + 1e-6; tick += step) {
      const anchor = x(tick) < 20 ? "start" : x(tick) > width - 20 ? "end" : "middle";
      layer.append(
        element("line", { x1: x(tick), x2: x(tick), y1: y, y2: y + 5, class: "tick" }),
        element("text", { x: x(tick), y: y + 18, class: "scale", "text-anchor": anchor }, clock(tick)),
      );
    }
    return layer;
  }

  function redraw() {
    width = Math.max(240, Math.floor(root.clientWidth));
    const limit = Math.max(60, Math.floor(width / 2));
    const hatch = element("pattern", { id: `${id}-hatch`, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      element("rect", { width: 7, height: 7, class: "hatch-ground" }), element("line", { x1: 0, x2: 0, y1: 0, y2: 7, class: "hatch-line" }));
    /** @type {Node[]} */
    const parts = [element("defs", {}, hatch)];
    let y = HEIGHT.handle;
    /**
     * @param {string | Node} head
     * @param {number} tall
     * @param {(y: number, tall: number) => Node} body
     */
    const row = (head, tall, body) => {
      if (head) parts.push(typeof head === "string" ? title(head, y) : head);
      y += head ? HEIGHT.title : 0;
      parts.push(body(y, tall));
      y += tall + HEIGHT.gap;
    };
    const shown = cells();
    const contradictions = () => {
      if (!conflictsOf(index.cells).length) return;
      y -= HEIGHT.gap - 2;
      row("", HEIGHT.conflict, conflicts);
    };
    const fused = binned(shown, "fused", limit);
    const several = people && people.answered.length > 1;
    if (people?.turns.length) row(say("row.speakers"), HEIGHT.speakers, (top, tall) => speakers(people, people.turns, top, tall, true));
    if (several) {
      for (const name of people.answered) {
        row(heading(people, name, y), HEIGHT.track, (top, tall) => ribbon(name === person ? fused : binned(indexOf(name).between(view.from, view.to), "fused", limit), top, tall));
        const own = people.turnsOf(name);
        if (own.length) {
          y -= HEIGHT.gap - 2;
          row("", HEIGHT.speech, (top, tall) => speakers(people, own, top, tall, false));
        }
        if (name === person) contradictions();
      }
    } else {
      row(say("row.fused"), HEIGHT.ribbon, (top, tall) => ribbon(fused, top, tall));
      contradictions();
    }
    row(several ? say("row.detail", { name: people.name(person) }) : say("row.emotions"), HEIGHT.emotions, (top, tall) => stack(fused, top, tall));
    for (const modality of data.modalities) {
      row(say(`modality.${modality}`), HEIGHT.modality, (top, tall) => stack(binned(shown, modality, limit), top, tall));
      if (modality === "text" && data.cues.length) {
        y -= HEIGHT.gap - 3;
        row("", HEIGHT.words, words);
      }
    }
    if (index.cells.some((cell) => cell.window.sentiment !== null)) row(say("row.sentiment"), HEIGHT.sentiment, sentiment);
    if (people && index.cells.some((cell) => cell.window.head)) row(say("row.head"), HEIGHT.head, towards);
    y -= HEIGHT.gap - 4;
    if (data.source.duration > 0) parts.push(axis(y));
    height = y + (data.source.duration > 0 ? HEIGHT.axis : 0);
    hoverText = element("text", { y: 11 });
    hover = element("g", { class: "hover", hidden: "" }, element("line", { y1: 14, y2: height - HEIGHT.axis }), hoverText);
    playhead = element("g", { class: "playhead" }, element("line", { y1: 10, y2: height - HEIGHT.axis }), element("path", { d: "M-6,1h12v5l-6,6l-6,-6z" }));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", String(height));
    svg.replaceChildren(...parts, ...(onSeek ? [hover, playhead] : []));
    place();
  }

  function place() {
    if (!onSeek) return;
    playhead.setAttribute("transform", `translate(${x(time).toFixed(2)},0)`);
    playhead.toggleAttribute("hidden", time < view.from - 1e-6 || time > view.to + 1e-6);
    const window = index.at(time);
    const answer = window?.label
      ? say("status", { time: clock(time), label: say(`emotion.${window.label}`), percent: Math.round(100 * (window.confidence ?? 0)) })
      : `${clock(time)}: ${say("no_evidence")}`;
    const turn = people?.turnAt(time);
    svg.setAttribute("aria-valuemin", "0");
    svg.setAttribute("aria-valuemax", index.extent.toFixed(1));
    svg.setAttribute("aria-valuenow", Math.min(time, index.extent).toFixed(1));
    svg.setAttribute("aria-valuetext", people && turn ? answer + say("headline.semicolon") + people.speaks(turn) : answer);
  }

  /** @param {PointerEvent} event */
  function onPointer(event) {
    if (!onSeek) return;
    if (event.type === "pointerdown") {
      if (event.button !== 0) return;
      svg.setPointerCapture(event.pointerId);
    }
    if (event.type === "pointerdown" || svg.hasPointerCapture(event.pointerId)) onSeek(timeAt(event));
    const at = timeAt(event);
    hover.removeAttribute("hidden");
    hover.setAttribute("transform", `translate(${x(at).toFixed(1)},0)`);
    hoverText.setAttribute("text-anchor", x(at) < 24 ? "start" : x(at) > width - 24 ? "end" : "middle");
    hoverText.textContent = clock(at);
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (!onSeek || event.ctrlKey || event.metaKey || event.altKey) return false;
    /** @type {Record<string, () => number>} */
    const goals = {
      ArrowRight: () => index.step(time, 1), ArrowUp: () => index.step(time, 1), ArrowLeft: () => index.step(time, -1), ArrowDown: () => index.step(time, -1),
      PageUp: () => index.step(time, 10), PageDown: () => index.step(time, -10), Home: () => 0, End: () => index.extent,
    };
    /** @type {Record<string, () => void>} */
    const zooms = { "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => setView(0, index.extent) };
    if (event.key === " ") onToggle();
    else if (zooms[event.key]) zooms[event.key]();
    else if (goals[event.key]) onSeek(goals[event.key]());
    else return false;
    event.preventDefault();
    return true;
  }

  /**
   * Show a stretch of time; as much as a few windows at least, and never what lies outside the recording.
   * @param {number} start
   * @param {number} end
   */
  function setView(start, end) {
    const least = Math.min(index.extent, (LEAST_WINDOWS * index.extent) / Math.max(1, index.cells.length));
    const length = Math.min(index.extent, Math.max(least, end - start));
    const first = Math.min(Math.max(0, (start + end - length) / 2), index.extent - length);
    if (Math.abs(first - view.from) < 1e-9 && Math.abs(first + length - view.to) < 1e-9) return;
    Object.assign(view, { from: first, to: first + length });
    if (!due) due = requestAnimationFrame(() => { due = 0; redraw(); });
    onView(view.from, view.to);
  }

  /**
   * Show `factor` times as much, around a time: the playhead where it is in view, else the middle.
   * @param {number} factor
   * @param {number} [around]
   */
  function zoom(factor, around = time >= view.from && time <= view.to ? time : (view.from + view.to) / 2) {
    const start = around - (around - view.from) * factor;
    setView(start, start + (view.to - view.from) * factor);
  }

  /** @param {WheelEvent} event */
  function onWheel(event) {
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    if (event.ctrlKey) zoom(2 ** Math.max(-1, Math.min(1, event.deltaY / 100)), timeAt(event));
    else if (view.to - view.from < index.extent && Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      const step = (sideways / width) * (view.to - view.from);
      setView(view.from + step, view.to + step);
    } else return;
    event.preventDefault();
  }

  if (onSeek) {
    svg.addEventListener("wheel", onWheel, { passive: false });
    svg.addEventListener("pointerdown", onPointer);
    svg.addEventListener("pointermove", onPointer);
    svg.addEventListener("pointerleave", () => hover.setAttribute("hidden", ""));
    svg.addEventListener("keydown", onKey);
  }
  root.append(svg);
  const observer = new ResizeObserver(() => { if (Math.floor(root.clientWidth) !== width) redraw(); });
  observer.observe(root);
  redraw();

  return {
    onKey,
    redraw,
    setView,
    zoom,
    /** @param {number} seconds */
    setTime: (seconds) => {
      const seen = (/** @type {number} */ at) => at >= view.from && at <= view.to;
      const follows = seen(time) || Math.abs(seconds - time) > JUMP;
      time = seconds;
      // What plays in view, or is sought elsewhere, stays in view; a look at another place while it plays lasts.
      const length = view.to - view.from;
      if (follows && !seen(time)) setView(time - 0.1 * length, time + 0.9 * length);
      place();
    },
    /** @param {string | null} next */
    setPerson: (next) => {
      person = next;
      index = indexOf(person);
      redraw();
    },
    /** @param {Curves} next */
    update: (next) => {
      const whole = view.to - view.from >= index.extent - 1e-9;
      data = next;
      indexes = new Map();
      index = indexOf(person);
      if (whole) Object.assign(view, { from: 0, to: index.extent });
      redraw();
    },
    get index() {
      return index;
    },
  };
}
