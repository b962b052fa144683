/** Plays remote streams: one element for each user, and a gain node for those louder than an element can be. */

/** How loud others are, linear, while a priority speaker speaks. */
export const duckedTo = 0.35;
/** From full volume to ducked and back, ms: fast enough for the first word, slow enough not to click. */
const duckFor = 150;
const unduckFor = 400;
const rampStep = 20;

/** The duck factor this long (ms) after it was `from`, on its way to 1 or to duckedTo. */
export function ramp(from: number, ducked: boolean, elapsed: number): number {
  const range = 1 - duckedTo;
  return ducked ? Math.max(duckedTo, from - (range * elapsed) / duckFor) : Math.min(1, from + (range * elapsed) / unduckFor);
}

interface Voice {
  stream: MediaStream;
  element: HTMLAudioElement;
  /** Linear, 0 to 2. */
  volume: number;
  /** What a priority speaker leaves of it, linear. */
  duck: number;
  gain: { source: MediaStreamAudioSourceNode; node: GainNode } | undefined;
}

type SinkElement = HTMLAudioElement & { setSinkId?(id: string): Promise<void> };
type SinkContext = AudioContext & { setSinkId?(id: string): Promise<void> };

export const canChooseOutput = typeof HTMLMediaElement !== "undefined" && "setSinkId" in HTMLMediaElement.prototype;

export class Playback {
  /** The browser wants a click before it plays anything. */
  readonly #blocked: (blocked: boolean) => void;
  readonly #voices = new Map<string, Voice>();
  #context: SinkContext | undefined;
  #sink = "";
  #deaf = false;
  #priority: ReadonlySet<string> = new Set();
  #rampTimer: ReturnType<typeof setInterval> | undefined;

  constructor(blocked: (blocked: boolean) => void) {
    this.#blocked = blocked;
  }

  get streams(): Map<string, MediaStream> {
    return new Map([...this.#voices].map(([id, voice]) => [id, voice.stream]));
  }

  /** Plays exactly these streams from now on. `volumes` says how loud each is. */
  update(streams: ReadonlyMap<string, MediaStream>, volume: (userId: string) => number): void {
    for (const [id, voice] of this.#voices) {
      if (streams.get(id)?.getAudioTracks()[0] !== voice.stream.getAudioTracks()[0]) this.#remove(id, voice);
    }
    for (const [id, stream] of streams) {
      if (!this.#voices.has(id)) this.#add(id, stream, volume(id));
    }
  }

  setVolume(userId: string, volume: number): void {
    const voice = this.#voices.get(userId);
    if (!voice) return;
    voice.volume = volume;
    this.#apply(voice);
  }

  setDeaf(deaf: boolean): void {
    this.#deaf = deaf;
    for (const voice of this.#voices.values()) this.#apply(voice);
  }

  /** While any of these speaks, all others are quieter. */
  setPriority(speakers: ReadonlySet<string>): void {
    this.#priority = speakers;
    if (this.#rampTimer !== undefined) return;
    let last = performance.now();
    this.#rampTimer = setInterval(() => {
      const now = performance.now();
      if (!this.#ramp(now - last)) {
        clearInterval(this.#rampTimer);
        this.#rampTimer = undefined;
      }
      last = now;
    }, rampStep);
  }

  async setSink(id: string): Promise<void> {
    this.#sink = id;
    await Promise.all([
      ...[...this.#voices.values()].map((voice) => (voice.element as SinkElement).setSinkId?.(id)),
      this.#context?.setSinkId?.(id),
    ]);
  }

  /** Called from a click, after the browser refused to play. */
  async unblock(): Promise<void> {
    await this.#context?.resume();
    await Promise.all([...this.#voices.values()].map((voice) => this.#play(voice)));
  }

  clear(): void {
    clearInterval(this.#rampTimer);
    this.#rampTimer = undefined;
    this.#priority = new Set();
    for (const [id, voice] of this.#voices) this.#remove(id, voice);
    this.#blocked(false);
  }

  #ducked(id: string): boolean {
    return this.#priority.size > 0 && !this.#priority.has(id);
  }

  /** Moves every volume on by so many milliseconds; reports whether any has further to go. */
  #ramp(elapsed: number): boolean {
    let moving = false;
    for (const [id, voice] of this.#voices) {
      const ducked = this.#ducked(id);
      const target = ducked ? duckedTo : 1;
      if (voice.duck === target) continue;
      voice.duck = ramp(voice.duck, ducked, elapsed);
      this.#apply(voice);
      moving ||= voice.duck !== target;
    }
    return moving;
  }

  #add(id: string, stream: MediaStream, volume: number): void {
    const element = new Audio();
    element.autoplay = true;
    element.srcObject = stream;
    const voice: Voice = { stream, element, volume, duck: this.#ducked(id) ? duckedTo : 1, gain: undefined };
    this.#voices.set(id, voice);
    if (this.#sink) void (element as SinkElement).setSinkId?.(this.#sink).catch(() => undefined);
    this.#apply(voice);
    void this.#play(voice);
  }

  async #play(voice: Voice): Promise<void> {
    try {
      await voice.element.play();
      this.#blocked(false);
    } catch (error) {
      if ((error as Error).name === "NotAllowedError") this.#blocked(true);
    }
  }

  #apply(voice: Voice): void {
    const loud = voice.volume > 1;
    // The element goes on running muted beside the gain node: Chromium decodes a stream only while one plays it.
    voice.element.muted = this.#deaf || loud;
    voice.element.volume = Math.min(1, voice.volume) * voice.duck;
    if (loud && !voice.gain) {
      this.#context ??= new AudioContext({ latencyHint: "interactive" });
      if (this.#sink) void this.#context.setSinkId?.(this.#sink);
      void this.#context.resume();
      const source = this.#context.createMediaStreamSource(voice.stream);
      const node = this.#context.createGain();
      source.connect(node).connect(this.#context.destination);
      voice.gain = { source, node };
    } else if (!loud && voice.gain) {
      disconnect(voice.gain);
      voice.gain = undefined;
    }
    if (voice.gain) voice.gain.node.gain.value = this.#deaf ? 0 : voice.volume * voice.duck;
  }

  #remove(id: string, voice: Voice): void {
    this.#voices.delete(id);
    if (voice.gain) disconnect(voice.gain);
    voice.element.pause();
    voice.element.srcObject = null;
  }
}

function disconnect(gain: NonNullable<Voice["gain"]>): void {
  gain.source.disconnect();
  gain.node.disconnect();
}
