// ---- pushing

/** What is pushed, and where to. */
function request() {
  const [user, event, message] = ["user", "event", "message"].map((it) => at(`push-${it}`).value);
  if (!at("push-wait").checked) return { url: pushUrl, body: { userId: user, event, message } };
  return { url: waitUrl, body: { user, event, message, wait: "first", timeout_seconds: 5 } };
}

/** One push: what the server says, in the page's own terms. */
async function push({ url, body }) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  if (at("push-key").value) headers.Authorization = `Bearer ${at("push-key").value}`;
  const start = performance.now();
  counts.pushed += 1;
  countLater();
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const isJson = /json/.test(answer.headers.get("Content-Type") ?? "");
    const content = isJson ? await answer.json() : { detail: await answer.text() };
    if (content.id) notePush(content.id, start);
    return { status: answer.status, ok: answer.ok, content, time: performance.now() - start };
  } catch (error) {
    return { status: 0, ok: false, content: { detail: `no answer: ${error.message}` }, time: performance.now() - start };
  }
}

const PARTS = ["matched", "written", "queued", "dropped"];
const ACKS = ["acked", "waiting", "unable", "lost"];

at("push-form").onsubmit = async (submit) => {
  submit.preventDefault();
  const pushed = request();
  const times = Number(at("push-times").value);
  const sums = Object.fromEntries([...PARTS, "kept", ...ACKS].map((it) => [it, 0]));
  let last;
  at("push-send").disabled = true;
  for (let i = 0; i < times; i += 1) {
    last = await push(pushed);
    if (!last.ok) break;
    for (const part of PARTS) sums[part] += last.content[part] ?? 0;
    for (const part of ACKS) sums[part] += last.content.acks?.[part] ?? 0;
    sums.kept += last.content.is_kept ? 1 : 0;
  }
  at("push-send").disabled = false;
  counts.dropped += sums.dropped;
  countLater();
  showAnswer(pushed.body, times, last, sums);
};

/** A line of counts. */
function parts(names, sums) {
  const line = element("div", "parts");
  for (const name of names) {
    const shown = element("span", sums[name] === 0 ? "zero" : "", `${name} `);
    shown.append(element("b", "", sums[name]));
    line.append(shown);
  }
  return line;
}

function showAnswer(body, times, { status, ok, content, time }, sums) {
  const item = element("li");
  const to = element("div", "to");
  to.append(element("span", "", `${times > 1 ? `${times} × ` : ""}${body.userId ?? body.user} · ${body.event}`));
  to.append(element("span", "end", `${status || ""} ${times > 1 ? "" : milliseconds(time)}`));
  item.append(to);
  if (ok && "matched" in content) {
    // Whether it is kept for clients that come back is told where it is.
    item.append(parts(sums.kept > 0 ? [...PARTS, "kept"] : PARTS, sums));
    if (content.acks) item.append(parts(ACKS, sums));
    const isGood = sums.written + sums.queued > 0 && (!content.acks || sums.acked > 0);
    item.dataset.outcome = isGood ? "good" : "none";
    if (content.reason) {
      const registered = content.events?.length ? ` (registered: ${content.events.join(", ")})` : "";
      item.append(element("p", "why", `${content.detail ?? content.reason}${registered}`));
    }
  } else {
    item.dataset.outcome = ok ? "good" : "bad";
    item.append(element("p", "why", [content.title, content.detail].filter(Boolean).join(": ") || "refused"));
  }
  at("answers").prepend(item);
  while (at("answers").children.length > ANSWERS_MAX) at("answers").lastChild.remove();
  if (status === 401) at("key-details").open = true;
}

at("push-message").onkeydown = (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    if (!at("push-send").disabled) at("push-form").requestSubmit();
  } else if (key.key === "Escape") {
    at("push-message").value = "";
    draftChanged();
  }
};

