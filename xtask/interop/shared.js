// What the clients of Node and the drivers of browsers share: pushing by fetch, servers of a case's
// own, and running cases.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const readline = require("node:readline");

// Where the server is, as http://host:port or https://host:port.
const origin = process.argv[2];
// Where pushes are taken, which may be elsewhere.
const pushOrigin = process.env.PRIVATE_ORIGIN ?? origin;
const socketOrigin = origin.replace(/^http/, "ws");
const PATIENCE_MS = 10_000;
const BOUND = "are you bound";

const NASTY = [
  " ",
  '{"a": "quoted \\" and \\\\ and / and 1.0"}',
  "<b>&amp;</b>\u2028\u2029",
  "tab\t, line\r\n, nul\0, delete\x7f",
  "Grüße, 世界, שלום, 👩‍👩‍👧‍👦 🏳️‍🌈",
  "100 KB é 🚀 ".repeat((100 * 1024) / 16),
];

// What pushes come with, where the server asks for something.
const credentials = { token: undefined };

function post(body, token = credentials.token) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return fetch(`${pushOrigin}/push`, { method: "POST", body, headers, signal });
}

async function push(userId, event, message) {
  const answer = await post(JSON.stringify({ userId, event, message }));
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

async function pushTo(count, user, event, message) {
  assert.equal(await push(user, event, message), `message sent to ${count} clients`);
}

// A registration has no answer, so a push must tell.
async function awaitCount(count, user, event) {
  const start = Date.now();
  for (;;) {
    const answer = await push(user, event, BOUND);
    if (answer === `message sent to ${count} clients`) return;
    assert.ok(Date.now() - start < PATIENCE_MS, `${event} of ${user}: still ${answer}, not ${count}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

// Of version 2 of the API, by default of the server that all cases share.
async function ask(path, question, at = origin) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${at}${path}`, { method: "POST", body: JSON.stringify(question), headers, signal });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return JSON.parse(text);
}

// A server of the case's own, which it may stop: as that of all cases, plain or with a certificate.
async function startServer(more = [], at = "127.0.0.1:0") {
  const flags = ["--address", at, "--log-format", "json", "--allow-open-push", ...more];
  const isSecure = origin.startsWith("https:");
  if (isSecure) flags.push("--tls-certificate-file", process.env.TLS_CERTIFICATE, "--tls-key-file", process.env.TLS_KEY);
  const settings = Object.entries(process.env).filter(([name]) => !name.startsWith("WSERVER_"));
  const child = spawn(process.env.PROGRAM, flags, { env: Object.fromEntries(settings), stdio: ["ignore", "ignore", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const ended = once(child, "exit").then(([code, signal]) => {
    process.off("exit", kill);
    return code ?? signal;
  });
  const lines = readline.createInterface({ input: child.stderr });
  const address = await within(PATIENCE_MS, new Promise((resolve, reject) => {
    lines.on("line", (line) => {
      const said = JSON.parse(line);
      if (said.message === "listening") resolve(said.address);
    });
    ended.then((end) => reject(new Error(`the server ended at once: ${end}`)));
  }));
  return {
    origin: `http${isSecure ? "s" : ""}://${address}`,
    address,
    // As an operator would, and it must end so.
    async stop() {
      child.kill("SIGTERM");
      assert.equal(await ended, 0, "the server ends well");
    },
  };
}

function short(text) {
  return text.length > 80 ? `${JSON.stringify(text.slice(0, 80))} … (${text.length})` : JSON.stringify(text);
}

async function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Runs one case after the other; a case that fails does not stop the next.
async function run(name, all, patience = 3 * PATIENCE_MS) {
  let failed = false;
  for (const [title, body] of Object.entries(all)) {
    try {
      await within(patience, body());
      console.log(`ok ${name}: ${title}`);
    } catch (error) {
      failed = true;
      console.log(`FAILED ${name}: ${title}: ${String(error.message).replaceAll("\n", " ")}`);
    }
  }
  return failed;
}

function cases(name, all, patience) {
  run(name, all, patience).then((failed) => process.exit(failed ? 1 : 0));
}

module.exports = { BOUND, NASTY, PATIENCE_MS, ask, awaitCount, cases, credentials, post, push, pushTo, run, short, startServer, origin, pushOrigin, socketOrigin };
