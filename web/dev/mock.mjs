// A stand-in for the server: the same shapes over HTTP and WebSocket, a made-up community, and no media at all.
// Run with `npm run mock`; the built app is then at http://127.0.0.1:18100/invite/welcome.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const dist = fileURLToPath(new URL("../dist", import.meta.url));
const mime = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};
// The policy that the server sends, which is no more than the app needs.
const policy =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; media-src 'none'; connect-src 'self' ws: wss:; object-src 'none'; frame-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const epoch = 1420070400000;
let sequence = 0;
const snowflake = (at = Date.now()) => String((BigInt(at - epoch) << 22n) | BigInt(sequence++ & 0xfff));

const guildId = "700000000000000001";
const ids = { general: "700000000000000010", links: "700000000000000011", lounge: "700000000000000020", studio: "700000000000000021", duo: "700000000000000022" };

const person = (n, name, username) => ({ id: `70000000000000100${n}`, username, global_name: name, avatar: null });
const people = [
  person(1, "Noor Haddad", "noor"),
  person(2, "Tomás", "tomas"),
  person(3, "Mei Lin", "meilin"),
  person(4, "Okoro", "okoro"),
  person(5, "Ada Byström", "ada"),
  person(6, "Jules", "jules"),
  person(7, "Priya Raman", "priya"),
  { ...person(8, "Tuner", "tuner"), bot: true },
];

const bot = people[7];

const option = (type, name, description, more = {}) => ({ type, name, description, ...more });
const command = (n, name, description, options = []) => ({ id: `70000000000000200${n}`, type: 1, application_id: bot.id, name, description, options, version: "1" });
const commandIndex = {
  applications: [{ id: bot.id, name: "Tuner", icon: null, bot }],
  application_commands: [
    command(1, "play", "Plays a recording in your voice channel", [
      option(3, "title", "What to play", { required: true }),
      option(4, "volume", "How loud, in percent", { min_value: 0, max_value: 200 }),
      option(3, "quality", "How fine", { choices: [{ name: "Good", value: "good" }, { name: "Best", value: "best" }] }),
    ]),
    command(2, "whisper", "Says something to you alone"),
    command(3, "think", "Takes its time"),
    command(4, "sulk", "Never answers"),
    command(5, "queue", "What comes next", [
      option(1, "add", "Puts a recording at the end", { options: [option(3, "title", "What to add", { required: true })] }),
      option(1, "show", "Shows what is waiting"),
    ]),
  ],
  version: "1",
};

/** A community as GUILD_CREATE tells of it, with six people talking. */
function makeWorld() {
  const state = (n, channel, more = {}) => ({
    guild_id: guildId,
    user_id: people[n].id,
    channel_id: channel,
    session_id: `s${n}`,
    mute: false,
    deaf: false,
    self_mute: false,
    self_deaf: false,
    suppress: false,
    ...more,
  });
  return {
    id: guildId,
    name: "Night Owls",
    icon: null,
    owner_id: people[0].id,
    roles: [{ id: guildId, name: "@everyone", permissions: String((1n << 40n) - 1n), position: 0 }],
    channels: [
      { id: "700000000000000002", type: 4, name: "Words", position: 0 },
      { id: ids.general, type: 0, name: "general", topic: "Anything, any hour", position: 0, parent_id: "700000000000000002" },
      { id: ids.links, type: 0, name: "good-links", position: 1, parent_id: "700000000000000002" },
      { id: "700000000000000003", type: 4, name: "Voices", position: 1 },
      { id: ids.lounge, type: 2, name: "Lounge", position: 0, parent_id: "700000000000000003", user_limit: 0, bitrate: 64000 },
      { id: ids.studio, type: 2, name: "Studio", position: 1, parent_id: "700000000000000003", user_limit: 12, bitrate: 96000 },
      { id: ids.duo, type: 2, name: "Two at a table", position: 2, parent_id: "700000000000000003", user_limit: 2, bitrate: 64000 },
    ],
    members: people.map((user) => ({ user, roles: [], nick: null, mute: false, deaf: false })),
    voice_states: [
      state(0, ids.lounge),
      state(1, ids.lounge),
      state(2, ids.lounge, { self_mute: true }),
      state(3, ids.lounge, { self_mute: true, self_deaf: true }),
      state(4, ids.lounge, { mute: true }),
      state(6, ids.duo),
      state(7, ids.duo),
    ],
    presences: [0, 1, 2, 3, 4, 6, 7].map((n) => ({ user: { id: people[n].id }, status: "online" })),
    member_count: people.length,
  };
}

function makeMessages() {
  const start = Date.now() - 26 * 3600_000;
  const lines = [
    [0, 0, "Welcome, everyone. Say hello when you come in."],
    [1, 5, "hello hello. testing the new place"],
    [1, 6, "sounds **much** better than the last one, by the way"],
    [2, 20, "Is the meetup still on Thursday?"],
    [0, 24, "Yes! Details at https://example.org/night-owls/thursday (bring headphones)"],
    [4, 1380, "I measured it: `48 kHz`, and about 30 ms to the server and back"],
    [4, 1381, "```\nping   31 ms\njitter  2 ms\nloss    0 %\n```"],
    [6, 1500, "Going to be in *Two at a table* with Tuner if anyone wants to listen to the new record"],
    [3, 1530, "on my way"],
  ];
  return lines.map(([who, minutes, content]) => {
    const at = start + minutes * 60_000;
    return { id: snowflake(at), channel_id: ids.general, guild_id: guildId, author: people[who], content, timestamp: new Date(at).toISOString(), edited_timestamp: null, type: 0 };
  });
}

const candidate = (port) =>
  [
    `m=audio ${port} ICE/SDP`,
    "c=IN IP4 127.0.0.1",
    `a=rtcp:${port}`,
    "a=ice-ufrag:mock",
    "a=ice-pwd:mockmockmockmockmockmock",
    `a=fingerprint:sha-256 ${Array.from({ length: 32 }, (_, i) => (i * 7).toString(16).padStart(2, "0").toUpperCase()).join(":")}`,
    `a=candidate:1 1 UDP 2130706431 127.0.0.1 ${port} typ host`,
  ].join("\n");

/** Starts the mock; `close()` ends it, `cut()` drops every connection and refuses new ones until `restore()`. */
export async function startMock(port = 18100) {
  const guild = makeWorld();
  const messages = makeMessages();
  for (const channel of guild.channels) if (channel.id === ids.general) channel.last_message_id = messages.at(-1).id;
  const users = new Map();
  const gateways = new Set();
  let refusing = false;

  const broadcast = (t, d) => {
    for (const socket of gateways) socket.dispatch?.(t, d);
  };
  const tokenOf = (request) => users.get(request.headers.authorization ?? "");

  const routes = [
    ["GET", /^\/instance$/, () => ({ name: "Night Owls' server", version: "0.1.0", region: "local", registration: "open" })],
    ["POST", /^\/auth\/register$/, (request, body) => {
      const name = (body.global_name ?? body.username ?? "").trim();
      if (name === "") return [400, { code: 50035, message: "Invalid Form Body", errors: { global_name: { _errors: [{ code: "BASE_TYPE_REQUIRED", message: "This field is required" }] } } }];
      const user = { id: snowflake(), username: body.username ?? `guest-${sequence}`, global_name: name, guest: !body.password };
      users.set(`token-${user.id}`, user);
      guild.members.push({ user, roles: [], nick: null });
      return [201, { token: `token-${user.id}`, user_id: user.id, guild_id: guildId }];
    }],
    ["POST", /^\/auth\/login$/, () => [400, { code: 50035, message: "Invalid Form Body", errors: { password: { _errors: [{ code: "INVALID_LOGIN", message: "Login or password is invalid." }] } } }]],
    ["POST", /^\/auth\/logout$/, () => [204]],
    ["GET", /^\/invites\/([^/]+)$/, (_request, _body, code) =>
      code === "welcome"
        ? { code, guild: { id: guildId, name: guild.name, icon: null, description: null }, channel: { id: ids.lounge, name: "Lounge", type: 2 }, inviter: people[0], approximate_member_count: guild.members.length, approximate_presence_count: 7 }
        : [404, { code: 10006, message: "Unknown Invite" }]],
    ["POST", /^\/channels\/(\d+)\/invites$/, () => ({ code: "k7Qm2x" })],
    ["GET", /^\/channels\/(\d+)\/messages$/, (_request, _body, id) => messages.filter((m) => m.channel_id === id).reverse()],
    ["POST", /^\/channels\/(\d+)\/messages$/, (request, body, id) => {
      const message = { id: snowflake(), channel_id: id, guild_id: guildId, author: tokenOf(request), content: body.content, timestamp: new Date().toISOString(), edited_timestamp: null, nonce: body.nonce, type: 0 };
      messages.push(message);
      broadcast("MESSAGE_CREATE", message);
      return message;
    }],
    ["POST", /^\/channels\/(\d+)\/typing$/, () => [204]],
    ["GET", /^\/guilds\/(\d+)\/application-command-index$/, () => commandIndex],
    ["POST", /^\/interactions$/, (request, body) => {
      const user = tokenOf(request);
      // "/sulk" shows what becomes of a command that nobody answers.
      if (body.data.name === "sulk") return [204];
      const about = { id: snowflake(), type: 2, name: body.data.name, user, authorizing_integration_owners: { 0: guildId } };
      const answer = { id: snowflake(), channel_id: body.channel_id, guild_id: guildId, author: bot, type: 20, flags: 0, content: "", timestamp: new Date().toISOString(), interaction_metadata: about };
      const answers = {
        play: { embeds: [{ title: "Now playing", description: `**${body.data.options[0]?.value}**`, color: 0xf3ae2b, fields: [{ name: "Asked by", value: `<@${user.id}>`, inline: true }], footer: { text: "Tuner" } }] },
        whisper: { content: "Between us: the next one is better.", flags: 64 },
        think: { flags: 128 },
      };
      broadcast("MESSAGE_CREATE", { ...answer, ...answers[body.data.name] });
      broadcast("INTERACTION_SUCCESS", { id: about.id, nonce: body.nonce });
      return [204];
    }],
    ["PATCH", /^\/guilds\/(\d+)\/members\/(\d+)$/, (_request, body, _guild, id) => {
      const state = guild.voice_states.find((one) => one.user_id === id);
      if (state) broadcast("VOICE_STATE_UPDATE", Object.assign(state, body));
      return [204];
    }],
  ];

  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    if (path.startsWith("/api/v10")) {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : {};
      const found = routes.find(([method, pattern]) => method === request.method && pattern.test(path.slice(8)));
      const match = found?.[1].exec(path.slice(8));
      const result = found ? found[2](request, body, ...match.slice(1)) : [404, { code: 0, message: "404: Not Found" }];
      const [status, answer] = Array.isArray(result) && typeof result[0] === "number" ? result : [200, result];
      response.writeHead(status, { "Content-Type": "application/json" });
      return response.end(status === 204 ? undefined : JSON.stringify(answer));
    }
    const file = extname(path) ? normalize(path) : "/index.html";
    try {
      const data = await readFile(join(dist, file));
      response.writeHead(200, { "Content-Type": mime[extname(file)] ?? "application/octet-stream", "Content-Security-Policy": policy });
      response.end(data);
    } catch {
      response.writeHead(404).end();
    }
  });

  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    if (refusing) return socket.destroy();
    const path = new URL(request.url, "http://x").pathname;
    sockets.handleUpgrade(request, socket, head, (ws) => (path.startsWith("/gateway") ? gateway(ws) : voice(ws)));
  });

  function gateway(ws) {
    let seq = 0;
    let user;
    const send = (op, d, more = {}) => ws.send(JSON.stringify({ op, d, ...more }));
    ws.dispatch = (t, d) => send(0, d, { t, s: ++seq });
    gateways.add(ws);
    ws.on("close", () => gateways.delete(ws));
    send(10, { heartbeat_interval: 41250 });
    ws.on("message", (data) => {
      const { op, d } = JSON.parse(data);
      if (op === 1) send(11);
      if (op === 6) send(9, false);
      if (op === 2) {
        user = users.get(d.token);
        if (!user) return ws.close(4004);
        ws.dispatch("READY", { v: 10, user, guilds: [{ id: guildId, unavailable: true }], session_id: `s${user.id}`, resume_gateway_url: `ws://127.0.0.1:${port}/gateway`, private_channels: [] });
        ws.dispatch("GUILD_CREATE", guild);
      }
      if (op === 4) {
        guild.voice_states = guild.voice_states.filter((one) => one.user_id !== user.id);
        const state = { guild_id: guildId, user_id: user.id, session_id: `s${user.id}`, mute: false, deaf: false, suppress: false, channel_id: d.channel_id, self_mute: d.self_mute, self_deaf: d.self_deaf, member: { user, roles: [] } };
        if (d.channel_id) guild.voice_states.push(state);
        const joined = d.channel_id && ws.channel !== d.channel_id;
        ws.channel = d.channel_id;
        broadcast("VOICE_STATE_UPDATE", state);
        if (joined) ws.dispatch("VOICE_SERVER_UPDATE", { token: "voice", guild_id: guildId, endpoint: `127.0.0.1:${port}` });
      }
    });
  }

  function voice(ws) {
    const send = (op, d) => ws.send(JSON.stringify({ op, d, seq: 1 }));
    send(8, { v: 9, heartbeat_interval: 13750 });
    ws.on("message", (data) => {
      const { op, d } = JSON.parse(data);
      if (op === 3) ws.send(JSON.stringify({ op: 6, d: { t: d.t } }));
      if (op === 0) {
        ws.channel = d.channel_id;
        send(2, { ssrc: 1, ip: "127.0.0.1", port: 50000, modes: [], experiments: [], streams: [] });
      }
      if (op === 1) {
        send(4, { audio_codec: "opus", media_session_id: "mock", sdp: candidate(50000) });
        for (const [n, one] of guild.voice_states.entries()) {
          if (one.channel_id === ws.channel) send(5, { speaking: n < 2 ? 1 : 0, ssrc: 1000 + n, user_id: one.user_id });
        }
      }
    });
  }

  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    ids,
    people,
    broadcast,
    cut() {
      refusing = true;
      for (const socket of sockets.clients) socket.terminate();
    },
    restore() {
      refusing = false;
    },
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await startMock(Number(process.argv[2] ?? 18100));
