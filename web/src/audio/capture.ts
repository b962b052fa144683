import rnnoiseWorkletUrl from "@sapphi-red/web-noise-suppressor/rnnoiseWorklet.js?url";
import rnnoiseUrl from "@sapphi-red/web-noise-suppressor/rnnoise.wasm?url";
import rnnoiseSimdUrl from "@sapphi-red/web-noise-suppressor/rnnoise_simd.wasm?url";
import type { GateConfig } from "./gate";
import gateWorkletUrl from "./gate.worklet?worker&url";

export type NoiseSuppression = "off" | "standard" | "strong";

export interface CaptureSettings {
  /** Device id, or "" for the system's choice. */
  device: string;
  noiseSuppression: NoiseSuppression;
  echoCancellation: boolean;
  autoGain: boolean;
}

export interface GateReport {
  open: boolean;
  /** dBFS */
  level: number;
  /** dBFS */
  threshold: number;
}

export type CaptureProblem = "insecure" | "refused" | "missing" | "busy" | "unknown";

/** Why the microphone cannot be had, as getUserMedia tells it. */
export function captureProblem(error: unknown): CaptureProblem {
  switch ((error as { name?: string } | undefined)?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "refused";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    case "InsecureContext":
      return "insecure";
    default:
      return "unknown";
  }
}

/** Opus runs at this rate, and the noise suppressor knows no other. */
const rate = 48000;

/**
 * The microphone's way to the sender: device, noise suppressor (if "strong"), gate, and a track that stays the same
 * while the device or the settings change.
 */
export class Capture {
  readonly #report: (report: GateReport) => void;
  /** The device went away by itself (unplugged). */
  readonly #lost: () => void;
  /** The browser holds the audio back (true) until a gesture, or lets it run (false). */
  readonly #held: (held: boolean) => void;
  #context: AudioContext | undefined;
  #gate: AudioWorkletNode | undefined;
  #destination: MediaStreamAudioDestinationNode | undefined;
  #source: MediaStreamAudioSourceNode | undefined;
  #suppressor: AudioWorkletNode | undefined;
  #raw: MediaStream | undefined;
  #config: GateConfig = { mode: "closed", threshold: "auto", gain: 1 };
  #generation = 0;

  constructor(report: (report: GateReport) => void, lost: () => void, held: (held: boolean) => void) {
    this.#report = report;
    this.#lost = lost;
    this.#held = held;
  }

  get running(): boolean {
    return this.#raw !== undefined;
  }

  /** The gated microphone, once started. */
  get track(): MediaStreamTrack | undefined {
    return this.#raw && this.#destination?.stream.getAudioTracks()[0];
  }

  /** Opens the device, or changes to other settings. Rejects with getUserMedia's error. */
  async start(settings: CaptureSettings): Promise<void> {
    const generation = ++this.#generation;
    if (!navigator.mediaDevices?.getUserMedia) {
      throw Object.assign(new Error("getUserMedia needs a secure page"), { name: "InsecureContext" });
    }
    // Some systems give a microphone to one user at a time, this page included: let go before asking again.
    this.#releaseDevice();
    const raw = await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(settings.device ? { deviceId: { exact: settings.device } } : {}),
        channelCount: 1,
        echoCancellation: settings.echoCancellation,
        noiseSuppression: settings.noiseSuppression === "standard",
        autoGainControl: settings.autoGain,
      },
    });
    const stale = () => generation !== this.#generation;
    if (stale()) return stopTracks(raw);
    const context = await this.#prepare();
    const suppressor =
      settings.noiseSuppression === "strong" && context.sampleRate === rate ? await loadSuppressor(context) : undefined;
    if (stale()) return stopTracks(raw);
    this.#connect(context, raw, suppressor);
  }

  configure(config: GateConfig): void {
    this.#config = config;
    this.#gate?.port.postMessage(config);
  }

  /** Resumes after the browser held audio back for want of a gesture. */
  async resume(): Promise<void> {
    await this.#context?.resume();
  }

  stop(): void {
    this.#generation++;
    this.#releaseDevice();
    if (this.#context) {
      this.#context.onstatechange = null;
      void this.#context.close();
    }
    this.#context = undefined;
    this.#gate = undefined;
    this.#destination = undefined;
  }

  async #prepare(): Promise<AudioContext> {
    if (this.#context && this.#gate) return this.#context;
    const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    context.onstatechange = () => this.#held(context.state === "suspended");
    await context.audioWorklet.addModule(gateWorkletUrl);
    const gate = new AudioWorkletNode(context, "hubbub-gate", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      outputChannelCount: [1],
      channelCount: 1,
      channelCountMode: "explicit",
    });
    gate.port.onmessage = (event: MessageEvent<GateReport>) => this.#report(event.data);
    gate.port.postMessage(this.#config);
    const destination = context.createMediaStreamDestination();
    destination.channelCount = 1;
    gate.connect(destination);
    this.#context = context;
    this.#gate = gate;
    this.#destination = destination;
    return context;
  }

  #connect(context: AudioContext, raw: MediaStream, suppressor: AudioWorkletNode | undefined): void {
    const gate = this.#gate;
    if (!gate) return stopTracks(raw);
    // Without a gesture resume() stays pending: then the state never changes, and the hold must be told here.
    this.#held(context.state === "suspended");
    void context.resume();
    this.#raw = raw;
    this.#suppressor = suppressor;
    this.#source = context.createMediaStreamSource(raw);
    if (suppressor) this.#source.connect(suppressor).connect(gate);
    else this.#source.connect(gate);
    raw.getAudioTracks()[0]?.addEventListener("ended", () => {
      if (this.#raw === raw) this.#lost();
    });
  }

  #releaseDevice(): void {
    this.#source?.disconnect();
    this.#suppressor?.disconnect();
    this.#suppressor?.port.postMessage("destroy");
    if (this.#raw) stopTracks(this.#raw);
    this.#source = undefined;
    this.#suppressor = undefined;
    this.#raw = undefined;
  }
}

function stopTracks(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

const suppressorReady = new WeakSet<AudioContext>();

async function loadSuppressor(context: AudioContext): Promise<AudioWorkletNode> {
  const { RnnoiseWorkletNode, loadRnnoise } = await import("@sapphi-red/web-noise-suppressor");
  const [wasmBinary] = await Promise.all([
    loadRnnoise({ url: rnnoiseUrl, simdUrl: rnnoiseSimdUrl }),
    suppressorReady.has(context) ? undefined : context.audioWorklet.addModule(rnnoiseWorkletUrl),
  ]);
  suppressorReady.add(context);
  return new RnnoiseWorkletNode(context, { maxChannels: 1, wasmBinary });
}
