import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ChannelType, type Channel } from "../protocol/payloads";
import { openChannel, rest, world } from "../state/app";
import { toast } from "../state/toasts";
import { dialog, type Dialog as DialogState } from "../state/ui";
import { ConnectionPanel } from "./ConnectionPanel";
import { closeDialog, Dialog } from "./Dialog";
import { Field, FormError, Segments, useForm } from "./forms";
import { Help } from "./Help";
import { Icon } from "./icons";
import { Settings } from "./Settings";

export function DialogLayer(): JSX.Element | null {
  const state = dialog.value;
  if (!state) return null;
  switch (state.kind) {
    case "settings":
      return <Settings tab={state.tab} />;
    case "connection":
      return <ConnectionPanel />;
    case "help":
      return <Help />;
    case "create-guild":
      return <CreateGuild />;
    case "create-channel":
      return <CreateChannel state={state} />;
    case "edit-channel":
      return <EditChannel channel={state.channel} />;
    case "invite":
      return <InvitePeople state={state} />;
    case "confirm":
      return <Confirm state={state} />;
  }
}

function Actions({ busy, label, danger = false }: { busy: boolean; label: string; danger?: boolean }): JSX.Element {
  return (
    <div class="dialog-actions">
      <button type="button" class="button" onClick={closeDialog}>
        Cancel
      </button>
      <button type="submit" class={`button ${danger ? "danger" : "primary"}`} disabled={busy}>
        {label}
      </button>
    </div>
  );
}

function CreateGuild(): JSX.Element {
  return world.value.self?.guest ? <GuestsKeepFirst /> : <CreateGuildForm />;
}

function GuestsKeepFirst(): JSX.Element {
  return (
    <Dialog title="Make a community">
      <p class="dialog-lead">A community needs an owner who can come back. Choose a username and a password for yourself first; it takes a moment.</p>
      <div class="dialog-actions">
        <button type="button" class="button primary" onClick={() => (dialog.value = { kind: "settings", tab: "account" })}>
          Keep this account
        </button>
      </div>
    </Dialog>
  );
}

function CreateGuildForm(): JSX.Element {
  const [name, setName] = useState("");
  const form = useForm(async () => {
    const guild = await rest.createGuild(name.trim());
    closeDialog();
    openChannel(guild.id, undefined);
  });
  return (
    <Dialog title="Make a community">
      <form onSubmit={form.submit}>
        <p class="dialog-lead">A place of your own, with channels for text and voice.</p>
        <Field label="Name" value={name} change={setName} error={form.fields["name"]} maxLength={100} required autofocus />
        <FormError>{form.error}</FormError>
        <Actions busy={form.busy} label="Make it" />
      </form>
    </Dialog>
  );
}

function CreateChannel({ state }: { state: Extract<DialogState, { kind: "create-channel" }> }): JSX.Element {
  const [name, setName] = useState("");
  const [type, setType] = useState<"voice" | "text">("voice");
  const form = useForm(async () => {
    const channel = await rest.createChannel(state.guildId, {
      name: name.trim(),
      type: ChannelType[type],
      ...(state.parentId ? { parent_id: state.parentId } : {}),
    });
    closeDialog();
    if (type === "text") openChannel(state.guildId, channel.id);
  });
  return (
    <Dialog title="Create a channel">
      <form onSubmit={form.submit}>
        <Segments
          label="Kind"
          value={type}
          options={[
            { value: "voice", label: "Voice" },
            { value: "text", label: "Text" },
          ]}
          change={setType}
        />
        <Field label="Name" value={name} change={setName} error={form.fields["name"]} maxLength={100} required autofocus />
        <FormError>{form.error}</FormError>
        <Actions busy={form.busy} label="Create" />
      </form>
    </Dialog>
  );
}

function EditChannel({ channel }: { channel: Channel }): JSX.Element {
  const voice = channel.type === ChannelType.voice || channel.type === ChannelType.stage;
  const [name, setName] = useState(channel.name);
  const [topic, setTopic] = useState(channel.topic ?? "");
  const [limit, setLimit] = useState(String(channel.user_limit ?? 0));
  const [kilobits, setKilobits] = useState(String(Math.round((channel.bitrate ?? 64000) / 1000)));
  const form = useForm(async () => {
    await rest.updateChannel(channel.id, {
      name: name.trim(),
      ...(voice ? { user_limit: Number(limit), bitrate: Number(kilobits) * 1000 } : { topic }),
    });
    closeDialog();
  });
  return (
    <Dialog title={`Edit ${channel.name}`}>
      <form onSubmit={form.submit}>
        <Field label="Name" value={name} change={setName} error={form.fields["name"]} maxLength={100} required />
        {voice ? (
          <>
            <Field label="User limit" type="number" min="0" max="99" hint="0 is no limit." value={limit} change={setLimit} error={form.fields["user_limit"]} />
            <Field label="Bitrate (kbit/s)" type="number" min="8" max="384" value={kilobits} change={setKilobits} error={form.fields["bitrate"]} />
          </>
        ) : (
          <Field label="Topic" value={topic} change={setTopic} error={form.fields["topic"]} maxLength={1024} />
        )}
        <FormError>{form.error}</FormError>
        <Actions busy={form.busy} label="Save" />
      </form>
    </Dialog>
  );
}

const ages = [
  { value: "1800", label: "30 min" },
  { value: "86400", label: "1 day" },
  { value: "604800", label: "7 days" },
  { value: "0", label: "Never" },
] as const;

function InvitePeople({ state }: { state: Extract<DialogState, { kind: "invite" }> }): JSX.Element {
  const [age, setAge] = useState<(typeof ages)[number]["value"]>("604800");
  const [link, setLink] = useState("");
  const [error, setError] = useState<string | undefined>();
  const [copied, setCopied] = useState(false);
  const guild = world.value.guilds.get(state.guildId);
  useEffect(() => {
    let current = true;
    setCopied(false);
    setError(undefined);
    rest.createInvite(state.channelId, Number(age), 0).then(
      (invite) => current && setLink(`${location.origin}/invite/${invite.code}`),
      (problem: Error) => current && setError(problem.message),
    );
    return () => {
      current = false;
    };
  }, [age]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(link);
      setCopied(true);
    } catch {
      toast("The browser keeps the clipboard closed. Select the link and copy it.", "error");
    }
  };
  return (
    <Dialog title={`Invite people to ${guild?.name ?? ""}`}>
      <p class="dialog-lead">Whoever opens this link types a name and is in. No account, nothing to install.</p>
      <div class="copy-row">
        <input class="copy-link" readOnly value={link} aria-label="Invite link" data-testid="invite-link" onFocus={(event) => event.currentTarget.select()} />
        <button type="button" class="button primary" disabled={link === ""} onClick={() => void copy()}>
          <Icon name={copied ? "check" : "copy"} size={18} /> <span aria-live="polite">{copied ? "Copied" : "Copy"}</span>
        </button>
      </div>
      <FormError>{error}</FormError>
      <Segments label="Expires after" value={age} options={ages} change={setAge} />
    </Dialog>
  );
}

function Confirm({ state }: { state: Extract<DialogState, { kind: "confirm" }> }): JSX.Element {
  return (
    <Dialog title={state.title}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          closeDialog();
          state.run();
        }}
      >
        <p class="dialog-quote">{state.text}</p>
        <Actions busy={false} label={state.confirm} danger />
      </form>
    </Dialog>
  );
}
