// What went wrong in other clients, as tests of ours.
//
// In August and September 2026 the clients of Centrifugo were audited: centrifuge-js#380 to #434,
// centrifuge-dart#126 to #170. Below is what each of these threads is about, and which test here
// holds it, or why it cannot arise. A test is named after the thread; rules are in client.test.js.
//
// | centrifuge-js | fault | here |
// |---|---|---|
// | #381 | no delay between attempts while transports are skipped | one transport; rule 5 |
// | #385 | a reset leaves the position of some subscriptions | one position for all; a gap replaces it |
// | #387 | a character cut between two chunks of a stream is garbled | a WebSocket gives whole messages |
// | #389 | a client that has ended stays reachable from the page | test |
// | #390 | the same, after an end that the server decided | test |
// | #391 | a handler that ends or begins during a teardown is undone; states told out of order | tests |
// | #392 | a message of an older connection is handled; one exception disables the client | tests |
// | #393 | what is recovered is delivered after the end | test |
// | #394 | an exception in a handler leaves the client half alive | test |
// | #395 | a reply cut by a stream is an error | a WebSocket gives whole messages |
// | #397 | requests of a fallback transport hang after the end | no such transport |
// | #398 | a timeout beats a reply that has arrived | test, with #417, #423 and #426 |
// | #401 | a token without a provider is dropped, and the next attempt fails | test |
// | #402 | a late answer closes the newer connection | test |
// | #405 | a WebSocket that cannot be made leaves the client connecting for good | test |
// | #407 | no delay after an error in place of the first reply | test |
// | #408 | no delay after being sent away in place of the first reply | test |
// | #409 | delays begin anew though connections are of no use | test |
// | #410 | what a handler ended gets the rest nevertheless | test |
// | #414 | a handler of a problem that ends the client is undone; one that throws skips the teardown | tests |
// | #416 | a thrown value without a text; a flag of an older connection; a broken close() | tests |
// | #417 | a timer that is late ends a call whose reply waits | test, with #398 |
// | #419 | a reply to a request that was taken back completes the next one | test |
// | #421 | what follows undecodable data is handled | test |
// | #422 | a token that expired without a provider can never be replaced | final: a new client; rule 7 |
// | #423 | a timer that is late ends a connection whose ping waits | test, with #398 |
// | #424 | ending a subscription twice ends the newer one of the same name | test |
// | #425 | a handler that resubscribes gets the same message again; waiters stay behind | rule 11; test |
// | #426 | a handshake that completed during a sleep is dropped | test, with #398 |
// | #427 | a handler of the end sees what has ended still there | no such event |
// | #429 | an exception when the connection opens leaves its requests to the next one | test |
// | #431 | events out of order; a retry outlives its end; a callback that throws at once | tests |
// | #432 | a slow first reply moves to another transport for good; data that cannot be encoded | one transport; test, with #429 |
//
// | centrifuge-dart | fault | here |
// |---|---|---|
// | #126 | an attempt that was given up goes on with the older token; a handshake is awaited for ever | tests |
// | #127 | handlers that call back during a teardown | test, with centrifuge-js#391 |
// | #128 | messages are delivered after the unsubscribe; a ghost of a subscription | tests, with centrifuge-js#410 and #419 |
// | #129 | a refresh goes on in the next connection; an expired token is tried for ever | tests |
// | #130 | calls during an end fail oddly; a timeout beats a reply | no calls; test, with centrifuge-js#398 |
// | #131 | an exception loses the rest of a message | one push in a message; test, with centrifuge-js#394 |
// | #133 | a new subscription overtakes the end of the older one | test |
// | #137 | what a handler of an error did is undone | test, with centrifuge-js#414 |
// | #138 | a request from a handler during an end breaks the teardown | test |
// | #139 | a handshake that takes too long stays open | test, with #162 |
// | #140 | the code of a close is lost when a request is pending | test |
// | #142 | a handler that resubscribes gets the same message again | rule 11 |
// | #143 | a token that takes too long ends the connection of others | one token for the connection; rule 6 |
// | #144 | a handler of "connecting" makes a second attempt | test |
// | #145 | a timer that is late ends a connection whose ping waits | test, with centrifuge-js#398 |
// | #151 | an HTTP client that the program shares is closed | none is used |
// | #154 | after a refusal the provider is not asked | rule 7 |
// | #157 | an unsubscribe that fails is reported as uncaught | it has no promise |
// | #158 | a handshake that completes after its timeout stays open | test, with #162 |
// | #159 | a URL that can never work is tried for ever | test, with #166 |
// | #160 | garbage in place of the first reply is noticed late | test |
// | #161 | URLs that a browser resolves are refused | "http URLs and URL objects are taken" |
// | #162 | an end does not stop a handshake | test |
// | #163 | ready() throws instead of failing | no such promise |
// | #164 | a repeated connect() fails when the attempt ends | no such promise |
// | #166 | a URL is judged by other rules than the browser's | test |
// | #167 | the reason of a lost connection is empty | a lost connection has no reason here |
//
// Of the other numbers the threads were not found.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { connect } from "../wserver.js";
import { Fake, fire, hooks, opened, reported, settle, sleep, start, tick, URL } from "./fake.js";

/** Nothing happens any more, however long one waits. */
async function isStill(server) {
  const before = Fake.all.length;
  await tick(60_000);
  assert.deepEqual([server.status, Fake.all.length], ["stopped", before]);
}

const registers = () => Fake.last.sent.filter((it) => it.register).map((it) => it.register);

test("centrifuge-js#389: close() takes every hook from the page", async () => {
  const { server } = await opened();
  assert.notEqual(hooks(), 0);
  server.close();
  assert.equal(hooks(), 0);
});

test("centrifuge-js#390: an end that the server decides takes every hook from the page", async () => {
  const { server } = await opened();
  Fake.last.end(4504, "replaced");
  assert.deepEqual([server.status, hooks()], ["stopped", 0]);
  // What is asked for afterwards neither lives nor changes why it has ended.
  server.close();
  assert.deepEqual(server.reason, { code: 4504, detail: "replaced" });
  server.on("order", () => {});
  await isStill(server);
});

test("centrifuge-js#390: a client that takes the place of a stopped one goes on where that stood", async () => {
  Object.defineProperty(globalThis, "sessionStorage", { value: {}, configurable: true });
  try {
    await opened();
    Fake.last.say(`${JSON.stringify({ event: "order", id: "1-1", at: "a.1" })}\nx`);
    Fake.last.end(4504);
    await start();
    Fake.last.open();
    assert.equal(Fake.last.sent[0].after, "a.1");
  } finally {
    delete globalThis.sessionStorage;
  }
});

test("centrifuge-js#391: a client that is closed by a status listener stays closed", async () => {
  for (const when of ["connecting", "open", "waiting"]) {
    const { server } = await start();
    server.onStatus((status) => status === when && server.close());
    Fake.last.open();
    if (server.status === "connecting") Fake.last.grant();
    if (server.status === "open") Fake.last.end(1006);
    await isStill(server);
  }
});

test("centrifuge-js#391: a client that is closed when it begins to connect opens nothing", async () => {
  let asked = 0;
  const server = connect(URL, { WebSocket: Fake, token: () => ((asked += 1), "aaa") });
  server.onStatus((status) => status === "connecting" && server.close());
  server.on("order", () => {});
  await isStill(server);
  assert.deepEqual([asked, Fake.all.length], [0, 0]);
});

test("centrifuge-js#391: no listener is told an older status after a newer one", async () => {
  const server = connect(URL, { token: "aaa", WebSocket: Fake });
  const [first, second] = [[], []];
  server.onStatus((status) => {
    first.push(status);
    if (status === "connecting") server.close();
  });
  server.onStatus((status) => second.push(status));
  server.on("order", () => {});
  await tick(0);
  assert.deepEqual(first, ["waiting", "connecting", "stopped"]);
  assert.deepEqual(second, ["waiting", "stopped"]);
});

test("centrifuge-js#391: a listener that closes at once is told so", async () => {
  const server = connect(URL, { token: "aaa", WebSocket: Fake });
  const seen = [];
  server.onStatus((status) => seen.push(status) === 1 && server.close());
  assert.deepEqual(seen, ["waiting", "stopped"]);
});

test("centrifuge-js#392: a message of an older connection is not handled", async () => {
  const { server, heard } = await opened();
  const old = Fake.last;
  fire("pagehide", { persisted: true });
  old.push("order", "1", "late");
  old.say({ leaving: { reason: "shutdown", in_seconds: 9 } });
  old.say({ expiring: { in_seconds: 30 } });
  assert.deepEqual([heard, server.status, old.sent.length], [[], "waiting", 1]);
});

test("centrifuge-js#393: nothing is delivered after close() in a handler", async () => {
  const { server, heard } = await opened();
  server.on("order", () => server.close());
  const socket = Fake.last;
  socket.push("order", "1", "first");
  socket.push("order", "2", "second");
  assert.deepEqual(heard, [["first", "1"]]);
  await isStill(server);
});

test("centrifuge-js#394: a handler that throws is reported, and the next message is handled", async () => {
  const { server, heard } = await opened();
  server.on("order", () => {
    throw new Error("mine");
  });
  Fake.last.push("order", "1", "a");
  Fake.last.push("order", "2", "b");
  await settle();
  assert.deepEqual([heard.length, server.status, reported.length], [2, "open", 2]);
});

test("centrifuge-js#398, #417, #423, #426: what waits in the socket beats a timer that is late", async () => {
  // The handshake.
  const { server } = await start();
  await sleep(3_600_000);
  assert.equal(server.status, "connecting");
  Fake.last.open();
  Fake.last.grant();
  assert.deepEqual([server.status, Fake.all.length], ["open", 1]);
  // A beat.
  await sleep(3_600_000);
  Fake.last.say({ beat: 25 });
  await tick(20_000);
  assert.deepEqual([server.status, Fake.all.length], ["open", 1]);
  // The reply to a ping.
  fire("online");
  await sleep(3_600_000);
  Fake.last.grant();
  await tick(20_000);
  assert.deepEqual([server.status, Fake.all.length], ["open", 1]);
});

test("centrifuge-js#398: nothing that waits in the socket is the end", async () => {
  const { server } = await opened();
  await sleep(3_600_000);
  await tick(3_000);
  assert.equal(server.status, "waiting");
});

test("centrifuge-js#401: a token without a provider is used again", async () => {
  await opened({ token: "mine" });
  Fake.last.end(4000);
  await tick(600);
  Fake.last.open();
  assert.equal(Fake.last.sent[0].token, "mine");
});

test("centrifuge-js#402: a late answer does not touch the newer connection", async () => {
  const { server, off } = await opened();
  server.on("chat", () => {});
  off();
  await tick(1_000);
  const old = Fake.last;
  old.end(1006);
  await tick(600);
  Fake.last.open();
  Fake.last.grant();
  old.refuse("token_refused");
  await tick(1_000);
  assert.deepEqual([server.status, Fake.all.length], ["open", 2]);
});

test("centrifuge-js#405: a WebSocket that cannot be made ends it with its reason", async () => {
  class Broken {
    constructor() {
      throw new SyntaxError("no such scheme");
    }
  }
  for (const WebSocket of [Broken, null]) {
    const { server, statuses, problems } = await start({ WebSocket });
    assert.deepEqual(statuses, ["waiting", "connecting", "stopped"]);
    assert.deepEqual(problems, [server.reason]);
    assert.equal(server.reason.code, "never_open");
    assert.match(server.reason.detail, /no such scheme|not a constructor/);
    await isStill(server);
  }
});

test("centrifuge-js#405: one that cannot be made for a while is tried again", async () => {
  let isBroken = false;
  class Sometimes extends Fake {
    constructor(...all) {
      if (isBroken) throw new Error("no resources");
      super(...all);
    }
  }
  const { server } = await opened({ WebSocket: Sometimes });
  isBroken = true;
  Fake.last.end(1006);
  await tick(600);
  assert.equal(server.status, "waiting");
  isBroken = false;
  await tick(1_200);
  Fake.last.open();
  Fake.last.grant();
  assert.equal(server.status, "open");
});

test("centrifuge-js#407: an error in place of the first reply is waited after", async () => {
  mock.method(Math, "random", () => 0);
  const { server } = await start({ token: () => "t" });
  Fake.last.open();
  Fake.last.refuse("token_refused");
  assert.deepEqual([server.status, Fake.all.length], ["waiting", 1]);
  await tick(99);
  assert.equal(Fake.all.length, 1);
});

test("centrifuge-js#408: being sent away in place of the first reply is waited after", async () => {
  mock.method(Math, "random", () => 0);
  await start();
  for (let time = 1; time < 10; time++) {
    assert.equal(Fake.all.length, time);
    Fake.last.open();
    Fake.last.end(4000);
    await tick(99);
    assert.equal(Fake.all.length, time);
    await tick(1);
  }
});

test("centrifuge-js#409: delays grow while connections open and are of no use", async () => {
  await start();
  const began = [];
  for (let time = 0; time < 4; time++) {
    Fake.last.open();
    Fake.last.grant();
    Fake.last.end(1006);
    let waited = 0;
    for (const before = Fake.all.length; Fake.all.length === before; waited += 50) await tick(50);
    began.push(waited);
  }
  assert.deepEqual(began, [600, 1100, 2100, 4100]);
});

test("centrifuge-js#410: a handler that another has just ended is not called", async () => {
  const { server, off, heard } = await opened();
  const [a, b] = [[], []];
  let offB;
  const offA = server.on("order", (message) => {
    a.push(message);
    offB();
    offA();
  });
  offB = server.on("order", (message) => b.push(message));
  Fake.last.push("order", "1", "m");
  off();
  Fake.last.push("order", "2", "n");
  assert.deepEqual([a, b, heard], [["m"], [], [["m", "1"]]]);
});

test("centrifuge-js#414: a client that is closed because of a problem stays closed", async () => {
  const failing = await start({ token: () => Promise.reject(new Error("down")) });
  failing.server.onProblem(() => failing.server.close());
  await tick(2_000);
  await isStill(failing.server);
  const { server } = await start();
  server.onProblem(() => server.close());
  for (let failure = 0; failure < 3; failure++) {
    Fake.last.end(1006);
    await tick(5_000);
  }
  await isStill(server);
});

test("centrifuge-js#414: listeners that throw stop no teardown", async () => {
  const { server } = await opened();
  const fail = () => {
    throw new Error("mine");
  };
  server.onStatus((status) => status !== "open" && fail());
  server.onProblem(fail);
  Fake.last.end(1006);
  await tick(600);
  assert.deepEqual([server.status, Fake.all.length], ["connecting", 2]);
  Fake.last.end(4503);
  await isStill(server);
});

test("centrifuge-js#416: what is thrown need have no text", async () => {
  const odd = Object.create(null);
  const { server, heard } = await opened();
  server.on("order", () => {
    throw odd;
  });
  Fake.last.push("order", "1", "a");
  Fake.last.push("order", "2", "b");
  await settle();
  assert.deepEqual([heard.length, reported[0]], [2, odd]);
  server.close();
  let asked = 0;
  const other = await start({ token: () => (asked++ === 0 ? Promise.reject(odd) : "t") });
  await tick(11_000);
  Fake.last.open();
  Fake.last.grant();
  assert.equal(other.server.status, "open");
  // The same for a token that is renewed.
  asked = 0;
  Fake.last.say({ expiring: { in_seconds: 30 } });
  await settle();
  assert.equal(other.server.status, "open");
});

test("centrifuge-js#416: what was told of one connection says nothing of the next", async () => {
  const { server } = await opened();
  Fake.last.say({ leaving: { reason: "shutdown", in_seconds: 60 } });
  // This connection ends in another way, and the next one is lost.
  fire("pagehide", { persisted: true });
  fire("pageshow", { persisted: true });
  await tick(300);
  Fake.last.open();
  Fake.last.grant();
  Fake.last.end(1006);
  await tick(1_100);
  assert.deepEqual([server.status, Fake.all.length], ["connecting", 3]);
});

test("centrifuge-js#416: a page that is back online does not touch an attempt that is under way", async () => {
  const { server } = await start();
  fire("online");
  await tick(1_000);
  assert.deepEqual([server.status, Fake.all.length, Fake.last.code], ["connecting", 1, undefined]);
});

test("centrifuge-js#416: a WebSocket whose close() throws is left behind", async () => {
  class Broken extends Fake {
    close() {
      throw new TypeError("close is broken");
    }
  }
  const { server } = await opened({ WebSocket: Broken });
  Fake.last.say("garbage");
  assert.equal(server.status, "waiting");
  await tick(600);
  assert.equal(server.status, "connecting");
  server.close();
  await isStill(server);
});

test("centrifuge-js#419: a late refusal of what was taken back changes nothing", async () => {
  const { server, problems } = await opened();
  const off = server.on("chat", () => {});
  await settle();
  const { id } = Fake.last.sent.at(-1);
  off();
  await tick(1_000);
  assert.deepEqual(Fake.last.sent.at(-1).unregister, ["chat"]);
  server.on("chat", () => {});
  await settle();
  assert.deepEqual(registers(), [["order"], ["chat"], ["chat"]]);
  Fake.last.say({ re: id, ok: { registered: [], refused: [{ event: "chat", code: "not_permitted", detail: "no" }] } });
  Fake.last.say({ re: id + 1, ok: { unregistered: [] } });
  Fake.last.say({ re: id + 2, ok: { registered: ["chat"] } });
  await tick(20_000);
  assert.deepEqual([registers().length, server.status, problems.length], [3, "open", 1]);
});

test("centrifuge-js#421: what follows garbage is not handled", async () => {
  const { heard } = await opened();
  const socket = Fake.last;
  socket.say("<html>");
  socket.push("order", "1", "m");
  assert.deepEqual(heard, []);
});

test("centrifuge-js#424: ending a handler twice ends no newer one", async () => {
  const { server, off } = await opened();
  off();
  await tick(1_000);
  const heard = [];
  server.on("order", (message) => heard.push(message));
  await settle();
  off();
  await tick(2_000);
  Fake.last.push("order", "1", "m");
  assert.deepEqual([heard, Fake.last.sent.at(-1).register], [["m"], ["order"]]);
});

test("centrifuge-js#425: an iterator that was given up leaves nothing behind", async () => {
  const { server } = await opened();
  const abort = new AbortController();
  const reading = server.messages("chat", { signal: abort.signal }).next();
  await settle();
  abort.abort();
  assert.deepEqual(await reading, { value: undefined, done: true });
  await tick(1_000);
  assert.deepEqual(Fake.last.sent.at(-1).unregister, ["chat"]);
});

test("centrifuge-js#429, #432: a token that cannot be sent costs its attempt only", async () => {
  let token = 1n;
  const { server } = await start({ token: () => token });
  assert.throws(() => Fake.last.open(), TypeError);
  token = "t";
  await tick(11_000);
  Fake.last.open();
  assert.deepEqual(Fake.last.sent.map((it) => it.register), [["order"]]);
  Fake.last.grant();
  assert.equal(server.status, "open");
});

test("centrifuge-js#431: a renewal that fails after the end is not told", async () => {
  for (const end of [(server) => server.close(), () => Fake.last.end(1006)]) {
    let fail;
    let asked = 0;
    const token = () => (asked++ === 0 ? "t" : new Promise((_, reject) => (fail = reject)));
    const { server, problems } = await opened({ token });
    Fake.last.say({ expiring: { in_seconds: 30 } });
    end(server);
    fail(new Error("aborted"));
    await settle();
    assert.deepEqual(problems, []);
    server.close();
  }
});

test("centrifuge-js#431: a provider that throws at once is one that fails", async () => {
  let asked = 0;
  const { server, problems } = await start({
    token() {
      if (asked++ === 0) throw new Error("down");
      return "t";
    },
  });
  assert.deepEqual(problems.map((it) => it.code), ["no_token"]);
  await tick(600);
  Fake.last.open();
  Fake.last.grant();
  assert.equal(server.status, "open");
});

test("centrifuge-dart#126: a token that comes after close() opens nothing", async () => {
  let give;
  const { server } = await start({ token: () => new Promise((resolve) => (give = resolve)) });
  server.close();
  give("late");
  await isStill(server);
  assert.equal(Fake.all.length, 0);
});

test("centrifuge-dart#126: a token that comes after its attempt is not used by the next", async () => {
  const gives = [];
  await start({ token: () => new Promise((resolve) => gives.push(resolve)) });
  await tick(10_600);
  assert.equal(gives.length, 2);
  gives[0]("older");
  await settle();
  assert.equal(Fake.all.length, 0);
  gives[1]("newer");
  await settle();
  Fake.last.open();
  assert.deepEqual([Fake.all.length, Fake.last.sent[0].token], [1, "newer"]);
});

test("centrifuge-dart#129: a renewal that spans a reconnect ends with its connection", async () => {
  let give;
  let asked = 0;
  const { server } = await opened({
    token: () => (++asked === 2 ? new Promise((resolve) => (give = resolve)) : `t${asked}`),
  });
  Fake.last.say({ expiring: { in_seconds: 30 } });
  Fake.last.end(4003);
  await tick(600);
  Fake.last.open();
  Fake.last.grant();
  give("t2");
  await settle();
  server.on("chat", () => {});
  await settle();
  assert.deepEqual(Fake.last.sent.map((it) => it.token), ["t3", "t3"]);
});

test("centrifuge-dart#129: an expired token without a provider is not tried for ever", async () => {
  const { server } = await opened({ token: "aaa" });
  Fake.last.say({ expiring: { in_seconds: 30 } });
  assert.equal(Fake.last.sent.length, 1);
  Fake.last.end(4003);
  await tick(600);
  Fake.last.open();
  Fake.last.refuse("token_expired");
  assert.equal(server.reason.code, "token_expired");
  await isStill(server);
});

test("centrifuge-dart#133: a new handler's request comes behind the end of the older one", async () => {
  const { server, off } = await opened();
  off();
  await tick(1_000);
  server.on("order", () => {});
  await settle();
  const [, unregister, register] = Fake.last.sent;
  assert.deepEqual([unregister.unregister, register.register], [["order"], ["order"]]);
});

test("centrifuge-dart#138: a request from a listener of the loss breaks nothing", async () => {
  const { server } = await opened();
  server.onStatus((status) => status === "waiting" && server.on("chat", () => {}));
  Fake.last.end(1006);
  await tick(600);
  Fake.last.open();
  assert.deepEqual(registers(), [["order", "chat"]]);
});

test("centrifuge-dart#140: a final code is final while a request is pending", async () => {
  const { server, problems } = await opened();
  server.on("chat", () => {});
  await settle();
  Fake.last.end(4503, "by the operator");
  assert.deepEqual([server.reason.code, problems.length], [4503, 1]);
  await isStill(server);
});

test("centrifuge-dart#144: handlers that come while it connects make no second attempt", async () => {
  let asked = 0;
  const server = connect(URL, { WebSocket: Fake, token: () => ((asked += 1), "t") });
  server.onStatus((status) => status === "connecting" && server.on("chat", () => {}));
  server.on("order", () => {});
  await tick(1_000);
  Fake.last.open();
  assert.deepEqual([asked, Fake.all.length, registers()], [1, 1, [["order", "chat"]]]);
});

test("centrifuge-dart#160: garbage in place of the first reply is noticed at once", async () => {
  for (const garbage of ["<html>", "null", ""]) {
    const { server } = await start();
    Fake.last.open();
    Fake.last.say(garbage);
    assert.deepEqual([server.status, Fake.last.code], ["waiting", 1000], garbage);
    server.close();
  }
});

test("centrifuge-dart#162, #139, #158: a handshake that is given up is closed", async () => {
  const { server } = await start();
  const first = Fake.last;
  await tick(10_000);
  assert.equal(first.code, 1000);
  // It may open nevertheless.
  first.open();
  assert.deepEqual([first.sent, server.status], [[], "waiting"]);
  await tick(600);
  server.close();
  assert.equal(Fake.last.code, 1000);
});

test("centrifuge-dart#166, #159: a URL is judged by the rules of the WebSocket, once", async () => {
  assert.throws(() => connect("ws://[bad", { WebSocket: Fake }), TypeError);
  assert.throws(() => connect("no scheme", { WebSocket: Fake }), TypeError);
  const { server } = await start({
    WebSocket: class {
      constructor(url) {
        throw new SyntaxError(`${url} has a fragment`);
      }
    },
  });
  assert.match(server.reason.detail, /has a fragment/);
  await isStill(server);
});
