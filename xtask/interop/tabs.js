// Chromium and Firefox, and our browser client in their tabs.
//
// Both are driven by puppeteer-core, which speaks to Firefox as it comes, by WebDriver BiDi; where
// they are, CHROMIUM and FIREFOX say.
"use strict";

const assert = require("node:assert/strict");
const puppeteer = require("puppeteer-core");
const { PATIENCE_MS, ask, run } = require("./shared.js");

const BROWSERS = {
  chromium: {
    browser: "chrome",
    executablePath: process.env.CHROMIUM,
    args: ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--no-sandbox"],
  },
  firefox: {
    browser: "firefox",
    executablePath: process.env.FIREFOX,
    extraPrefsFirefox: { "network.proxy.type": 0 },
  },
};

// Runs what `others` are, then the cases of both browsers side by side, and ends the process.
function casesInBrowsers(client, casesOf, { flags = {}, others = {} } = {}) {
  const inOne = async ([name, options]) => {
    const { args = [], ...more } = flags[name] ?? {};
    const all = { ...options, ...more, args: [...(options.args ?? []), ...args] };
    const browser = await puppeteer.launch({ ...all, headless: true, acceptInsecureCerts: true });
    try {
      return await run(client, casesOf(browser, name));
    } finally {
      await browser.close();
    }
  };
  const inAll = async () => [await run(client, others), ...(await Promise.all(Object.entries(BROWSERS).map(inOne)))];
  inAll().then(
    (failed) => process.exit(failed.includes(true) ? 1 : 0),
    (error) => {
      console.log(`FAILED ${client}: starts: ${String(error.message).replaceAll("\n", " ")}`);
      process.exit(1);
    },
  );
}

// Runs in the page: a client, and all that it is told.
async function begin(at, events, tokens) {
  const { connect } = await import(`${at}/wserver.js`);
  const seen = { statuses: [], problems: [], messages: [], asked: [] };
  const token = typeof tokens === "string" ? tokens : (about) => {
    seen.asked.push(about.refused);
    return tokens.length > 1 ? tokens.shift() : tokens[0];
  };
  const server = connect(`${at}/ws`, { token });
  server.onStatus((status) => seen.statuses.push(status));
  server.onProblem(({ code, event }) => seen.problems.push(event ? [code, event] : [code]));
  for (const event of events) {
    server.on(event, (message, about) => seen.messages.push([about.event, about.id, message]));
  }
  Object.assign(window, { server, seen });
}

const told = (page) => page.evaluate(() => ({ status: server.status, reason: server.reason ?? null, ...seen }));

// Waits until what the page was told is so.
async function until(page, what, is, patience = 2 * PATIENCE_MS) {
  const start = Date.now();
  for (;;) {
    const now = await told(page);
    if (is(now)) return now;
    assert.ok(Date.now() - start < patience, `${what}: ${JSON.stringify(now)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const isOpen = ({ status }) => status === "open";
const isStopped = ({ status }) => status === "stopped";

module.exports = { begin, casesInBrowsers, isOpen, isStopped, told, until };
