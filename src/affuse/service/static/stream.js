// The connection of the live tab: what is sent, what comes back, and how it is found again when it is lost.

import { token } from "./api.js";

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

/** A message: kind, time in seconds as a little-endian double, payload. */
function message(kind, seconds, payload) {
  const bytes = new Uint8Array(9 + payload.byteLength);
  bytes[0] = kind;
  new DataView(bytes.buffer).setFloat64(1, seconds, true);
  bytes.set(new Uint8Array(payload), 9);
  return bytes;
}

/**
 * Connect and stay connected until `close()`.
 *
 * on: state("connecting" | "loading" | "on" | "lost"), step(answer, seconds since the first connection, pictures dropped), and
 * end(sentence or "") when the service ends the stream or cannot be reached.
 */
export function openStream(options, on) {
  const began = performance.now();
  let socket = null;
  let origin = began;  // the service counts its seconds from here
  let soundTime = null;
  let failures = 0;
  let refusal = null;
  let closed = false;
  let timer = null;
  const dropped = { here: 0, before: 0, now: 0 };  // pictures: by us, by the service until the last connection, in this one

  const since = (at) => (at - origin) / 1000;
  const ready = () => socket?.readyState === WebSocket.OPEN;

  function connect() {
    on.state(failures ? "lost" : "connecting");
    socket = new WebSocket(address(), [PROTOCOL, ...(token() ? [`token.${token()}`] : [])]);
    socket.onopen = () => {
      origin = performance.now();
      dropped.before += dropped.now;
      dropped.now = 0;
      soundTime = null;
      socket.send(JSON.stringify({ type: "start", ...options }));
    };
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = lost;
  }

  function receive(answer) {
    if (answer.type === "error") refusal = answer.detail;
    else if (answer.type === "loading") on.state("loading");
    else if (answer.type === "ready") {
      failures = 0;
      on.state("on");
    } else if (answer.type === "step") {
      dropped.now = answer.dropped;
      on.step(answer, answer.time + (origin - began) / 1000, dropped.here + dropped.before + dropped.now);
    }
  }

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
    /** A picture taken at a time of performance.now(); dropped while earlier ones still wait to be sent. */
    picture: (payload, at) => {
      if (!ready()) return;
      if (socket.bufferedAmount > FULL) dropped.here += 1;
      else socket.send(message(PICTURE, Math.max(0, since(at)), payload));
    },
    /** The next chunk of sound, which ended about `at`; its samples follow those before without a gap. */
    sound: (payload, at) => {
      if (!ready()) return;
      const measured = Math.max(0, since(at) - CHUNK);
      soundTime = soundTime === null || Math.abs(soundTime - measured) > DRIFT ? measured : soundTime;
      if (socket.bufferedAmount <= 4 * FULL) socket.send(message(SOUND, soundTime, payload));
      soundTime += CHUNK;
    },
    text: (text) => {
      if (ready()) socket.send(JSON.stringify({ type: "text", text, time: since(performance.now()) }));
    },
    close: () => {
      closed = true;
      clearTimeout(timer);
      if (ready()) socket.send(JSON.stringify({ type: "stop" }));
      socket.close();
    },
  };
}
