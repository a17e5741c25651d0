// What the tests of the client stand on: a WebSocket, a page and a clock of their own.

import { afterEach, beforeEach, mock } from "node:test";

import { connect } from "../wserver.js";

export const URL = "ws://example.test/ws";

/** A WebSocket whose other end is the test. */
export class Fake {
  static all = [];
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, protocol: "", readyState: 0, sent: [], code: undefined });
    Fake.all.push(this);
  }
  static get last() {
    return Fake.all.at(-1);
  }
  open(protocol = "wserver.v2") {
    this.protocol = protocol;
    this.readyState = 1;
    this.onopen?.();
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  say(message) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  push(event, id, message) {
    this.say(`${JSON.stringify({ event, id })}\n${message}`);
  }
  /** Answers the last request. */
  grant(more = {}) {
    const { id, register } = this.sent.at(-1);
    const hello = { connection: "1", heartbeat: 25, features: [] };
    this.say({ re: id, ok: { registered: register ?? [], ...more }, hello });
  }
  refuse(code, more = {}) {
    this.say({ re: this.sent.at(-1).id, error: { code, detail: code, ...more } });
  }
  end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
  close(code) {
    this.code = code;
    this.readyState = 3;
  }
}

const page = {};
/** What handlers threw. */
export const reported = [];
let clock = 1_000_000;

beforeEach(() => {
  Fake.all = [];
  reported.length = 0;
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(Date, "now", () => clock);
  mock.method(Math, "random", () => 0.5);
  mock.method(console, "warn", () => {});
  globalThis.reportError = (error) => reported.push(error);
  globalThis.addEventListener = (name, run, { signal } = {}) => {
    const runs = (page[name] ??= new Set()).add(run);
    signal?.addEventListener("abort", () => runs.delete(run));
  };
  const { addEventListener } = globalThis;
  globalThis.document = { addEventListener, visibilityState: "visible" };
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  for (const name in page) page[name].clear();
});

/** How many listeners the page has. */
export const hooks = () => Object.values(page).reduce((sum, runs) => sum + runs.size, 0);
export const fire = (name, event = {}) => page[name]?.forEach((run) => run(event));
/** Lets promises go on. */
export const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};
/** Time passes, and timers run. */
export const tick = async (ms) => {
  do {
    const step = Math.min(ms, 50);
    clock += step;
    mock.timers.tick(step);
    await settle();
    ms -= step;
  } while (ms > 0);
};

/** The machine sleeps. When it wakes, what is overdue runs, before what waits in the socket. */
export const sleep = async (ms) => {
  clock += ms;
  mock.timers.tick(ms);
  await settle();
};

/** A client with a handler for `order`, and what it is told. */
export async function start(options = {}) {
  const heard = [];
  const statuses = [];
  const problems = [];
  const server = connect(URL, { token: "aaa", WebSocket: Fake, ...options });
  server.onStatus((status) => statuses.push(status));
  server.onProblem((problem) => problems.push(problem));
  const off = server.on("order", (message, about) => heard.push([message, about.id]));
  await tick(0);
  return { server, heard, statuses, problems, off };
}

export async function opened(options) {
  const client = await start(options);
  Fake.last.open();
  Fake.last.grant();
  await settle();
  return client;
}
