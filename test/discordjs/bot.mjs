// A bot as anybody would write one with discord.js and @discordjs/voice. It joins
// a channel, plays an Ogg Opus file over and over, and reports what it hears and
// sees as JSON lines on standard output. It ends when standard input does.
//
// Environment: API (…/api), TOKEN, GUILD, CHANNEL, PLAY (a file), and VOICE_PACKAGE
// for another version of @discordjs/voice.
import { createReadStream } from "node:fs";
import { Client, Events, GatewayIntentBits } from "discord.js";

const { API, TOKEN, GUILD, CHANNEL, PLAY, VOICE_PACKAGE = "@discordjs/voice" } = process.env;
const {
  AudioPlayerStatus,
  EndBehaviorType,
  StreamType,
  VoiceConnectionStatus,
  createAudioPlayer,
  createAudioResource,
  entersState,
  joinVoiceChannel,
  version,
} = await import(VOICE_PACKAGE);
const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

const client = new Client({
  intents: [GatewayIntentBits.Guilds, GatewayIntentBits.GuildVoiceStates, GatewayIntentBits.GuildMessages, GatewayIntentBits.MessageContent],
  rest: { api: API },
});
client.on("error", (error) => say("error", { message: String(error) }));
client.on(Events.MessageCreate, async (message) => {
  if (message.author.bot) return;
  say("message", { content: message.content, author: message.author.id });
  await message.reply(`heard: ${message.content}`);
});
client.on(Events.VoiceStateUpdate, (before, after) => {
  say("state", { user: after.id, from: before.channelId, to: after.channelId, mute: after.serverMute });
});

client.once(Events.ClientReady, async () => {
  const guild = await client.guilds.fetch(GUILD);
  const channel = await guild.channels.fetch(CHANNEL);
  say("ready", { user: client.user.id, guild: guild.name, channel: channel.name, message: `@discordjs/voice ${version}` });

  const connection = joinVoiceChannel({
    guildId: GUILD,
    channelId: CHANNEL,
    adapterCreator: guild.voiceAdapterCreator,
    selfDeaf: false,
    daveEncryption: false,
  });
  connection.on("stateChange", (before, after) => say("voice", { from: before.status, to: after.status }));
  connection.on("error", (error) => say("error", { message: String(error) }));
  await entersState(connection, VoiceConnectionStatus.Ready, 20_000);

  const heard = new Set();
  connection.receiver.speaking.on("start", (user) => {
    say("speaking", { user });
    if (heard.has(user)) return;
    heard.add(user);
    const stream = connection.receiver.subscribe(user, { end: { behavior: EndBehaviorType.Manual } });
    stream.on("data", (opus) => say("opus", { user, data: opus.toString("base64") }));
  });

  const player = createAudioPlayer();
  const play = () => player.play(createAudioResource(createReadStream(PLAY), { inputType: StreamType.OggOpus }));
  player.on("error", (error) => say("error", { message: String(error) }));
  player.on(AudioPlayerStatus.Idle, play);
  connection.subscribe(player);
  play();
  say("playing");

  process.stdin.resume();
  process.stdin.on("end", async () => {
    player.removeAllListeners();
    connection.destroy();
    await client.destroy();
    process.exit(0);
  });
});

process.on("unhandledRejection", (error) => {
  say("error", { message: String(error?.stack ?? error) });
  process.exit(1);
});
await client.login(TOKEN);
