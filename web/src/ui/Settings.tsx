import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { claim, instance, logout, rename, selfName, world } from "../state/app";
import { prefs, setPrefs } from "../state/prefs";
import { toast } from "../state/toasts";
import { dialog, type SettingsTab } from "../state/ui";
import { Avatar } from "./Avatar";
import { Dialog } from "./Dialog";
import { Field, FormError, Segments, Switch, useForm } from "./forms";
import { Shortcuts } from "./Help";
import { Icon } from "./icons";
import { VoiceSettings } from "./VoiceSettings";

const tabs: readonly { id: SettingsTab; label: string; icon: string; view: () => JSX.Element }[] = [
  { id: "voice", label: "Voice", icon: "mic", view: VoiceSettings },
  { id: "appearance", label: "Appearance", icon: "palette", view: Appearance },
  { id: "account", label: "Account", icon: "user", view: Account },
  { id: "keys", label: "Shortcuts", icon: "keyboard", view: Shortcuts },
];

export function Settings({ tab }: { tab: SettingsTab }): JSX.Element {
  const select = (id: SettingsTab) => (dialog.value = { kind: "settings", tab: id });
  const here = tabs.findIndex((one) => one.id === tab);
  const View = tabs[here]?.view ?? VoiceSettings;
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const next = step && tabs.at((here + step) % tabs.length);
    if (!next) return;
    event.preventDefault();
    select(next.id);
    document.getElementById(`tab-${next.id}`)?.focus();
  };
  return (
    <Dialog title="Settings" class="settings" testId="settings-dialog">
      <div class="settings-grid">
        <div class="tabs" role="tablist" aria-label="Settings" aria-orientation="vertical" onKeyDown={onKey}>
          {tabs.map((one) => (
            <button
              key={one.id}
              id={`tab-${one.id}`}
              type="button"
              role="tab"
              aria-selected={one.id === tab}
              aria-controls="settings-view"
              tabIndex={one.id === tab ? 0 : -1}
              onClick={() => select(one.id)}
            >
              <Icon name={one.icon} size={18} /> {one.label}
            </button>
          ))}
        </div>
        <div class="settings-view" id="settings-view" role="tabpanel" aria-labelledby={`tab-${tab}`} key={tab}>
          <View />
        </div>
      </div>
    </Dialog>
  );
}

function Appearance(): JSX.Element {
  return (
    <>
      <Segments
        label="Theme"
        value={prefs.value.theme}
        options={[
          { value: "system", label: "System" },
          { value: "light", label: "Light" },
          { value: "dark", label: "Dark" },
        ]}
        change={(theme) => setPrefs({ theme })}
      />
      <Switch label="Call sounds" hint="Short tones when you join, leave or mute." checked={prefs.value.sounds} change={(sounds) => setPrefs({ sounds })} />
      <p class="field-note">Motion follows your system's setting for reduced motion.</p>
    </>
  );
}

function Account(): JSX.Element {
  const { self } = world.value;
  const [name, setName] = useState(self?.global_name ?? "");
  const form = useForm(async () => {
    await rename(name.trim());
    toast("Your name was changed.");
  });
  return (
    <>
      <div class="account">
        <Avatar id={self?.id ?? ""} name={selfName.value} size={56} />
        <div>
          <strong>{selfName.value}</strong>
          <p class="field-note">{self?.guest ? "Guest: this name lives in this browser only." : self?.username}</p>
        </div>
      </div>
      <form onSubmit={form.submit} class="inline-form">
        <Field label="Display name" value={name} change={setName} error={form.fields["global_name"]} maxLength={32} required />
        <button type="submit" class="button" disabled={form.busy || name.trim() === "" || name.trim() === self?.global_name}>
          Save
        </button>
      </form>
      <FormError>{form.error}</FormError>
      {self?.guest && <Claim />}
      <div class="settings-end">
        <button type="button" class="button danger" onClick={() => void logout().then(() => (dialog.value = undefined))}>
          <Icon name="logout" size={18} /> {self?.guest ? "Leave for good" : "Sign out"}
        </button>
        {instance.value && (
          <p class="field-note">
            {instance.value.name} · Hubbub {instance.value.version} · <a href="/licenses.txt" target="_blank">Licences</a>
          </p>
        )}
      </div>
    </>
  );
}

function Claim(): JSX.Element {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const form = useForm(async () => {
    await claim(username.trim(), password);
    toast("The account is yours now.");
  });
  return (
    <form onSubmit={form.submit} class="claim">
      <h3>Keep this account</h3>
      <p class="field-note">Choose a username and password to come back as yourself from any device.</p>
      <Field label="Username" value={username} change={setUsername} error={form.fields["username"]} autocomplete="username" maxLength={32} required />
      <Field label="Password" type="password" value={password} change={setPassword} error={form.fields["password"]} autocomplete="new-password" minLength={8} required />
      <FormError>{form.error}</FormError>
      <button type="submit" class="button primary" disabled={form.busy}>
        Keep it
      </button>
    </form>
  );
}
