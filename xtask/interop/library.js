// Our browser client in Chromium and Firefox, as the server serves it: where it stands, and what it
// gets, while tokens are refused and expire and the server sends it away.
//
// Both are driven by puppeteer-core; where they are, CHROMIUM and FIREFOX say.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const puppeteer = require("puppeteer-core");
const { PATIENCE_MS, ask, origin, run, startServer } = require("./shared.js");

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

const SECRET = "a secret of the issuer that is long enough";
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "wserver-library-"));
process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }));
const secretFile = path.join(folder, "secret");
fs.writeFileSync(secretFile, SECRET, { mode: 0o600 });
const WITH_JWT = ["--jwt-secret-file", secretFile, "--jwt-audience", "any", "--jwt-events-claim", "events", "--jwt-leeway", "0s"];

// A token of this user for so many seconds.
function jwt(sub, seconds, events = ["*"]) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, aud: "any", exp, events })}`;
  return `${text}.${crypto.createHmac("sha256", SECRET).update(text).digest("base64url")}`;
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
async function until(page, what, is) {
  const start = Date.now();
  for (;;) {
    const now = await told(page);
    if (is(now)) return now;
    assert.ok(Date.now() - start < 2 * PATIENCE_MS, `${what}: ${JSON.stringify(now)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const isOpen = ({ status }) => status === "open";
const isStopped = ({ status }) => status === "stopped";

function cases(browser, name) {
  // A page of the server's origin, and of no script.
  const page = async (at) => {
    const page = await browser.newPage();
    await page.goto(`${at}/livez`);
    return page;
  };
  const client = async (at, events, tokens) => {
    const opened = await page(at);
    await opened.evaluate(begin, at, events, tokens);
    return opened;
  };
  const push = (at, user, event, message) => ask("/v2/push", { user, event, message }, at);
  const user = `${name}-library`;

  return {
    async [`in ${name}, a page that is loaded again has missed nothing, and acknowledges`]() {
      const server = await startServer(["--replay", "order"]);
      try {
        const page = await client(server.origin, ["order"], user);
        await until(page, "open", isOpen);
        await push(server.origin, user, "order", "one");
        await until(page, "the first message", (it) => it.messages.length === 1);
        await page.goto("about:blank");
        while ((await ask("/v2/presence", { users: [user] }, server.origin)).online[user] !== 0);
        const { is_kept: isKept } = await push(server.origin, user, "order", "two");
        assert.equal(isKept, true);
        await page.goto(`${server.origin}/livez`);
        await page.evaluate(begin, server.origin, ["order"], user);
        const { messages, problems } = await until(page, "the second", (it) => it.messages.length > 0);
        assert.deepEqual([messages.map(([, , message]) => message), problems], [["two"], []]);
        const waiting = { user, event: "order", message: "three", wait: "all", timeout_seconds: 10 };
        const { acks } = await ask("/v2/push", waiting, server.origin);
        assert.deepEqual(acks, { acked: 1, waiting: 0, unable: 0, lost: 0 });
        await page.close();
      } finally {
        await server.stop();
      }
    },
    async [`in ${name}, an EventSource gets a stream and what it has missed`]() {
      const server = await startServer(["--replay", "order", "--token-source", "query:token"]);
      try {
        const listening = await page(server.origin);
        await listening.evaluate((at, token) => {
          const seen = [];
          const source = new EventSource(`${at}/events?event=order&event=error&token=${token}`);
          for (const event of ["wserver", "order", "error"]) {
            source.addEventListener(event, ({ data, lastEventId }) => seen.push([event, data, lastEventId]));
          }
          Object.assign(window, { seen, source });
        }, server.origin, user);
        const seen = async (count) => {
          const start = Date.now();
          for (;;) {
            const now = await listening.evaluate(() => window.seen);
            if (now.length >= count) return now;
            assert.ok(Date.now() - start < 2 * PATIENCE_MS, JSON.stringify(now));
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        };
        const [[event, reply]] = await seen(1);
        const { registered, refused, at } = JSON.parse(reply).ok;
        assert.deepEqual([event, registered, refused[0].event], ["wserver", ["order"], "error"]);
        await push(server.origin, user, "order", "line\nline");
        const [, [, data, position]] = await seen(2);
        assert.deepEqual([data, position === at], ["line\nline", false]);
        // A position of the page's own, as after a load; the browser itself sends the last id.
        await listening.evaluate((at, token, after) => {
          source.close();
          window.seen = [];
          const again = new EventSource(`${at}/events?event=order&token=${token}&after=${after}`);
          again.addEventListener("order", ({ data }) => window.seen.push([data]));
        }, server.origin, user, at);
        assert.deepEqual(await seen(1), [["line\nline"]]);
        await listening.close();
      } finally {
        await server.stop();
      }
    },
    async [`in ${name}, what is pushed comes with its event and its id`]() {
      const page = await client(origin, ["order", "chat"], user);
      await until(page, "open", isOpen);
      const answers = [await push(origin, user, "order", "paid\nand more"), await push(origin, user, "chat", "{}")];
      assert.deepEqual(answers.map((it) => it.written), [1, 1]);
      const { messages, statuses, problems } = await until(page, "messages", (it) => it.messages.length === 2);
      assert.deepEqual(messages, [["order", answers[0].id, "paid\nand more"], ["chat", answers[1].id, "{}"]]);
      assert.deepEqual([statuses, problems], [["waiting", "connecting", "open"], []]);
      await page.evaluate(() => server.close());
      const start = Date.now();
      while ((await ask("/v2/presence", { users: [user] }, origin)).online[user] !== 0) {
        assert.ok(Date.now() - start < PATIENCE_MS, "it is still there after close()");
      }
      await page.close();
    },

    async [`in ${name}, a page of another origin loads it`]() {
      const other = http.createServer((_, answer) => answer.end("a page"));
      await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
      const elsewhere = await browser.newPage();
      await elsewhere.goto(`http://127.0.0.1:${other.address().port}/`);
      const loaded = await elsewhere.evaluate(async (at) => Object.keys(await import(`${at}/wserver.js`)), origin);
      assert.deepEqual(loaded, ["connect"]);
      await elsewhere.close();
      other.close();
    },

    async [`in ${name}, a refused token and a refused event are told`]() {
      const server = await startServer(WITH_JWT);
      const bad = await client(server.origin, ["order"], ["nonsense"]);
      const { problems, asked, reason } = await until(bad, "refused", isStopped);
      assert.deepEqual([problems, asked, reason.code], [[["token_refused"]], [false, true], "token_refused"]);
      const some = await client(server.origin, ["order", "secret"], [jwt("ann", 60, ["order"])]);
      const partly = await until(some, "open", isOpen);
      assert.deepEqual(partly.problems, [["not_permitted", "secret"]]);
      assert.equal((await push(server.origin, "ann", "order", "m")).written, 1);
      await bad.close();
      await some.close();
      await server.stop();
    },

    async [`in ${name}, a token is renewed in time, and one that is not ends it`]() {
      const server = await startServer(WITH_JWT);
      const renewed = await client(server.origin, ["order"], [jwt("ann", 4), jwt("ann", 600)]);
      const not = await client(server.origin, ["order"], jwt("bob", 4));
      await until(renewed, "open", isOpen);
      const { reason } = await until(not, "expired", isStopped);
      assert.equal(reason.code, "token_expired");
      const { statuses, asked } = await told(renewed);
      assert.deepEqual([statuses, asked], [["waiting", "connecting", "open"], [false, false]]);
      assert.equal((await push(server.origin, "ann", "order", "m")).written, 1);
      await renewed.close();
      await not.close();
      await server.stop();
    },

    async [`in ${name}, a disconnect by the operator is final, and so is a newer tab`]() {
      const flags = ["--connections-per-user-max", "1", "--connections-per-user-policy", "close_oldest"];
      const server = await startServer(flags);
      const older = await client(server.origin, ["order"], "ann");
      await until(older, "open", isOpen);
      const newer = await client(server.origin, ["order"], "ann");
      await until(newer, "open", isOpen);
      assert.equal((await until(older, "replaced", isStopped)).reason.code, 4504);
      await ask("/v2/disconnect", { user: "ann" }, server.origin);
      assert.equal((await until(newer, "disconnected", isStopped)).reason.code, 4503);
      await older.close();
      await newer.close();
      await server.stop();
    },

    async [`in ${name}, it comes back after a restart`]() {
      const server = await startServer();
      const page = await client(server.origin, ["order"], "ann");
      await until(page, "open", isOpen);
      await server.stop();
      await until(page, "waiting", ({ statuses }) => statuses.includes("waiting", 1));
      const again = await startServer([], server.address);
      const { statuses } = await until(page, "open again", isOpen);
      assert.deepEqual(statuses.slice(0, 4), ["waiting", "connecting", "open", "waiting"]);
      assert.equal((await push(again.origin, "ann", "order", "back")).written, 1);
      await until(page, "message", (it) => it.messages.at(-1)?.[2] === "back");
      await page.close();
      await again.stop();
    },

    async [`in ${name}, an older server is told as such`]() {
      // It takes the handshake, and confirms no subprotocol.
      const old = http.createServer((_, answer) => answer.end("a page"));
      old.on("upgrade", ({ headers }, socket) => {
        const accept = crypto.createHash("sha1").update(`${headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
        socket.on("error", () => {});
        socket.write(`HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ${accept.digest("base64")}\r\n\r\n`);
      });
      await new Promise((resolve) => old.listen(0, "127.0.0.1", resolve));
      const page = await browser.newPage();
      await page.goto(`${origin}/livez`);
      const at = `http://127.0.0.1:${old.address().port}`;
      await page.evaluate(async (module, ws) => {
        const { connect } = await import(module);
        window.codes = [];
        window.server = connect(ws, { token: "ann" });
        server.onProblem(({ code }) => codes.push(code));
        server.on("order", () => {});
      }, `${origin}/wserver.js`, `${at}/ws`);
      const start = Date.now();
      for (;;) {
        const codes = await page.evaluate(() => codes);
        if (codes.length > 0) {
          assert.ok(["old_server", "never_open"].includes(codes[0]), codes[0]);
          break;
        }
        assert.ok(Date.now() - start < 2 * PATIENCE_MS, "nothing is told");
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await page.close();
      old.closeAllConnections();
      old.close();
    },
  };
}

// The examples of the guide, by the first line of each.
const guide = fs.readFileSync(path.join(__dirname, "../../docs/browser.md"), "utf8");
const examples = [...guide.matchAll(/^```(\w+)\n(.*?)^```/gms)].map(([, language, text]) => ({ language, text }));

function example(language, begin) {
  const found = examples.find((it) => it.language === language && it.text.startsWith(begin));
  assert.ok(found, `the guide has no example "${begin}"`);
  return found.text;
}

// Each backend makes a token as the guide says, and the server of the guide's settings takes it.
const BACKENDS = {
  python: { program: "python3", begin: "# Python", call: (secret) => `print(token("ann", "${secret}"), end="")` },
  php: { program: "php", begin: "<?php", call: (secret) => `echo token("ann", "${secret}");` },
  js: { program: process.execPath, begin: "// Node", call: (secret) => `process.stdout.write(token("ann", "${secret}"));` },
};

function guideCases(browser) {
  return {
    async "the guide's page shows what is pushed"() {
      const server = await startServer();
      const html = example("html", "<!doctype html>").replaceAll("127.0.0.1:12345", server.address);
      const site = http.createServer((_, answer) => answer.setHeader("content-type", "text/html").end(html));
      await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${site.address().port}/`);
      await page.waitForFunction(() => document.querySelector("#status").textContent === "open");
      await ask("/v2/push", { user: "ann", event: "order", message: "paid" }, server.origin);
      await page.waitForFunction(() => document.querySelector("#orders").textContent === "paid");
      await page.close();
      site.close();
      await server.stop();
    },

    async "the guide's backends make tokens that the server takes"() {
      const home = fs.mkdtempSync(path.join(folder, "backend-"));
      await passes("sh", ["-ec", example("sh", "openssl")], home);
      const secret = fs.readFileSync(path.join(home, "jwt.secret"), "utf8").trimEnd();
      const settings = example("toml", "# wserver.toml").replace("jwt.secret", path.join(home, "jwt.secret"));
      fs.writeFileSync(path.join(home, "wserver.toml"), settings);
      const server = await startServer(["--config", path.join(home, "wserver.toml")]);
      for (const [language, { program, begin: first, call }] of Object.entries(BACKENDS)) {
        const script = path.join(home, `token.${language === "js" ? "cjs" : language}`);
        fs.writeFileSync(script, `${example(language, first)}\n${call(secret)}\n`);
        const token = await passes(program, [script], home);
        const page = await browser.newPage();
        await page.goto(`${server.origin}/livez`);
        await page.evaluate(begin, server.origin, ["order"], token);
        await until(page, language, isOpen);
        assert.equal((await ask("/v2/presence", { users: ["ann"] }, server.origin)).online.ann, 1, language);
        await page.evaluate(() => server.close());
        await page.close();
        while ((await ask("/v2/presence", { users: ["ann"] }, server.origin)).online.ann !== 0);
      }
      await server.stop();
    },
  };
}

// What needs no browser: its rules, its types, and the package that npm makes of it.
const client = path.join(__dirname, "../../crates/wserver-api/client");
const tools = path.join(process.env.NODE_PATH, ".bin");
const without = {
  async "its rules hold"() {
    const files = fs.readdirSync(path.join(client, "test")).filter((it) => it.endsWith(".test.js"));
    const tests = files.map((it) => path.join(client, "test", it));
    const out = await passes(process.execPath, ["--test", "--test-reporter=tap", ...tests]);
    // Each of them, of all files.
    const written = tests.flatMap((it) => fs.readFileSync(it, "utf8").match(/^test\(/gm));
    assert.equal(Number(/^# pass (\d+)$/m.exec(out)[1]), written.length);
  },
  async "its types are right"() {
    await passes(path.join(tools, "tsc"), ["-p", path.join(client, "test")]);
  },
  async "its package is sound"() {
    // npm would leave its archive there.
    const copy = path.join(folder, "package");
    fs.cpSync(client, copy, { recursive: true });
    await passes(path.join(tools, "publint"), ["--strict", copy]);
    await passes(path.join(tools, "attw"), ["--pack", copy, "--profile", "esm-only"]);
    const packed = JSON.parse(await passes("npm", ["pack", "--json", "--pack-destination", folder], copy));
    const files = packed[0].files.map((it) => it.path).sort();
    assert.deepEqual(files, ["README.md", "package.json", "react.d.ts", "react.js", "wserver.d.ts", "wserver.js"]);
    const served = await (await fetch(`${origin}/wserver.js`)).text();
    assert.equal(served, fs.readFileSync(path.join(client, "wserver.js"), "utf8"), "the same file is served");
  },
};

function passes(program, args, cwd = folder) {
  return new Promise((resolve, reject) => {
    execFile(program, args, { cwd }, (error, out, err) => {
      if (error) reject(new Error(`${path.basename(program)}: ${out.slice(-1500)} ${err.slice(-500)}`));
      else resolve(out);
    });
  });
}

async function main() {
  let failed = await run("library", without);
  for (const [name, options] of Object.entries(BROWSERS)) {
    const browser = await puppeteer.launch({ ...options, headless: true, acceptInsecureCerts: true });
    try {
      failed = (await run("library", cases(browser, name))) || failed;
      if (name === "chromium") failed = (await run("library", guideCases(browser))) || failed;
    } finally {
      await browser.close();
    }
  }
  return failed;
}

main().then(
  (failed) => process.exit(failed ? 1 : 0),
  (error) => {
    console.log(`FAILED library: starts: ${String(error.message).replaceAll("\n", " ")}`);
    process.exit(1);
  },
);
