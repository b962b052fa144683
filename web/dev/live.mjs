// Drives two browsers against a running server: `npm run live -- <owner invite link> <invite link> [chromium|firefox]`.
// The first page (the owner) is Chromium; the second is the browser named. Each hears the other's fake microphone.
import puppeteer from "puppeteer-core";
import { launch } from "./browser.mjs";

const [ownerLink, guestLink, other = "chromium"] = process.argv.slice(2);
const byTestId = (id) => `[data-testid="${id}"]`;

const firefox = () =>
  puppeteer.launch({
    browser: "firefox",
    executablePath: "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.autoplay.default": 0,
      "media.peerconnection.ice.loopback": true,
    },
  });

async function enter(browser, link, name) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(name, "page error:", error.message));
  page.on("console", (message) => ["error", "warn"].includes(message.type()) && console.error(name, message.text()));
  await page.goto(`${link}?test=1&gate=off`);
  await page.waitForSelector(byTestId("guest-name"));
  await page.type(byTestId("guest-name"), name);
  await page.click(byTestId("enter"));
  await page.waitForSelector("[role=tree]");
  return page;
}

const channels = (page) =>
  page.$$eval("[role=treeitem][data-testid^=channel-]", (all) =>
    all.filter((one) => one.getAttribute("aria-label").includes("voice channel")).map((one) => one.dataset.testid),
  );

/** Loudest level of each remote stream over a while, as the page decodes it. */
const levels = (page, ms = 1500) =>
  page.evaluate(async (duration) => {
    const context = new AudioContext();
    await context.resume();
    const out = {};
    const meters = [...window.hubbub.remoteStreams()].map(([id, stream]) => {
      const analyser = context.createAnalyser();
      context.createMediaStreamSource(stream).connect(analyser);
      return { id, analyser, samples: new Float32Array(analyser.fftSize) };
    });
    const end = performance.now() + duration;
    while (performance.now() < end) {
      for (const { id, analyser, samples } of meters) {
        analyser.getFloatTimeDomainData(samples);
        out[id] = Math.max(out[id] ?? 0, ...samples.map(Math.abs));
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await context.close();
    return out;
  }, ms);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whether something is heard within a while: a slow machine may take its time to begin. */
async function hears(page) {
  for (let attempt = 0; attempt < 6; attempt++) if (loudest(await levels(page, 700)) > 0.01) return true;
  return false;
}

/** Whether it gets silent: a jitter buffer goes on for a moment after the last packet. */
async function getsSilent(page) {
  for (let attempt = 0; attempt < 4; attempt++) if (loudest(await levels(page, 700)) < 0.01) return true;
  return false;
}

const state = (page) => page.evaluate(() => window.hubbub.state());
const until = (page, predicate, timeout = 15000) => page.waitForFunction(predicate, { timeout, polling: 20 });
const loudest = (found) => Math.max(0, ...Object.values(found));

let failures = 0;
function check(what, ok, detail = "") {
  if (!ok) failures++;
  console.log(ok ? "ok  " : "FAIL", what, ok ? "" : JSON.stringify(detail));
}

const browsers = [await launch({ more: ["--autoplay-policy=no-user-gesture-required"] })];
browsers.push(other === "firefox" ? await firefox() : browsers[0]);
const owner = await enter(browsers[0], ownerLink, "Olive");
const guest = await enter(browsers[1], guestLink, "Gus");
const [first, second] = await channels(owner);

const joinTimes = [];
for (const page of [owner, guest]) {
  const started = Date.now();
  await page.click(byTestId(first));
  await page.waitForSelector(byTestId("voice-connected"), { timeout: 15000 }).catch(() => undefined);
  joinTimes.push(Date.now() - started);
}
console.log("join ms", joinTimes, await state(owner), await state(guest));
await until(owner, () => window.hubbub.remoteStreams().size === 1);
await until(guest, () => window.hubbub.remoteStreams().size === 1);
const stats = await owner.evaluate(() => window.hubbub.stats());
console.log("signalling bytes", stats.signalling, stats.srtpCipher);
check("the owner hears the guest", await hears(owner));
check("the guest hears the owner", await hears(guest));
check("speaking is announced", (await state(owner)).speaking.length === 1, await state(owner));

await guest.click(byTestId("mute"));
await until(owner, () => window.hubbub.state().speaking.length === 0);
check("a muted guest is silent", await getsSilent(owner));
const sent = async () => (await guest.evaluate(() => window.hubbub.stats())).packetsSent;
const before = await sent();
await pause(1000);
check("a muted guest sends no packet", (await sent()) === before);
await guest.click(byTestId("mute"));
await until(owner, () => window.hubbub.state().speaking.length === 1);
check("an unmuted guest is heard again", await hears(owner));

const [guestId] = await owner.evaluate(() => [...window.hubbub.remoteStreams().keys()]);
const menu = async (item) => {
  await owner.click(byTestId(`member-${guestId}`), { button: "right" });
  await owner.waitForSelector(byTestId(item));
  await owner.click(byTestId(item));
};
await menu("menu-mute");
await until(guest, () => window.hubbub.state().muted);
check("a moderator's mute silences", await getsSilent(owner));
await menu("menu-mute");
await until(guest, () => !window.hubbub.state().muted);
check("and lets speak again", await hears(owner));
await menu("menu-deafen");
await pause(500);
check("a moderator's deafening silences the others", await getsSilent(guest));
await menu("menu-deafen");
await pause(500);
check("and lets hear again", await hears(guest));

await menu("menu-move");
await owner.waitForSelector(byTestId(`menu-move-${second.slice(8)}`));
await owner.click(byTestId(`menu-move-${second.slice(8)}`));
await guest.waitForFunction((id) => window.hubbub.state().connected && window.hubbub.state().channel === id, { timeout: 8000 }, second.slice(8)).catch(() => undefined);
check("a moved guest is connected there", (await state(guest)).channel === second.slice(8) && (await state(guest)).connected, await state(guest));
check("and heard no more here", (await state(owner)).users.length === 1, await state(owner));
await owner.click(byTestId(second));
await until(owner, () => window.hubbub.state().connected && window.hubbub.remoteStreams().size === 1).catch(() => undefined);
check("following works", await hears(owner), await state(owner));
await menu("menu-disconnect");
await until(guest, () => window.hubbub.state().channel === undefined);
check("a disconnected guest is out", true);
await guest.click(byTestId(second));
await until(guest, () => window.hubbub.state().connected).catch(() => undefined);
check("and can come back", (await state(guest)).connected, await state(guest));
await guest.click(byTestId("leave"));
await until(owner, () => window.hubbub.state().users.length === 1);
check("leaving is seen", true);

await new Set(browsers).forEach((browser) => browser.close());
console.log(failures === 0 ? "all good" : `${failures} failed`);
process.exit(failures === 0 ? 0 : 1);
