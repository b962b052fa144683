// Headless Chromium as the scripts here use it.
import puppeteer from "puppeteer-core";

const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-fake-device-for-media-stream",
];

export function launch({ allowMicrophone = true, more = [] } = {}) {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [...flags, ...(allowMicrophone ? ["--use-fake-ui-for-media-stream"] : ["--deny-permission-prompts"]), ...more],
  });
}
