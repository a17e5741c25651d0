// An issuer by npm's jose: a set of keys that holds every kind, tokens that are good and tokens
// that are not, in the same files as xtask/interop/python/issuer.py writes.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { webcrypto } = require("node:crypto");

// Node 18 has it, but not where jose looks for it.
globalThis.crypto ??= webcrypto;

const folder = process.argv[2];
const SECRET = new TextEncoder().encode("test-only: this secret of wserver's tests stands in its repository, it protects nothing!");
const FAR_FUTURE = 4102444800; // 2100-01-01
const CLAIMS = {
  sub: "jack",
  aud: ["wserver-tests", "others"],
  iss: "https://jose.test",
  iat: 1700000000,
  nbf: 1700000000,
  exp: FAR_FUTURE,
  events: ["order.*", "chat"],
};
const KINDS = [
  ["rsa", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]],
  ["p256", ["ES256"]],
  ["p384", ["ES384"]],
  ["ed25519", ["EdDSA"]],
];

let jose;

function sign(algorithm, kid, key, changes = {}) {
  // What is undefined is left out of the JSON.
  return new jose.SignJWT({ ...CLAIMS, ...changes }).setProtectedHeader({ alg: algorithm, kid }).sign(key);
}

// jose makes none of these.
function unsigned(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none", typ: "JWT" })}.${part(claims)}.`;
}

async function main() {
  // A module of the new kind, which is looked for where those of the old kind are.
  jose = await import(pathToFileURL(require.resolve("jose")).href);
  fs.mkdirSync(folder, { recursive: true });
  const tokens = [];
  const keys = [{ ...(await jose.exportJWK(SECRET)), kid: "secret" }];
  for (const algorithm of ["HS256", "HS384", "HS512"]) {
    tokens.push({ algorithm, kid: "secret", token: await sign(algorithm, "secret", SECRET) });
  }
  let rsa;
  for (const [kid, algorithms] of KINDS) {
    const options = { extractable: true };
    const pair = await jose.generateKeyPair(algorithms[0], options);
    if (kid === "rsa") rsa = pair;
    keys.push({ ...(await jose.exportJWK(pair.publicKey)), kid, use: "sig" });
    for (const algorithm of algorithms) {
      const key = await jose.importJWK(await jose.exportJWK(pair.privateKey), algorithm);
      tokens.push({ algorithm, kid, token: await sign(algorithm, kid, key) });
    }
  }

  const stranger = await jose.generateKeyPair("RS256");
  const pem = new TextEncoder().encode(await jose.exportSPKI(rsa.publicKey));
  const now = Math.floor(Date.now() / 1000);
  const refused = [];
  for (const [why, changes] of [
    ["it has expired", { exp: now - 3600 }],
    ["it never expires", { exp: undefined }],
    ["it is not yet valid", { nbf: now + 3600 }],
    ["it is for somebody else", { aud: ["others"] }],
    ["it is for nobody", { aud: undefined }],
    ["it is by another issuer", { iss: "https://else.test" }],
    ["it has no user", { sub: undefined }],
    ["its events are others", { events: ["mail"] }],
  ]) {
    refused.push({ why, token: await sign("RS256", "rsa", rsa.privateKey, changes) });
  }
  refused.push(
    { why: "its key is another", token: await sign("RS256", "rsa", stranger.privateKey) },
    { why: "its key is unknown", token: await sign("RS256", "stranger", stranger.privateKey) },
    { why: "its algorithm is none", token: unsigned(CLAIMS) },
    { why: "a public key served as its secret", token: await sign("HS256", "rsa", pem) },
  );

  const publisher = (changes) =>
    sign("RS256", "rsa", rsa.privateKey, { aud: "wserver-publishers", users: ["*"], events: ["*"], ...changes });
  const publishers = {
    everything: await publisher({}),
    some: await publisher({ users: "jack", events: "order.* mail" }),
    expired: await publisher({ exp: now - 3600 }),
  };

  const write = (name, value) => fs.writeFileSync(path.join(folder, name), `${JSON.stringify(value, null, 1)}\n`);
  write("set.json", { keys });
  write("tokens.json", tokens);
  write("refused.json", refused);
  write("publishers.json", publishers);
}

main();
