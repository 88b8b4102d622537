// The whole recording as one strip, with the stretch that the timeline shows: drag over it to choose another one.

import { make } from "./elements.js";
import { binned, element, formatTime, runs } from "./timeline.js";

const TALL = 30;
const GRIP = 8;  // pixels beside an edge of the stretch that move the edge
const CLICK = 4;  // pixels up to which a press is a click

/**
 * Buttons and a strip inside `root` that choose what `timeline` shows; hidden while `shown()` is false.
 *
 * Returns `draw`, for another person or width, and `setView`, which the timeline tells of what it shows.
 * @param {HTMLElement} root
 * @param {{ say: Say, palette: Palette, index: () => Index, timeline: { setView: (from: number, to: number) => void, zoom: (factor: number) => void }, onSeek: (seconds: number) => void }} options
 */
export function createOverview(root, { say, palette, index, timeline, onSeek }) {
  /** @param {string} key @param {string} text @param {() => void} act */
  const button = (key, text, act) => {
    const node = make("button", { type: "button", class: "quiet", "aria-label": say(key), title: say(key) }, text);
    node.addEventListener("click", act);
    return node;
  };
  const range = make("output", { "aria-live": "polite" });
  const whole = button("zoom.whole", say("zoom.whole"), () => timeline.setView(0, index().extent));
  const bar = make("div", { class: "zoom", role: "group", "aria-label": say("zoom") },
    button("zoom.out", "−", () => timeline.zoom(2)), button("zoom.in", "+", () => timeline.zoom(0.5)), whole, range);
  const svg = element("svg", { class: "overview", "aria-hidden": "true", height: TALL });
  const ribbon = element("g");
  const shades = [element("rect", { class: "shade", y: 0, height: TALL }), element("rect", { class: "shade", y: 0, height: TALL })];
  const frame = element("rect", { class: "frame", y: 1, height: TALL - 2, rx: 4 });
  const playhead = element("line", { class: "now", y1: 0, y2: TALL });
  svg.append(ribbon, ...shades, frame, playhead);
  root.append(bar, svg);
  let width = 0;
  let from = 0;
  let to = index().extent;
  /** @type {{ kind: "from" | "to" | "move" | "select", at: number, start: number, from: number, to: number } | null} */
  let drag = null;

  /** @param {number} seconds */
  const x = (seconds) => (seconds / index().extent) * width;
  /** @param {PointerEvent} event */
  const pixel = (event) => Math.min(width, Math.max(0, event.clientX - svg.getBoundingClientRect().left));

  function draw() {
    width = Math.max(240, Math.floor(root.clientWidth));
    svg.setAttribute("viewBox", `0 0 ${width} ${TALL}`);
    const groups = binned(index().cells, "fused", Math.floor(width / 2));
    ribbon.replaceChildren(...runs(groups, (group) => group.label ?? "").flatMap((run) => (run.key
      ? [element("rect", { x: x(run.start).toFixed(1), y: 5, width: Math.max(1, x(run.end) - x(run.start)).toFixed(1), height: TALL - 10, fill: palette.colours[run.key] })]
      : [])));
    setView(from, to);
  }

  /** @param {number} start @param {number} end */
  function setView(start, end) {
    [from, to] = [start, end];
    const all = to - from >= index().extent - 1e-6;
    const [left, right] = [x(from), x(to)];
    shades[0].setAttribute("x", "0");
    shades[0].setAttribute("width", String(left));
    shades[1].setAttribute("x", String(right));
    shades[1].setAttribute("width", String(Math.max(0, width - right)));
    frame.setAttribute("x", String(left + 1));
    frame.setAttribute("width", String(Math.max(2, right - left - 2)));
    svg.classList.toggle("whole", all);
    whole.disabled = all;
    range.textContent = `${formatTime(Math.round(from))}–${formatTime(Math.round(to))}`;
  }

  /** @param {PointerEvent} event */
  function press(event) {
    if (event.button !== 0) return;
    svg.setPointerCapture(event.pointerId);
    const at = pixel(event);
    const all = to - from >= index().extent - 1e-6;
    const kind = all ? "select" : Math.abs(at - x(from)) <= GRIP ? "from" : Math.abs(at - x(to)) <= GRIP ? "to" : at > x(from) && at < x(to) ? "move" : "select";
    drag = { kind, at, start: at, from, to };
  }

  /** @param {PointerEvent} event */
  function pull(event) {
    if (!drag) return;
    const at = pixel(event);
    const seconds = (at / width) * index().extent;
    const moved = ((at - drag.start) / width) * index().extent;
    drag.at = at;
    if (Math.abs(at - drag.start) < CLICK) return;
    if (drag.kind === "move") timeline.setView(drag.from + moved, drag.to + moved);
    else {
      const other = drag.kind === "select" ? (drag.start / width) * index().extent : drag.kind === "from" ? drag.to : drag.from;
      timeline.setView(Math.min(other, seconds), Math.max(other, seconds));
    }
  }

  /** @param {PointerEvent} event */
  function release(event) {
    if (drag && event.type === "pointerup" && Math.abs(drag.at - drag.start) < CLICK) {
      const seconds = (drag.at / width) * index().extent;
      timeline.setView(seconds - (to - from) / 2, seconds + (to - from) / 2);
      onSeek(seconds);
    }
    drag = null;
  }

  svg.addEventListener("pointerdown", press);
  svg.addEventListener("pointermove", pull);
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", release);
  draw();

  return {
    draw,
    setView,
    /** @param {number} seconds */
    setTime: (seconds) => {
      playhead.setAttribute("transform", `translate(${x(Math.min(seconds, index().extent)).toFixed(1)},0)`);
    },
  };
}
