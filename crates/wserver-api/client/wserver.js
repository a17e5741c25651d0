// The browser client of wserver, protocol version 2: docs/browser.md is its guide.

const PROTOCOL = "wserver.v2";
/** How long token, handshake and first reply may take together, in ms. */
const ATTEMPT_MS = 10_000;
/** A connection that lived so long was a good one. */
const STEADY_MS = 10_000;
const DELAY_MS_MAX = 30_000;
/** How long a server may be silent beyond its heartbeat, and how long a ping may take. */
const SILENCE_MS = 10_000;
const PING_MS = 3000;
const IDS_MAX = 64;
const WAITING_MAX = 1000;

/**
 * @param {string | URL} url where the server takes WebSockets; http becomes ws, and a path is one of this page's host
 * @param {import("./wserver.d.ts").Options} [options]
 * @returns {import("./wserver.d.ts").Server<any>}
 */
export function connect(url, { token, WebSocket = globalThis.WebSocket } = {}) {
  const address = String(new URL(url, globalThis.location?.href)).replace(/^http/, "ws");
  /** @type {Map<string, Set<Function>>} */
  const handlers = new Map();
  /** @type {Set<string>} what the server has registered, or is about to */
  const asked = new Set();
  /** @type {Map<number, { events?: string[], refreshes?: boolean }>} requests without a reply */
  const requests = new Map();
  /** @type {string[]} of the last messages, so that none is handled twice */
  const ids = [];
  const statusListeners = new Set();
  const problemListeners = new Set();

  /** @type {import("./wserver.d.ts").Status} */
  let status = "waiting";
  /** @type {import("./wserver.d.ts").Problem | undefined} */
  let reason;
  /** @type {any} */
  let socket;
  // What belongs to an older attempt is ignored.
  let attempt = 0;
  let failures = 0;
  let neverOpen = 0;
  let lastId = 0;
  let openedAt = 0;
  let heartbeat = 0;
  let leaving = -1;
  /** @type {any} */
  let secret;
  let refused = false;
  let isFlushing = false;
  /** @type {any} */
  const timers = {};

  const later = (name, ms, run) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(run, ms);
  };
  const isOver = () => status === "stopped";

  const call = (handler, ...values) => {
    // One that throws, or whose promise is rejected, stops no other.
    const report = globalThis.reportError ?? console.error;
    try {
      Promise.resolve(handler(...values)).catch(report);
    } catch (error) {
      report(error);
    }
  };

  const setStatus = (next) => {
    if (status === next) return;
    status = next;
    for (const listener of [...statusListeners]) call(listener, status, reason);
  };

  const tell = (problem) => {
    if (problemListeners.size === 0) console.warn("wserver:", problem.detail, problem);
    for (const listener of [...problemListeners]) call(listener, problem);
  };

  /** Leaves the attempt that is under way, whatever becomes of its socket. */
  const drop = (code = 1000) => {
    attempt += 1;
    for (const name in timers) clearTimeout(timers[name]);
    asked.clear();
    requests.clear();
    const old = socket;
    socket = undefined;
    old?.close(code);
  };

  const stop = (why) => {
    drop();
    reason = why;
    setStatus("stopped");
    if (why) tell(why);
  };

  /** Tries again after a while: a random part of what doubles with each failure, never at once. */
  const retry = (delay) => {
    if (openedAt > 0 && Date.now() - openedAt >= STEADY_MS) failures = 0;
    openedAt = 0;
    drop();
    setStatus("waiting");
    const most = Math.min(DELAY_MS_MAX, 1000 * 2 ** failures++);
    later("retry", delay ?? 100 + Math.random() * most, open);
  };

  const open = async () => {
    for (const [event, known] of handlers) if (known.size === 0) handlers.delete(event);
    if (isOver() || handlers.size === 0) return;
    drop();
    const mine = attempt;
    const isOld = () => mine !== attempt;
    setStatus("connecting");
    later("attempt", ATTEMPT_MS, () => retry());
    try {
      secret = typeof token === "function" ? await token({ refused }) : token;
    } catch (/** @type {any} */ error) {
      if (isOld()) return;
      // A provider may say that there will be no token any more.
      if (error?.final) return stop({ code: "no_token", detail: String(error) });
      tell({ code: "no_token", detail: `no token: ${error}` });
      return retry();
    }
    if (isOld()) return;
    const opened = (socket = new WebSocket(address, [PROTOCOL]));
    opened.onopen = () => {
      if (isOld()) return;
      neverOpen = -1;
      if (opened.protocol === PROTOCOL) return flush();
      const detail = "the server speaks version 1 only: update it, or use a plain WebSocket";
      stop({ code: "old_server", detail });
    };
    opened.onmessage = ({ data }) => isOld() || receive(String(data));
    opened.onclose = ({ code, reason }) => isOld() || closed(code, reason);
  };

  const closed = (code, why) => {
    if (code >= 4500 && code < 5000) return stop({ code, detail: why });
    if (neverOpen >= 0 && ++neverOpen === 3) {
      const detail = `${address} cannot be reached, refuses this page, or is older than version 2`;
      tell({ code: "never_open", detail });
    }
    if (leaving < 0) return retry();
    const delay = leaving * 1000 + Math.random() * 1000;
    leaving = -1;
    retry(delay);
  };

  const send = (request, about = {}) => {
    lastId += 1;
    requests.set(lastId, about);
    socket?.send(JSON.stringify({ id: lastId, ...request }));
  };

  /** Asks for what has a handler and is not registered, all in one request. */
  const flush = () => {
    isFlushing = false;
    if (socket?.readyState !== 1) return;
    const events = [...handlers.keys()].filter((event) => handlers.get(event)?.size && !asked.has(event));
    if (events.length === 0) return;
    for (const event of events) asked.add(event);
    send({ register: events, token: secret }, { events });
  };

  const receive = (data) => {
    const end = data.indexOf("\n");
    let head;
    try {
      head = JSON.parse(end < 0 ? data : data.slice(0, end));
    } catch {
      return retry();
    }
    watch();
    if (head.event !== undefined) return deliver(head, data.slice(end + 1));
    if (head.hello) {
      heartbeat = head.hello.heartbeat * 1000;
      watch();
    }
    if (head.re !== undefined) return replied(head);
    if (head.leaving) leaving = head.leaving.in_seconds;
    if (head.expiring && typeof token === "function") refresh();
    for (const event of head.unregistered ?? []) {
      tell({ code: "unregistered", detail: "an operator has ended the registration", event });
    }
  };

  const deliver = ({ event, id }, message) => {
    if (ids.includes(id)) return;
    ids.push(id);
    if (ids.length > IDS_MAX) ids.shift();
    for (const handler of [...(handlers.get(event) ?? [])]) call(handler, message, { event, id });
  };

  const replied = ({ re, ok, error }) => {
    const about = requests.get(re);
    requests.delete(re);
    if (!about) return error && tell(error);
    if (error) return about.events || about.refreshes ? notGranted(about, error) : tell(error);
    for (const { event, code, detail, retry_after: after } of ok?.refused ?? []) {
      tell({ code, detail, event });
      if (after) again([event], after);
    }
    if (!ok?.registered?.length) return;
    refused = false;
    if (status === "open") return;
    clearTimeout(timers.attempt);
    openedAt = Date.now();
    setStatus("open");
  };

  const again = (events, seconds) => {
    later(`again ${events}`, seconds * 1000, () => {
      for (const event of events) asked.delete(event);
      flush();
    });
  };

  const notGranted = (/** @type {any} */ { events }, error) => {
    const isOfToken = /^token_|^other_user$/.test(error.code);
    if (!isOfToken) {
      tell(error);
      if (error.retry_after && events) again(events, error.retry_after);
      return;
    }
    // Refused twice in a row, or without anybody to ask for another one.
    if (refused || typeof token !== "function") return events ? stop(error) : tell(error);
    refused = true;
    if (events && status !== "open") return retry();
    refresh();
    if (events) again(events, 1);
  };

  const refresh = async () => {
    const mine = attempt;
    try {
      const next = await /** @type {any} */ (token)({ refused });
      if (mine !== attempt) return;
      secret = next;
      send({ refresh: next }, { refreshes: true });
    } catch (error) {
      // The server closes with 4003, and then it is asked again.
      tell({ code: "no_token", detail: `no token: ${error}` });
    }
  };

  /** Expects the next message within the heartbeat. */
  const watch = () => {
    if (!heartbeat) return;
    const ms = heartbeat + SILENCE_MS;
    const due = Date.now() + ms;
    // A timer that is late was asleep with its page, and says nothing of the server.
    later("watch", ms, () => (Date.now() - due > PING_MS ? probe() : retry()));
  };

  const probe = () => {
    send({ ping: {} });
    later("watch", PING_MS, () => retry());
  };

  /** The page, or its network, is back. */
  const wake = () => {
    if (status === "waiting") later("retry", Math.random() * 300, open);
    else if (status === "open") probe();
  };
  /** It is put aside; or frozen, and Chromium would lose what comes. */
  const hide = ({ persisted }) => {
    if (persisted === false || isOver()) return;
    drop();
    setStatus("waiting");
  };
  const seen = () => document.visibilityState === "visible" && wake();
  /** @type {any[][]} */
  const hooks = [
    [globalThis, "online", wake],
    [globalThis, "pageshow", wake],
    [globalThis, "pagehide", hide],
    [globalThis.document, "visibilitychange", seen],
    [globalThis.document, "freeze", hide],
    [globalThis.document, "resume", wake],
  ];
  for (const [target, name, run] of hooks) target?.addEventListener?.(name, run);

  /** @type {import("./wserver.d.ts").Server<any>} */
  const server = {
    get status() {
      return status;
    },
    get reason() {
      return reason;
    },
    on(event, handler) {
      const isFirst = handlers.size === 0;
      const known = handlers.get(event) ?? new Set();
      // A handler that is given twice is two.
      const entry = (message, about) => handler(message, about);
      handlers.set(event, known.add(entry));
      if (isFirst && !socket && status === "waiting") later("retry", 0, open);
      else if (!isFlushing) {
        isFlushing = true;
        Promise.resolve().then(flush);
      }
      return () => {
        if (!known.delete(entry) || known.size > 0) return;
        // One that comes back at once, as a component that is mounted twice does, changes nothing.
        later(`off ${event}`, 1000, () => {
          if (known.size > 0 || handlers.get(event) !== known) return;
          handlers.delete(event);
          if (asked.delete(event)) send({ unregister: [event] });
        });
      };
    },
    onStatus(listener) {
      const entry = (next, why) => listener(next, why);
      statusListeners.add(entry);
      call(entry, status, reason);
      return () => void statusListeners.delete(entry);
    },
    onProblem(listener) {
      const entry = (problem) => listener(problem);
      problemListeners.add(entry);
      return () => void problemListeners.delete(entry);
    },
    async *messages(event, { signal } = {}) {
      /** @type {any[]} */
      const waiting = [];
      let more = () => {};
      const off = server.on(event, (message, about) => {
        waiting.push({ message, ...about });
        more();
      });
      const offStatus = server.onStatus(() => more());
      const abort = () => more();
      signal?.addEventListener("abort", abort);
      try {
        for (;;) {
          if (waiting.length > WAITING_MAX) throw new Error(`more than ${WAITING_MAX} messages of ${event} wait`);
          if (waiting.length > 0) yield waiting.shift();
          else if (signal?.aborted || isOver()) return;
          else await new Promise((resolve) => (more = () => resolve(undefined)));
        }
      } finally {
        signal?.removeEventListener("abort", abort);
        offStatus();
        off();
      }
    },
    close() {
      for (const [target, name, run] of hooks) target?.removeEventListener?.(name, run);
      stop(undefined);
    },
  };
  return server;
}
