"""The HTTP API held to its own description: by openapi-spec-validator, and by schemathesis, which
makes requests out of it, good and bad ones, and finds what is answered and not described.

Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"""

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import openapi_spec_validator
import websockets

ORIGIN = sys.argv[1]
SOCKET_ORIGIN = "ws" + ORIGIN.removeprefix("http")
PATIENCE = 10
# A release of theirs may try other things; with one seed the same ones are tried each time.
EXAMPLES, SEED = 40, 1
CONFIG = pathlib.Path(__file__).with_name("schemathesis.toml")
# A name that schemathesis likes to try, so that some pushes arrive.
NAME = "0"


def ask(method, target, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ORIGIN + target, data=data, method=method, headers=headers or {})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.headers, json.load(response)


async def describes():
    """The description is one."""
    _, document = await asyncio.to_thread(ask, "GET", "/openapi.json")
    openapi_spec_validator.validate(document)


async def traces():
    """The stream, which schemathesis would read for ever."""
    reader, writer = await asyncio.open_connection(*ORIGIN.split("//")[1].split(":"))
    writer.write(b"GET /v2/trace?user=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b" 200 " in head and b"content-type: text/event-stream" in head, head
    push = {"user": NAME, "event": NAME, "message": "hello"}
    await asyncio.to_thread(ask, "POST", "/v2/push", push)
    assert await reader.readuntil(b"event:pushed\n")
    data = await reader.readuntil(b"\n\n")
    told = json.loads(data.removeprefix(b"data:"))
    assert (told["user"], told["delivery"]["matched"]) == (NAME, 1), told
    writer.close()


async def holds():
    """Nothing that can be asked is answered in a way that is not described."""
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--config-file", CONFIG, "run", f"{ORIGIN}/openapi.json"]
        arguments += ["--exclude-path", "/v2/trace", "--max-examples", EXAMPLES, "--seed", SEED]
        run = [program, "--no-color", *map(str, arguments)]
        process = await asyncio.to_thread(
            subprocess.run, run, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    report = process.stdout.decode()
    if process.returncode != 0:
        print(report, file=sys.stderr)
    assert process.returncode == 0, f"schemathesis ended with {process.returncode}"
    print(next(line for line in report.splitlines() if " generated, " in line))


async def main():
    failed = False
    async with websockets.connect(f"{SOCKET_ORIGIN}/ws", proxy=None) as listener:
        await listener.send(json.dumps({"token": NAME, "event": NAME}))
        # The pong comes behind the registration.
        await asyncio.wait_for(await listener.ping(), PATIENCE)
        for name, case in [
            ("the description is valid", describes),
            ("a user is traced", traces),
            ("what is described is answered, and nothing else", holds),
        ]:
            try:
                await case()
                print(f"ok api: {name}", flush=True)
            except Exception as error:
                failed = True
                print(f"FAILED api: {name}: {type(error).__name__} {error}", flush=True)
    sys.exit(failed)


asyncio.run(main())
