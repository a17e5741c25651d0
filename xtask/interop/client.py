"""Python's websockets as a client, urllib as a pusher.

Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.request

import websockets

ORIGIN = sys.argv[1]
SOCKET_ORIGIN = "ws" + ORIGIN.removeprefix("http")
PATIENCE = 10
BOUND = "are you bound"

NASTY = [
    " ",
    '{"a": "quoted \\" and \\\\ and / and 1.0"}',
    "<b>&amp;</b>\u2028\u2029",
    "tab\t, line\r\n, bell\a, nul\0, delete\x7f",
    "Grüße, 世界, שלום, 👩‍👩‍👧‍👦 🏳️‍🌈",
    "100 KB é 🚀 " * (100 * 1024 // 16),
]


def post(body, method="POST"):
    request = urllib.request.Request(f"{ORIGIN}/push", data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def push(user, event, message, ensure_ascii=True):
    """Posts what json.dumps makes: by default, all but ASCII is escaped as surrogate pairs."""
    body = json.dumps({"userId": user, "event": event, "message": message}, ensure_ascii=ensure_ascii)
    status, answer = await asyncio.to_thread(post, body.encode())
    assert status == 200, f"a push got {status} {answer!r}"
    return answer


async def push_to(count, user, event, message, ensure_ascii=True):
    answer = await push(user, event, message, ensure_ascii)
    assert answer == f"message sent to {count} clients", f"{event} of {user}: {answer!r}, not {count}"


async def await_count(count, user, event):
    async with asyncio.timeout(PATIENCE):
        while await push(user, event, BOUND) != f"message sent to {count} clients":
            await asyncio.sleep(0.005)


async def expect(connection, message):
    """Reads past the questions whether it is bound."""
    while True:
        got = await asyncio.wait_for(connection.recv(), PATIENCE)
        if got == message:
            return
        assert got == BOUND, f"expected {message[:80]!r}, got {got[:80]!r}"


def connect():
    # As the library comes: it offers compression and pings by itself.
    return websockets.connect(f"{SOCKET_ORIGIN}/ws", proxy=None)


async def register(connection, user, event):
    await connection.send(json.dumps({"token": user, "event": event}))
    await await_count(1, user, event)


async def registers():
    async with connect() as connection:
        await register(connection, "py-one", "notify")
        await push_to(1, "py-one", "notify", "hello")
        await expect(connection, "hello")


async def fragments():
    async with connect() as connection:
        text = json.dumps({"token": "py-fragments é", "event": "notify"}, ensure_ascii=False)
        await connection.send(list(text))
        await await_count(1, "py-fragments é", "notify")


async def binary():
    async with connect() as connection:
        await connection.send(b'{"tOkEn": "py-binary", "EVENT": "notify", "x": {}}')
        await await_count(1, "py-binary", "notify")


async def malformed():
    """What is no registration is ignored, and the connection stays."""
    async with connect() as connection:
        for message in ["", "{", "[]", '{"token": "py-malformed"}', '{"token": "", "event": "notify"}']:
            await connection.send(message)
        await register(connection, "py-malformed", "notify")
        await push_to(1, "py-malformed", "notify", "hello")
        await expect(connection, "hello")


async def verbatim():
    async with connect() as connection:
        await register(connection, "py-verbatim", "notify")
        for message in NASTY:
            for ensure_ascii in (True, False):
                await push_to(1, "py-verbatim", "notify", message, ensure_ascii)
                await expect(connection, message)


async def order():
    async with connect() as connection:
        await register(connection, "py-order", "notify")
        for i in range(100):
            await push_to(1, "py-order", "notify", f"message {i}")
        for i in range(100):
            await expect(connection, f"message {i}")


async def second_event():
    async with connect() as connection:
        await register(connection, "py-events", "first")
        await register(connection, "py-events", "second")
        for event in ("first", "second"):
            await push_to(1, "py-events", event, f"by {event}")
            await expect(connection, f"by {event}")
        await push_to(0, "py-events", "third", "to nobody")


async def two_connections():
    async with connect() as one, connect() as two:
        await register(one, "py-two", "notify")
        await two.send(json.dumps({"token": "py-two", "event": "notify"}))
        await await_count(2, "py-two", "notify")
        await push_to(2, "py-two", "notify", "last")
        for connection in (one, two):
            await expect(connection, "last")


async def unknown_user():
    await push_to(0, "py-nobody", "notify", "hello")


async def illegal():
    for body in [b"", b"{", b"null", b"[]", b'{"userId":"a","event":"b"}', b'"\xff"', b'{"userId":"a","event":"b","message":"\xff"}']:
        status, answer = await asyncio.to_thread(post, body)
        assert (status, answer) == (400, "request data illegal"), f"{body!r} got {status} {answer!r}"
    status, _ = await asyncio.to_thread(post, None, "GET")
    assert status == 405, f"GET got {status}"


async def ping():
    async with connect() as connection:
        await register(connection, "py-ping", "notify")
        pong = await connection.ping("are you there")
        await asyncio.wait_for(pong, PATIENCE)


async def closes():
    async with connect() as connection:
        await register(connection, "py-close", "notify")
        await asyncio.wait_for(connection.close(1000, "bye"), PATIENCE)
        code = connection.close_code
        assert code == 1000, f"expected Close 1000, got {code}"
        await await_count(0, "py-close", "notify")


async def main():
    failed = False
    for name, case in [
        ("registers and receives", registers),
        ("registers in fragments", fragments),
        ("registers in a binary frame", binary),
        ("what is no registration is ignored", malformed),
        ("receives verbatim", verbatim),
        ("receives in order", order),
        ("a second event on one connection", second_event),
        ("two connections of one user", two_connections),
        ("an unknown user", unknown_user),
        ("illegal pushes", illegal),
        ("a ping is answered", ping),
        ("closes cleanly and is forgotten", closes),
    ]:
        try:
            await asyncio.wait_for(case(), 3 * PATIENCE)
            print(f"ok python: {name}", flush=True)
        except Exception as error:
            failed = True
            print(f"FAILED python: {name}: {type(error).__name__} {error}", flush=True)
    sys.exit(failed)


asyncio.run(main())
