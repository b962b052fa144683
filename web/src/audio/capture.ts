import rnnoiseWorkletUrl from "@sapphi-red/web-noise-suppressor/rnnoiseWorklet.js?url";
import rnnoiseUrl from "@sapphi-red/web-noise-suppressor/rnnoise.wasm?url";
import rnnoiseSimdUrl from "@sapphi-red/web-noise-suppressor/rnnoise_simd.wasm?url";
import { silence, type GateConfig } from "./gate";
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

/** A context that does not run after this long (ms) is not waited for. */
const bypassAfter = 1500;

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
  /** The track to send is another one from now on. */
  readonly #switched: () => void;
  #context: AudioContext | undefined;
  #gate: AudioWorkletNode | undefined;
  #destination: MediaStreamAudioDestinationNode | undefined;
  #source: MediaStreamAudioSourceNode | undefined;
  #suppressor: AudioWorkletNode | undefined;
  #raw: MediaStream | undefined;
  #config: GateConfig = { mode: "closed", threshold: "auto", gain: 1 };
  /** Web Audio does not run: the device's own track is sent, ungated but for mute and push-to-talk. */
  #bypass = false;
  #bypassTimer: ReturnType<typeof setTimeout> | undefined;
  #generation = 0;

  constructor(report: (report: GateReport) => void, lost: () => void, switched: () => void) {
    this.#report = report;
    this.#lost = lost;
    this.#switched = switched;
  }

  get running(): boolean {
    return this.#raw !== undefined;
  }

  /** The gated microphone, once started. */
  get track(): MediaStreamTrack | undefined {
    return (this.#bypass ? this.#raw : this.#raw && this.#destination?.stream)?.getAudioTracks()[0];
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
    this.#reportBypass();
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
    context.onstatechange = () => this.#watch(context);
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
    void context.resume();
    this.#raw = raw;
    this.#suppressor = suppressor;
    try {
      this.#source = context.createMediaStreamSource(raw);
      if (suppressor) this.#source.connect(suppressor).connect(gate);
      else this.#source.connect(gate);
      this.#watch(context);
    } catch {
      // Firefox joins no device to a context of another sample rate.
      this.#setBypass(true);
    }
    raw.getAudioTracks()[0]?.addEventListener("ended", () => {
      if (this.#raw === raw) this.#lost();
    });
  }

  /**
   * A context stays suspended for want of a gesture, and in Firefox also for want of any output device. The
   * microphone must not be lost to that.
   */
  #watch(context: AudioContext): void {
    clearTimeout(this.#bypassTimer);
    if (context.state === "running") this.#setBypass(false);
    else this.#bypassTimer = setTimeout(() => this.#setBypass(context.state === "suspended"), bypassAfter);
  }

  #setBypass(bypass: boolean): void {
    if (this.#bypass === bypass || !this.#raw) return;
    this.#bypass = bypass;
    setEnabled(this.#raw, true);
    this.#switched();
    this.#reportBypass();
  }

  #reportBypass(): void {
    if (!this.#bypass) return;
    const open = this.#config.mode !== "closed";
    if (this.#raw) setEnabled(this.#raw, open);
    this.#report({ open, level: silence, threshold: silence });
  }

  #releaseDevice(): void {
    clearTimeout(this.#bypassTimer);
    this.#bypass = false;
    this.#source?.disconnect();
    this.#suppressor?.disconnect();
    this.#suppressor?.port.postMessage("destroy");
    if (this.#raw) stopTracks(this.#raw);
    this.#source = undefined;
    this.#suppressor = undefined;
    this.#raw = undefined;
  }
}

function setEnabled(stream: MediaStream, enabled: boolean): void {
  for (const track of stream.getAudioTracks()) track.enabled = enabled;
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
