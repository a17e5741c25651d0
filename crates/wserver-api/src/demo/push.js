// ---- pushing

const request = () => ({
  userId: at("push-user").value,
  event: at("push-event").value,
  message: at("push-message").value,
});

/** One push: what the server says, in the page's own terms. */
async function push(body) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  if (at("push-key").value) headers.Authorization = `Bearer ${at("push-key").value}`;
  const start = performance.now();
  counts.pushed += 1;
  countLater();
  try {
    const answer = await fetch(pushUrl, { method: "POST", headers, body: JSON.stringify(body) });
    const isJson = /json/.test(answer.headers.get("Content-Type") ?? "");
    const content = isJson ? await answer.json() : { detail: await answer.text() };
    if (content.id) notePush(content.id, start);
    return { status: answer.status, ok: answer.ok, content, time: performance.now() - start };
  } catch (error) {
    return { status: 0, ok: false, content: { detail: `no answer: ${error.message}` }, time: performance.now() - start };
  }
}

const PARTS = ["matched", "written", "queued", "dropped"];

at("push-form").onsubmit = async (submit) => {
  submit.preventDefault();
  const body = request();
  const times = Number(at("push-times").value);
  const sums = Object.fromEntries(PARTS.map((it) => [it, 0]));
  let last;
  at("push-send").disabled = true;
  for (let i = 0; i < times; i += 1) {
    last = await push(body);
    if (!last.ok) break;
    for (const part of PARTS) sums[part] += last.content[part] ?? 0;
  }
  at("push-send").disabled = false;
  counts.dropped += sums.dropped;
  countLater();
  showAnswer(body, times, last, sums);
};

function showAnswer(body, times, { status, ok, content, time }, sums) {
  const item = element("li");
  const to = element("div", "to");
  to.append(element("span", "", `${times > 1 ? `${times} × ` : ""}${body.userId} · ${body.event}`));
  to.append(element("span", "end", `${status || ""} ${times > 1 ? "" : milliseconds(time)}`));
  item.append(to);
  if (ok && "matched" in content) {
    const parts = element("div", "parts");
    for (const part of PARTS) {
      const shown = element("span", sums[part] === 0 ? "zero" : "", `${part} `);
      shown.append(element("b", "", sums[part]));
      parts.append(shown);
    }
    item.append(parts);
    item.dataset.outcome = sums.written + sums.queued > 0 ? "good" : "none";
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

