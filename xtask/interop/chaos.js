// Our browser client behind a proxy that cuts, stalls, delays and lies, with time running faster.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
// CHAOS_MINUTES is how long the faults last by the clients' clock, CHAOS_SEED which faults they are.
"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const { WebSocket } = require("ws");
const { PATIENCE_MS, ask, cases, startServer } = require("./shared.js");

const CLIENTS = Number(process.env.CHAOS_CLIENTS ?? 200);
/** How many seconds of the clients' clock one second has. */
const SPEED = 30;
const MINUTES = Number(process.env.CHAOS_MINUTES ?? 6);
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
/** A fault comes once in so many seconds of the clients' clock, for each connection. */
const FAULT_SECONDS = 60;
/** At the end of each such period, nobody gets through for a while, and who is connected is cut. */
const OUTAGE_EVERY_SECONDS = 120;
const OUTAGE_SECONDS = 20;
/** How often a client may come back; it waits twice as long after each failure. */
const WINDOW_MS = 10_000;
const ATTEMPTS_MAX = 10;

// The clients' clock: ours, faster. Only the client's code and ws use it.
const real = { setTimeout: globalThis.setTimeout, now: Date.now };
const began = real.now();
const clientNow = () => began + (real.now() - began) * SPEED;

// A generator of random numbers that a seed repeats (mulberry32).
let state = SEED;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const among = (all) => all[Math.floor(random() * all.length)];
/** Milliseconds of the real clock until something that comes once in so many of the clients' seconds. */
const until = (seconds) => (-Math.log(1 - random()) * seconds * 1000) / SPEED;

const GARBAGE = [
  Buffer.from([0x81, 0x05, ...Buffer.from("hello")]),
  Buffer.from([0x82, 0x02, 0xff, 0xfe]),
  Buffer.from([0xc1, 0x7f, 0x00, 0xff]),
  Buffer.from("HTTP/1.1 408 Request Timeout\r\n\r\n"),
  Buffer.from([0x81, 0x02, ...Buffer.from("{}")]),
];

/** What a proxy can do to a connection, with both of its sockets. */
const FAULTS = {
  cut: (client, server) => [client, server].forEach((it) => it.end()),
  reset: (client, server) => [client, server].forEach((it) => it.resetAndDestroy()),
  stall: (client, server) => [client, server].forEach((it) => it.pause()),
  "half open": (client, server) => {
    client.unpipe(server);
    server.unpipe(client);
    server.destroy();
  },
  delay: (client, server) => {
    [client, server].forEach((it) => it.pause());
    real.setTimeout(() => [client, server].forEach((it) => it.resume()), (20_000 * random()) / SPEED);
  },
  garbage: (client) => client.write(among(GARBAGE)),
};
/** What it can do to one that has only begun. */
const BEGINNINGS = {
  refuse: (client) => client.resetAndDestroy(),
  ignore: () => {},
  "bad gateway": (client) => client.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
};

class Proxy {
  isCalm = false;
  isOut = false;
  done = {};
  #clients = new Set();

  constructor(port) {
    this.server = net.createServer({ allowHalfOpen: true }, (client) => this.#take(client, port));
  }

  async listen() {
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return this.server.address().port;
  }

  /** Nobody gets through from now on, or everybody does again. */
  setOut(isOut) {
    if (isOut && !this.isOut) {
      for (const client of this.#clients) client.resetAndDestroy();
    }
    this.isOut = isOut;
  }

  #do(all, ...sockets) {
    const name = among(Object.keys(all));
    this.done[name] = (this.done[name] ?? 0) + 1;
    all[name](...sockets);
  }

  #take(client, port) {
    client.on("error", () => {});
    client.setNoDelay(true);
    if (this.isOut) return client.resetAndDestroy();
    this.#clients.add(client);
    client.on("close", () => this.#clients.delete(client));
    if (!this.isCalm && random() < 0.1) return this.#do(BEGINNINGS, client);
    const server = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    server.on("error", () => client.destroy());
    client.pipe(server);
    server.pipe(client);
    client.on("close", () => server.destroy());
    const fault = real.setTimeout(() => this.isCalm || this.#do(FAULTS, client, server), until(FAULT_SECONDS));
    client.on("close", () => clearTimeout(fault));
  }
}

/** A WebSocket on the clients' clock: what the server counts in seconds is as many of theirs. */
function socketOf(attempts) {
  return class extends WebSocket {
    constructor(url, protocols) {
      attempts.push(clientNow());
      super(url, protocols, { perMessageDeflate: false });
      // A page has no more to see of an error than the close that follows.
      this.on("error", () => {});
    }

    set onmessage(handler) {
      const seconds = (text) => text.replace(/"(heartbeat|beat|in_seconds)":(\d+)/g, (_, key, value) => `"${key}":${value * SPEED}`);
      this.on("message", (data) => {
        const [head, ...rest] = String(data).split("\n");
        handler({ data: [seconds(head), ...rest].join("\n") });
      });
    }
  };
}

function newClient(connect, url, number) {
  const user = `chaos-${number}`;
  const client = { user, attempts: [], wrong: [], ids: new Set(), kept: [], gaps: [], last: undefined };
  const token = async () => {
    await sleep((500 * random()) / SPEED);
    if (random() < 0.05) throw new Error("no answer");
    return user;
  };
  client.server = connect(url, { token, WebSocket: socketOf(client.attempts) });
  client.server.onProblem(() => {});
  // Whoever has never been told a position has none to come back to.
  client.server.onStatus((status) => (client.wasOpen ||= status === "open"));
  client.server.onGap(({ reason }) => client.gaps.push(reason));
  client.server.on("news", (message, { id }) => {
    client.last = message;
    if (!message.startsWith(`${user} `)) client.wrong.push(message);
    if (client.ids.has(id)) client.wrong.push(`${id} twice`);
    client.ids.add(id);
  });
  return client;
}

/** What of its own rules a client has broken, and what it has missed of what the server has kept. */
function broken({ user, attempts, wrong, server, ids, kept, gaps }) {
  const faults = wrong.slice(0, 3);
  if (gaps.length > 0) faults.push(`told of a gap: ${gaps}`);
  const missed = kept.filter((id) => !ids.has(id));
  if (missed.length > 0) faults.push(`missed ${missed.length} of ${kept.length}`);
  const order = new Set(kept);
  const handled = [...ids].filter((id) => order.has(id));
  if (missed.length === 0 && handled.join() !== kept.join()) faults.push("out of order");
  if (server.status !== "open") faults.push(`${server.status} ${JSON.stringify(server.reason ?? "")}`);
  attempts.forEach((at, index) => {
    const last = attempts[index + ATTEMPTS_MAX];
    if (last !== undefined && last - at < WINDOW_MS) faults.push("came back too often");
  });
  return faults.length > 0 ? [`${user}: ${[...new Set(faults)].join(", ")}`] : [];
}

async function waitFor(what, holds) {
  const start = real.now();
  while (!(await holds())) {
    assert.ok(real.now() - start < PATIENCE_MS, what());
    await sleep(20);
  }
}

cases("chaos", {
  async "every client is open and itself after all faults, and has missed nothing"() {
    const { connect } = await import(path.join(__dirname, "../../crates/wserver-api/client/wserver.js"));
    const server = await startServer(["--ping-interval", "1s", "--pong-timeout", "2s", "--replay", "news"]);
    // Once a client was open, everything is kept for it, and it must get all of it.
    const push = async ({ user, kept, wasOpen }, message) => {
      const { id, is_kept: isKept } = await ask("/v2/push", { user, event: "news", message }, server.origin);
      if (isKept && wasOpen) kept.push(id);
    };
    const proxy = new Proxy(Number(server.address.split(":")[1]));
    const port = await proxy.listen();
    globalThis.setTimeout = (run, ms, ...more) => real.setTimeout(run, ms / SPEED, ...more);
    Date.now = clientNow;
    const clients = Array.from({ length: CLIENTS }, (_, number) => newClient(connect, `ws://127.0.0.1:${port}/ws`, number));
    let sent = 0;
    const end = real.now() + (MINUTES * 60_000) / SPEED;
    while (real.now() < end) {
      const second = ((real.now() - began) * SPEED) / 1000;
      proxy.setOut(second % OUTAGE_EVERY_SECONDS > OUTAGE_EVERY_SECONDS - OUTAGE_SECONDS);
      const client = clients[sent % CLIENTS];
      await push(client, `${client.user} ${sent}`);
      sent += 1;
      await sleep(2);
    }
    proxy.setOut(false);
    proxy.isCalm = true;
    const closed = () => clients.filter((it) => it.server.status !== "open");
    await waitFor(() => `${closed().length} are not open: ${closed().slice(0, 3).flatMap(broken).join("; ")}`, () => closed().length === 0);
    // Open is also registered: who the server takes for gone is found out and comes back.
    for (const client of clients) {
      const last = `${client.user} last`;
      await push(client, last);
      await waitFor(() => `${client.user} does not get the last message`, () => client.last === last);
    }
    const faults = clients.flatMap(broken);
    const attempts = clients.reduce((sum, it) => sum + it.attempts.length, 0);
    const received = clients.reduce((sum, it) => sum + it.ids.size, 0);
    for (const { server: it } of clients) it.close();
    Date.now = real.now;
    globalThis.setTimeout = real.setTimeout;
    await server.stop();
    const done = Object.entries(proxy.done).map(([name, count]) => `${count} ${name}`).join(", ");
    console.error(`seed ${SEED}: ${MINUTES} min, ${attempts} attempts, ${received} of ${sent} messages; ${done}`);
    assert.deepEqual(faults, [], `seed ${SEED}`);
    assert.ok(attempts > CLIENTS, "the faults did nothing");
  },
}, (MINUTES * 60_000) / SPEED + 6 * PATIENCE_MS);
