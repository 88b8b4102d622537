// Runs in the audio thread: mixes channels, resamples to 16 kHz and posts 16-bit chunks of 100 ms.

import { Resampler } from "./resample.js";

const RATE = 16_000;
const CHUNK = RATE / 10;

class Sound extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #chunk = new Int16Array(CHUNK);
  #filled = 0;

  /** @param {Float32Array[][]} inputs */
  process([channels]) {
    if (!channels.length) return true;
    const mono = channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
    for (const value of this.#resampler.push(mono)) {
      this.#chunk[this.#filled++] = Math.round(32767 * Math.min(1, Math.max(-1, value)));
      if (this.#filled === CHUNK) {
        this.port.postMessage(this.#chunk.buffer, [this.#chunk.buffer]);
        this.#chunk = new Int16Array(CHUNK);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("sound", Sound);
