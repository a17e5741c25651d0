// npm's websocket as a client. It looks at what it has received in turns of its event loop, and what
// it has not looked at when the server's FIN comes is lost: a server must not be in a hurry.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const { setTimeout: pause } = require("node:timers/promises");
const { client: Client } = require("websocket");
const { PATIENCE_MS, ask, cases, origin, startServer } = require("./shared.js");

// A registered listener, and all that came to it until its end.
async function listen(at, user) {
  const client = new Client();
  const connected = new Promise((resolve, reject) => {
    client.on("connect", resolve);
    client.on("connectFailed", reject);
  });
  client.connect(`${at.replace(/^http/, "ws")}/ws`);
  const connection = await connected;
  const [messages, errors] = [[], []];
  connection.on("message", (message) => messages.push(message.utf8Data));
  connection.on("error", (error) => errors.push(error.message));
  const end = new Promise((resolve) => {
    connection.on("close", (code) => resolve({ code, errors, messages }));
  });
  connection.sendUTF(JSON.stringify({ token: user, event: "news" }));
  const start = Date.now();
  while ((await ask("/v2/presence", { users: [user] }, at)).online[user] !== 1) {
    assert.ok(Date.now() - start < PATIENCE_MS, "it is not registered");
  }
  return { connection, end };
}

// A batch of so many pushes, and at once behind it what ends the connection.
async function farewell(at, count, code, say) {
  const user = `websocket-${count}`;
  const { connection, end } = await listen(at, user);
  connection.pause();
  const sent = Array.from({ length: count }, (_, i) => `message ${i}`);
  const pushes = sent.map((message) => ({ user, event: "news", message }));
  const { results } = await ask("/v2/push/batch", { pushes }, at);
  assert.ok(results.every(({ answer }) => answer?.matched === 1), JSON.stringify(results.at(-1)));
  const said = say(user);
  // A client that is busy for a moment; to a server that waits for its goodbye it is all the same.
  await pause(100);
  connection.resume();
  const { code: got, errors, messages } = await end;
  await said;
  const came = `${messages.length} of ${count} came, then code ${got}, ${errors.length} errors`;
  assert.equal(came, `${count} of ${count} came, then code ${code}, 0 errors`);
  assert.deepEqual(messages, sent);
}

const all = {};

for (const count of [20, 200]) {
  all[`${count} messages come before a disconnect by the operator`] = () =>
    farewell(origin, count, 1000, async (user) => {
      assert.deepEqual(await ask("/v2/disconnect", { user }), { closed: 1 });
    });

  all[`${count} messages come before the server stops`] = async () => {
    const server = await startServer();
    await farewell(server.origin, count, 1001, () => server.stop());
  };
}

cases("websocket", all);
