// The browser client; docs/browser.md is its guide.

const PROTOCOL = "wserver.v2";
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
  const gone = new AbortController();
  // A duplicated tab begins anew.
  const key = `wserver ${address}`;
  let position = after;
  try {
    position ??= sessionStorage[key];
    delete sessionStorage[key];
  } catch {}

  const later = (name, ms, run) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(call, ms, run);
  };
  // In two steps: after a sleep, what waits is read first.
  const limit = (name, ms) => later(name, ms - 1000, () => later(name, 1000, retry));
  const isOver = () => status === "stopped";

  // One that throws stops no other.
  const call = (handler, ...values) => {
    const done = new Promise((resolve) => resolve(handler(...values)));
    done.catch(globalThis.reportError ?? console.error);
    return done;
  };
  // What one ends is not called.
  const callAll = (handlers = new Set(), ...values) =>
    [...handlers].map((handler) => handlers.has(handler) && call(handler, ...values));
  const listen = (listeners, listener) => {
    const entry = (...values) => listener(...values);
    listeners.add(entry);
    return () => listeners.delete(entry);
  };

  const setStatus = (next) => {
    if (status === next) return;
    status = next;
    // One of them may change it.
    for (const listener of [...statusListeners]) if (status === next) call(listener, next, reason);
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

  const drop = () => {
    attempt += 1;
    for (const name in timers) clearTimeout(timers[name]);
    asked.clear();
    requests.clear();
    acks.length = 0;
    leaving = -1;
    const old = socket;
    socket = undefined;
    call(() => old?.close(1000));
  };

  const stop = (why) => {
    if (isOver()) return;
    drop();
    gone.abort();
    if (why) keep();
    reason = why;
    setStatus("stopped");
    if (why) tell(why);
  };

  // Random, doubling, never at once.
  const retry = (delay) => {
    if (isOver()) return;
    if (openedAt > 0 && Date.now() - openedAt >= TEN_SECONDS) failures = 0;
    openedAt = 0;
    drop();
    const most = Math.min(30_000, 1000 * 2 ** failures++);
    later("retry", delay ?? 100 + Math.random() * most, open);
    setStatus("waiting");
  };

  const open = async () => {
    for (const [event, known] of handlers) if (known.size === 0) handlers.delete(event);
    if (handlers.size === 0) return;
    drop();
    const mine = attempt;
    const isOld = () => mine !== attempt;
    limit("attempt", TEN_SECONDS);
    setStatus("connecting");
    if (isOld()) return;
    try {
      secret = typeof token === "function" ? await token({ refused }) : token;
    } catch (/** @type {any} */ error) {
      if (isOld()) return;
      if (error?.final) return stop({ code: "no_token", detail: `${error}` });
      tell({ code: "no_token", detail: `no token: ${error}` });
      return retry();
    }
    if (isOld()) return;
    try {
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
      // For the package ws.
      opened.onerror = () => {};
    } catch (error) {
      return neverOpen < 0 ? retry() : stop({ code: "never_open", detail: `${error}` });
    }
  };

  const closed = (code, why) => {
    if (code >= 4500 && code < 5000) return stop({ code, detail: why });
    if (neverOpen >= 0 && ++neverOpen === 3) {
      const detail = `${address} cannot be reached, refuses this page, or is too old`;
      tell({ code: "never_open", detail });
    }
    retry(leaving < 0 ? undefined : (leaving + Math.random()) * 1000);
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
      position = head.at ?? head.ok?.at ?? position;
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
    if (head.gap) missing(head.gap);
    if (head.leaving) leaving = head.leaving.in_seconds;
    if (head.expiring && typeof token === "function") call(refresh);
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
    call(refresh);
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
      if (mine === attempt) tell({ code: "no_token", detail: `no token: ${error}` });
    }
  };

  const watch = () => {
    if (heartbeat) later("watch", heartbeat + TEN_SECONDS - PING_MS, probe);
  };

  const probe = () => {
    send({ ping: {} });
    limit("watch", PING_MS);
  };

  const wake = () => {
    if (status === "waiting") later("retry", Math.random() * 300, open);
    else if (status === "open") probe();
  };
  const keep = () => {
    try {
      if (position) sessionStorage[key] = position;
    } catch {}
  };
  // Frozen, it would lose what comes.
  const hide = ({ persisted }) => {
    keep();
    if (persisted === false) return;
    drop();
    setStatus("waiting");
  };
  const seen = () => document.visibilityState === "visible" && wake();
  const hook = (target, hooks) => {
    for (const name in hooks) target?.addEventListener?.(name, hooks[name], { signal: gone.signal });
  };
  hook(globalThis, { online: wake, pageshow: wake, pagehide: hide });
  hook(globalThis.document, { freeze: hide, resume: wake, visibilitychange: seen });

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
      const off = listen(statusListeners, listener);
      call(listener, status, reason);
      return off;
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
    close: () => stop(undefined),
  };
  return server;
}
