import { Gate, type GateConfig } from "./gate";

// The DOM library has no types for the worklet's own scope.
declare const sampleRate: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: unknown): void;

/** Blocks between two level reports: 128 samples each, so about 30 reports a second at 48 kHz. */
const reportEvery = 12;

class GateProcessor extends AudioWorkletProcessor {
  readonly #gate = new Gate(sampleRate);
  #blocks = 0;
  #wasOpen = false;

  constructor() {
    super();
    this.port.onmessage = (event: MessageEvent<GateConfig>) => this.#gate.configure(event.data);
  }

  process(inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const input = inputs[0]?.[0];
    const output = outputs[0]?.[0];
    if (!input || !output) return true;
    this.#gate.process(input, output);
    const { open, level, threshold } = this.#gate;
    // A change is reported at once: the sender starts on it.
    if (open !== this.#wasOpen || ++this.#blocks >= reportEvery) {
      this.#wasOpen = open;
      this.#blocks = 0;
      this.port.postMessage({ open, level, threshold });
    }
    return true;
  }
}

registerProcessor("hubbub-gate", GateProcessor);
