"""Python's http.client as publishers that keep their connections: through early answers, silence,
and the end of the server.

Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed. PROGRAM is the server, for
the cases that stop one.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

ADDRESS = urllib.parse.urlsplit(sys.argv[1]).netloc
PATIENCE = 30
PUSH = json.dumps({"userId": "kept", "event": "news", "message": "hello"}).encode()
SENT = (200, b"message sent to 0 clients")
NO_PATHS = [("POST", "/push/"), ("POST", "/v2/nothing")]
NO_METHODS = [("PUT", "/push")] + [("POST", path) for path in ("/livez", "/metrics", "/v2/node", "/ws", "/")]
PUBLISHERS = 30
# Longer than a head may take, and much shorter than what the server announces.
SILENCE = 12
# Balancers and pools of clients keep a connection for a minute, and some let it go with the answer
# on its way.
KEEP_ALIVE_MIN = 75


class Publisher:
    """One kept connection; http.client makes a new one only where the last answer said so."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=PATIENCE)

    def push(self):
        """The answer, and whether it is the last on its connection."""
        self.connection.request("POST", "/push", PUSH)
        return self._answer()

    def ask_slowly(self, method, path):
        """A request whose body comes behind its head, as from many a client."""
        self.connection.putrequest(method, path)
        self.connection.putheader("Content-Length", str(len(PUSH)))
        self.connection.endheaders()
        time.sleep(0.003)
        self.connection.send(PUSH)
        return self._answer()

    def _answer(self):
        response = self.connection.getresponse()
        self.headers = response.headers
        return (response.status, response.read()), response.will_close


class Server:
    """A server of a case's own."""

    def __init__(self, *flags):
        environment = {name: it for name, it in os.environ.items() if not name.startswith("WSERVER_")}
        fixed = ["--address", "127.0.0.1:0", "--log-format", "json", "--allow-open-push"]
        self.process = subprocess.Popen(
            [os.environ["PROGRAM"], *fixed, *flags], stderr=subprocess.PIPE, env=environment
        )
        for line in self.process.stderr:
            said = json.loads(line)
            if said["message"] == "listening":
                self.address = said["address"]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_until_it_drains(self):
        end = time.monotonic() + PATIENCE
        while True:
            probe = http.client.HTTPConnection(self.address, timeout=PATIENCE)
            probe.request("GET", "/readyz")
            status = probe.getresponse().status
            probe.close()
            if status == 503:
                return
            assert time.monotonic() < end, f"it still says {status}"

    def refuses(self):
        """Whether nobody listens there any more."""
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
            return False
        except ConnectionRefusedError:
            return True


def case_an_early_answer_spoils_no_push_behind_it(status, *requests):
    """What is refused by its head alone, and a push behind it, by turns on one connection."""
    publisher = Publisher(ADDRESS)
    good, bad = 0, []
    for method, path in (requests * 100)[:100]:
        for ask in (lambda: publisher.ask_slowly(method, path)[0][0] == status, lambda: publisher.push()[0] == SENT):
            try:
                assert ask(), "another answer"
                good += 1
            except (http.client.HTTPException, ConnectionError, AssertionError) as error:
                bad.append(f"at {method} {path}: {error!r}")
                # What a client does that wants to go on.
                publisher.connection.close()
    assert good == 200, f"{good} of 200 answers; {bad[0]}"


def case_a_silent_connection_still_takes_a_push():
    publisher = Publisher(ADDRESS)
    assert publisher.push() == (SENT, False)
    own = publisher.connection.sock
    announced = publisher.headers["Keep-Alive"]
    time.sleep(SILENCE)
    assert publisher.push() == (SENT, False)
    assert publisher.connection.sock is own, "that is another connection"
    seconds = re.fullmatch(r"timeout=(\d+)", announced or "")
    assert seconds and int(seconds[1]) >= KEEP_ALIVE_MIN, f"Keep-Alive: {announced}"


def push_until_told_to_go(publisher, is_under_way, is_stopping):
    """Pushes one behind the other until an answer says that it is the last; what failed, if anything."""
    count = 0
    try:
        while True:
            answer, is_last = publisher.push()
            assert answer == SENT, answer
            count += 1
            is_under_way.set()
            if is_last:
                assert is_stopping.is_set(), "told to go before the server stops"
                return None
    except (http.client.HTTPException, OSError, AssertionError) as error:
        return f"{error!r} behind {count} answers"


def case_a_stop_fails_no_push(*flags):
    with Server(*flags) as server, ThreadPoolExecutor(PUBLISHERS) as pool:
        is_stopping = threading.Event()
        under_way = [threading.Event() for _ in range(PUBLISHERS)]
        ends = [
            pool.submit(push_until_told_to_go, Publisher(server.address), it, is_stopping)
            for it in under_way
        ]
        for it in under_way:
            assert it.wait(PATIENCE), "a publisher gets no answer"
        is_stopping.set()
        server.process.send_signal(signal.SIGTERM)
        failures = [failure for end in ends if (failure := end.result(PATIENCE))]
        assert not failures, f"{len(failures)} of {PUBLISHERS} fail: {failures[0]}"
        assert server.process.wait(PATIENCE) == 0
        assert server.refuses()


def case_a_stop_lets_a_silent_connection_ask_once_more(*flags):
    """A connection that was idle when the signal came has its next answer, and is told that it is the last."""
    with Server(*flags) as server:
        publishers = [Publisher(server.address) for _ in range(PUBLISHERS)]
        for publisher in publishers:
            assert publisher.push() == (SENT, False)
        server.process.send_signal(signal.SIGTERM)
        server.wait_until_it_drains()
        for publisher in publishers:
            answer = publisher.push()
            assert answer == (SENT, True), answer
        assert server.process.wait(PATIENCE) == 0
        assert server.refuses()


def run(name, case, *arguments):
    try:
        case(*arguments)
    except Exception as error:
        print(f"FAILED kept: {name}: {error!r}".replace("\n", " "), flush=True)
        return False
    print(f"ok kept: {name}", flush=True)
    return True


CASES = [
    ("a silent connection still takes a push", case_a_silent_connection_still_takes_a_push),
    ("a 404 spoils no push behind it", case_an_early_answer_spoils_no_push_behind_it, 404, *NO_PATHS),
    ("a 405 spoils no push behind it", case_an_early_answer_spoils_no_push_behind_it, 405, *NO_METHODS),
    ("a stop fails no push", case_a_stop_fails_no_push),
    ("a stop with a delay fails no push", case_a_stop_fails_no_push, "--drain-delay", "1s"),
    (
        "a silent connection may ask once more while the server stops",
        case_a_stop_lets_a_silent_connection_ask_once_more,
        "--drain-delay", "5s",
    ),
]

# All at once, since most of them wait.
with ThreadPoolExecutor(len(CASES)) as pool:
    good = list(pool.map(lambda it: run(*it), CASES))
sys.exit(0 if all(good) else 1)
