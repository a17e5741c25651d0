// What the ws client and the page's driver share: pushing by fetch, and running cases.
"use strict";

const assert = require("node:assert/strict");

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
async function run(name, all) {
  let failed = false;
  for (const [title, body] of Object.entries(all)) {
    try {
      await within(3 * PATIENCE_MS, body());
      console.log(`ok ${name}: ${title}`);
    } catch (error) {
      failed = true;
      console.log(`FAILED ${name}: ${title}: ${String(error.message).replaceAll("\n", " ")}`);
    }
  }
  return failed;
}

function cases(name, all) {
  run(name, all).then((failed) => process.exit(failed ? 1 : 0));
}

module.exports = { BOUND, NASTY, PATIENCE_MS, awaitCount, cases, credentials, post, push, pushTo, run, short, origin, pushOrigin, socketOrigin };
