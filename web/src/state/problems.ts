import type { CaptureProblem } from "../audio/capture";

/** Something that keeps the user from talking or hearing: what it is, and what to do about it. */
export interface Problem {
  kind: string;
  title: string;
  detail: string;
  /** What the button beside it does, if there is one. */
  action?: "retry-mic" | "retry-join" | "unblock" | "details";
}

const listening = "You can still listen.";

export function captureMessage(problem: CaptureProblem, location: { protocol: string; host: string }): Problem {
  switch (problem) {
    case "refused":
      return {
        kind: "mic-refused",
        title: "The microphone is blocked",
        detail: `The browser refused this page the microphone. Allow it from the icon beside the address, then try again. ${listening}`,
        action: "retry-mic",
      };
    case "missing":
      return {
        kind: "mic-missing",
        title: "No microphone found",
        detail: `Plug one in, or choose another in the settings, then try again. ${listening}`,
        action: "retry-mic",
      };
    case "busy":
      return {
        kind: "mic-busy",
        title: "The microphone is in use",
        detail: `Another program holds it, or its driver failed. Close that program, then try again. ${listening}`,
        action: "retry-mic",
      };
    case "insecure":
      return {
        kind: "mic-insecure",
        title: "This page may not use a microphone",
        detail: `Browsers give the microphone only to secure pages. Open https://${location.host} instead, and trust this server's certificate authority (the server prints where its ca.pem is). ${listening}`,
      };
    case "unknown":
      return {
        kind: "mic-unknown",
        title: "The microphone did not start",
        detail: `The browser gave no reason. Try again, or choose another in the settings. ${listening}`,
        action: "retry-mic",
      };
  }
}

export function udpBlocked(host: string, port: number): Problem {
  return {
    kind: "udp-blocked",
    title: "No sound gets through",
    detail: `Signalling works, but no media reached ${host} on UDP port ${port}. A firewall here or at the server may block it: that port must be open.`,
    action: "retry-join",
  };
}

export const autoplayBlocked: Problem = {
  kind: "autoplay",
  title: "The browser holds back the sound",
  detail: "It wants a click before a page may be heard.",
  action: "unblock",
};

/** Why the gateway turned the app away for good. */
export function gatewayDead(code: number): string {
  switch (code) {
    case 4004:
      return "Your session has ended. Please sign in again.";
    case 4012:
      return "This page is older or newer than the server. Reload it.";
    default:
      return `The server refused the connection (code ${code}). Reload to try again.`;
  }
}

/** Why a voice session ended for good. */
export function voiceFatal(code: number): string {
  switch (code) {
    case 4017:
      return "This channel asks for end-to-end encryption, which this page does not have yet.";
    case 4021:
      return "The voice server asks you to slow down. Wait a little before joining again.";
    default:
      return `The voice server refused the connection (code ${code}).`;
  }
}
