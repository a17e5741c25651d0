// Our browser client in Chromium and Firefox, as the server serves it: where it stands, and what it
// gets, while tokens are refused and expire and the server sends it away.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const { execFile, spawn } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const { PATIENCE_MS, ask, origin, startServer } = require("./shared.js");
const { begin, casesInBrowsers, isOpen, isStopped, told, until } = require("./tabs.js");

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

    async [`in ${name}, a page that may have nothing stays away, and so does one that floods`]() {
      const server = await startServer([...WITH_JWT, "--register-timeout", "1s"]);
      const flooding = await client(server.origin, ["order"], jwt("ann", 60));
      await until(flooding, "open", isOpen);
      const none = await client(server.origin, ["secret"], jwt("bob", 60, ["order"]));
      // Each turn sends a request.
      await flooding.evaluate(async () => {
        for (let turn = 0; turn < 300; turn += 1) {
          window.server.on(`event ${turn}`, () => {});
          await undefined;
        }
      });
      for (const [page, code] of [[flooding, 4502], [none, 4501]]) {
        const { reason, attempts } = await until(page, "stopped", isStopped);
        assert.deepEqual([reason.code, attempts.length], [code, 1]);
        await page.close();
      }
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
      for (const page of [older, newer]) assert.equal((await told(page)).attempts.length, 1);
      await older.close();
      await newer.close();
      await server.stop();
    },

    async [`in ${name}, it comes back after a restart, when the server has said`]() {
      const server = await startServer();
      const page = await client(server.origin, ["order"], "ann");
      await until(page, "open", isOpen);
      await page.evaluate(() => (Math.random = () => 0.5));
      await server.stop();
      await until(page, "waiting", ({ statuses }) => statuses.includes("waiting", 1));
      const again = await startServer([], server.address);
      const { statuses, attempts, leaving: [{ at, seconds }] } = await until(page, "open again", isOpen);
      // It may be told to come back sooner than this case starts the server.
      assert.deepEqual(statuses.slice(0, 5), ["waiting", "connecting", "open", "waiting", "connecting"]);
      const late = attempts[1] - at - seconds * 1000;
      assert.ok(late >= 490 && late < 1500, `${late} ms after ${seconds} s`);
      assert.equal((await push(again.origin, "ann", "order", "back")).written, 1);
      await until(page, "message", (it) => it.messages.at(-1)?.[2] === "back");
      await page.close();
      await again.stop();
    },

    async [`in ${name}, an older server is told as such`]() {
      const at = await oldServer();
      const opened = await page(origin);
      await opened.evaluate(begin, origin, ["order"], "ann", at);
      const { status, problems, details, attempts } = await until(opened, "a problem", (it) => it.problems.length > 0);
      if (name === "chromium") {
        // It ends the handshake itself, and a page cannot see why.
        assert.deepEqual(problems, [["never_open"]]);
        assert.match(details[0], /cannot be reached, refuses this page, or is too old$/);
        assert.ok(attempts[2] - attempts[0] >= 200, "there is a delay before each attempt");
      } else {
        assert.deepEqual([status, problems, attempts.length], ["stopped", [["old_server"]], 1]);
        assert.equal(details[0], "the server speaks version 1 only: update it, or use a plain WebSocket");
      }
      // A plain WebSocket, as the sentence says, is what this server understands.
      const message = await opened.evaluate((at) => new Promise((resolve, reject) => {
        const socket = new WebSocket(`${at.replace(/^http/, "ws")}/ws`);
        socket.onopen = () => socket.send('{"token":"plain","event":"order"}');
        socket.onmessage = ({ data }) => (socket.close(), resolve(data));
        socket.onclose = () => reject(new Error("closed"));
        // A registration has no answer.
        const push = async () => {
          await fetch(`${at}/push`, { mode: "no-cors", method: "POST", body: '{"userId":"plain","event":"order","message":"m"}' });
          if (socket.readyState < 2) setTimeout(push, 20);
        };
        push();
      }), at);
      assert.equal(message, "m");
      await opened.close();
    },
  };
}

// A server of version 1 alone: not the ancestor, whose module cannot be fetched, but that of the
// benchmarks. Both leave handshakes to gorilla/websocket and name no subprotocol to it.
let old;
function oldServer() {
  old ??= (async () => {
    const child = spawn(process.env.OLD_PROGRAM, [process.env.OLD_ADDRESS], { stdio: "ignore" });
    process.once("exit", () => child.kill());
    const at = `http://${process.env.OLD_ADDRESS}`;
    const start = Date.now();
    while (!(await fetch(at).catch(() => null))) assert.ok(Date.now() - start < PATIENCE_MS, "the older server does not start");
    return at;
  })();
  return old;
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

const casesOf = (browser, name) => ({ ...cases(browser, name), ...(name === "chromium" && guideCases(browser)) });
casesInBrowsers("library", casesOf, { others: without });
