"""nginx, Caddy and HAProxy with the configurations of docs/deploy/proxies, between clients and the server.

What is not ours to give is replaced: ports, the names of certificates, and times, which are
shortened so that a connection is seen to outlive them. Prints `ok <case>` or
`FAILED <case>: <why>`; exits 1 if any case failed. Its argument is the server's origin;
TLS_CERTIFICATE, TLS_KEY and SSL_CERT_FILE come by the environment. What of docs/deploy/ and .github/
cannot be run on a machine like this one is held to its schema, or its linter.
"""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import websockets

from shared import free_port

ORIGIN = sys.argv[1]
BACKEND = ORIGIN.removeprefix("http://")
ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "docs" / "deploy" / "proxies"
CERTIFICATE, KEY = os.environ["TLS_CERTIFICATE"], os.environ["TLS_KEY"]
PATIENCE = 30
NAMES = ["nginx", "caddy", "haproxy"]
# What the configurations' times become, and how long a client is idle: longer than that, while the
# server pings twice a second.
TIMEOUT = "2s"
IDLE = 5
TLS = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


def shipped(file, *replacements):
    """The file that is shipped, with these parts of it replaced, each of which must be there."""
    text = (DEPLOY / file).read_text()
    for old, new in replacements:
        assert old in text, f"{old!r} is not in {file}"
        text = text.replace(old, new)
    return text


def nginx(folder, port):
    site = shipped(
        "nginx.conf",
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:12345;", f"{BACKEND};"),
        ("/etc/ssl/push.example.com.pem", CERTIFICATE),
        ("/etc/ssl/push.example.com.key", KEY),
        ("_timeout 75s", f"_timeout {TIMEOUT}"),
    )
    paths = "".join(
        f"{module}_temp_path {folder}/{module};"
        for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{site}\n}}"
    )
    return ["nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"]


def caddy(folder, port):
    site = shipped(
        "Caddyfile",
        ("push.example.com {", f"https://localhost:{port} {{\n\ttls {CERTIFICATE} {KEY}"),
        ("127.0.0.1:12345 {", f"{BACKEND} {{"),
    )
    # The port is reserved for TCP alone, and HTTP/3 would want that of UDP as well.
    settings = "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers {\n\t\tprotocols h1 h2\n\t}\n}\n"
    (folder / "Caddyfile").write_text(settings + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]


def haproxy(folder, port):
    (folder / "push.pem").write_text(Path(CERTIFICATE).read_text() + Path(KEY).read_text())
    settings = shipped(
        "haproxy.cfg",
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:12345\n", f"{BACKEND}\n"),
        ("/etc/haproxy/push.example.com.pem", f"{folder}/push.pem"),
        ("timeout tunnel 75s", f"timeout tunnel {TIMEOUT}"),
        # As many as the machine that tests has descriptors for.
        ("maxconn 100000", "maxconn 100"),
        ("log /dev/log local0", "log stderr local0"),
    )
    (folder / "haproxy.cfg").write_text(settings)
    return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


def ask(url, body=None, context=None):
    """Status and body of an answer, asked for without any proxy but the one under test."""
    handlers = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        opener = urllib.request.build_opener(*handlers)
        with opener.open(urllib.request.Request(url, data=body), timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def push(user):
    body = json.dumps({"userId": user, "event": "news", "message": "hello"}).encode()
    return await asyncio.to_thread(ask, f"{ORIGIN}/push", body)


async def until(is_so):
    async with asyncio.timeout(PATIENCE):
        while not await is_so():
            await asyncio.sleep(0.02)


async def received(connection, user):
    """What a push brings, if somebody was there for it."""
    status, text = await push(user)
    assert status == 200, text
    if text != "message sent to 1 clients":
        return ""
    return await asyncio.wait_for(connection.recv(), PATIENCE)


async def examine(name, port):
    front = f"https://localhost:{port}"

    async def is_up():
        try:
            # Also that it has found the server well.
            status, _ = await asyncio.to_thread(ask, f"{front}/ws", None, TLS)
            return status == 400
        except (urllib.error.URLError, ConnectionError):
            return False

    await until(is_up)
    user = f"behind-{name}"
    # Addresses of this machine that are not the proxy's, and for each proxy others.
    network = f"127.0.{1 + NAMES.index(name)}"

    def client(host, pretended):
        return websockets.connect(
            f"wss://localhost:{port}/ws",
            ssl=TLS,
            proxy=None,
            host="127.0.0.1",
            port=port,
            local_addr=(f"{network}.{host}", 0),
            ping_interval=None,
            additional_headers={"X-Forwarded-For": pretended},
        )

    async with client(1, "192.0.2.1") as connection:
        await connection.send(json.dumps({"token": user, "event": "news"}))

        async def is_bound():
            return await received(connection, user) == "hello"

        await until(is_bound)
        yield "a push arrives through it"
        async with client(2, "192.0.2.1"):
            pass
        try:
            async with client(1, "192.0.2.2"):
                raise AssertionError("two connections of one address, where one is allowed")
        except websockets.InvalidStatus as error:
            assert error.response.status_code == 429, error.response.status_code
        yield "the client is seen, and what it says of itself is not believed"
        await asyncio.sleep(IDLE)
        assert await received(connection, user) == "hello"
        yield "a silent connection outlives the idle timeout"
    for path, body in [("/push", b"{}"), ("/metrics", None), ("/v2/node", None), ("/", None)]:
        got = await asyncio.to_thread(ask, f"{front}{path}", body, TLS)
        assert got[0] == 404, f"{path}: {got}"
        assert "no such path" not in got[1], f"{path} comes to the server"
    yield "nothing but the WebSocket is passed on"


async def meet(start):
    name = start.__name__
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        # A worker of a proxy that was started by root is another user.
        os.chmod(folder, 0o755)
        command = start(Path(folder), port)
        command[0] = shutil.which(command[0]) or f"/usr/sbin/{command[0]}"
        environment = os.environ | {"HOME": folder, "XDG_DATA_HOME": folder}
        log = Path(folder) / "log"
        with log.open("wb") as output:
            proxy = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            async for case in examine(name, port):
                print(f"ok {name}: {case}", flush=True)
            return True
        except (Exception, asyncio.CancelledError) as error:
            words = log.read_text(errors="replace")[-1000:]
            print(f"FAILED {name}: {error!r}".replace("\n", " "), flush=True)
            print(words, file=sys.stderr)
            return False
        finally:
            proxy.terminate()
            proxy.wait()


def lint(case, *command):
    """What cannot be run here, because it needs containers or a forge, is at least looked at."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if ran.returncode == 0:
        print(f"ok deploy: {case}", flush=True)
        return True
    print(f"FAILED deploy: {case}: exit {ran.returncode}", flush=True)
    print(ran.stdout, ran.stderr, file=sys.stderr)
    return False


def lints():
    tools = Path(sys.executable).parent
    schema = [tools / "check-jsonschema", "--builtin-schema"]
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    compose = [DEPLOY.parent / "compose.yaml", DEPLOY.parent / "cluster" / "compose.yaml"]
    balancer = (DEPLOY.parent / "cluster" / "haproxy.cfg").read_text()
    # The names of the nodes are the containers' own.
    for node in "abc":
        balancer = balancer.replace(f" node-{node}:", " 127.0.0.1:")
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(balancer)
        file.flush()
        return all(
            [
                lint("the workflows are valid", *schema, "vendor.github-workflows", *workflows),
                lint("the compose files are valid", *schema, "vendor.compose-spec", *compose),
                lint(
                    "hadolint has nothing to say of the Dockerfile",
                    tools / "hadolint",
                    DEPLOY.parent / "Dockerfile",
                ),
                lint(
                    "haproxy takes the balancer of the cluster",
                    shutil.which("haproxy") or "/usr/sbin/haproxy",
                    "-c",
                    "-f",
                    file.name,
                ),
            ]
        )


async def main():
    met = await asyncio.gather(*map(meet, (nginx, caddy, haproxy)))
    return all([*met, lints()])


sys.exit(0 if asyncio.run(main()) else 1)
