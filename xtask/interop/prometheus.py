"""Prometheus and promtool against the server, its dashboard and its alert rules.

Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import websockets

from shared import free_port

ORIGIN = sys.argv[1]
DEPLOY = Path(__file__).resolve().parent.parent.parent / "docs" / "deploy"
PATIENCE = 30
PUSHES = 20
# A name with or without labels, and not a function or a word of the language.
SELECTOR = re.compile(r"\b(?:wserver|process)_[a-z_]+(?:\{[^}]*\})?|\bup\{[^}]*\}")


def get(url, body=None):
    request = urllib.request.Request(url, data=body)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def push(user):
    body = json.dumps({"userId": user, "event": "news", "message": "m"}).encode()
    return get(f"{ORIGIN}/push", body)


async def traffic():
    """Something of everything: what is right, what is refused, who comes and goes."""
    url = "ws" + ORIGIN.removeprefix("http") + "/ws"
    async with websockets.connect(url) as connection:
        await connection.send('{"token":"jack","event":"news"}')
        await connection.send("junk")
        while push("jack")[1] != "message sent to 1 clients":
            await asyncio.sleep(0.01)
        for _ in range(PUSHES):
            assert push("jack") == (200, "message sent to 1 clients")
    assert get(f"{ORIGIN}/push", b"junk")[0] == 400
    assert get(f"{ORIGIN}/ws")[0] == 400


def tool(*arguments, **options):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr


def case_the_page_is_what_promtool_reads():
    status, page = get(f"{ORIGIN}/metrics")
    assert status == 200, page
    tool("check", "metrics", input=page)


def case_rules_are_sound():
    tool("check", "rules", "--lint-fatal", DEPLOY / "prometheus" / "alerts.yml")


def case_rules_fire_when_they_should():
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"],
        capture_output=True, text=True, cwd=DEPLOY / "prometheus",
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A Prometheus of our own that scrapes the server four times a second, with our rules."""

    def __enter__(self):
        address = f"127.0.0.1:{free_port()}"
        self.folder = tempfile.TemporaryDirectory()
        config = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "1s"},
            "rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")],
            "scrape_configs": [{
                "job_name": "wserver",
                "static_configs": [{"targets": [urllib.parse.urlsplit(ORIGIN).netloc]}],
            }],
        }
        # JSON is YAML.
        path = Path(self.folder.name) / "prometheus.yml"
        path.write_text(json.dumps(config))
        self.log = open(Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={self.folder.name}/data",
             f"--web.listen-address={address}"],
            stdout=self.log, stderr=self.log,
        )
        self.api = f"http://{address}/api/v1"
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def query(self, expression):
        status, body = get(f"{self.api}/query?" + urllib.parse.urlencode({"query": expression}))
        assert status == 200, f"{expression}: {body}"
        return json.loads(body)["data"]["result"]

    def wait(self, expression):
        """Waits until it has an answer."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.query(expression):
                    return
            except (urllib.error.URLError, ConnectionError, AssertionError):
                # It is not there yet, or reads its log.
                pass
            time.sleep(0.1)
        self.log.seek(0)
        raise AssertionError(f"never: {expression}\n{self.log.read()[-2000:]}")


def dashboard():
    for panel in json.loads((DEPLOY / "grafana" / "wserver.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "5s").replace("$instance", ".*")
            assert "$" not in expression, expression
            yield panel["title"], expression


def check_series(prometheus, expressions):
    """Each can be asked, and each series that it names exists."""
    count = 0
    for name, expression in expressions:
        prometheus.query(expression)
        selectors = SELECTOR.findall(expression)
        assert selectors, f"{name} names no series: {expression}"
        for selector in selectors:
            assert prometheus.query(selector), f"{name}: nothing matches {selector}"
            count += 1
    assert count > 10, f"only {count} series"


def case_the_dashboard_asks_for_what_exists(prometheus):
    check_series(prometheus, dashboard())


def case_every_alert_asks_for_what_exists(prometheus):
    status, body = get(f"{prometheus.api}/rules")
    assert status == 200, body
    rules = [rule for group in json.loads(body)["data"]["groups"] for rule in group["rules"]]
    assert all(rule["health"] == "ok" for rule in rules), body
    check_series(prometheus, ((rule["name"], rule["query"]) for rule in rules))
    # The page of operations says of each what to do.
    page = (DEPLOY.parent / "operations.md").read_text()
    for rule in rules:
        assert f"### {rule['name']}\n" in page, f"{rule['name']} is not explained"


def case_what_is_scraped_is_what_happened(prometheus):
    for series, value in [
        ("wserver_deliveries_total", PUSHES + 1),
        ("wserver_connections_opened_total", 1),
        ("wserver_registrations_malformed_total", 1),
        ('wserver_pushes_refused_total{reason="body_invalid"}', 1),
        ('wserver_handshakes_refused_total{reason="not_a_handshake"}', 1),
    ]:
        [sample] = prometheus.query(series)
        assert float(sample["value"][1]) == value, f"{series} is {sample['value'][1]}, not {value}"
    assert not prometheus.query("ALERTS"), prometheus.query("ALERTS")


def case_the_page_of_operations_knows_every_metric(prometheus):
    """What is exported and nowhere shown would be forgotten."""
    page = (DEPLOY.parent / "operations.md").read_text()
    names = {sample["metric"]["__name__"] for sample in prometheus.query('{job="wserver"}')}
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in names if name.startswith("wserver_")}
    assert len(ours) > 25, ours
    unknown = sorted(name for name in ours if f"`{name}" not in page)
    assert not unknown, f"docs/operations.md does not know {unknown}"


def run(case, *arguments):
    name = case.__name__.removeprefix("case_").replace("_", " ")
    try:
        case(*arguments)
    except Exception as error:
        print(f"FAILED prometheus: {name}: {error}", flush=True)
        return False
    print(f"ok prometheus: {name}", flush=True)
    return True


def main():
    asyncio.run(traffic())
    good = [run(case) for case in (
        case_the_page_is_what_promtool_reads,
        case_rules_are_sound,
        case_rules_fire_when_they_should,
    )]
    with Prometheus() as prometheus:
        # Rates need two scrapes behind the traffic, and rules one evaluation.
        prometheus.wait(f"wserver_deliveries_total == {PUSHES + 1}")
        prometheus.wait("count_over_time(wserver_deliveries_total[10s]) > 3")
        good += [run(case, prometheus) for case in (
            case_the_dashboard_asks_for_what_exists,
            case_every_alert_asks_for_what_exists,
            case_what_is_scraped_is_what_happened,
            case_the_page_of_operations_knows_every_metric,
        )]
    sys.exit(0 if all(good) else 1)


main()
