/**
 * Stands in for a media element where there is nothing to play: time that runs by itself.
 * @implements {Player}
 */
export class Clock extends EventTarget {
  #time = 0;
  /** @type {number | null} */
  #since = null;
  playbackRate = 1;
  /** @param {number} duration */
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
  /** @param {number | null} at */
  pause(at = null) {
    this.#time = at ?? this.currentTime;
    this.#since = null;
    this.dispatchEvent(new Event("pause"));
  }
}
