// What browsers do to pages, and what our browser client makes of it: another tab in front, a visit
// elsewhere and back, no network, a page that is frozen, and a browser that sleeps.
//
// HIDDEN_SECONDS is how long a tab stays behind another: by default 12, which is a dozen heartbeats
// here and would be five minutes of those of 25 s. Both browsers slow its timers down to one run per
// second, and Chromium after a while to one per minute; a flag makes that while seconds instead of
// five minutes.
//
// What cannot be had:
// - A laptop that sleeps. SIGSTOP stops all of a browser's processes, but their clock goes on, and
//   so do their sockets in the kernel; a proxy makes that nobody tells one of the pages of its end.
// - A frozen page in Firefox, which freezes none.
// - A page with a connection out of Firefox's cache, which takes none, not even if the page closes
//   the connection in `pagehide`. Such a page is loaded again; one without a connection is not.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const { PATIENCE_MS, ask, startServer } = require("./shared.js");
const { begin, casesInBrowsers, isOpen, launch, told, until } = require("./tabs.js");

const HIDDEN_SECONDS = Number(process.env.HIDDEN_SECONDS ?? 12);
// A second of heartbeat, and what a busy machine needs.
const HEARTBEAT = ["--ping-interval", "1s", "--pong-timeout", "4s"];

const FLAGS = {
  chromium: {
    args: ["--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1"],
    // puppeteer switches off what is under test.
    ignoreDefaultArgs: [
      "--disable-back-forward-cache",
      "--disable-background-timer-throttling",
      "--disable-backgrounding-occluded-windows",
      "--disable-renderer-backgrounding",
    ],
  },
};

// A network between browser and server that can be out, or lose track of what goes through it.
class Network {
  isOut = false;
  #ways = new Set();

  async start(to) {
    const [host, port] = to.split(":");
    this.server = net.createServer((near) => {
      if (this.isOut) return near.resetAndDestroy();
      const far = net.connect({ host, port, noDelay: true });
      const way = { near, far };
      this.#ways.add(way);
      near.pipe(far);
      far.pipe(near);
      near.on("error", () => far.destroy());
      far.on("error", () => {});
      near.on("close", () => far.destroy() && this.#ways.delete(way));
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.origin = `http://127.0.0.1:${this.server.address().port}`;
  }

  // Ends every connection, and refuses new ones until `isOut` is false again.
  cut() {
    this.isOut = true;
    for (const { near } of this.#ways) near.resetAndDestroy();
  }

  // Neither side hears more of a connection, not even its end.
  forget() {
    for (const { near, far } of this.#ways) {
      far.unpipe(near).resume();
      near.unpipe(far).resume();
    }
  }

  stop() {
    for (const { near } of this.#ways) near.destroy();
    this.server.close();
  }
}

// All processes of a browser get this signal.
function signal(browser, what) {
  const parents = new Map();
  for (const id of fs.readdirSync("/proc").filter((it) => /^\d+$/.test(it))) {
    try {
      // Behind the name, which may hold anything, come the state and the parent.
      const stat = fs.readFileSync(`/proc/${id}/stat`, "latin1");
      parents.set(Number(id), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended.
    }
  }
  const own = [browser.process().pid];
  for (const parent of own) {
    for (const [id, its] of parents) if (its === parent) own.push(id);
  }
  for (const id of own) process.kill(id, what);
  return own.length;
}

async function eventually(what, holds) {
  const start = Date.now();
  while (!(await holds())) {
    assert.ok(Date.now() - start < 2 * PATIENCE_MS, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// A page that a browser may keep when it is left, unlike those of the server.
const PAGE = "<title>a page</title><script>addEventListener('pageshow', ({ persisted }) => (window.shown = persisted))</script>";
const site = http.createServer((_, answer) => answer.setHeader("content-type", "text/html").end(PAGE));
const siteOrigin = new Promise((resolve) => {
  site.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${site.address().port}`));
});

let shared;
const server = () => (shared ??= startServer(HEARTBEAT));

function cases(browser, name) {
  // A window of its own, since in one window each tab hides the others.
  const open = async (user, at, where = browser) => {
    const page = await where.newPage({ type: "window" });
    await page.goto(`${await siteOrigin}/`);
    await page.evaluate(begin, at ?? (await server()).origin, ["order"], user);
    await until(page, "open", isOpen);
    return page;
  };
  const push = async (user, message) => ask("/v2/push", { user, event: "order", message }, (await server()).origin);
  const present = async (user) => (await ask("/v2/presence", { users: [user] }, (await server()).origin)).online[user];
  const leave = async (page) => page.goto(`${await siteOrigin}/elsewhere`);
  // puppeteer waits for the load of a page, but one out of the cache is not loaded.
  const comeBack = async (page) => {
    page.goBack().catch(() => {});
    const isBack = () => page.evaluate(() => location.pathname === "/" && window.shown !== undefined);
    await eventually("it does not come back", () => isBack().catch(() => false));
  };
  // It gets what is pushed now, and has got nothing twice.
  const hears = async (page, user, message) => {
    const { written } = await push(user, message);
    assert.equal(written, 1, `${message}: written`);
    const { messages } = await until(page, message, (it) => it.messages.at(-1)?.[2] === message);
    const ids = messages.map(([, id]) => id);
    assert.equal(new Set(ids).size, ids.length, "no message is handled twice");
  };

  return {
    async [`in ${name}, a page that is left lets go, and is connected when it is returned to`]() {
      const user = `${name}-left`;
      const page = await open(user);
      await page.evaluate(() => addEventListener("pagehide", ({ persisted }) => (sessionStorage.hidden = persisted)));
      await leave(page);
      await eventually("it is still there", async () => (await present(user)) === 0);
      await comeBack(page);
      assert.equal(await page.evaluate(() => sessionStorage.hidden), String(name === "chromium"));
      // Firefox caches no page that has a connection, so this one is new; that is how it should be.
      if (name === "firefox") {
        assert.deepEqual(await page.evaluate(() => [shown, typeof seen]), [false, "undefined"]);
        return page.close();
      }
      assert.equal(await page.evaluate(() => shown), true, "it is out of the cache");
      const { statuses, attempts } = await until(page, "open again", isOpen);
      assert.deepEqual(statuses, ["waiting", "connecting", "open", "waiting", "connecting", "open"]);
      assert.equal(attempts.length, 2);
      await hears(page, user, "back");
      assert.equal(await present(user), 1);
      await page.close();
    },

    async [`in ${name}, a page whose client is closed comes out of the cache, and stays closed`]() {
      const page = await open(`${name}-closed`);
      await page.evaluate(() => server.close());
      // Firefox caches the page only when the closing handshake is over.
      await eventually("it is still there", async () => (await present(`${name}-closed`)) === 0);
      await leave(page);
      await comeBack(page);
      assert.equal(await page.evaluate(() => shown), true, "it is out of the cache");
      const { status, attempts } = await told(page);
      assert.deepEqual([status, attempts.length], ["stopped", 1]);
      await page.close();
    },

    async [`in ${name}, a page without a network tries seldom, and at once when the network is back`]() {
      const user = `${name}-offline`;
      const network = new Network();
      await network.start((await server()).address);
      const page = await open(user, network.origin);
      // The longest delays that it might choose: about 1, 2 and 4 s.
      await page.evaluate(() => (Math.random = () => 0.99));
      await page.setOfflineMode(true);
      network.cut();
      const { attempts } = await until(page, "two attempts", (it) => it.attempts.length === 3);
      assert.ok(attempts[1] - attempts[0] > 900 && attempts[2] - attempts[1] > 1900, `${attempts}`);
      await until(page, "waiting", ({ status }) => status === "waiting");
      network.isOut = false;
      await page.setOfflineMode(false);
      const online = Date.now();
      const again = await until(page, "open again", isOpen);
      assert.ok(Date.now() - online < 2500, `open ${Date.now() - online} ms after it was online`);
      assert.equal(again.attempts.length, 4, "one attempt");
      await hears(page, user, "back");
      await page.close();
      network.stop();
    },

    async [`in ${name}, a tab behind another stays connected, and gets what is pushed`]() {
      const user = `${name}-hidden`;
      const page = await open(user);
      await page.evaluate(() => {
        seen.ticks = [];
        const tick = () => (seen.ticks.push(Date.now()), setTimeout(tick, 50));
        tick();
      });
      await page.evaluate(() => void window.open("/front", "_blank", "noopener"));
      await eventually("it is not hidden", () => page.evaluate(() => document.visibilityState === "hidden"));
      const began = Date.now();
      let count = 0;
      while (Date.now() - began < HIDDEN_SECONDS * 1000) {
        await hears(page, user, `message ${(count += 1)}`);
        await new Promise((resolve) => setTimeout(resolve, 900));
      }
      const { ticks, messages } = await told(page);
      assert.deepEqual(messages.map(([, , message]) => message), Array.from({ length: count }, (_, at) => `message ${at + 1}`));
      // Its timers are as slow as those of a tab that nobody sees.
      const gaps = [...ticks.slice(1), Date.now()].map((it, index) => it - ticks[index]);
      const isSlow = name === "chromium" ? Math.max(...gaps) > 2000 : gaps.filter((it) => it > 900).length > 4;
      assert.ok(isSlow, `timers run: ${gaps}`);
      await page.bringToFront();
      await eventually("it stays hidden", () => page.evaluate(() => document.visibilityState === "visible"));
      await hears(page, user, "seen again");
      const { statuses } = await told(page);
      assert.deepEqual(statuses, ["waiting", "connecting", "open"]);
      await page.close();
    },

    async [`in ${name}, pages of a browser that slept come back by themselves`]() {
      const users = [`${name}-slept`, `${name}-forgotten`];
      const network = new Network();
      await network.start((await server()).address);
      // Not that of the other cases, which would sleep too.
      const sleeper = await launch(name, FLAGS);
      try {
        const pages = [await open(users[0], undefined, sleeper), await open(users[1], network.origin, sleeper)];
        for (const [index, page] of pages.entries()) await hears(page, users[index], "before");
        signal(sleeper, "SIGSTOP");
        try {
          network.forget();
          for (const user of users) await eventually(`${user} is still there`, async () => (await present(user)) === 0);
        } finally {
          signal(sleeper, "SIGCONT");
        }
        for (const [index, page] of pages.entries()) {
          const { statuses } = await until(page, "open again", (it) => it.attempts.length === 2 && isOpen(it));
          assert.deepEqual(statuses, ["waiting", "connecting", "open", "waiting", "connecting", "open"]);
          await hears(page, users[index], "after");
          assert.equal(await present(users[index]), 1);
        }
      } finally {
        await sleeper.close();
        network.stop();
      }
    },

    ...(name === "chromium" && {
      async "in chromium, a page that is frozen lets go, and is connected when it is resumed"() {
        const page = await open("frozen");
        await page.evaluate(() => {
          for (const it of ["freeze", "resume"]) document.addEventListener(it, () => seen.statuses.push(it));
        });
        await hears(page, "frozen", "before");
        const devtools = await page.createCDPSession();
        await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
        await eventually("it is still there", async () => (await present("frozen")) === 0);
        await devtools.send("Page.setWebLifecycleState", { state: "active" });
        const { statuses, attempts } = await until(page, "open again", (it) => it.attempts.length === 2 && isOpen(it));
        assert.deepEqual(statuses.filter((it) => it !== "connecting"), ["waiting", "open", "waiting", "freeze", "resume", "open"]);
        assert.equal(attempts.length, 2);
        await hears(page, "frozen", "after");
        await page.close();
      },
    }),
  };
}

casesInBrowsers("lifecycle", cases, { flags: FLAGS, areTogether: true, patience: HIDDEN_SECONDS * 1000 + 3 * PATIENCE_MS });
