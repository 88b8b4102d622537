// The connection of the live tab: what is sent, what comes back, and how it is found again when it is lost.

import { token } from "./api.js";

/** @typedef {{ labels: string[], modalities: string[], palette?: Palette }} Ready */
/** @typedef {{ name: string, probability: number, box: Omit<Box, "time"> | null }} Heard */
/** @typedef {Verdict & { time: number, delay_ms: number, dropped: number, speakers: Heard[] | null, note: string | null }} Step */

const PROTOCOL = "affuse.live.v1";
const PICTURE = 1;
const SOUND = 2;
const CHUNK = 0.1;  // seconds of a chunk of sound
const DRIFT = 0.25;  // seconds by which the clock of the sound may part from ours
const FULL = 128 * 1024;  // bytes that may wait to be sent before pictures are dropped
const WAITS = [500, 1000, 2000, 4000, 8000];  // milliseconds before trying again

const address = () => {
  const url = new URL("v1/live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  return url;
};

/**
 * A message: kind, time in seconds as a little-endian double, payload.
 * @param {number} kind
 * @param {number} seconds
 * @param {ArrayBuffer | Uint8Array} payload
 */
function message(kind, seconds, payload) {
  const bytes = new Uint8Array(9 + payload.byteLength);
  bytes[0] = kind;
  new DataView(bytes.buffer).setFloat64(1, seconds, true);
  bytes.set(payload instanceof Uint8Array ? payload : new Uint8Array(payload), 9);
  return bytes;
}

/**
 * Connect and stay connected until `close()`.
 *
 * `ready` hears the labels and their colours; `step` an answer, the seconds since the first connection and the pictures
 * that were dropped; `end` a sentence, or nothing, when the service ends the stream or cannot be reached.
 * @typedef {"connecting" | "loading" | "on" | "lost"} State
 * @param {{ language: string | null }} options
 * @param {{ state: (name: State) => void, ready: (about: Ready) => void, step: (answer: Step, time: number, dropped: number) => void, end: (reason: string) => void }} on
 */
export function openStream(options, on) {
  const began = performance.now();
  /** @type {WebSocket | null} */
  let socket = null;
  let origin = began;  // the service counts its seconds from here
  /** @type {number | null} */
  let soundTime = null;
  let failures = 0;
  /** @type {string | null} */
  let refusal = null;
  let closed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const dropped = { here: 0, before: 0, now: 0 };  // pictures: by us, by the service until the last connection, in this one

  /** @param {number} at */
  const since = (at) => (at - origin) / 1000;
  const open = () => (socket?.readyState === WebSocket.OPEN ? socket : null);

  function connect() {
    on.state(failures ? "lost" : "connecting");
    const line = new WebSocket(address(), [PROTOCOL, ...(token() ? [`token.${token()}`] : [])]);
    socket = line;
    line.onopen = () => {
      origin = performance.now();
      dropped.before += dropped.now;
      dropped.now = 0;
      soundTime = null;
      line.send(JSON.stringify({ type: "start", ...options }));
    };
    line.onmessage = ({ data }) => receive(JSON.parse(data));
    line.onclose = lost;
  }

  /** @param {any} answer */
  function receive(answer) {
    if (answer.type === "error") refusal = answer.detail;
    else if (answer.type === "loading") on.state("loading");
    else if (answer.type === "ready") {
      failures = 0;
      on.ready(answer);
      on.state("on");
    } else if (answer.type === "step") {
      dropped.now = answer.dropped;
      on.step(answer, answer.time + (origin - began) / 1000, dropped.here + dropped.before + dropped.now);
    }
  }

  /** @param {CloseEvent} event */
  function lost({ code, reason }) {
    if (closed) return;
    const final = refusal ?? ([1003, 1007, 1008, 1009, 1013].includes(code) ? reason : null);
    if (final !== null || failures >= WAITS.length) {
      closed = true;
      on.end(final ?? "");
      return;
    }
    on.state("lost");
    timer = setTimeout(connect, WAITS[failures]);
    failures += 1;
  }

  connect();
  return {
    /**
     * A picture taken at a time of performance.now(); dropped while earlier ones still wait to be sent.
     * @param {Uint8Array} payload
     * @param {number} at
     */
    picture: (payload, at) => {
      const line = open();
      if (!line) return;
      if (line.bufferedAmount > FULL) dropped.here += 1;
      else line.send(message(PICTURE, Math.max(0, since(at)), payload));
    },
    /**
     * The next chunk of sound, which ended about `at`; its samples follow those before without a gap.
     * @param {ArrayBuffer} payload
     * @param {number} at
     */
    sound: (payload, at) => {
      const line = open();
      if (!line) return;
      const measured = Math.max(0, since(at) - CHUNK);
      const time = soundTime === null || Math.abs(soundTime - measured) > DRIFT ? measured : soundTime;
      if (line.bufferedAmount <= 4 * FULL) line.send(message(SOUND, time, payload));
      soundTime = time + CHUNK;
    },
    /** @param {string} text */
    text: (text) => open()?.send(JSON.stringify({ type: "text", text, time: since(performance.now()) })),
    close: () => {
      closed = true;
      clearTimeout(timer);
      open()?.send(JSON.stringify({ type: "stop" }));
      socket?.close();
    },
  };
}
