"""The stack as `docker compose up` starts it, asked whether it is well; see scripts/stack-test."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OPERATORS = "http://127.0.0.1:9000"
SERVICE, PROMETHEUS, GRAFANA = "http://127.0.0.1:8000", "http://127.0.0.1:9090", "http://127.0.0.1:3000"
IMAGES = {
    "prometheus": "docker.io/prom/prometheus:v2.53.3",
    "alertmanager": "docker.io/prom/alertmanager:v0.28.1",
    "grafana": "docker.io/grafana/grafana:12.2.0",
}
BUILT = {"surprisal-training": "training", "surprisal": "service"}
PROJECT = "surprisal-stack-test"
KEY = "stack-test-0123456789"  # of tests/stack/keys.yml
TRAFFIC_SECONDS = 100.0  # several scrapes and evaluations of the rules
INSIDE = "SURPRISAL_STACK_INSIDE"

BUILT_IN = {"__rate_interval": "1m"}
# That of surprisal.cli.demo, whose packages this machine's Python need not have.
PAYMENT = {
    "amount": 31.40, "hour": 17, "merchant_category": "groceries", "country": "SE", "channel": "contactless",
    "card_present": True, "new_merchant": False, "distance_km": 3.2, "minutes_since_last": 410,
    "transactions_24h": 2, "average_amount_30d": 29.80,
}  # fmt: skip
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def run(*command: str, quiet: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command, which must succeed."""
    print("+", " ".join(command), flush=True)
    if quiet:
        options["stdout"] = subprocess.DEVNULL
    return subprocess.run(command, cwd=ROOT, check=True, text=True, **options)


def engine() -> tuple[str, list[str]]:
    """The container engine, and its compose command."""
    if shutil.which("podman") and shutil.which("podman-compose"):
        return "podman", ["podman-compose"]
    if shutil.which("docker"):
        return "docker", ["docker", "compose"]
    raise SystemExit("stack-test needs podman with podman-compose, or docker")


def get(url: str, **query: str) -> str:
    """The body of an answer, whatever its status."""
    address = f"{url}?{urllib.parse.urlencode(query)}" if query else url
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def until(what: str, condition: Any, seconds: float = 180.0) -> None:
    """Wait, not for ever."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass  # it does not listen yet
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: waited {seconds:.0f} seconds for {what}")
        time.sleep(1.0)


def ready() -> bool:
    """Whether the service has a model."""
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{SERVICE}/readyz", timeout=10):
        return True
    return False


def metrics(runner: str, container: str) -> str:
    """The service's metrics, from the operators' port alone; that is not published, so it is asked from inside."""
    assert json.loads(get(f"{SERVICE}/metrics"))["status"] == 401, "no metrics, and no key"
    program = f"import urllib.request as u; print(u.urlopen('{OPERATORS}/metrics').read().decode())"
    return run(runner, "exec", container, "python", "-c", program, capture_output=True).stdout


def query(expression: str) -> list[Any]:
    """What Prometheus says now; a wrong expression ends the test."""
    answer = json.loads(get(f"{PROMETHEUS}/api/v1/query", query=expression))
    if answer["status"] != "success":
        raise SystemExit(f"FAILED: {expression}: {answer['error']}")
    found: list[Any] = answer["data"]["result"]
    return found


def drive(seconds: float) -> int:
    """Score payments in batches of three sizes, one of them strange; returns how many records."""
    records, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        for size in (1, 20, 100):
            batch = [{**PAYMENT, "amount": 5.0 + index % 90, "hour": index % 24} for index in range(size)]
            batch[0] |= {"country": "nowhere", "channel": None}
            body = json.dumps({"records": batch}).encode()
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
            request = urllib.request.Request(f"{SERVICE}/score", body, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert len(json.loads(answer.read())["results"]) == size
            records += size
        time.sleep(0.2)  # rates and quantiles take traffic across several scrapes, not much of it
    return records


def empty_queries(dashboard: dict[str, Any]) -> list[str]:
    """The queries of a dashboard and of its variables that find nothing."""
    values = dict(BUILT_IN)

    def filled(text: str) -> str:
        return VARIABLE.sub(lambda found: values[found[1]], text)

    empty = []
    for variable in dashboard["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert asked is not None, variable["query"]
        found = query(f"group by ({asked[2]}) ({filled(asked[1])})")
        if not found:
            empty.append(variable["query"])
        values[variable["name"]] = found[0]["metric"][asked[2]] if found else ""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):  # headings ask nothing
            if not query(filled(target["expr"])):
                empty.append(f"{panel['title']}: {target['expr']}")
    return empty


def check(left_out: list[str], runner: str, container: str) -> None:
    """Everything that is said to be so once the stack runs."""
    until("the service", ready)
    until("Prometheus", lambda: "Ready" in get(f"{PROMETHEUS}/-/ready"))
    if "grafana" not in left_out:
        until("Grafana", lambda: json.loads(get(f"{GRAFANA}/api/health"))["database"] == "ok")
    print(f"scored {drive(TRAFFIC_SECONDS):,} records")
    until("two scrapes more", lambda: bool(query("surprisal:scoring_duration_seconds:p99_5m")), 60)
    targets = [each for each in query("up") if each["metric"]["job"] not in left_out]
    down = [each["metric"] for each in targets if each["value"][1] != "1"]
    assert not down, f"targets that are down: {down}"
    run("promtool", "check", "metrics", input=metrics(runner, container))
    if runner == "podman":  # docker's compose has waited for it
        run(runner, "healthcheck", "run", container)
    rules = json.loads(get(f"{PROMETHEUS}/api/v1/rules"))["data"]["groups"]
    unwell = [rule["name"] for group in rules for rule in group["rules"] if rule["health"] != "ok"]
    assert not unwell, f"rules that cannot be evaluated: {unwell}"
    files = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    for file in files:
        empty = empty_queries(json.loads(file.read_text()))
        assert not empty, f"{file.name}: queries that find nothing: {empty}"
        print(f"ok: every query of {file.name} finds something")
    misspelt = json.loads(files[0].read_text().replace("surprisal_http_requests_total", "surprisal_http_request_total"))
    assert empty_queries(misspelt), "a misspelt metric is not noticed"
    print("ok: a misspelt metric is noticed")


def stack(compose: list[str], runner: str) -> None:
    """Start, check, stop."""
    unwanted = sys.argv[1:]
    left_out = [name for name, image in IMAGES.items() if name in unwanted or not available(runner, image)]
    for name in left_out:
        print(f"left out, {'as asked' if name in unwanted else 'for its image cannot be had here'}: {name}")
    names = [name for name in ("trainer", "service", *IMAGES) if name not in left_out]
    files = ["-f", "docker-compose.yml", "-f", "tests/stack/keys.yml"]
    if os.environ.get(INSIDE):
        files += ["-f", "tests/stack/loopback.yml"]
    command = [*compose, "-p", PROJECT, *files]
    run(*command, "up", "-d", "--no-build", *names)
    try:
        container = f"{PROJECT}_service_1" if runner == "podman" else f"{PROJECT}-service-1"
        check(left_out, runner, container)
        run(runner, "stop", "--time", "40", container, quiet=True)
        state = subprocess.run(
            [runner, "inspect", "--format", "{{.State.ExitCode}}", container],
            capture_output=True,
            text=True,
            check=True,
        )
        assert state.stdout.strip() == "0", f"the service ended with {state.stdout.strip()} at SIGTERM"
        print("ok: SIGTERM ends it with 0")
    finally:
        for name in names:
            subprocess.run([*command, "logs", "--tail", "20", name], cwd=ROOT, check=False)
        subprocess.run([*command, "down", "-v"], cwd=ROOT, check=False)


def available(runner: str, image: str) -> bool:
    """Whether an image is here or can be pulled."""
    if subprocess.run([runner, "image", "inspect", image], capture_output=True, check=False).returncode == 0:
        return True
    return subprocess.run([runner, "pull", image], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Build with a network; run, with podman, in a network namespace of its own."""
    runner, compose = engine()
    if not os.environ.get(INSIDE):
        for image, target in BUILT.items():
            run(runner, "build", "-t", image, "--target", target, ".", quiet=True)
        if runner == "podman":
            inside = 'ip link set lo up && exec python3 -m tests.stack.run "$@"'
            command = ["unshare", "-n", "bash", "-c", inside, "stack", *sys.argv[1:]]
            os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    stack(compose, runner)
    print("the stack is well")


if __name__ == "__main__":
    main()
