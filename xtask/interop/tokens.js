// Registers with the tokens of an independent issuer, the good ones and the others.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { WebSocket } = require("ws");
const { awaitCount, cases, credentials, post, push, pushTo, socketOrigin } = require("./shared.js");

const name = process.env.ISSUER;
const read = (file) => JSON.parse(fs.readFileSync(path.join(process.env.KEYS, file), "utf8"));
const ALGORITHMS = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

// A connection that has registered with these tokens; the server has looked at all of them, since
// registrations are taken one by one and a ping behind them was answered.
async function registered(tokens, event) {
  const socket = new WebSocket(`${socketOrigin}/ws`);
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  for (const token of tokens) socket.send(JSON.stringify({ token, event }));
  return socket;
}

function closed(socket) {
  const end = new Promise((resolve) => socket.on("close", resolve));
  socket.close();
  return end;
}

// However a token is changed, it is another's.
function changed(token) {
  const parts = token.split(".");
  return parts.map((part, i) => {
    const at = Math.floor(part.length / 2);
    const other = part[at] === "A" ? "B" : "A";
    const changed = part.slice(0, at) + other + part.slice(at + 1);
    return parts.map((it, j) => (i === j ? changed : it)).join(".");
  });
}

const all = {};
const good = read("tokens.json");
const publishers = read("publishers.json");
credentials.token = publishers.everything;

all["makes a token for every algorithm"] = async () => {
  assert.deepEqual(good.map((it) => it.algorithm).sort(), [...ALGORITHMS].sort());
};

for (const { algorithm, token } of good) {
  all[`${algorithm} is accepted`] = async () => {
    await awaitCount(0, "jack", "chat");
    const socket = await registered([token], "chat");
    const message = new Promise((resolve) => socket.on("message", (data) => resolve(data.toString())));
    await awaitCount(1, "jack", "chat");
    assert.equal(await message, "are you bound");
    await pushTo(0, "jack", "mail", "an event that the token does not permit");
    await closed(socket);
  };

  all[`${algorithm} is refused when it was changed`] = () => refused(changed(token));
}

for (const { why, token } of read("refused.json")) {
  all[`a token is refused: ${why}`] = () => refused([token]);
}

all["a publisher's token pushes what it lists"] = async () => {
  for (const [token, userId, event, status] of [
    [publishers.some, "jack", "order.1", 200],
    [publishers.some, "jack", "chat", 403],
    [publishers.some, "rose", "order.1", 403],
    [good[0].token, "jack", "order.1", 401],
    [publishers.expired, "jack", "order.1", 401],
    [`${publishers.everything}x`, "jack", "order.1", 401],
  ]) {
    const answer = await post(JSON.stringify({ userId, event, message: "m" }), token);
    await answer.text();
    assert.equal(answer.status, status, `${userId} ${event}`);
  }
};

all["a publisher's token is no listener's"] = () => refused([publishers.everything]);

// A registration that is good and comes last tells that those before it were looked at.
async function refused(tokens) {
  await awaitCount(0, "jack", "chat");
  await awaitCount(0, "jack", "order.1");
  const socket = await registered(tokens, "chat");
  socket.send(JSON.stringify({ token: good[0].token, event: "order.1" }));
  await awaitCount(1, "jack", "order.1");
  assert.equal(await push("jack", "chat", "for nobody"), "message sent to 0 clients");
  await closed(socket);
}

cases(name, all);
