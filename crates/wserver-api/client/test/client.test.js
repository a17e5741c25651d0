// The rules of the client, against a WebSocket and a clock of the tests' own.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mock, test } from "node:test";
import { gzipSync } from "node:zlib";

import { connect } from "../wserver.js";
import { Fake, fire, opened, reported, settle, sleep, start, tick, URL } from "./fake.js";

test("rule 1: it is open when the first registration was accepted", async () => {
  const { server, statuses } = await start();
  assert.deepEqual(Fake.last.protocols, ["wserver.v2"]);
  Fake.last.open();
  assert.equal(server.status, "connecting");
  assert.deepEqual(Fake.last.sent, [{ id: 1, register: ["order"], token: "aaa" }]);
  Fake.last.grant();
  assert.deepEqual(statuses, ["waiting", "connecting", "open"]);
});

test("all handlers of a turn are registered with one request", async () => {
  const server = connect(URL, { token: "aaa", WebSocket: Fake });
  for (const event of ["a", "b", "c", "a"]) server.on(event, () => {});
  await tick(0);
  Fake.last.open();
  assert.deepEqual(Fake.last.sent.map((it) => it.register), [["a", "b", "c"]]);
  Fake.last.grant();
  server.on("d", () => {});
  server.on("e", () => {});
  await settle();
  assert.deepEqual(Fake.last.sent.at(-1).register, ["d", "e"]);
});

test("rule 2: delays grow up to half a minute, and begin anew after a steady connection", async () => {
  await start();
  for (const most of [1000, 2000, 4000, 8000, 16000, 30000, 30000]) {
    const before = Fake.all.length;
    Fake.last.end(1006);
    await tick(100 + most / 2 - 1);
    assert.equal(Fake.all.length, before, `not before ${most / 2}`);
    await tick(1);
    assert.equal(Fake.all.length, before + 1);
  }
  Fake.last.open();
  Fake.last.grant();
  await tick(9_999);
  Fake.last.end(1006);
  await tick(15_100);
  Fake.last.open();
  Fake.last.grant();
  Fake.last.push("order", "x", "m");
  await tick(10_000);
  const before = Fake.all.length;
  Fake.last.end(1006);
  await tick(600);
  assert.equal(Fake.all.length, before + 1, "the first delay again");
});

test("rule 3: who is told to leave comes back when it is told to", async () => {
  const { server } = await opened();
  Fake.last.say({ leaving: { reason: "shutdown", in_seconds: 4 } });
  Fake.last.end(4000);
  assert.equal(server.status, "waiting");
  await tick(4_499);
  assert.equal(Fake.all.length, 1);
  await tick(1);
  assert.equal(Fake.all.length, 2);
  // Once: the next loss is one like any other.
  Fake.last.end(1006);
  await tick(1_100);
  assert.equal(Fake.all.length, 3);
});

test("rule 4: codes from 4500 on are final, and every other one is not", async () => {
  for (const code of [4500, 4501, 4502, 4503, 4504, 4505, 4999]) {
    const { server, problems } = await opened();
    Fake.last.end(code, "why");
    assert.deepEqual([server.status, server.reason], ["stopped", { code, detail: "why" }]);
    assert.deepEqual(problems, [{ code, detail: "why" }]);
    await tick(100_000);
    assert.equal(Fake.last.code, 1000, "closed, and no other opened");
  }
  for (const code of [1000, 1001, 1006, 1008, 1011, 1012, 3000, 4000, 4003, 4499, 5000]) {
    const { server } = await opened();
    const before = Fake.all.length;
    Fake.last.end(code);
    await tick(35_000);
    assert.ok(Fake.all.length > before, `${code}`);
    server.close();
  }
});

test("rule 5: no attempt comes without a delay, whatever fails", async () => {
  mock.method(Math, "random", () => 0);
  let asked = 0;
  const server = connect(URL, {
    WebSocket: class extends Fake {
      constructor(...all) {
        super(...all);
        queueMicrotask(() => this.end(1006));
      }
    },
    token: () => {
      asked += 1;
      if (asked % 2) throw new Error("down");
      return "aaa";
    },
  });
  server.onProblem(() => {});
  server.on("order", () => {});
  for (let ms = 0; ms <= 1000; ms++) await tick(1);
  assert.ok(asked <= 11, `${asked} attempts in a second`);
  server.close();
});

test("rule 6: what belongs to an older attempt is ignored", async () => {
  const { server, heard } = await opened();
  const old = Fake.last;
  old.end(1006);
  await tick(600);
  Fake.last.open();
  Fake.last.grant();
  old.push("order", "1", "late");
  old.end(4503);
  assert.deepEqual([heard, server.status], [[], "open"]);
});

test("rule 6: token, handshake and first reply have ten seconds together", async () => {
  for (const stuck of ["token", "handshake", "reply"]) {
    Fake.all = [];
    const token = stuck === "token" ? () => new Promise(() => {}) : "aaa";
    const { server } = await start({ token });
    if (stuck === "reply") Fake.last.open();
    await tick(9_999);
    assert.equal(server.status, "connecting", stuck);
    await tick(1);
    assert.equal(server.status, "waiting", stuck);
    server.close();
  }
});

test("rule 7: a refused token is asked for again, and twice in a row is the end", async () => {
  const asked = [];
  const { server, problems } = await start({ token: (about) => (asked.push(about.refused), "t") });
  Fake.last.open();
  Fake.last.refuse("token_refused");
  assert.equal(server.status, "waiting");
  await tick(600);
  Fake.last.open();
  Fake.last.refuse("token_refused");
  assert.deepEqual(asked, [false, true]);
  assert.deepEqual([server.status, server.reason.code], ["stopped", "token_refused"]);
  assert.equal(problems.length, 1);
});

test("rule 7: a token that cannot be renewed is refused once", async () => {
  const { server } = await start({ token: "aaa" });
  Fake.last.open();
  Fake.last.refuse("token_expired");
  assert.equal(server.status, "stopped");
});

test("rule 7: a token is renewed before it expires", async () => {
  let number = 0;
  const { server } = await opened({ token: () => `t${number++}` });
  Fake.last.say({ expiring: { in_seconds: 30 } });
  await settle();
  assert.deepEqual(Fake.last.sent.at(-1), { id: 2, refresh: "t1" });
  Fake.last.refuse("token_refused");
  await settle();
  assert.deepEqual(Fake.last.sent.at(-1), { id: 3, refresh: "t2" });
  Fake.last.grant({ registered: ["order"] });
  assert.equal(server.status, "open");
  // What is registered from now on comes with the newest one.
  server.on("chat", () => {});
  await settle();
  assert.equal(Fake.last.sent.at(-1).token, "t2");
});

test("a token provider that has no more to give ends it", async () => {
  const { server } = await start({
    token: () => Promise.reject(Object.assign(new Error("signed out"), { final: true })),
  });
  assert.deepEqual([server.status, server.reason.code], ["stopped", "no_token"]);
});

test("rule 8: a silent server is given up, and a late timer judges nothing", async () => {
  const { server } = await opened();
  await tick(30_000);
  Fake.last.say({ beat: 25 });
  await tick(34_999);
  assert.equal(server.status, "open");
  await tick(1);
  assert.equal(server.status, "waiting");
  await tick(600);
  Fake.last.open();
  Fake.last.grant();
  await sleep(3_600_000);
  assert.deepEqual(Fake.last.sent.at(-1).ping, {});
  assert.equal(server.status, "open");
  Fake.last.grant();
  await tick(3_000);
  assert.equal(server.status, "open", "the ping was answered");
});

test("rule 9: a page that is back tries soon, or asks", async () => {
  const { server } = await opened();
  fire("online");
  assert.deepEqual(Fake.last.sent.at(-1).ping, {});
  await tick(3_000);
  assert.equal(server.status, "waiting", "in vain");
  await tick(600);
  for (let lost = 0; lost < 5; lost++) {
    Fake.last.end(1006);
    await tick(31_000);
  }
  Fake.last.end(1006);
  const before = Fake.all.length;
  fire("pageshow");
  await tick(150);
  assert.equal(Fake.all.length, before + 1);
  server.close();
  fire("online");
  await tick(100_000);
  assert.equal(Fake.all.length, before + 1, "never after close()");
});

test("rule 10: a page that is put aside lets go, and connects when it is back", async () => {
  const { server } = await opened();
  fire("pagehide", { persisted: false });
  assert.equal(server.status, "open");
  fire("pagehide", { persisted: true });
  assert.deepEqual([server.status, Fake.last.code], ["waiting", 1000]);
  await tick(100_000);
  assert.equal(Fake.all.length, 1);
  fire("pageshow", { persisted: true });
  await tick(300);
  assert.equal(Fake.all.length, 2);
});

test("a page that is frozen lets go, and connects when it is resumed", async () => {
  const { server, statuses } = await opened();
  fire("freeze");
  assert.deepEqual([server.status, Fake.last.code], ["waiting", 1000]);
  await tick(100_000);
  assert.equal(Fake.all.length, 1);
  fire("resume");
  await tick(300);
  Fake.last.open();
  Fake.last.grant();
  assert.deepEqual(statuses.slice(3), ["waiting", "connecting", "open"]);
  server.close();
  fire("freeze");
  fire("resume");
  await tick(100_000);
  assert.deepEqual([server.status, Fake.all.length], ["stopped", 2]);
});

test("rule 12: nothing is handled twice, and a handler that throws stops no other", async () => {
  const { server, heard } = await opened();
  server.on("order", () => {
    throw new Error("mine");
  });
  server.on("order", () => Promise.reject(new Error("later")));
  const after = [];
  server.on("order", (message) => after.push(message));
  Fake.last.push("order", "1", "paid");
  Fake.last.push("order", "1", "paid");
  Fake.last.end(1006);
  await tick(600);
  Fake.last.open();
  Fake.last.grant();
  Fake.last.push("order", "1", "paid");
  Fake.last.push("order", "2", "sent\nand more");
  await settle();
  assert.deepEqual(heard, [["paid", "1"], ["sent\nand more", "2"]]);
  assert.deepEqual(after, ["paid", "sent\nand more"]);
  assert.deepEqual(reported.map((it) => it.message).sort(), ["later", "later", "mine", "mine"]);
  for (let id = 3; id < 67; id++) Fake.last.push("order", `${id}`, "m");
  Fake.last.push("order", "2", "again");
  assert.equal(heard.at(-1)[0], "again", "64 are remembered");
});

test("rule 13: the last handler that goes unregisters a second later", async () => {
  const { server, off } = await opened();
  off();
  await tick(999);
  const back = server.on("order", () => {});
  await tick(10);
  assert.equal(Fake.last.sent.length, 1, "as if nothing had been");
  back();
  back();
  await tick(1_000);
  assert.deepEqual(Fake.last.sent.at(-1), { id: 2, unregister: ["order"] });
});

test("one that went while the connection was lost is not registered again", async () => {
  const { server, off } = await opened();
  server.on("chat", () => {});
  off();
  Fake.last.end(1006);
  await tick(600);
  Fake.last.open();
  assert.deepEqual(Fake.last.sent[0].register, ["chat"]);
});

test("rule 14: an older server is told as such", async () => {
  const { server } = await start();
  Fake.last.open("");
  assert.deepEqual([server.status, server.reason.code], ["stopped", "old_server"]);
  assert.match(server.reason.detail, /update it/);
});

test("rule 15: three failures before anything was open are told once", async () => {
  const { problems } = await start();
  for (let failure = 0; failure < 5; failure++) {
    Fake.last.end(1006);
    await tick(31_000);
  }
  assert.deepEqual(problems.map((it) => it.code), ["never_open"]);
});

test("an event that is refused is told, and the others are open", async () => {
  const { server, problems } = await start();
  server.on("secret", () => {});
  Fake.last.open();
  const refused = [{ event: "secret", code: "not_permitted", detail: "no" }];
  Fake.last.grant({ registered: ["order"], refused });
  assert.equal(server.status, "open");
  assert.deepEqual(problems, [{ code: "not_permitted", detail: "no", event: "secret" }]);
});

test("what was busy is asked for again when the server says so", async () => {
  const { problems } = await start();
  Fake.last.open();
  Fake.last.refuse("busy", { retry_after: 5 });
  await tick(5_000);
  assert.deepEqual(Fake.last.sent.at(-1).register, ["order"]);
  assert.equal(problems[0].code, "busy");
});

test("messages of an event can be iterated, until the signal or the end", async () => {
  const { server } = await opened();
  const abort = new AbortController();
  const got = [];
  const reading = (async () => {
    for await (const { message, id } of server.messages("order", { signal: abort.signal })) {
      got.push([message, id]);
    }
  })();
  await settle();
  Fake.last.push("order", "1", "a");
  Fake.last.push("order", "2", "b");
  await settle();
  abort.abort();
  await reading;
  assert.deepEqual(got, [["a", "1"], ["b", "2"]]);
  const stopped = (async () => {
    for await (const _ of server.messages("order"));
  })();
  await settle();
  server.close();
  await stopped;
});

test("what it does not know does not trouble it, and garbage ends the connection", async () => {
  const { server } = await opened();
  Fake.last.say({ news: {} });
  Fake.last.say({ re: 77, ok: {} });
  assert.equal(server.status, "open");
  Fake.last.say("garbage");
  assert.equal(server.status, "waiting");
});

test("http URLs and URL objects are taken", async () => {
  for (const [url, expected] of [
    ["http://a.test/ws", "ws://a.test/ws"],
    ["https://a.test/ws", "wss://a.test/ws"],
    [new globalThis.URL("wss://a.test/ws"), "wss://a.test/ws"],
  ]) {
    const server = connect(url, { WebSocket: Fake });
    server.on("order", () => {});
    await tick(0);
    assert.equal(Fake.last.url, expected);
    server.close();
  }
});

/** What a tab keeps. */
function storage(kept = {}) {
  Object.defineProperty(globalThis, "sessionStorage", { value: kept, configurable: true, writable: true });
  return kept;
}
const stored = `wserver ${URL}`;

test("rule 11: the position moves before the handler is called, and is where it comes back", async () => {
  const { server } = await start();
  const seen = [];
  Fake.last.open();
  assert.equal(Fake.last.sent[0].after, undefined);
  Fake.last.grant({ at: "a.0" });
  server.on("order", () => {
    // Whatever becomes of this handler, the message is not asked for again.
    Fake.last.end(1006);
    throw seen.push("called");
  });
  await settle();
  Fake.last.say(`${JSON.stringify({ event: "order", id: "1-1", at: "a.1" })}\nx`);
  await tick(2000);
  Fake.last.open();
  assert.deepEqual(seen, ["called"]);
  assert.equal(Fake.last.sent[0].after, "a.1");
  Fake.last.grant({ at: "a.1", replaying: 0 });
  server.on("chat", () => {});
  await settle();
  assert.deepEqual(Fake.last.sent.at(-1).register, ["chat"]);
  assert.equal(Fake.last.sent.at(-1).after, undefined, "only the first one of a connection");
});

test("rule 11: a page that is loaded again goes on where it stood", async () => {
  const kept = storage();
  try {
    await opened();
    Fake.last.say(`${JSON.stringify({ event: "order", id: "1-1", at: "a.1" })}\nx`);
    assert.equal(kept[stored], undefined, "a tab that is duplicated begins anew");
    fire("pagehide", { persisted: false });
    assert.equal(kept[stored], "a.1");
    await start();
    Fake.last.open();
    assert.equal(Fake.last.sent[0].after, "a.1");
    assert.equal(kept[stored], undefined);
    await start({ after: "given" });
    Fake.last.open();
    assert.equal(Fake.last.sent[0].after, "given", "what the page was given is newer");
  } finally {
    delete globalThis.sessionStorage;
  }
});

test("a storage that is forbidden is none", async () => {
  Object.defineProperty(globalThis, "sessionStorage", {
    configurable: true,
    get() {
      throw new Error("forbidden");
    },
  });
  try {
    const { server } = await opened();
    fire("pagehide", { persisted: false });
    assert.equal(server.status, "open");
  } finally {
    delete globalThis.sessionStorage;
  }
});

test("a gap is told within its time, at a random moment", async () => {
  const { server } = await start();
  const gaps = [];
  const off = server.onGap((gap) => gaps.push(gap));
  Fake.last.open();
  Fake.last.grant({ at: "b.0", gap: { reason: "restarted", spread_seconds: 10 } });
  await tick(4950);
  assert.deepEqual(gaps, []);
  // It outlives the connection on which it was told.
  Fake.last.end(1006);
  await tick(100);
  assert.deepEqual(gaps, [{ reason: "restarted" }]);
  await tick(1000);
  Fake.last.open();
  assert.equal(Fake.last.sent[0].after, "b.0");
  Fake.last.grant();
  Fake.last.say({ gap: { reason: "lost", spread_seconds: 0 }, at: "b.9" });
  await tick(50);
  assert.deepEqual(gaps[1], { reason: "lost" });
  Fake.last.end(1006);
  await tick(2000);
  Fake.last.open();
  assert.equal(Fake.last.sent[0].after, "b.9");
  off();
  Fake.last.grant({ gap: { reason: "evicted", spread_seconds: 10 } });
  server.close();
  await tick(10_000);
  assert.equal(gaps.length, 2);
});

test("a gap that nobody listens for is a problem", async () => {
  const { problems } = await start();
  Fake.last.open();
  Fake.last.grant({ gap: { reason: "evicted", spread_seconds: 0 } });
  await settle();
  assert.deepEqual(problems, [{ code: "gap", detail: "messages are missing: evicted" }]);
});

test("a message is acknowledged when its handlers are done", async () => {
  const { server } = await opened();
  let done;
  server.on("order", () => new Promise((resolve) => (done = resolve)));
  const push = (event, id, ack = true) => Fake.last.say(`${JSON.stringify({ event, id, ack })}\n${id}`);
  const acks = () => Fake.last.sent.filter((it) => it.ack).map((it) => it.ack);
  push("order", "1-1");
  await tick(1000);
  assert.deepEqual(acks(), [], "one of two has not finished");
  done();
  await tick(0);
  push("order", "1-2", false);
  done();
  push("order", "1-3");
  done();
  await settle();
  await tick(50);
  assert.deepEqual(acks(), [["1-1", "1-3"]], "those of a moment share a message");
  push("order", "1-4");
  const before = Fake.last;
  before.end(1006);
  done();
  await tick(5000);
  assert.deepEqual(before.sent.filter((it) => it.ack).length, 1);
  Fake.last.open();
  await tick(1000);
  assert.deepEqual(acks(), [], "another connection was not asked");
});

test("a handler that fails does not acknowledge", async () => {
  for (const fail of [
    () => {
      throw new Error("at once");
    },
    () => Promise.reject(new Error("later")),
  ]) {
    const { server } = await opened();
    server.on("order", fail);
    Fake.last.say(`${JSON.stringify({ event: "order", id: "1-1", ack: true })}\nx`);
    await tick(1000);
    assert.equal(Fake.last.sent.some((it) => it.ack), false);
    assert.match(String(reported.pop()), /at once|later/);
    server.close();
  }
});

test("what is iterated is acknowledged when the next one is asked for", async () => {
  const server = connect(URL, { token: "aaa", WebSocket: Fake });
  const messages = server.messages("job");
  const first = messages.next();
  await tick(0);
  Fake.last.open();
  Fake.last.grant();
  Fake.last.say(`${JSON.stringify({ event: "job", id: "1-1", ack: true })}\nx`);
  assert.equal((await first).value.message, "x");
  await tick(1000);
  assert.equal(Fake.last.sent.some((it) => it.ack), false);
  messages.next();
  await settle();
  await tick(50);
  assert.deepEqual(Fake.last.sent.at(-1), { ack: ["1-1"] });
  server.close();
});

test("it is at most 4 KB, as it is served", () => {
  const bytes = gzipSync(readFileSync(new globalThis.URL("../wserver.js", import.meta.url)), { level: 9 });
  assert.ok(bytes.length <= 4096, `${bytes.length} bytes`);
});
