import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { canChooseOutput } from "../audio/playback";
import { call } from "../state/app";
import { prefs, setPrefs } from "../state/prefs";
import { Segments, Switch } from "./forms";
import { Icon } from "./icons";
import { keyName } from "./keys";

/** The meter and the threshold share one scale, dBFS. */
const quietest = -80;
const percent = (decibels: number) => Math.max(0, Math.min(100, ((decibels - quietest) / -quietest) * 100));

interface Devices {
  inputs: MediaDeviceInfo[];
  outputs: MediaDeviceInfo[];
}

function useDevices(running: boolean): Devices {
  const [devices, setDevices] = useState<Devices>({ inputs: [], outputs: [] });
  useEffect(() => {
    const media = navigator.mediaDevices as MediaDevices | undefined;
    if (!media) return;
    const list = () =>
      void media.enumerateDevices().then(
        (all) =>
          setDevices({
            inputs: all.filter((device) => device.kind === "audioinput" && device.deviceId !== ""),
            outputs: all.filter((device) => device.kind === "audiooutput" && device.deviceId !== ""),
          }),
        () => undefined,
      );
    list();
    media.addEventListener("devicechange", list);
    return () => media.removeEventListener("devicechange", list);
    // Names are told only once the microphone may be used, so the list is read again then.
  }, [running]);
  return devices;
}

function DeviceSelect(props: {
  label: string;
  value: string;
  devices: MediaDeviceInfo[];
  change: (id: string) => void;
  testId: string;
}): JSX.Element {
  const { label, value, devices, change, testId } = props;
  const known = value === "" || devices.some((device) => device.deviceId === value);
  return (
    <label class="field">
      <span>{label}</span>
      <span class="select">
        <select value={known ? value : ""} data-testid={testId} onChange={(event) => change(event.currentTarget.value)}>
          <option value="">System default</option>
          {devices
            .filter((device) => device.deviceId !== "default")
            .map((device, index) => (
              <option key={device.deviceId} value={device.deviceId}>
                {device.label || `${label} ${index + 1}`}
              </option>
            ))}
        </select>
        <Icon name="chevron" size={16} />
      </span>
    </label>
  );
}

export function VoiceSettings(): JSX.Element {
  const running = call.mic.running.value;
  const { inputs, outputs } = useDevices(running);
  const settings = prefs.value;
  return (
    <>
      <div class="field-pair">
        <DeviceSelect label="Microphone" value={settings.inputDevice} devices={inputs} change={(inputDevice) => setPrefs({ inputDevice })} testId="input-device" />
        {canChooseOutput ? (
          <DeviceSelect label="Output" value={settings.outputDevice} devices={outputs} change={(outputDevice) => setPrefs({ outputDevice })} testId="output-device" />
        ) : (
          <div class="field">
            <span>Output</span>
            <p class="field-note">This browser plays on the system's device; choose it there.</p>
          </div>
        )}
      </div>
      <MicCheck />
      <label class="field">
        <span>
          Input volume <output>{Math.round(settings.inputGain * 100)} %</output>
        </span>
        <input
          type="range"
          min="0"
          max="200"
          step="5"
          value={settings.inputGain * 100}
          style={{ "--fill": `${settings.inputGain * 50}%` }}
          onInput={(event) => setPrefs({ inputGain: Number(event.currentTarget.value) / 100 })}
        />
      </label>
      <Segments
        label="Speak by"
        value={settings.inputMode}
        options={[
          { value: "voice", label: "Voice activity" },
          { value: "push", label: "Push to talk" },
          { value: "open", label: "Always on" },
        ]}
        change={(inputMode) => setPrefs({ inputMode })}
      />
      {call.mic.pushOnly.value && <p class="field-note">This channel asks for push to talk.</p>}
      {settings.inputMode === "voice" && <Threshold />}
      {settings.inputMode === "push" && <PushKey />}
      <Segments
        label="Noise suppression"
        value={settings.noiseSuppression}
        options={[
          { value: "off", label: "Off" },
          { value: "standard", label: "Standard" },
          { value: "strong", label: "Strong" },
        ]}
        change={(noiseSuppression) => setPrefs({ noiseSuppression })}
      />
      <p class="field-note">Standard is the browser's own. Strong removes keyboards and fans with RNNoise, at some cost in CPU.</p>
      <Switch label="Echo cancellation" hint="Keeps others from hearing themselves. Turn it off only with headphones." checked={settings.echoCancellation} change={(echoCancellation) => setPrefs({ echoCancellation })} />
      <Switch label="Automatic gain" hint="Evens out how loud you are." checked={settings.autoGain} change={(autoGain) => setPrefs({ autoGain })} />
    </>
  );
}

function Meter(): JSX.Element {
  const { level, open } = call.mic;
  return (
    <div
      class={`meter${open.value ? " open" : ""}`}
      role="meter"
      aria-label="Input level"
      aria-valuemin={quietest}
      aria-valuemax={0}
      aria-valuenow={Math.round(Math.max(quietest, level.value))}
    >
      <span style={{ transform: `scaleX(${percent(level.value) / 100})` }} />
    </div>
  );
}

/** Opens the microphone outside a call, and plays it back to whoever wants to hear it. */
function MicCheck(): JSX.Element {
  const [checking, setChecking] = useState(false);
  const element = useRef<HTMLAudioElement | undefined>();
  const stop = () => {
    element.current?.pause();
    element.current = undefined;
    call.mic.release("check");
  };
  useEffect(() => {
    void call.mic.acquire("check");
    return stop;
  }, []);
  const toggle = () => {
    if (checking) {
      element.current?.pause();
      element.current = undefined;
    } else {
      const { track } = call.mic;
      if (!track) return void call.mic.restart();
      const audio = new Audio();
      audio.srcObject = new MediaStream([track]);
      element.current = audio;
      void audio.play().catch(() => undefined);
    }
    setChecking(!checking);
  };
  const problem = call.mic.problem.value;
  return (
    <div class="mic-check">
      <button type="button" class="button" aria-pressed={checking} onClick={toggle}>
        <Icon name={checking ? "close" : "ear"} size={18} /> {checking ? "Stop" : "Hear yourself"}
      </button>
      <Meter />
      {problem && (
        <p class="form-error" role="alert">
          {problem.title}. {problem.detail}
        </p>
      )}
    </div>
  );
}

function Threshold(): JSX.Element {
  const { threshold } = prefs.value;
  const auto = threshold === "auto";
  const shown = auto ? call.mic.threshold.value : threshold;
  return (
    <div class="threshold">
      <Switch label="Find the threshold by itself" hint="Follows the noise of your room." checked={auto} change={(on) => setPrefs({ threshold: on ? "auto" : Math.round(shown) })} />
      <div class="threshold-scale">
        <Meter />
        <span class="threshold-mark" style={{ left: `${percent(shown)}%` }} aria-hidden="true" />
        <input
          type="range"
          min={quietest}
          max="0"
          step="1"
          value={Math.round(shown)}
          disabled={auto}
          aria-label="Voice activity threshold"
          aria-valuetext={`${Math.round(shown)} decibels`}
          data-testid="threshold"
          onInput={(event) => setPrefs({ threshold: Number(event.currentTarget.value) })}
        />
      </div>
      <p class="field-note">{Math.round(shown)} dB. Only what is louder than the mark is sent.</p>
    </div>
  );
}

function PushKey(): JSX.Element {
  const [asking, setAsking] = useState(false);
  useEffect(() => {
    if (!asking) return;
    const take = (event: KeyboardEvent) => {
      event.preventDefault();
      event.stopPropagation();
      if (event.code !== "Escape" && event.code !== "Tab") setPrefs({ pushKey: event.code });
      setAsking(false);
    };
    window.addEventListener("keydown", take, true);
    return () => window.removeEventListener("keydown", take, true);
  }, [asking]);
  return (
    <div class="switch-row">
      <div>
        <span>Key to hold</span>
        <p class="field-note">Works while this page has the focus. On a phone, hold the button in the call.</p>
      </div>
      <button type="button" class={`button key${asking ? " asking" : ""}`} data-testid="push-key" aria-live="polite" onClick={() => setAsking(!asking)}>
        {asking ? "Press a key…" : keyName(prefs.value.pushKey)}
      </button>
    </div>
  );
}
