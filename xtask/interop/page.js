// The playground in a real browser, driven by playwright-core.
//
// `PICTURES=docs cargo xtask interop --only page` takes the picture of the README, playground.png;
// with another folder also those that a person looks at: dark, narrow, and between.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"use strict";

const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const { X509Certificate, createHash } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { NASTY, PATIENCE_MS, awaitCount, pushOrigin, pushTo, run, socketOrigin, startServer } = require("./shared.js");

const MESSAGES_MAX = 200;

// The browser shall speak to our server and to nobody else.
const FLAGS = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
  "--no-proxy-server",
];

// Chromium reads no file of authorities, but lets a certificate pass by the hash of its key; the
// name and the rest of the handshake are its own.
if (process.env.TLS_CERTIFICATE) {
  const certificate = new X509Certificate(fs.readFileSync(process.env.TLS_CERTIFICATE));
  const key = certificate.publicKey.export({ type: "spki", format: "der" });
  FLAGS.push(`--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`);
}

async function main() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wserver-page-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.BROWSER,
    headless: true,
    args: FLAGS,
    viewport: { width: 1100, height: 900 },
  });
  try {
    return await run("page", await pageCases(browser));
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function pageCases(browser) {
  const complaints = [];
  const foreign = [];
  // What the page's policy stops, told by the browser itself.
  const violations = [];
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) complaints.push(line.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (![pushOrigin, socketOrigin].includes(url.origin) && url.protocol !== "data:") foreign.push(request.url());
  });
  await page.exposeFunction("violated", (what) => violations.push(what));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => window.violated(event.effectiveDirective));
  });

  const pane = (index) => page.locator(".pane").nth(index);
  const text = (selector) => page.locator(selector).textContent();
  const until = (selector, wanted) =>
    page.waitForFunction(([selector, wanted]) => document.querySelector(selector)?.textContent.includes(wanted), [selector, wanted]);
  const untilCount = (wanted) => until("#count-connected", String(wanted));
  // What the page shows is compared in the page's own memory, not as the eye sees it.
  const messages = (index) => pane(index).locator(".messages pre").evaluateAll((all) => all.map((it) => it.textContent));
  const untilMessages = (index, count) =>
    page.waitForFunction(
      ([index, count]) => document.querySelectorAll(".pane")[index].querySelectorAll(".messages li").length === count,
      [index, count],
    );
  const register = async (index, user, event) => {
    await pane(index).locator(".event").fill(event);
    await pane(index).locator(".event").press("Enter");
    await awaitCount(1, user, event);
  };
  // The questions whether it is bound are messages as well.
  const clear = async () => {
    await page.waitForTimeout(100);
    for (const button of await page.locator(".clear").all()) await button.click();
  };
  const fill = async (user, event, message) => {
    await page.fill("#push-user", user);
    await page.fill("#push-event", event);
    await page.fill("#push-message", message);
  };
  const send = async (user, event, message) => {
    await fill(user, event, message);
    const before = await page.locator("#answers li").count();
    await page.click("#push-send");
    await page.waitForFunction((before) => document.querySelectorAll("#answers li").length > before, before);
    return (await page.locator("#answers li").first().locator(".parts, .why").allTextContents()).join("; ");
  };
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const luminance = async () => {
    const [red, green, blue] = (await background()).match(/\d+/g).map(Number);
    return red + green + blue;
  };
  const picture = async (name) => {
    if (process.env.PICTURES) await page.screenshot({ path: path.join(process.env.PICTURES, name) });
  };

  return {
    async "opens, and says what it is"() {
      const answer = await page.goto(`${pushOrigin}/`);
      assert.equal(answer.status(), 200);
      assert.match(answer.headers()["content-type"], /^text\/html/);
      // Where its WebSockets are elsewhere, they are the one place that is named.
      const policy = answer.headers()["content-security-policy"].replace(` ${socketOrigin};`, ";");
      assert.doesNotMatch(policy, /unsafe|\*|https?:|wss?:/);
      assert.equal(await page.title(), "wserver playground");
    },

    async "two users are connected at once"() {
      await untilCount(2);
      for (const [index, user] of ["demo", "jack"].entries()) {
        assert.equal(await pane(index).locator(".token").inputValue(), user);
        await awaitCount(1, user, "notify");
        await page.waitForFunction(
          (index) => document.querySelectorAll(".pane")[index].querySelector(".state").textContent === "connected, registered",
          index,
        );
      }
    },

    async "disconnects and connects"() {
      const button = pane(1).locator(".connect");
      assert.equal(await button.textContent(), "Disconnect");
      await button.click();
      await untilCount(1);
      assert.equal(await pane(1).locator(".state").textContent(), "disconnected");
      await awaitCount(0, "jack", "notify");
      assert.equal(await button.textContent(), "Connect");
      await button.click();
      await awaitCount(1, "jack", "notify");
    },

    async "a push arrives at its user alone, and is timed"() {
      await clear();
      const answer = await send("demo", "notify", NASTY[4]);
      assert.equal(answer, "matched 1written 1queued 0dropped 0");
      await untilMessages(0, 1);
      assert.deepEqual(await messages(0), [NASTY[4]]);
      assert.match(await pane(0).locator(".latency").textContent(), /^\d+\.\d m?s$/);
      assert.match(await text("#count-latency"), /^\d+\.\d m?s$/);
      assert.deepEqual(await messages(1), []);
    },

    async "a push that reached nobody does not time a later one"() {
      const text = "the same text";
      const latencies = async () => pane(0).locator(".latency").allTextContents();
      await clear();
      // To an event that nobody has, and to a user who is away.
      assert.match(await send("demo", "nobody-has-it", text), /none registered/);
      await pane(0).locator(".connect").click();
      await awaitCount(0, "demo", "notify");
      assert.match(await send("demo", "notify", text), /no connection/);
      await pane(0).locator(".connect").click();
      await awaitCount(1, "demo", "notify");
      await clear();
      // What is long ago now would be seen in the number.
      await page.waitForTimeout(1500);
      assert.match(await send("demo", "notify", text), /^matched 1/);
      await untilMessages(0, 1);
      assert.match((await latencies())[0], /^\d{1,3}\.\d ms$/);
      // And none of the same text from outside is taken for one of the page's.
      await pushTo(1, "demo", "notify", text);
      await untilMessages(0, 2);
      assert.equal((await latencies()).length, 1);
    },

    async "a second event on one connection"() {
      await register(0, "demo", "second");
      await clear();
      await pushTo(1, "demo", "second", "by second");
      await pushTo(1, "demo", "notify", "by notify");
      await untilMessages(0, 2);
      assert.deepEqual(await messages(0), ["by second", "by notify"]);
      assert.equal(await pane(0).locator(".latency").count(), 0, "nobody here sent them");
    },

    async "an event is taken away"() {
      await pane(0).getByLabel("Take second away").click();
      await awaitCount(0, "demo", "second");
      await awaitCount(1, "demo", "notify");
      assert.equal(await pane(0).locator(".events li").count(), 1);
    },

    async "everything goes by keyboard"() {
      await clear();
      await page.focus("#push-user");
      await page.keyboard.press("Control+A");
      await page.keyboard.type("jack");
      await page.keyboard.press("Tab");
      await page.keyboard.type("notify");
      await page.keyboard.press("Tab");
      await page.keyboard.press("Escape");
      assert.equal(await page.inputValue("#push-message"), "");
      await page.keyboard.type("first line");
      await page.keyboard.press("Shift+Enter");
      await page.keyboard.type("second line");
      await page.keyboard.press("Enter");
      await untilMessages(1, 1);
      assert.deepEqual(await messages(1), ["first line\nsecond line"]);
      // The code: one stop for all tabs, and arrows between them.
      await page.focus("#tabs button");
      await page.keyboard.press("ArrowRight");
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "JavaScript");
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.id), "code");
      // A user comes and goes.
      await page.focus("#add-user");
      await page.keyboard.type("by-keyboard");
      await page.keyboard.press("Enter");
      await untilCount(3);
      await awaitCount(1, "by-keyboard", "notify");
      await pane(2).locator(".token").focus();
      await page.keyboard.press("Tab");
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Remove by-keyboard");
      await page.keyboard.press("Enter");
      await awaitCount(0, "by-keyboard", "notify");
      assert.equal(await page.locator(".pane").count(), 2);
      assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Remove jack");
    },

    async "every field and button has a name"() {
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll("input, textarea, select, button")]
          .filter((it) => !(it.getAttribute("aria-label") || it.textContent.trim() || it.labels?.[0]?.textContent.trim()))
          .map((it) => it.outerHTML));
      assert.deepEqual(nameless, []);
    },

    async "shows pushes from outside verbatim"() {
      await clear();
      for (const message of NASTY) await pushTo(1, "demo", "notify", message);
      await untilMessages(0, NASTY.length);
      assert.deepEqual(await messages(0), NASTY);
    },

    async "markup stays text"() {
      await clear();
      const attack = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";
      await pushTo(1, "demo", "notify", attack);
      await register(0, "demo", attack);
      assert.match(await send(attack, attack, attack), /user .* has no connection/);
      await pane(0).locator(".events button").last().click();
      assert.ok((await messages(0)).includes(attack));
      assert.equal(await page.title(), "wserver playground");
      await awaitCount(1, "demo", "notify");
    },

    async "receives in order"() {
      await clear();
      const sent = Array.from({ length: 100 }, (_, i) => `message ${i}`);
      for (const message of sent) await pushTo(1, "demo", "notify", message);
      await untilMessages(0, sent.length);
      assert.deepEqual(await messages(0), sent);
      assert.equal(await pane(0).locator(".count").textContent(), "100 received");
    },

    async "keeps the last messages only"() {
      await clear();
      const more = 20;
      for (let i = 0; i < MESSAGES_MAX + more; i += 1) await pushTo(1, "demo", "notify", `message ${i}`);
      await until(".count", `${MESSAGES_MAX + more} received`);
      const shown = await messages(0);
      assert.equal(shown.length, MESSAGES_MAX);
      assert.deepEqual([shown[0], shown.at(-1)], [`message ${more}`, `message ${MESSAGES_MAX + more - 1}`]);
    },

    async "counts what it does"() {
      const counts = async () => Object.fromEntries(await Promise.all(
        ["pushed", "received", "dropped"].map(async (it) => [it, Number(await text(`#count-${it}`))])));
      await clear();
      const before = await counts();
      await page.selectOption("#push-times", "10");
      assert.equal(await send("demo", "notify", "ten times"), "matched 10written 10queued 0dropped 0");
      await page.selectOption("#push-times", "1");
      await untilMessages(0, 10);
      await until("#count-received", String(before.received + 10));
      assert.deepEqual(await counts(), { ...before, pushed: before.pushed + 10, received: before.received + 10 });
      // Each of them was timed, though they are all the same.
      assert.equal(await pane(0).locator(".latency").count(), 10);
    },

    async "a push to nobody says why"() {
      assert.match(await send("page-nobody", "notify", "m"), /; user page-nobody has no connection$/);
      assert.match(await send("demo", "other", "m"), /none registered for other \(registered: notify\)$/);
    },

    async "a push waits for the first acknowledgement"() {
      await clear();
      await page.check("#push-wait");
      const counts = "matched 1written 1queued 0dropped 0; acked 1waiting 0unable 0lost 0";
      assert.equal(await send("demo", "notify", "acknowledged"), counts);
      await untilMessages(0, 1);
      assert.deepEqual(await messages(0), ["acknowledged"]);
      assert.equal(await pane(0).locator(".latency").count(), 1, "it is timed like any other");
      assert.match(await send("page-nobody", "notify", "m"), /; acked 0.*; user page-nobody has no connection$/);
      assert.equal(await page.locator("#answers li").first().getAttribute("data-outcome"), "none");
      await fill("demo", "notify", "by the code");
      await page.getByRole("tab", { name: "curl" }).click();
      const env = { ...process.env };
      if (env.SSL_CERT_FILE) env.CURL_CA_BUNDLE = env.SSL_CERT_FILE;
      const ran = spawnSync("sh", ["-c", await text("#code")], { encoding: "utf8", env, timeout: PATIENCE_MS });
      assert.match(ran.stdout, /"acks":{"acked":1,/);
      await page.uncheck("#push-wait");
    },

    async "what is kept is told, and a gap"() {
      const flags = ["--replay", "notify", "--drain-spread", "0s"];
      const server = await startServer(flags);
      const other = await browser.newPage();
      other.setDefaultTimeout(PATIENCE_MS);
      try {
        await other.goto(`${server.origin}/`);
        const connected = other.locator('.pane .state[data-state="connected"]');
        await connected.nth(1).waitFor();
        await other.click("#push-send");
        const parts = await other.locator("#answers li .parts").first().textContent();
        assert.equal(parts, "matched 1written 1queued 0dropped 0kept 1");
        await other.locator(".pane .messages li").waitFor();
        await server.stop();
        const again = await startServer(flags, server.address);
        const gap = other.locator(".pane").first().locator(".messages .gap p");
        assert.equal(await gap.textContent(), "messages are missing: restarted");
        assert.equal(await other.locator(".pane .count").first().textContent(), "1 received");
        await other.close();
        await again.stop();
      } finally {
        await other.close();
      }
    },

    async "a push key is sent as a bearer token"() {
      await page.click("#key-details summary");
      await page.fill("#push-key", "canary-key");
      const asked = page.waitForRequest((request) => request.url().endsWith("/push"));
      await send("demo", "notify", "with a key");
      assert.equal(await (await asked).headerValue("authorization"), "Bearer canary-key");
      for (const tab of await page.locator("#tabs button").all()) {
        await tab.click();
        assert.ok(!(await text("#code")).includes("canary"), "the key is shown");
      }
      await page.fill("#push-key", "");
    },

    async "the code does what it says"() {
      await clear();
      const message = "it's \"quoted\" \\ and é,\nin two lines";
      await fill("demo", "notify", message);
      // curl has a name of its own for the authority.
      const env = { ...process.env };
      if (env.SSL_CERT_FILE) env.CURL_CA_BUNDLE = env.SSL_CERT_FILE;
      const programs = { curl: ["sh", "-c"], JavaScript: ["node", "--input-type=module", "-e"], Python: ["python3", "-c"] };
      for (const [name, [program, ...flags]] of Object.entries(programs)) {
        await page.getByRole("tab", { name }).click();
        const ran = spawnSync(program, [...flags, await text("#code")], { encoding: "utf8", env, timeout: PATIENCE_MS });
        assert.equal(ran.status, 0, `${name}: ${ran.stderr}`);
        assert.match(ran.stdout, /["']?matched["']?: ?1\b/, `${name}: ${ran.stdout}`);
      }
      await untilMessages(0, 3);
      assert.deepEqual(await messages(0), [message, message, message]);
      await page.getByRole("tab", { name: "Listen" }).click();
      // In a page of its own, since this one's policy lets no code in.
      const other = await browser.newPage();
      const heard = other.waitForEvent("console", (line) => line.text() === "to the code");
      await other.goto(`${pushOrigin}/nothing-here`);
      await other.evaluate((code) => {
        document.head.append(Object.assign(document.createElement("script"), { type: "module", textContent: code }));
      }, await text("#code"));
      await awaitCount(2, "demo", "notify");
      await pushTo(2, "demo", "notify", "to the code");
      await heard;
      await other.close();
      await awaitCount(1, "demo", "notify");
    },

    async "light and dark, by the system and by choice"() {
      await page.emulateMedia({ colorScheme: "light" });
      const light = await luminance();
      await page.emulateMedia({ colorScheme: "dark" });
      const dark = await luminance();
      assert.ok(light > 600 && dark < 150, `${light} and ${dark}`);
      await page.click("#theme");
      assert.equal(await luminance(), light);
      await page.click("#theme");
      assert.equal(await luminance(), dark);
      await page.reload();
      assert.equal(await page.getAttribute("html", "data-theme"), "dark");
      await page.emulateMedia({ colorScheme: "light" });
      assert.equal(await luminance(), dark);
      await page.click("#theme");
      assert.equal(await luminance(), light);
      await untilCount(2);
    },

    async "fits narrow screens"() {
      for (const size of [{ width: 360, height: 740 }, { width: 320, height: 640 }]) {
        await page.setViewportSize(size);
        const [width, visible] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(width <= visible, `${width} px wide on a screen of ${visible}`);
      }
    },

    async "has its picture taken"() {
      await page.setViewportSize({ width: 1200, height: 620 });
      await page.reload();
      await untilCount(2);
      await awaitCount(1, "demo", "notify");
      await awaitCount(1, "jack", "notify");
      await clear();
      await send("jack", "notify", "Your parcel is at the door");
      await send("demo", "notify", '{"order": 7, "state": "paid"}');
      await send("jack", "chat", "Are you there?");
      await send("demo", "notify", "Hello from wserver");
      await untilMessages(0, 2);
      await page.evaluate(() => document.activeElement.blur());
      // What has just arrived glows for a second.
      await page.evaluate(() => Promise.all(document.getAnimations().map((it) => it.finished)));
      await picture("playground.png");
      if (process.env.PICTURES !== "docs") {
        await page.emulateMedia({ colorScheme: "dark" });
        await picture("playground-dark.png");
        await page.setViewportSize({ width: 360, height: 740 });
        await picture("playground-narrow.png");
        await page.setViewportSize({ width: 900, height: 740 });
        await picture("playground-middle.png");
      }
    },

    async "the console, the network and the policy stay quiet"() {
      assert.deepEqual(complaints, []);
      assert.deepEqual(foreign, []);
      assert.deepEqual(violations, []);
    },

    // From here on the browser itself logs what is refused as errors.
    async "the policy lets nothing in"() {
      const markup = await page.evaluate(() => {
        try {
          document.body.insertAdjacentHTML("beforeend", "<b>markup</b>");
          return "taken";
        } catch (error) {
          return error.name;
        }
      });
      assert.equal(markup, "TypeError");
      const answer = await page.evaluate(() => fetch("http://127.0.0.1:9/").then(() => "came", (error) => error.name));
      assert.equal(answer, "TypeError");
      await page.evaluate(() => {
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        document.head.append(style);
      });
      assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).display), "none");
      for (const directive of ["require-trusted-types-for", "connect-src", "style-src-elem"]) {
        assert.ok(violations.includes(directive), `${directive} is not among ${violations}`);
      }
      assert.deepEqual(foreign.filter((it) => it !== "http://127.0.0.1:9/"), []);
    },

    async "a message is timed from the push that brought it"() {
      const other = await browser.newPage();
      other.setDefaultTimeout(PATIENCE_MS);
      try {
        await other.clock.install();
        await other.goto(page.url());
        await awaitCount(2, "jack", "notify");
        const push = async (event) => {
          await other.fill("#push-user", "jack");
          await other.fill("#push-event", event);
          await other.fill("#push-message", "the same text");
          const answered = other.waitForResponse((answer) => answer.url().endsWith("/push"));
          await other.click("#push-send");
          await (await answered).finished();
        };
        await push("nobody-has-it");
        // An hour by the page's own clock.
        await other.clock.fastForward("01:00:00");
        await push("notify");
        const message = other.locator(".pane").nth(1).locator(".messages li", { hasText: "the same text" });
        const latency = await message.locator(".latency").textContent();
        assert.match(latency, /^\d+\.\d m?s$/);
        const seconds = parseFloat(latency) / (latency.endsWith("ms") ? 1000 : 1);
        assert.ok(seconds < 60, latency);
      } finally {
        await other.close();
      }
    },

    async "a refused push says why"() {
      assert.match(await send("demo", "notify", ""), /message is empty/);
      assert.equal(await page.locator("#answers li").first().getAttribute("data-outcome"), "bad");
    },

    async "a user who is gone is forgotten by the server"() {
      await page.close();
      await awaitCount(0, "demo", "notify");
    },
  };
}

main().then(
  (failed) => process.exit(failed ? 1 : 0),
  (error) => {
    console.log(`FAILED page: starts: ${String(error.message).replaceAll("\n", " ")}`);
    process.exit(1);
  },
);
