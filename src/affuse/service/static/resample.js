/** Turns sound of one rate into that of a lower one, block by block, by a windowed sinc (Hann) that cuts above its half. */
export class Resampler {
  #step;
  #cutoff;
  #half;
  #kept;
  #at;

  /**
   * @param {number} from
   * @param {number} to
   */
  constructor(from, to) {
    this.#step = from / to;
    this.#cutoff = 0.9 * Math.min(1, to / from);
    this.#half = Math.ceil(16 * Math.max(1, this.#step));
    this.#kept = new Float32Array(this.#half);
    this.#at = this.#half;  // position of the next sample to make, in those kept
  }

  /**
   * The samples that can be made once `block` is there.
   * @param {Float32Array} block
   */
  push(block) {
    const input = new Float32Array(this.#kept.length + block.length);
    input.set(this.#kept);
    input.set(block, this.#kept.length);
    /** @type {number[]} */
    const made = [];
    for (; this.#at + this.#half < input.length; this.#at += this.#step) made.push(this.#sample(input));
    const spent = Math.max(0, Math.floor(this.#at) - this.#half);
    this.#kept = input.slice(spent);
    this.#at -= spent;
    return made;
  }

  /** @param {Float32Array} input */
  #sample(input) {
    let sum = 0;
    const from = Math.ceil(this.#at - this.#half);
    for (let i = Math.max(0, from); i <= this.#at + this.#half; i++) {
      const x = i - this.#at;
      const wave = x === 0 ? this.#cutoff : Math.sin(Math.PI * this.#cutoff * x) / (Math.PI * x);
      sum += input[i] * wave * (0.5 + 0.5 * Math.cos((Math.PI * x) / this.#half));
    }
    return sum;
  }
}
