// ---- pushes of this page: a message has the id that the answer to its push has, whichever comes first

const pushes = new Map(); // by id: when it began, or what has arrived of it before its answer
const PUSHES_MAX = 1000;

function remember(id, what) {
  pushes.set(id, what);
  if (pushes.size > PUSHES_MAX) pushes.delete(pushes.keys().next().value);
}

/** The answer to a push of this page has come. */
function notePush(id, start) {
  const early = pushes.get(id);
  remember(id, { start });
  for (const arrival of early?.arrived ?? []) time(arrival, start);
}

/** A message has come, perhaps of a push of this page. */
function noteMessage(id, arrival) {
  const known = pushes.get(id);
  if (known?.start !== undefined) time(arrival, known.start);
  else remember(id, { arrived: [...(known?.arrived ?? []), arrival] });
}

function time(arrival, start) {
  arrival.latency = arrival.now - start;
  arrival.shown?.append(element("span", "latency", milliseconds(arrival.latency)));
  latencies.push(arrival.latency);
  if (latencies.length > LATENCIES_MAX) latencies.shift();
  countLater();
}

// ---- a user

const panes = [];
let hue = 0;

class Pane {
  constructor(token, events) {
    this.events = [...events];
    this.server = null;
    this.offs = new Map(); // by event, what ends its handler
    this.trouble = ""; // what the client told of itself since it was open
    this.refused = new Map(); // by event, why
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
    return this.server?.status === "open";
  }

  /** Whether it shall be connected: it is, or will be. */
  get wanted() {
    return this.server !== null && this.server.status !== "stopped";
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
    const server = connect(socketUrl, { token: this.token });
    this.server = server;
    const isOurs = () => this.server === server;
    server.onProblem(({ code, detail, event }) => {
      if (!isOurs()) return;
      if (event === undefined) this.trouble = `${code}: ${detail}`;
      else this.refuse(event, detail);
      this.stand();
    });
    server.onGap(({ reason }) => isOurs() && this.miss(reason));
    server.onStatus(() => isOurs() && this.stand());
    for (const event of this.events) this.listen(event);
    this.drawEvents();
    this.stand();
  }

  /** Shows where the client stands. */
  stand() {
    const { status, reason } = this.server;
    if (status === "open") this.trouble = "";
    const trouble = this.trouble ? `; ${this.trouble}` : "";
    if (status === "open") this.show("connected", "connected, registered");
    else if (status === "connecting") this.show("connecting", `connecting …${trouble}`);
    else if (status === "waiting") this.show("connecting", `not connected, and trying again${trouble}`);
    else this.show("failed", reason ? `${reason.code}: ${reason.detail}` : "disconnected");
  }

  /** Lets go of the connection without a word of it. */
  drop() {
    const server = this.server;
    this.server = null;
    this.trouble = "";
    this.offs.clear();
    this.refused.clear();
    server?.close();
  }

  disconnect() {
    this.drop();
    this.drawEvents();
    this.show("disconnected", "disconnected");
  }

  listen(event) {
    this.offs.set(event, this.server.on(event, (message, about) => this.receive(message, about)));
  }

  refuse(event, why) {
    this.refused.set(event, why);
    this.drawEvents();
    announce(`${event} is refused: ${why}`);
  }

  register(event) {
    if (!event || this.events.includes(event)) return;
    this.events.push(event);
    this.drawEvents();
    if (this.wanted) this.listen(event);
    else this.connect();
  }

  unregister(event) {
    this.events = this.events.filter((it) => it !== event);
    this.offs.get(event)?.();
    this.offs.delete(event);
    this.refused.delete(event);
    this.drawEvents();
    this.part("event").focus();
  }

  drawEvents() {
    this.part("events").replaceChildren(...this.events.map((event) => {
      const why = this.refused.get(event);
      const chip = element("li", why ? "refused" : "", event);
      if (why) chip.title = why;
      const remove = element("button", "", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Take ${event} away`);
      remove.onclick = () => this.unregister(event);
      chip.append(remove);
      return chip;
    }));
    offer();
  }

  receive(text, { event, id }) {
    const arrival = { now: performance.now(), latency: null, shown: null };
    this.received += 1;
    counts.received += 1;
    noteMessage(id, arrival);
    this.drawLater({ text, event, when: new Date(), arrival });
    countLater();
  }

  /** Messages are missing here that the server keeps for clients that come back. */
  miss(reason) {
    const text = `messages are missing: ${reason}`;
    this.drawLater({ text, when: new Date() });
    announce(`${this.token}: ${text}`);
  }

  drawLater(entry) {
    this.pending.push(entry);
    if (this.pending.length > MESSAGES_MAX) this.pending.shift();
    if (this.pending.length === 1) requestAnimationFrame(() => this.draw());
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

  entry({ text, event, when, arrival }) {
    const bytes = new TextEncoder().encode(text).length;
    const two = (number, width = 2) => String(number).padStart(width, "0");
    const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}.${two(when.getMilliseconds(), 3)}`;
    const size = bytes < 10240 ? counted(bytes, "byte") : `${(bytes / 1024).toFixed(1)} KiB`;
    const about = element("div", "about");
    about.append(element("span", "", time));
    this.chars += text.length;
    if (!arrival) {
      const gap = element("li", "gap");
      gap.append(about, element("p", "", text));
      return gap;
    }
    about.append(element("span", "of", event), element("span", "", size));
    arrival.shown = about;
    if (arrival.latency !== null) about.append(element("span", "latency", milliseconds(arrival.latency)));
    const item = element("li");
    item.append(about, element("pre", "", text));
    return item;
  }

  count() {
    const shown = this.part("messages").querySelectorAll("li:not(.gap)").length;
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

