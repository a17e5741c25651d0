// npm's ws as a client, fetch as a pusher.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const { WebSocket } = require("ws");
const { NASTY, PATIENCE_MS, awaitCount, cases, origin, post, pushTo, short, socketOrigin, BOUND } = require("./shared.js");

// A connection whose messages can be awaited one by one.
class Connection {
  #queue = [];
  #waiting = null;

  constructor(options = {}) {
    this.socket = new WebSocket(`${socketOrigin}/ws`, options);
    this.closed = new Promise((resolve) => this.socket.on("close", (code) => resolve(code)));
    this.opened = new Promise((resolve, reject) => {
      this.socket.on("open", resolve);
      this.socket.on("error", reject);
    });
    this.socket.on("message", (data, isBinary) => {
      this.#queue.push({ text: data.toString(), isBinary });
      this.#waiting?.();
    });
  }

  static async open(options) {
    const connection = new Connection(options);
    await connection.opened;
    return connection;
  }

  async register(user, event) {
    this.socket.send(JSON.stringify({ token: user, event }));
    await awaitCount(1, user, event);
  }

  async next() {
    if (this.#queue.length === 0) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error("nothing arrives")), PATIENCE_MS);
        this.#waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#waiting = null;
    }
    return this.#queue.shift();
  }

  // Reads past the questions whether it is bound.
  async expect(message) {
    for (;;) {
      const { text, isBinary } = await this.next();
      assert.ok(!isBinary, "not a text frame");
      if (text === message) return;
      assert.equal(text, BOUND, `expected ${short(message)}, got ${short(text)}`);
    }
  }
}

cases("node", {
  async "registers and receives"() {
    const connection = await Connection.open();
    await connection.register("js-one", "notify");
    await pushTo(1, "js-one", "notify", "hello");
    await connection.expect("hello");
    connection.socket.close();
  },

  async "registers in fragments"() {
    const connection = await Connection.open();
    const bytes = Buffer.from(JSON.stringify({ token: "js-fragments é", event: "notify" }));
    for (let i = 0; i < bytes.length; i += 1) {
      connection.socket.send(bytes.subarray(i, i + 1), { binary: false, fin: i === bytes.length - 1 });
      if (i === 10) connection.socket.ping("between fragments");
    }
    await awaitCount(1, "js-fragments é", "notify");
    connection.socket.close();
  },

  async "registers in a binary frame"() {
    const connection = await Connection.open();
    connection.socket.send(Buffer.from('{"EVENT":"notify","Token":"js-binary"}'));
    await awaitCount(1, "js-binary", "notify");
    connection.socket.close();
  },

  async "receives verbatim"() {
    const connection = await Connection.open();
    await connection.register("js-verbatim", "notify");
    for (const message of NASTY) {
      await pushTo(1, "js-verbatim", "notify", message);
      await connection.expect(message);
    }
    connection.socket.close();
  },

  async "receives in order"() {
    const connection = await Connection.open();
    await connection.register("js-order", "notify");
    for (let i = 0; i < 100; i += 1) await pushTo(1, "js-order", "notify", `message ${i}`);
    for (let i = 0; i < 100; i += 1) await connection.expect(`message ${i}`);
    connection.socket.close();
  },

  async "a second event on one connection"() {
    const connection = await Connection.open();
    await connection.register("js-events", "first");
    await connection.register("js-events", "second");
    for (const event of ["first", "second"]) {
      await pushTo(1, "js-events", event, `by ${event}`);
      await connection.expect(`by ${event}`);
    }
    await pushTo(0, "js-events", "third", "to nobody");
    connection.socket.close();
  },

  async "two connections of one user"() {
    const [one, two] = await Promise.all([Connection.open(), Connection.open()]);
    for (const { socket } of [one, two]) socket.send(JSON.stringify({ token: "js-two", event: "notify" }));
    await awaitCount(2, "js-two", "notify");
    await pushTo(2, "js-two", "notify", "last");
    for (const connection of [one, two]) {
      await connection.expect("last");
      connection.socket.close();
    }
  },

  async "compression is offered and need not be taken"() {
    const connection = await Connection.open({ perMessageDeflate: { threshold: 0 } });
    assert.equal(connection.socket.extensions, "");
    await connection.register("js-deflate", "notify");
    connection.socket.close();
  },

  async "a subprotocol nobody agreed to"() {
    const connection = new WebSocket(`${socketOrigin}/ws`, ["somebody.else.v7"]);
    // Not chosen: a browser would fail the connection, and so does ws.
    const outcome = await new Promise((resolve) => {
      connection.on("open", () => resolve(`chose ${connection.protocol}`));
      connection.on("error", (error) => resolve(error.message));
    });
    assert.match(outcome, /no subprotocol/);
  },

  async "an unknown user"() {
    await pushTo(0, "js-nobody", "notify", "hello");
  },

  async "illegal pushes"() {
    for (const body of ["", "{", "null", "[]", '{"userId":"a","event":"b"}', '{"userId":"a","event":"b","message":7}']) {
      const answer = await post(body);
      assert.deepEqual([answer.status, await answer.text()], [400, "request data illegal"], body);
    }
    const answer = await fetch(`${origin}/push`);
    assert.equal(answer.status, 405);
    await answer.text();
  },

  async "a ping is answered"() {
    const connection = await Connection.open();
    await connection.register("js-ping", "notify");
    const pong = new Promise((resolve) => connection.socket.on("pong", resolve));
    connection.socket.ping("are you there");
    assert.equal(String(await pong), "are you there");
    connection.socket.close();
  },

  async "closes cleanly and is forgotten"() {
    const connection = await Connection.open();
    await connection.register("js-close", "notify");
    connection.socket.close(1000, "bye");
    assert.equal(await connection.closed, 1000);
    await awaitCount(0, "js-close", "notify");
  },

  async "is forgotten after an end without a close"() {
    const connection = await Connection.open();
    await connection.register("js-reset", "notify");
    // Node resets plain sockets alone.
    const { _socket: socket } = connection.socket;
    if (socket.encrypted) socket.destroy();
    else socket.resetAndDestroy();
    await awaitCount(0, "js-reset", "notify");
  },
});
