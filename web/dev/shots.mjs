// Takes pictures of the app against the mock: `npm run build && npm run shots -- <directory>`.
// The mock has no media, so the page's PeerConnection is made to report what a connected one would.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { startMock } from "./mock.mjs";

const out = process.argv[2] ?? "shots";
const only = process.argv[3];
const port = 18101;
const sizes = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844, isMobile: true, hasTouch: true } };

function pretendConnected() {
  const proto = RTCPeerConnection.prototype;
  const accept = proto.setRemoteDescription;
  proto.setRemoteDescription = async function (description) {
    await accept.call(this, description);
    Object.defineProperty(this, "connectionState", { configurable: true, get: () => "connected" });
    setTimeout(() => this.onconnectionstatechange?.(), 50);
  };
  let tick = 0;
  proto.getStats = async () => {
    tick++;
    const wave = Math.sin(tick / 3) * 3 + Math.sin(tick * 1.7) * 2;
    return new Map(
      [
        { type: "outbound-rtp", bytesSent: tick * 4100, packetsSent: tick * 50 },
        { type: "inbound-rtp", bytesReceived: tick * 8900, packetsReceived: tick * 100, packetsLost: 0, jitter: 0.0021 },
        { type: "remote-inbound-rtp", fractionLost: 0.002, jitter: 0.0014, roundTripTime: 0.031 },
        { type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: (28 + wave) / 1000 },
        { type: "codec", mimeType: "audio/opus", clockRate: 48000 },
        { type: "transport", srtpCipher: "AEAD_AES_128_GCM", dtlsState: "connected", iceState: "connected" },
      ].map((entry, index) => [String(index), entry]),
    );
  };
}

const byTestId = (id) => `[data-testid="${id}"]`;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function enter(page, mock) {
  await page.goto(`http://127.0.0.1:${port}/invite/welcome?test=1`);
  await page.waitForSelector(byTestId("guest-name"));
  await page.type(byTestId("guest-name"), "Sam Okafor");
  await page.click(byTestId("enter"));
  await page.waitForSelector(byTestId(`channel-${mock.ids.general}`));
}

const join_ = async (page, mock) => {
  await enter(page, mock);
  await page.click(byTestId(`channel-${mock.ids.lounge}`));
  await page.waitForSelector(byTestId("voice-connected"));
};

const toList = (page) => page.evaluate(() => {
  const back = document.querySelector(".main-back");
  if (back && getComputedStyle(back).display !== "none") back.click();
});

const scenes = {
  async invite(page) {
    await page.goto(`http://127.0.0.1:${port}/invite/welcome?test=1`);
    await page.waitForSelector(byTestId("guest-name"));
  },
  async register(page) {
    await page.goto(`http://127.0.0.1:${port}/register?test=1`);
    await page.waitForSelector("input[type=password]");
  },
  async list(page, mock) {
    await join_(page, mock);
    await toList(page);
  },
  async voice(page, mock) {
    await join_(page, mock);
    await pause(1200);
  },
  async chat(page, mock) {
    await enter(page, mock);
    await page.click(byTestId(`channel-${mock.ids.general}`));
    await page.waitForSelector(".message");
    mock.broadcast("TYPING_START", { channel_id: mock.ids.general, user_id: mock.people[2].id, timestamp: 0 });
    await pause(300);
  },
  async commands(page, mock) {
    await enter(page, mock);
    await page.click(byTestId(`channel-${mock.ids.general}`));
    await page.waitForSelector(".message");
    await page.type(byTestId("composer"), "/");
    await page.waitForSelector("[role=option]");
  },
  async command(page, mock) {
    await scenes.commands(page, mock);
    for (const name of ["whisper", "think", "sulk"]) {
      if (name !== "whisper") await page.type(byTestId("composer"), "/");
      await page.type(byTestId("composer"), `${name} `);
      await page.keyboard.press("Enter");
      await page.waitForSelector(byTestId("composer"));
    }
    await pause(4300);
    await page.type(byTestId("composer"), "/play So What");
    await page.waitForSelector(byTestId("option-title"));
  },
  async settings(page, mock) {
    await join_(page, mock);
    await page.click(byTestId("settings"));
    await pause(1500);
  },
  async account(page, mock) {
    await enter(page, mock);
    await page.click(".self");
    await pause(400);
  },
  async menu(page, mock) {
    await join_(page, mock);
    await toList(page);
    await page.click(byTestId(`member-${mock.people[1].id}`), { button: "right" });
    await page.waitForSelector(byTestId("menu-move"));
    await page.click(byTestId("menu-move"));
  },
  async connection(page, mock) {
    await join_(page, mock);
    await page.click(byTestId("connection-panel"));
    await pause(9000);
  },
  async reconnecting(page, mock) {
    await join_(page, mock);
    mock.cut();
    await page.waitForSelector(byTestId("reconnecting"));
  },
  async unreachable(page, mock) {
    await join_(page, mock);
    mock.cut();
    await page.waitForSelector(".banner.bad", { timeout: 20000 });
  },
  async refused(page, mock) {
    await join_(page, mock);
    await page.waitForSelector(byTestId("problem-mic-refused"));
  },
  async people(page, mock) {
    await enter(page, mock);
    await page.click(byTestId(`channel-${mock.ids.general}`));
    await page.click(".main-head [aria-label='Invite people']");
    await pause(500);
  },
  async help(page, mock) {
    await enter(page, mock);
    await page.keyboard.press("?");
    await pause(300);
  },
};

await mkdir(out, { recursive: true });
for (const [scene, run] of Object.entries(scenes)) {
  if (only && !only.split(",").includes(scene)) continue;
  const browser = await launch({ allowMicrophone: scene !== "refused" });
  for (const [size, viewport] of Object.entries(sizes)) {
    for (const theme of ["dark", "light"]) {
      const mock = await startMock(port);
      const context = await browser.createBrowserContext();
      const page = await context.newPage();
      page.on("pageerror", (error) => console.error(scene, error.message));
      page.on("console", (message) => message.type() === "error" && console.error(scene, message.text()));
      await page.setViewport(viewport);
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
      await page.evaluateOnNewDocument(pretendConnected);
      try {
        await run(page, mock);
        await pause(500);
      } catch (error) {
        console.error(scene, size, theme, error.message);
      }
      await page.screenshot({ path: join(out, `${scene}-${size}-${theme}.png`) });
      await context.close();
      await mock.close();
    }
  }
  await browser.close();
}
