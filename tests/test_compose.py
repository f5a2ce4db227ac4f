"""`docker-compose.yml` and what it mounts, builds and publishes, as the guide to monitoring promises it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from service.telemetry.tracing import LAST_SPANS_SECONDS

ROOT = Path(__file__).parents[1]
GRAFANA = ROOT / "deploy" / "grafana"
STACK = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
GPU = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
GUIDE = (ROOT / "docs" / "guides" / "monitoring.md").read_text()


def mounts(service: str) -> dict[str, str]:
    """Where in a container which folder of the repository, or which volume, is."""
    parts = [mount.split(":") for mount in SERVICES[service]["volumes"]]
    return {part[1]: part[0] for part in parts}


def here(service: str, path: str) -> Path:
    """The file of the repository that is at a path in a container."""
    found = {inside: source for inside, source in mounts(service).items() if path.startswith(inside)}
    ((inside, source),) = found.items()
    return ROOT / source / path.removeprefix(inside).lstrip("/")


def compose_command() -> list[str] | None:
    """Docker's compose, as a program of its own or as a plugin."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) is not None:
            version = subprocess.run([*command, "version"], capture_output=True, check=False)
            if version.returncode == 0 and b"ocker" in version.stdout:
                return command
    return None


def test_a_clone_has_all_that_is_mounted_and_every_volume_is_declared() -> None:
    sources = [source for name, service in SERVICES.items() if "volumes" in service for source in mounts(name).values()]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for source in sources:
        if source.startswith("."):
            assert f"\n{source.removeprefix('./')}/" in tracked, source
        else:
            assert source in STACK["volumes"]


def test_every_container_is_hardened_and_bounded_and_none_knows_a_secret() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
    for file in ("docker-compose.yml", "docker-compose.gpu.yml", ".env.example"):
        assert not re.search(r"password|secret|token|api_?key", (ROOT / file).read_text(), re.IGNORECASE), file


def test_ports_are_published_on_the_loopback_alone_and_are_those_of_the_guide() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {
        "service": ["127.0.0.1:8000:8000"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "alertmanager": ["127.0.0.1:9093:9093"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    section = GUIDE.partition("\n## ")[0]
    assert "\ndocker compose up\n" in section
    for port in ("http://127.0.0.1:8000", "http://127.0.0.1:3000", ":9090", ":9093"):
        assert port in section
    for path in re.findall(r"`(deploy/[\w./]+|scripts/[\w-]+|\.env\.example)`", section):
        assert (ROOT / path).exists(), path


def test_a_prometheus_of_ones_own_scrapes_the_job_that_the_rules_ask_for() -> None:
    jobs = [
        yaml.safe_load(block)["scrape_configs"][0] for block in re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
    ]
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text()
    assert [job["job_name"] for job in jobs] == re.findall(r'up{job="(\w+)"} == 0', rules) * 2
    assert ["authorization" in job for job in jobs] == [False, True]


def test_versions_are_chosen_by_a_container_that_may_write() -> None:
    page = (ROOT / "docs" / "guides" / "releases.md").read_text()
    calls = re.findall(r"^docker compose run --rm (\w+) models (\w+) ([\w/]+)", page, re.MULTILINE)
    assert calls == [("trainer", "list", "demo/models"), ("trainer", "rollback", "demo/models/transactions")]
    assert SERVICES["trainer"]["volumes"] == ["models:/app/demo/models"]
    assert SERVICES["service"]["volumes"] == ["models:/models:ro"]


def test_what_is_built_is_a_target_of_the_dockerfile_and_an_image_of_its_own() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    built = {service["image"]: service["build"]["target"] for service in SERVICES.values() if "build" in service}
    built[GPU["services"]["service"]["image"]] = GPU["services"]["service"]["build"]["target"]
    assert built == {"surprisal-training": "training", "surprisal": "service", "surprisal-gpu": "gpu"}
    assert set(built.values()) <= set(targets)
    assert targets[-1] == "service", "the last target is the one that is built by default"


def test_the_service_starts_after_its_model_and_is_given_the_time_that_it_needs_to_end() -> None:
    service = SERVICES["service"]
    assert service["depends_on"] == {"trainer": {"condition": "service_completed_successfully"}}
    assert mounts("trainer")["/app/demo/models"] == mounts("service")["/models"] == "models"
    assert SERVICES["trainer"]["command"] == ["demo", "--no-serve"]
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings().drain_seconds + Settings().grace_seconds + LAST_SPANS_SECONDS
    assert service["env_file"] == [{"path": ".env", "required": False}]


def test_prometheus_and_grafana_look_where_something_is() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert scraped == {
        "surprisal": [f"service:{SERVICES['service']['environment']['SURPRISAL_OPS_PORT']}"],
        "prometheus": ["localhost:9090"],
        "alertmanager": ["alertmanager:9093"],
    }
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    home = here("grafana", SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "surprisal.yml").read_text())["providers"][0]
    assert here("grafana", provider["options"]["path"]) == home.parent == GRAFANA / "dashboards"
    for file in home.parent.glob("*.json"):
        board = json.loads(file.read_text())
        uids = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
        assert uids == {source["uid"]}, file.name
    uids = {json.loads(file.read_text())["uid"] for file in home.parent.glob("*.json")}
    links = [link["url"] for panel in json.loads(home.read_text())["panels"] for link in panel.get("links", ())]
    assert links
    assert {link.removeprefix("/d/") for link in links} <= uids


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "docker-compose.gpu.yml"]])
def test_compose_takes_the_files(files: list[str], tmp_path: Path) -> None:
    compose = compose_command()
    if compose is None:
        pytest.skip("docker compose is not installed")
    # Every setting of the example at once, as a newcomer may do it.
    for file in files:
        (tmp_path / file).write_text((ROOT / file).read_text())
    example = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(re.sub(r"^#([A-Z]\w+=)", r"\1", example, flags=re.MULTILINE))
    options = [part for file in files for part in ("-f", file)]
    command = [*compose, *options, "config", "--format", "json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    service = json.loads(result.stdout)["services"]["service"]
    given = service["environment"]
    assert given["SURPRISAL_MAX_RECORDS"] == str(Settings().max_records)
    assert given.get("SURPRISAL_DEVICE") == ("cuda" if len(files) > 1 else "auto")
    if len(files) > 1:
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
