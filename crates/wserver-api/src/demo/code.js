// ---- the same in code; a key stays out of it, since code is pasted where others read

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (text) => JSON.stringify(text);

const members = (body, named, indent) =>
  Object.entries(body).map(([name, value]) => `${indent}${named(name)}: ${literal(value)},`).join("\n");

const CODE = {
  curl({ url, body }, hasKey) {
    const key = hasKey ? ` \\\n  -H "Authorization: Bearer $WSERVER_PUSH_KEY"` : "";
    return `curl ${quoted(url)} \\\n  -H 'Accept: application/json'${key} \\\n  -d ${quoted(JSON.stringify(body))}`;
  },
  javascript({ url, body }, hasKey) {
    const key = hasKey ? "\n    Authorization: `Bearer ${process.env.WSERVER_PUSH_KEY}`," : "";
    return `const answer = await fetch(${literal(url)}, {
  method: "POST",
  headers: {
    Accept: "application/json",${key}
  },
  body: JSON.stringify({
${members(body, (name) => name, "    ")}
  }),
});
console.log(await answer.json());`;
  },
  python({ url, body }, hasKey) {
    const key = hasKey ? `\n        "Authorization": "Bearer " + os.environ["WSERVER_PUSH_KEY"],` : "";
    return `import json
${hasKey ? "import os\n" : ""}import urllib.request

request = urllib.request.Request(
    ${literal(url)},
    data=json.dumps({
${members(body, literal, "        ")}
    }).encode(),
    headers={
        "Accept": "application/json",${key}
    },
)
with urllib.request.urlopen(request) as answer:
    print(json.load(answer))`;
  },
  listen({ body }) {
    return `import { connect } from ${literal(clientUrl)};

const server = connect(${literal(socketUrl)}, { token: ${literal(body.userId ?? body.user)} });
server.onStatus((status) => console.log(status));
server.onProblem(({ code, detail }) => console.error(code, detail));
server.on(${literal(body.event)}, (message) => console.log(message));`;
  },
};

let language = "curl";
const tabs = [...document.querySelectorAll("#tabs button")];

function draftChanged() {
  at("code").textContent = CODE[language](request(), at("push-key").value !== "");
}

function choose(tab) {
  language = tab.dataset.code;
  for (const it of tabs) {
    it.setAttribute("aria-selected", it === tab);
    it.tabIndex = it === tab ? 0 : -1;
  }
  at("code").setAttribute("aria-label", tab.textContent);
  draftChanged();
}

for (const [index, tab] of tabs.entries()) {
  tab.onclick = () => choose(tab);
  tab.onkeydown = (key) => {
    const step = { ArrowRight: 1, ArrowLeft: tabs.length - 1 }[key.key];
    if (!step) return;
    const next = tabs[(index + step) % tabs.length];
    choose(next);
    next.focus();
  };
}

for (const id of ["push-user", "push-event", "push-message", "push-key", "push-wait"]) {
  at(id).addEventListener("input", draftChanged);
}

// Only where the page came over TLS, or from this machine.
at("code-copy").hidden = !navigator.clipboard;
at("code-copy").onclick = async () => {
  await navigator.clipboard.writeText(at("code").textContent);
  at("code-copy").textContent = "Copied";
  announce("Copied");
  setTimeout(() => { at("code-copy").textContent = "Copy"; }, 1500);
};

