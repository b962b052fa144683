import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import { Capture, captureProblem, type GateReport } from "../audio/capture";
import { silence, type GateMode } from "../audio/gate";
import { prefs, type InputMode } from "./prefs";
import { captureMessage, type Problem } from "./problems";

/** Push-to-talk stays open this long (ms) after the key is let go: people let go on the last syllable. */
const releaseTail = 180;

/** Who needs the microphone open. */
type Reason = "call" | "check";

/** The microphone as the app sees it: on while someone needs it, gated by mute, mode and key. */
export class Microphone {
  readonly level = signal(silence);
  readonly threshold = signal(-50);
  /** Sound passes the gate now. */
  readonly open = signal(false);
  readonly problem = signal<Problem | undefined>(undefined);
  readonly running = signal(false);
  readonly pushHeld = signal(false);
  /** Muted by the user or by a moderator, or deafened. */
  readonly muted = signal(false);
  /** The channel lacks USE_VAD. */
  readonly pushOnly = signal(false);
  readonly mode: ReadonlySignal<InputMode> = computed(() => (this.pushOnly.value ? "push" : prefs.value.inputMode));

  readonly #capture = new Capture(
    (report) => this.#reported(report),
    () => void this.restart(),
    () => this.#onTrack(this.#capture.track),
  );
  readonly #reasons = new Set<Reason>();
  readonly #onTrack: (track: MediaStreamTrack | undefined) => void;
  #releaseTimer: ReturnType<typeof setTimeout> | undefined;
  #settings = "";

  constructor(onTrack: (track: MediaStreamTrack | undefined) => void) {
    this.#onTrack = onTrack;
    effect(() => {
      const { threshold, inputGain } = prefs.value;
      this.#capture.configure({ mode: this.#gateMode(), threshold, gain: inputGain });
    });
    effect(() => {
      const settings = JSON.stringify(this.#deviceSettings());
      if (settings === this.#settings) return;
      this.#settings = settings;
      if (this.#capture.running) void this.restart();
    });
  }

  get track(): MediaStreamTrack | undefined {
    return this.#capture.track;
  }

  async acquire(reason: Reason): Promise<void> {
    this.#reasons.add(reason);
    if (!this.#capture.running) await this.restart();
  }

  release(reason: Reason): void {
    this.#reasons.delete(reason);
    if (this.#reasons.size > 0) return;
    this.#capture.stop();
    this.#onTrack(undefined);
    this.running.value = false;
    this.open.value = false;
    this.level.value = silence;
    this.problem.value = undefined;
  }

  /** Opens the device again: after a refusal, an unplugged device, or other settings. */
  async restart(): Promise<void> {
    if (this.#reasons.size === 0) return;
    try {
      await this.#capture.start(this.#deviceSettings());
      if (this.#reasons.size === 0) return this.#capture.stop();
      this.problem.value = undefined;
      this.running.value = this.#capture.running;
      this.#onTrack(this.#capture.track);
    } catch (error) {
      // A chosen device that is no longer there must not keep the user from talking on another.
      if (captureProblem(error) === "missing" && prefs.value.inputDevice) {
        prefs.value = { ...prefs.value, inputDevice: "" };
        this.#settings = JSON.stringify(this.#deviceSettings());
        return this.restart();
      }
      this.running.value = false;
      this.open.value = false;
      this.problem.value = captureMessage(captureProblem(error), location);
      this.#onTrack(undefined);
    }
  }

  push(held: boolean): void {
    clearTimeout(this.#releaseTimer);
    if (held) this.pushHeld.value = true;
    else this.#releaseTimer = setTimeout(() => (this.pushHeld.value = false), releaseTail);
  }

  resume(): Promise<void> {
    return this.#capture.resume();
  }

  #deviceSettings() {
    const { inputDevice, noiseSuppression, echoCancellation, autoGain } = prefs.value;
    return { device: inputDevice, noiseSuppression, echoCancellation, autoGain };
  }

  #gateMode(): GateMode {
    if (this.muted.value) return "closed";
    switch (this.mode.value) {
      case "voice":
        return "voice";
      case "push":
        return this.pushHeld.value ? "open" : "closed";
      case "open":
        return "open";
    }
  }

  #reported({ open, level, threshold }: GateReport): void {
    this.open.value = open;
    this.level.value = level;
    this.threshold.value = threshold;
  }
}
