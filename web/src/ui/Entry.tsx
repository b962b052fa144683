import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Invite } from "../protocol/payloads";
import { ApiError } from "../protocol/rest";
import { enter, instance, openChannel, rest, selfName, token } from "../state/app";
import { navigate } from "../state/route";
import { Avatar } from "./Avatar";
import { Field, FormError, useForm } from "./forms";
import { Icon, Mark } from "./icons";

function Frame({ children }: { children: ComponentChildren }): JSX.Element {
  return (
    <main class="entry">
      <div class="entry-sky" aria-hidden="true">
        {Array.from({ length: 28 }, (_, index) => (
          <i key={index} style={{ "--i": index }} />
        ))}
      </div>
      <div class="entry-card">
        <div class="entry-brand">
          <Mark size={36} />
          <span>Hubbub</span>
        </div>
        {children}
      </div>
      <p class="entry-foot">
        {instance.value ? `${instance.value.name} · ${instance.value.region} · ${instance.value.version}` : " "}
      </p>
    </main>
  );
}

function GoTo({ to, children }: { to: "login" | "register"; children: ComponentChildren }): JSX.Element {
  return (
    <a
      href={`/${to}`}
      onClick={(event) => {
        event.preventDefault();
        navigate({ name: to });
      }}
    >
      {children}
    </a>
  );
}

export function InvitePage({ code }: { code: string }): JSX.Element {
  const [invite, setInvite] = useState<Invite | undefined>();
  const [error, setError] = useState<string | undefined>();
  useEffect(() => {
    let current = true;
    // Whoever signs in instead of coming in as a guest is brought back here.
    sessionStorage.setItem("hubbub.invite", code);
    rest.invite(code).then(
      (found) => current && setInvite(found),
      (problem: unknown) => {
        if (!current) return;
        const unknown = problem instanceof ApiError && problem.status === 404;
        setError(unknown ? "This invite has expired, was used up, or never was." : (problem as Error).message);
      },
    );
    return () => {
      current = false;
    };
  }, [code]);
  if (error) {
    return (
      <Frame>
        <h1>No way in here</h1>
        <p class="entry-lead">{error}</p>
        <p class="entry-lead">Ask for a new link, or sign in if you are a member already.</p>
        <button type="button" class="button primary wide" onClick={() => navigate({ name: "login" })}>
          Sign in
        </button>
      </Frame>
    );
  }
  if (!invite) {
    return (
      <Frame>
        <div class="entry-loading" role="status">
          <span class="spinner" /> Looking up the invite…
        </div>
      </Frame>
    );
  }
  return (
    <Frame>
      <div class="invite-guild">
        <Avatar id={invite.guild.id} name={invite.guild.name} size={64} square />
        <div>
          <p class="eyebrow">{invite.inviter ? `${invite.inviter.global_name || invite.inviter.username} invites you to` : "You are invited to"}</p>
          <h1>{invite.guild.name}</h1>
          <p class="invite-counts">
            {invite.approximate_presence_count !== undefined && (
              <span>
                <i class="dot online" /> {invite.approximate_presence_count} online
              </span>
            )}
            {invite.approximate_member_count !== undefined && (
              <span>
                <i class="dot" /> {invite.approximate_member_count} {invite.approximate_member_count === 1 ? "member" : "members"}
              </span>
            )}
          </p>
        </div>
      </div>
      {token.value ? <AcceptInvite invite={invite} /> : <GuestForm invite={invite} />}
    </Frame>
  );
}

function goToInvited(invite: Invite): void {
  sessionStorage.removeItem("hubbub.invite");
  openChannel(invite.guild.id, invite.channel.id, true);
}

function GuestForm({ invite }: { invite: Invite }): JSX.Element {
  const [name, setName] = useState("");
  const form = useForm(async () => {
    enter(await rest.register({ invite: invite.code, global_name: name.trim() }));
    goToInvited(invite);
  });
  return (
    <>
      <form onSubmit={form.submit}>
        <Field
          label="Your name"
          value={name}
          change={setName}
          error={form.fields["global_name"] ?? form.fields["username"] ?? form.fields["invite"]}
          testId="guest-name"
          placeholder="How others will see you"
          autocomplete="nickname"
          maxLength={32}
          required
          autofocus
        />
        <FormError>{form.error}</FormError>
        <button type="submit" class="button primary wide" data-testid="enter" disabled={form.busy || name.trim() === ""}>
          {form.busy ? <span class="spinner" /> : null} Come in
        </button>
      </form>
      <p class="entry-alt">
        No account needed; nothing to install. Have one? <GoTo to="login">Sign in</GoTo> · <GoTo to="register">Sign up</GoTo>
      </p>
    </>
  );
}

function AcceptInvite({ invite }: { invite: Invite }): JSX.Element {
  const form = useForm(async () => {
    await rest.acceptInvite(invite.code);
    goToInvited(invite);
  });
  return (
    <form onSubmit={form.submit}>
      <FormError>{form.error}</FormError>
      <button type="submit" class="button primary wide" data-testid="enter" disabled={form.busy}>
        {selfName.value ? `Join as ${selfName.value}` : "Join"}
      </button>
    </form>
  );
}

/** After signing in: back to the invite that led here, if one did. */
function afterSignIn(): void {
  const from = sessionStorage.getItem("hubbub.invite");
  sessionStorage.removeItem("hubbub.invite");
  navigate(from ? { name: "invite", code: from } : { name: "home" }, { replace: true });
}

export function LoginPage(): JSX.Element {
  const [login, setLogin] = useState("");
  const [password, setPassword] = useState("");
  const form = useForm(async () => {
    enter(await rest.login(login.trim(), password));
    afterSignIn();
  });
  return (
    <Frame>
      <h1>Welcome back</h1>
      <form onSubmit={form.submit}>
        <Field label="Username" value={login} change={setLogin} error={form.fields["login"]} autocomplete="username" required autofocus />
        <Field
          label="Password"
          type="password"
          value={password}
          change={setPassword}
          error={form.fields["password"]}
          autocomplete="current-password"
          required
        />
        <FormError>{form.error}</FormError>
        <button type="submit" class="button primary wide" disabled={form.busy}>
          Sign in
        </button>
      </form>
      <p class="entry-alt">
        New here? <GoTo to="register">Sign up</GoTo>, or open an invite link to come in as a guest.
      </p>
    </Frame>
  );
}

export function RegisterPage(): JSX.Element {
  const [name, setName] = useState("");
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [invite, setInvite] = useState(sessionStorage.getItem("hubbub.invite") ?? "");
  const registration = instance.value?.registration ?? "open";
  const form = useForm(async () => {
    const entered = await rest.register({
      username: username.trim(),
      password,
      ...(name.trim() ? { global_name: name.trim() } : {}),
      ...(invite.trim() ? { invite: invite.trim().split("/").at(-1) ?? "" } : {}),
    });
    sessionStorage.removeItem("hubbub.invite");
    enter(entered);
    navigate(entered.guild_id ? { name: "channel", guildId: entered.guild_id, channelId: undefined } : { name: "home" }, {
      replace: true,
    });
  });
  if (registration === "closed") {
    return (
      <Frame>
        <h1>Sign-up is closed</h1>
        <p class="entry-lead">Whoever runs this server makes the accounts here. Ask them for one.</p>
        <p class="entry-alt">
          <GoTo to="login">Sign in</GoTo>
        </p>
      </Frame>
    );
  }
  return (
    <Frame>
      <h1>Make an account</h1>
      <form onSubmit={form.submit}>
        <Field
          label="Display name"
          value={name}
          change={setName}
          error={form.fields["global_name"]}
          hint="May be left empty; others then see your username."
          autocomplete="nickname"
          maxLength={32}
          autofocus
        />
        <Field
          label="Username"
          value={username}
          change={setUsername}
          error={form.fields["username"]}
          hint="Letters, digits, dots and underscores; you sign in with it."
          autocomplete="username"
          maxLength={32}
          required
        />
        <Field
          label="Password"
          type="password"
          value={password}
          change={setPassword}
          error={form.fields["password"]}
          hint="Eight characters or more."
          autocomplete="new-password"
          minLength={8}
          required
        />
        {(registration === "invite" || invite) && (
          <Field label="Invite" value={invite} change={setInvite} error={form.fields["invite"]} required={registration === "invite"} />
        )}
        <FormError>{form.error}</FormError>
        <button type="submit" class="button primary wide" disabled={form.busy}>
          Sign up
        </button>
      </form>
      <p class="entry-alt">
        Have an account? <GoTo to="login">Sign in</GoTo>
      </p>
    </Frame>
  );
}

export function Splash({ children }: { children?: ComponentChildren }): JSX.Element {
  return (
    <main class="splash">
      <span class="splash-mark">
        <Mark size={64} />
      </span>
      <p role="status">Connecting…</p>
      {children}
    </main>
  );
}

export function NoGuild(): JSX.Element {
  return (
    <div class="empty">
      <Icon name="users" size={40} />
      <h2>Nothing here yet</h2>
      <p>Make a community of your own with the plus on the left, or open an invite link someone sent you.</p>
    </div>
  );
}
