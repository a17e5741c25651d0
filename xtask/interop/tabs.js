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

function launch(name, flags = {}) {
  const { args = [], ...more } = flags[name] ?? {};
  const options = BROWSERS[name];
  const all = { ...options, ...more, args: [...(options.args ?? []), ...args] };
  return puppeteer.launch({ ...all, headless: true, acceptInsecureCerts: true });
}

// Runs what `others` are, then the cases of both browsers side by side, and ends the process.
//
// `areTogether` also runs the cases of one browser side by side.
function casesInBrowsers(client, casesOf, { flags, others = {}, areTogether = false, patience } = {}) {
  const inOne = async (name) => {
    const browser = await launch(name, flags);
    try {
      const all = casesOf(browser, name);
      const groups = areTogether ? Object.entries(all).map(([title, body]) => ({ [title]: body })) : [all];
      return (await Promise.all(groups.map((it) => run(client, it, patience)))).includes(true);
    } finally {
      await browser.close();
    }
  };
  const inAll = async () => [await run(client, others), ...(await Promise.all(Object.keys(BROWSERS).map(inOne)))];
  inAll().then(
    (failed) => process.exit(failed.includes(true) ? 1 : 0),
    (error) => {
      console.log(`FAILED ${client}: starts: ${String(error.message).replaceAll("\n", " ")}`);
      process.exit(1);
    },
  );
}

// Runs in the page: a client of the module of one server, connected to it or another; and all that it
// does and is told.
async function begin(at, events, tokens, to = at) {
  const { connect } = await import(`${at}/wserver.js`);
  const seen = { statuses: [], problems: [], details: [], messages: [], asked: [], attempts: [], leaving: [] };
  window.WebSocket = class extends WebSocket {
    constructor(...all) {
      seen.attempts.push(Date.now());
      super(...all);
      this.addEventListener("message", ({ data }) => {
        if (data.startsWith('{"leaving"')) seen.leaving.push({ at: Date.now(), seconds: JSON.parse(data).leaving.in_seconds });
      });
    }
  };
  const token = typeof tokens === "string" ? tokens : (about) => {
    seen.asked.push(about.refused);
    return tokens.length > 1 ? tokens.shift() : tokens[0];
  };
  const server = connect(`${to}/ws`, { token });
  server.onStatus((status) => seen.statuses.push(status));
  server.onProblem(({ code, event, detail }) => {
    seen.problems.push(event ? [code, event] : [code]);
    seen.details.push(detail);
  });
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

module.exports = { begin, casesInBrowsers, isOpen, isStopped, launch, told, until };
