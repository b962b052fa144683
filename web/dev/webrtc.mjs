// Gives the app's own Peer to real browsers and checks that they take every answer it writes: `npm run webrtc`.
// There is no server: only descriptions are exchanged, as users come, go, and are more than there is room for.
import { createServer } from "vite";
import puppeteer from "puppeteer-core";
import { launch } from "./browser.mjs";

const serverSdp = [
  "m=audio 50001 ICE/SDP",
  "c=IN IP4 127.0.0.1",
  "a=rtcp:50001",
  "a=ice-ufrag:srv1",
  "a=ice-pwd:abcdefghijklmnopqrstuvwx",
  `a=fingerprint:sha-256 ${Array.from({ length: 32 }, () => "AB").join(":")}`,
  "a=candidate:1 1 UDP 2130706431 127.0.0.1 50001 typ host",
].join("\n");

/** Runs in the page. */
async function exercise(sdp) {
  const { Peer } = await import("/src/rtc/peer.ts");
  const failures = [];
  let streams = new Map();
  let changed = () => undefined;
  const peer = new Peer({
    state: () => undefined,
    streams: (next) => {
      streams = next;
      changed();
    },
    failed: (error) => failures.push(error.message),
  });
  const until = (done) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`streams: ${[...streams.keys()]} ${failures}`)), 5000);
      changed = () => done(streams) && (clearTimeout(timer), resolve());
      changed();
    });
  const offer = await peer.offer;
  const report = { ssrc: offer.ssrc, fragment: offer.fragment.length, sections: offer.sections.length, steps: [] };
  const step = (name) => {
    const active = peer.connection.getTransceivers().filter((one) => one.currentDirection === "recvonly").length;
    report.steps.push(`${name}: ${streams.size} heard on ${active} of ${peer.connection.getTransceivers().length - 1} sections`);
  };

  // Users may be told of before there is a transport.
  peer.speaking("u0", 1000, false);
  await peer.accept(sdp, 64000);
  await until((s) => s.has("u0"));
  step("one");
  for (let i = 1; i < 8; i++) peer.speaking(`u${i}`, 1000 + i, false);
  await until((s) => s.size === 8);
  step("eight");
  for (let i = 8; i < 12; i++) peer.speaking(`u${i}`, 1000 + i, true);
  await until((s) => s.size === 12);
  step("twelve");
  for (const gone of ["u0", "u5", "u11"]) peer.leave(gone);
  await until((s) => s.size === 9);
  step("three leave");
  peer.speaking("v0", 2000, true);
  await until((s) => s.has("v0"));
  step("one comes");
  for (let i = 0; i < 30; i++) peer.speaking(`w${i}`, 3000 + i, false);
  await until((s) => s.size === 24);
  step("forty are there");
  peer.speaking("w29", 3029, true);
  await until((s) => s.has("w29"));
  step("one beyond speaks");

  const before = peer.connection.getTransceivers()[0].sender.getParameters().encodings.length;
  await peer.setSending(false);
  const off = peer.connection.getTransceivers()[0].sender.getParameters().encodings[0].active;
  await peer.setSending(true);
  const on = peer.connection.getTransceivers()[0].sender.getParameters().encodings[0].active;
  report.sender = { encodings: before, off, on, direction: peer.connection.getTransceivers()[0].currentDirection };
  report.failures = failures;
  peer.close();
  return report;
}

const vite = await createServer({ server: { port: 18110, host: "127.0.0.1" }, logLevel: "error" });
await vite.listen();
const browsers = {
  chromium: () => launch(),
  firefox: () => puppeteer.launch({ browser: "firefox", executablePath: "/usr/bin/firefox-esr", headless: true }),
};
let failed = false;
for (const [name, start] of Object.entries(browsers)) {
  if (process.argv[2] && process.argv[2] !== name) continue;
  try {
    const browser = await start();
    const page = await browser.newPage();
    await page.goto("http://127.0.0.1:18110/theme.js");
    const report = await page.evaluate(exercise, serverSdp);
    console.log(name, await browser.version(), JSON.stringify(report, null, 2));
    failed ||= report.failures.length > 0 || report.sender.off !== false || report.sender.on !== true || report.ssrc === 0;
    await browser.close();
  } catch (error) {
    failed = true;
    console.error(name, error.message);
  }
}
await vite.close();
process.exit(failed ? 1 : 0);
