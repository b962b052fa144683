/** Short tones for what happens in a call, made on the spot: nothing to load. */

export type Cue = "join" | "leave" | "mute" | "unmute";

/** Two notes each, Hz. */
const notes: Record<Cue, [number, number]> = {
  join: [523, 784],
  leave: [784, 523],
  mute: [440, 349],
  unmute: [349, 440],
};

let context: AudioContext | undefined;

export function playCue(cue: Cue): void {
  context ??= new AudioContext();
  if (context.state === "suspended") void context.resume();
  const start = context.currentTime + 0.01;
  for (const [index, frequency] of notes[cue].entries()) {
    const at = start + index * 0.09;
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.type = "sine";
    tone.frequency.value = frequency;
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(0.06, at + 0.012);
    volume.gain.exponentialRampToValueAtTime(0.0005, at + 0.16);
    tone.connect(volume).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.18);
  }
}
