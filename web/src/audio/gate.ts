/** The noise gate, sample by sample and without Web Audio, so that it runs in a worklet and in a test alike. */

export type GateMode =
  /** Opens by level. */
  | "voice"
  /** Passes everything: push-to-talk held, or the gate switched off. */
  | "open"
  /** Passes nothing: muted, or push-to-talk released. */
  | "closed";

export interface GateConfig {
  mode: GateMode;
  /** dBFS at which "voice" opens; "auto" follows the room's noise. */
  threshold: number | "auto";
  /** Gain applied before measuring, linear. */
  gain: number;
}

/** How long "voice" stays open after the level falls, in seconds: gaps between words must not chop. */
const hold = 0.3;
/** "voice" delays the sound by this much (s), so that the first syllable is still to come when the sender starts. */
const lookahead = 0.05;
/** Closing needs a level this far (dB) under the opening threshold, so that the gate does not flutter. */
const hysteresis = 6;
/** "auto" opens this far (dB) above the noise floor. */
const aboveNoise = 14;
const fade = 0.005;
export const silence = -100;

export function toDecibels(amplitude: number): number {
  return amplitude > 1e-5 ? 20 * Math.log10(amplitude) : silence;
}

export class Gate {
  /** Level of the last block in dBFS, fast up and slow down. */
  level = silence;
  /** Whether sound passes now. */
  open = false;
  /** The threshold in force, dBFS. */
  threshold = -50;

  #config: GateConfig = { mode: "closed", threshold: "auto", gain: 1 };
  #noise = -60;
  #holdLeft = 0;
  #envelope = 0;
  readonly #rate: number;
  readonly #delay: Float32Array;
  #write = 0;

  constructor(sampleRate: number) {
    this.#rate = sampleRate;
    this.#delay = new Float32Array(Math.ceil(lookahead * sampleRate) + 1);
  }

  configure(config: GateConfig): void {
    this.#config = config;
  }

  /** Reads one block and writes one of the same length. */
  process(input: Float32Array, output: Float32Array): void {
    const { mode, gain } = this.#config;
    let sum = 0;
    for (let i = 0; i < input.length; i++) sum += (input[i] as number) ** 2;
    const seconds = input.length / this.#rate;
    this.#measure(toDecibels(gain * Math.sqrt(sum / input.length)), seconds);
    this.#decide(seconds);

    const target = this.open ? gain : 0;
    const step = 1 / (fade * this.#rate);
    const size = this.#delay.length;
    const behind = mode === "voice" ? size - 1 : 0;
    for (let i = 0; i < input.length; i++) {
      this.#delay[this.#write] = input[i] as number;
      const read = (this.#write - behind + size) % size;
      this.#write = (this.#write + 1) % size;
      const away = target - this.#envelope;
      this.#envelope += Math.abs(away) <= step ? away : Math.sign(away) * step;
      // The gain may be above one; what would wrap past full scale is clipped instead.
      output[i] = Math.max(-1, Math.min(1, (this.#delay[read] as number) * this.#envelope));
    }
  }

  #measure(now: number, seconds: number): void {
    this.level = now > this.level ? now : Math.max(now, this.level - 60 * seconds);
    // The floor falls at once and rises by 2 dB a second, so speech of a few seconds does not become noise.
    if (now < this.#noise) this.#noise = Math.max(-75, now);
    else this.#noise = Math.min(-35, this.#noise + 2 * seconds);
    const { threshold } = this.#config;
    this.threshold = threshold === "auto" ? this.#noise + aboveNoise : threshold;
  }

  #decide(seconds: number): void {
    const { mode } = this.#config;
    if (mode !== "voice") {
      this.open = mode === "open";
      this.#holdLeft = 0;
      return;
    }
    if (this.level >= this.threshold || (this.open && this.level >= this.threshold - hysteresis)) {
      this.open = true;
      this.#holdLeft = hold;
    } else if (this.open) {
      this.#holdLeft -= seconds;
      this.open = this.#holdLeft > 0;
    }
  }
}
