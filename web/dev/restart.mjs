// Shows that a page lives through a restart of the server: `npm run restart -- <invite link> <command that restarts it>`.
import { execSync } from "node:child_process";
import { launch } from "./browser.mjs";

const [link, command] = process.argv.slice(2);
const byTestId = (id) => `[data-testid="${id}"]`;
const browser = await launch({ more: ["--autoplay-policy=no-user-gesture-required"] });

async function join(name) {
  const page = await (await browser.createBrowserContext()).newPage();
  page.on("pageerror", (error) => console.error(name, "page error:", error.message));
  await page.goto(`${link}?test=1&gate=off`);
  await page.waitForSelector(byTestId("guest-name"));
  await page.type(byTestId("guest-name"), name);
  await page.click(byTestId("enter"));
  await page.waitForSelector("[role=tree]");
  await page.click("[role=treeitem][aria-label*='voice channel']");
  await page.waitForSelector(byTestId("voice-connected"));
  return page;
}

const pages = [await join("Olive"), await join("Gus")];
await Promise.all(pages.map((page) => page.waitForFunction(() => window.hubbub.remoteStreams().size === 1)));
const received = (page) => page.evaluate(async () => (await window.hubbub.stats()).packetsReceived ?? 0);
console.log("before", await Promise.all(pages.map(received)));
const started = Date.now();
await Promise.all(
  pages.map((page) => page.evaluate(() => {
    window.phases = [];
    window.hubbub.onChange(() => window.phases.push(`${Math.round(performance.now())} ${window.hubbub.state().phase} ${window.hubbub.state().transport}`));
  })),
);
execSync(command, { stdio: "inherit" });
console.log("server was away for", Date.now() - started, "ms");
const back = await Promise.all(
  pages.map((page) =>
    page
      .waitForFunction(() => window.hubbub.state().connected && window.hubbub.state().users.length === 2 && window.hubbub.remoteStreams().size === 1 && window.phases.length > 1, { timeout: 30000, polling: 50 })
      .then(() => `${Date.now() - started} ms`, (error) => error.message),
  ),
);
console.log("both are back after", back);
await new Promise((resolve) => setTimeout(resolve, 1500));
const one = await Promise.all(pages.map(received));
await new Promise((resolve) => setTimeout(resolve, 1500));
const two = await Promise.all(pages.map(received));
console.log("packets received in 1.5 s", two.map((count, index) => count - one[index]));
for (const page of pages) console.log(await page.evaluate(() => ({ state: window.hubbub.state(), phases: window.phases.filter((p, i, a) => p.split(" ").slice(1).join() !== a[i - 1]?.split(" ").slice(1).join()) })));
await browser.close();
process.exit(two.every((count, index) => count > one[index]) ? 0 : 1);
