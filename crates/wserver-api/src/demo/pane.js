// ---- pushes of this page, so that what arrives can be timed: a message carries nothing but its text

const pushes = []; // { message, start, panes }, oldest first; panes are those that it may still reach
const PUSHES_MAX = 1000;

/** Whom this push may reach: where a token is no user, whoever has registered the event. */
function notePush({ userId, event, message }) {
  const open = panes.filter((it) => it.isOpen && it.events.includes(event));
  const own = open.filter((it) => it.token === userId);
  const push = { message, start: performance.now(), panes: new Set(own.length > 0 ? own : open) };
  pushes.push(push);
  if (pushes.length > PUSHES_MAX) pushes.shift();
  return push;
}

function forgetPushesTo(pane) {
  for (const push of pushes) push.panes.delete(pane);
}

function latencyOf(pane, message, now) {
  const at = pushes.findIndex((it) => it.message === message && it.panes.has(pane));
  if (at < 0) return null;
  // Messages arrive in the order of their pushes, so those before it come no more.
  for (const push of pushes.slice(0, at + 1)) push.panes.delete(pane);
  return now - pushes[at].start;
}

// ---- a user

const panes = [];
let hue = 0;

class Pane {
  constructor(token, events) {
    this.events = [...events];
    this.socket = null;
    this.retries = 0;
    this.timer = 0;
    this.received = 0;
    this.chars = 0;
    this.pending = []; // arrived since the last frame was drawn; as bounded as what is shown
    this.root = at("pane").content.firstElementChild.cloneNode(true);
    this.root.dataset.hue = hue++ % 6;
    this.part("token").value = token;
    this.part("who").onsubmit = (submit) => {
      submit.preventDefault();
      if (this.wanted) this.disconnect();
      else this.connect();
    };
    this.part("token").oninput = () => this.name();
    // Another token is another user: the old connection is not theirs.
    this.part("token").onchange = () => { if (this.wanted) this.connect(); };
    this.part("token").onkeydown = (key) => { if (key.key === "Escape") key.target.blur(); };
    this.part("remove").onclick = () => this.remove();
    this.part("clear").onclick = () => this.clear();
    this.part("event").onkeydown = (key) => { if (key.key === "Escape") key.target.value = ""; };
    this.part("register").onsubmit = (submit) => {
      submit.preventDefault();
      this.register(this.part("event").value.trim());
      this.part("event").value = "";
    };
    this.name();
    this.drawEvents();
    this.show("disconnected", "disconnected");
  }

  part(name) {
    return this.root.querySelector(`.${name}`);
  }

  get token() {
    return this.part("token").value;
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Whether it shall be connected: it is, or will be. */
  get wanted() {
    return this.socket !== null || this.timer !== 0;
  }

  name() {
    const name = this.token || "nobody";
    this.part("badge").textContent = [...name][0];
    this.part("messages").setAttribute("aria-label", `Messages of ${name}`);
    this.part("remove").setAttribute("aria-label", `Remove ${name}`);
    this.part("clear").setAttribute("aria-label", `Clear the messages of ${name}`);
    offer();
  }

  show(state, text) {
    this.part("state").dataset.state = state;
    this.part("state").textContent = text;
    const verb = this.wanted ? "Disconnect" : "Connect";
    this.part("connect").textContent = verb;
    this.part("connect").classList.toggle("main", !this.wanted);
    countLater();
  }

  connect() {
    this.drop();
    if (!this.token) {
      this.show("failed", "a user needs a name");
      this.part("token").focus();
      return;
    }
    forgetPushesTo(this);
    const socket = new WebSocket(socketUrl);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    let opened = 0;
    this.show("connecting", "connecting …");
    socket.onopen = () => {
      opened = performance.now();
      // Version 1 has no reply to a registration: that it was taken shows when something arrives.
      this.show("sent", "connected, registration sent");
      for (const event of this.events) this.send(event);
    };
    socket.onmessage = ({ data }) => this.receive(data, performance.now());
    socket.onclose = ({ code, reason }) => {
      this.socket = null;
      // One that held for a while was a good one.
      if (opened && performance.now() - opened > 10_000) this.retries = 0;
      const how = opened ? `closed by the server: ${code}${reason ? ` ${reason}` : ""}` : "could not connect";
      // What the client is to blame for is not mended by coming back.
      if (opened && (code === 1000 || code === 1008)) {
        this.show("failed", how);
      } else {
        this.retry(how);
      }
    };
  }

  retry(how) {
    const wait = Math.random() * Math.min(RETRY_MAX_MS, 1000 * 2 ** this.retries);
    this.retries += 1;
    this.timer = setTimeout(() => this.connect(), wait);
    this.show("failed", `${how}; again in ${Math.ceil(wait / 1000)} s`);
  }

  /** Lets go of the connection without a word of it. */
  drop() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.socket) {
      this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
      this.socket.close(1000);
      this.socket = null;
    }
  }

  disconnect() {
    this.drop();
    this.retries = 0;
    this.show("disconnected", "disconnected");
  }

  send(event) {
    this.socket.send(JSON.stringify({ token: this.token, event }));
  }

  register(event) {
    if (!event || this.events.includes(event)) return;
    this.events.push(event);
    this.drawEvents();
    if (this.isOpen) this.send(event);
    else if (!this.wanted) this.connect();
  }

  /** Version 1 has no word for it, so it comes back without the event. */
  unregister(event) {
    this.events = this.events.filter((it) => it !== event);
    this.drawEvents();
    this.part("event").focus();
    if (this.wanted) this.connect();
  }

  drawEvents() {
    this.part("events").replaceChildren(...this.events.map((event) => {
      const chip = element("li", "", event);
      const remove = element("button", "", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Take ${event} away, which reconnects`);
      remove.onclick = () => this.unregister(event);
      chip.append(remove);
      return chip;
    }));
    offer();
  }

  receive(data, now) {
    if (this.part("state").dataset.state === "sent") this.show("connected", "connected, registered");
    this.received += 1;
    counts.received += 1;
    const latency = latencyOf(this, data, now);
    if (latency !== null) {
      latencies.push(latency);
      if (latencies.length > LATENCIES_MAX) latencies.shift();
    }
    this.pending.push({ data, latency, when: new Date() });
    if (this.pending.length > MESSAGES_MAX) this.pending.shift();
    if (this.pending.length === 1) requestAnimationFrame(() => this.draw());
    countLater();
  }

  draw() {
    const list = this.part("messages");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(...this.pending.splice(0).map((it) => this.entry(it)));
    while (list.children.length > MESSAGES_MAX || (this.chars > MESSAGES_CHARS_MAX && list.children.length > 1)) {
      this.chars -= list.firstChild.lastChild.textContent.length;
      list.firstChild.remove();
    }
    if (atEnd) list.scrollTop = list.scrollHeight;
    this.count();
  }

  entry({ data, latency, when }) {
    const text = typeof data === "string" ? data : "(binary)";
    const bytes = typeof data === "string" ? new TextEncoder().encode(data).length : data.byteLength;
    const two = (number, width = 2) => String(number).padStart(width, "0");
    const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}.${two(when.getMilliseconds(), 3)}`;
    const size = bytes < 10240 ? counted(bytes, "byte") : `${(bytes / 1024).toFixed(1)} KiB`;
    const about = element("div", "about");
    about.append(element("span", "", time), element("span", "", size));
    if (latency !== null) about.append(element("span", "latency", milliseconds(latency)));
    const item = element("li");
    item.append(about, element("pre", "", text));
    this.chars += text.length;
    return item;
  }

  count() {
    const shown = this.part("messages").children.length;
    const all = `${this.received} received`;
    this.part("count").textContent = this.received === 0 ? "" : shown < this.received ? `${all}, ${shown} shown` : all;
  }

  clear() {
    this.pending = [];
    this.received = 0;
    this.chars = 0;
    this.part("messages").replaceChildren();
    this.count();
  }

  remove() {
    this.drop();
    forgetPushesTo(this);
    const index = panes.indexOf(this);
    panes.splice(index, 1);
    this.root.remove();
    (panes[Math.min(index, panes.length - 1)]?.part("remove") ?? at("add-user")).focus();
    announce(`${this.token} removed`);
    offer();
    countLater();
  }
}

function add(token, events) {
  const pane = new Pane(token, events);
  panes.push(pane);
  at("panes").append(pane.root);
  offer();
  pane.connect();
}

/** The names in use, for the fields that take one. */
function offer() {
  const options = (names) => [...new Set(names)].filter(Boolean).map((name) => Object.assign(element("option"), { value: name }));
  at("users").replaceChildren(...options(panes.map((it) => it.token)));
  at("events").replaceChildren(...options(panes.flatMap((it) => it.events)));
}

at("add-form").onsubmit = (submit) => {
  submit.preventDefault();
  const token = at("add-user").value.trim() || at("add-user").placeholder;
  add(token, [at("push-event").value || "notify"]);
  at("add-user").value = "";
  announce(`${token} added`);
};

