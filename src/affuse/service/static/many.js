// Many recordings at once: sent one after the other, each with the words that lie beside it under the same name.

import { ApiError, sentence } from "./api.js";

const WORDS = /\.(srt|vtt|txt|json)$/i;
const PATIENCE = 5;  // times that a full service is asked again

/** @param {string} name */
const stem = (name) => name.replace(/\.[^.]*$/, "");

/**
 * The recordings among some files, each with its transcript if one has its name.
 * @param {File[]} files
 * @returns {{ recording: File, transcript: File | undefined }[]}
 */
export function pairs(files) {
  const recordings = files.filter((file) => !WORDS.test(file.name));
  const words = new Map(files.filter((file) => WORDS.test(file.name)).map((file) => [stem(file.name), file]));
  return recordings.map((recording) => ({ recording, transcript: words.get(stem(recording.name)) }));
}

/**
 * Send all, and tell how far it is and what was refused. A service that is full is asked again when it says.
 * @param {{ recording: File, transcript: File | undefined }[]} all
 * @param {(recording: File, transcript: File | undefined, signal: AbortSignal) => Promise<unknown>} send
 * @param {(sent: number, refused: [string, string][]) => void} tell
 * @param {AbortSignal} signal
 */
export async function sendMany(all, send, tell, signal) {
  /** @type {[string, string][]} */
  const refused = [];
  let sent = 0;
  for (const { recording, transcript } of all) {
    if (signal.aborted) break;
    tell(sent, refused);
    try {
      await patiently(() => send(recording, transcript, signal), signal);
      sent += 1;
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") break;
      refused.push([recording.name, sentence(error)]);
      if (error instanceof ApiError && (error.status === 0 || error.status === 401)) break;
    }
  }
  tell(sent, refused);
  return { sent, refused };
}

/**
 * @param {() => Promise<unknown>} attempt
 * @param {AbortSignal} signal
 */
async function patiently(attempt, signal) {
  for (let asked = 0; ; asked++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 429 || asked >= PATIENCE) throw error;
      const seconds = Number(error.retryAfter) || 10;
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000 * seconds);
        signal.addEventListener("abort", () => { clearTimeout(timer); resolve(null); }, { once: true });
      });
      if (signal.aborted) throw new DOMException("ended", "AbortError");
    }
  }
}
