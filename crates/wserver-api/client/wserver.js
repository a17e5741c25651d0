// The browser client of wserver, protocol version 2: docs/browser.md is its guide.

const PROTOCOL = "wserver.v2";
// For an attempt, until a connection is a good one, and for silence beyond a heartbeat.
const TEN_SECONDS = 10_000;
const PING_MS = 3000;
const WAITING_MAX = 1000;

/**
 * @param {string | URL} url
 * @param {import("./wserver.d.ts").Options} [options]
 * @returns {import("./wserver.d.ts").Server<any>}
 */
export function connect(url, { token, after, WebSocket = globalThis.WebSocket } = {}) {
  const address = String(new URL(url, globalThis.location?.href)).replace(/^http/, "ws");
  /** @type {Map<string, Set<Function>>} */
  const handlers = new Map();
  const asked = new Set();
  const requests = new Map();
  /** @type {string[][]} */
  const [ids, acks] = [[], []];
  const [statusListeners, problemListeners, gapListeners] = [new Set(), new Set(), new Set()];

  /** @type {import("./wserver.d.ts").Status} */
  let status = "waiting";
  /** @type {import("./wserver.d.ts").Problem | undefined} */
  let reason;
  /** @type {any} */
  let socket, secret;
  let attempt = 0;
  let [failures, neverOpen, lastId, openedAt, heartbeat, leaving] = [0, 0, 0, 0, 0, -1];
  let [refused, isFlushing] = [false, false];
  /** @type {any} */
  const timers = {};
  // A reload goes on where it stood; a duplicated tab begins anew.
  const key = `wserver ${address}`;
  let position = after;
  try {
    position ??= sessionStorage[key];
    delete sessionStorage[key];
  } catch {}

  const later = (name, ms, run) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(run, ms);
  };
  const isOver = () => status === "stopped";

  // One that throws stops no other.
  const call = (handler, ...values) => {
    const done = new Promise((resolve) => resolve(handler(...values)));
    done.catch(globalThis.reportError ?? console.error);
    return done;
  };
  const callAll = (handlers = new Set(), ...values) => [...handlers].map((handler) => call(handler, ...values));
  const listen = (listeners, listener) => {
    const entry = (...values) => listener(...values);
    listeners.add(entry);
    return () => listeners.delete(entry);
  };

  const setStatus = (next) => {
    if (status === next) return;
    status = next;
    callAll(statusListeners, status, reason);
  };

  const tell = (problem) => {
    if (problemListeners.size === 0) console.warn("wserver:", problem.detail, problem);
    callAll(problemListeners, problem);
  };

  const missing = ({ reason, spread_seconds: seconds }) => {
    const detail = `messages are missing: ${reason}`;
    if (gapListeners.size === 0) return tell({ code: "gap", detail });
    setTimeout(() => isOver() || callAll(gapListeners, { reason }), Math.random() * 1000 * seconds);
  };

  const drop = (code = 1000) => {
    attempt += 1;
    for (const name in timers) clearTimeout(timers[name]);
    asked.clear();
    requests.clear();
    acks.length = 0;
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

  // A random part of what doubles with each failure, and never at once.
  const retry = (delay) => {
    if (openedAt > 0 && Date.now() - openedAt >= TEN_SECONDS) failures = 0;
    openedAt = 0;
    drop();
    setStatus("waiting");
    const most = Math.min(30_000, 1000 * 2 ** failures++);
    later("retry", delay ?? 100 + Math.random() * most, open);
  };

  const open = async () => {
    for (const [event, known] of handlers) if (known.size === 0) handlers.delete(event);
    if (isOver() || handlers.size === 0) return;
    drop();
    const mine = attempt;
    const isOld = () => mine !== attempt;
    setStatus("connecting");
    later("attempt", TEN_SECONDS, () => retry());
    try {
      secret = typeof token === "function" ? await token({ refused }) : token;
    } catch (/** @type {any} */ error) {
      if (isOld()) return;
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

  const flush = () => {
    isFlushing = false;
    if (socket?.readyState !== 1) return;
    const events = [...handlers.keys()].filter((event) => handlers.get(event)?.size && !asked.has(event));
    if (events.length === 0) return;
    const first = asked.size === 0 ? position : undefined;
    for (const event of events) asked.add(event);
    send({ register: events, token: secret, after: first }, { events });
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
    position = head.at ?? head.ok?.at ?? position;
    if (head.event !== undefined) return deliver(head, data.slice(end + 1));
    if (head.hello) {
      heartbeat = head.hello.heartbeat * 1000;
      watch();
    }
    if (head.re !== undefined) return replied(head);
    if (head.gap) missing(head.gap);
    if (head.leaving) leaving = head.leaving.in_seconds;
    if (head.expiring && typeof token === "function") refresh();
    for (const event of head.unregistered ?? []) {
      tell({ code: "unregistered", detail: "an operator has ended the registration", event });
    }
  };

  const deliver = ({ event, id, ack }, message) => {
    if (ids.includes(id)) return;
    if (ids.push(id) > 64) ids.shift();
    const mine = attempt;
    const done = Promise.all(callAll(handlers.get(event), message, { event, id }));
    if (ack) done.then(() => mine === attempt && acks.push(id) === 1 && later("acks", 50, acknowledge), () => {});
    else done.catch(() => {});
  };

  const acknowledge = () => socket.send(JSON.stringify({ ack: acks.splice(0) }));

  const replied = ({ re, ok, error }) => {
    const about = requests.get(re);
    requests.delete(re);
    if (!about) return error && tell(error);
    if (error) return about.events || about.refreshes ? notGranted(about, error) : tell(error);
    for (const { event, code, detail, retry_after: after } of ok?.refused ?? []) {
      tell({ code, detail, event });
      if (after) again([event], after);
    }
    if (ok?.gap) missing(ok.gap);
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
      tell({ code: "no_token", detail: `no token: ${error}` });
    }
  };

  const watch = () => {
    if (!heartbeat) return;
    const ms = heartbeat + TEN_SECONDS;
    const due = Date.now() + ms;
    // A timer that is late slept with its page.
    later("watch", ms, () => (Date.now() - due > PING_MS ? probe() : retry()));
  };

  const probe = () => {
    send({ ping: {} });
    later("watch", PING_MS, () => retry());
  };

  const wake = () => {
    if (status === "waiting") later("retry", Math.random() * 300, open);
    else if (status === "open") probe();
  };
  /** It is put aside; or frozen, and Chromium would lose what comes. */
  const hide = ({ persisted }) => {
    try {
      if (position) sessionStorage[key] = position;
    } catch {}
    if (persisted === false || isOver()) return;
    drop();
    setStatus("waiting");
  };
  const seen = () => document.visibilityState === "visible" && wake();
  const hook = (change) => {
    /** @type {any} */
    const [page, shown] = [globalThis, globalThis.document];
    for (const name of ["online", "pageshow"]) page[change]?.(name, wake);
    page[change]?.("pagehide", hide);
    shown?.[change]("visibilitychange", seen);
    shown?.[change]("freeze", hide);
    shown?.[change]("resume", wake);
  };
  hook("addEventListener");

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
      const off = listen(known, handler);
      handlers.set(event, known);
      if (isFirst && !socket && status === "waiting") later("retry", 0, open);
      else if (!isFlushing) {
        isFlushing = true;
        Promise.resolve().then(flush);
      }
      return () => {
        if (!off() || known.size > 0) return;
        // A component that is mounted twice changes nothing.
        later(`off ${event}`, 1000, () => {
          if (known.size > 0 || handlers.get(event) !== known) return;
          handlers.delete(event);
          if (asked.delete(event)) send({ unregister: [event] });
        });
      };
    },
    onStatus(listener) {
      call(listener, status, reason);
      return listen(statusListeners, listener);
    },
    onProblem: (listener) => listen(problemListeners, listener),
    onGap: (listener) => listen(gapListeners, listener),
    async *messages(event, { signal } = {}) {
      /** @type {any[]} */
      const waiting = [];
      let more = () => {};
      const off = server.on(event, (message, about) => {
        const done = new Promise((resolve) => waiting.push([{ message, ...about }, resolve]));
        more();
        return done;
      });
      const offStatus = server.onStatus(() => more());
      const abort = () => more();
      signal?.addEventListener("abort", abort);
      try {
        for (;;) {
          if (waiting.length > WAITING_MAX) throw new Error(`more than ${WAITING_MAX} messages of ${event} wait`);
          if (waiting.length > 0) {
            const [item, done] = waiting.shift();
            yield item;
            done();
          } else if (signal?.aborted || isOver()) return;
          else await new Promise((resolve) => (more = () => resolve(undefined)));
        }
      } finally {
        signal?.removeEventListener("abort", abort);
        offStatus();
        off();
      }
    },
    close() {
      hook("removeEventListener");
      stop(undefined);
    },
  };
  return server;
}
