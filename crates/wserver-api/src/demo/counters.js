
// What strangers send is only ever shown through textContent.

const MESSAGES_MAX = 200;
const MESSAGES_CHARS_MAX = 4 * 1024 * 1024;
const ANSWERS_MAX = 50;
const LATENCIES_MAX = 200;

const at = (id) => document.getElementById(id);
const told = (name) => document.querySelector(`meta[name="wserver-${name}"]`).content;
// Where pushes have a port of their own the page is there, and WebSockets are not.
const ownSockets = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}`;
const socketUrl = `${told("sockets") || ownSockets}${told("ws-path")}`;
const clientUrl = new URL("/wserver.js", socketUrl.replace(/^ws/, "http")).href;
const pushUrl = `${location.origin}${told("push-path")}`;
// A push that waits is one of version 2 of the API.
const waitUrl = `${location.origin}/v2/push`;

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const announce = (text) => { at("announcer").textContent = text; };

// ---- counters

const counts = { pushed: 0, received: 0, dropped: 0 };
const latencies = []; // the last ones, in milliseconds
let countsAreDue = false;

function countLater() {
  if (countsAreDue) return;
  countsAreDue = true;
  requestAnimationFrame(() => {
    countsAreDue = false;
    at("count-connected").textContent = panes.filter((it) => it.isOpen).length;
    for (const [name, count] of Object.entries(counts)) at(`count-${name}`).textContent = count;
    const sorted = latencies.toSorted((a, b) => a - b);
    at("count-latency").textContent = sorted.length ? milliseconds(sorted[sorted.length >> 1]) : "–";
  });
}

function milliseconds(time) {
  return time < 1000 ? `${time.toFixed(1)} ms` : `${(time / 1000).toFixed(1)} s`;
}

