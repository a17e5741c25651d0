// Chromium and Firefox at the end of a connection: what was pushed has come, and the close is clean.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const { PATIENCE_MS, ask, origin, startServer } = require("./shared.js");
const { casesInBrowsers } = require("./tabs.js");

const MESSAGES = Array.from({ length: 200 }, (_, i) => `message ${i}`);
// In one page, since to one alone a close that is too hasty is clean by luck.
const SOCKETS = 10;

// Registers in the page, which keeps what comes.
function listen(user, count) {
  window.ends = Array.from({ length: count }, () => {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`);
    const messages = [];
    socket.onopen = () => socket.send(JSON.stringify({ token: user, event: "news" }));
    socket.onmessage = ({ data }) => messages.push(data);
    return new Promise((resolve) => {
      socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean, messages });
    });
  });
}

// Pushes behind each other, and at once behind them what ends the connection.
async function farewell(browser, at, user, code, say) {
  const page = await browser.newPage();
  try {
    // Of the same origin, and of no script.
    await page.goto(`${at}/livez`);
    await page.evaluate(listen, user, SOCKETS);
    const start = Date.now();
    while ((await ask("/v2/presence", { users: [user] }, at)).online[user] !== SOCKETS) {
      assert.ok(Date.now() - start < PATIENCE_MS, "they are not registered");
    }
    const pushes = MESSAGES.map((message) => ({ user, event: "news", message }));
    await ask("/v2/push/batch", { pushes }, at);
    await say();
    const ends = await page.evaluate(() => Promise.all(window.ends));
    const clean = ends.filter((end) => end.wasClean && end.code === code).length;
    assert.equal(`${clean} of ${SOCKETS} are clean`, `${SOCKETS} of ${SOCKETS} are clean`);
    for (const { messages } of ends) assert.deepEqual(messages, MESSAGES);
  } finally {
    await page.close();
  }
}

function goodbyes(browser, name) {
  const user = `${name}-goodbye`;
  return {
    async [`to ${name}, a disconnect by the operator is clean`]() {
      await farewell(browser, origin, user, 1000, async () => {
        assert.deepEqual(await ask("/v2/disconnect", { user }), { closed: SOCKETS });
      });
    },

    async [`to ${name}, a server that stops is clean`]() {
      const server = await startServer();
      await farewell(browser, server.origin, user, 1001, () => server.stop());
    },
  };
}

casesInBrowsers("browsers", goodbyes);
