"""`deploy/kubernetes`: objects that fit together, the image and the service, and what docs/kubernetes.md promises."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import LAST_SPANS_SECONDS
from service.wire.memory_limit import budget_bytes
from tests.test_deploy import variable

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
MANIFESTS = sorted(set(FOLDER.rglob("*.yaml")) - set(KUSTOMIZATIONS))
GUIDE = (ROOT / "docs" / "kubernetes.md").read_text()
IMAGE = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"


def named(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def read(name: str) -> dict[str, Any]:
    """The one object of a manifest."""
    content = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(content, dict), name
    return content


DEPLOYMENT = read("deployment.yaml")
INFERENCE = read("kserve/inference-service.yaml")
SERVICE = read("service.yaml")
CLAIM = read("storage/claim.yaml")
SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / "settings.env").read_text(), re.MULTILINE))
LABELS = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
PODS = {
    "deployment": DEPLOYMENT["spec"]["template"]["spec"],
    "kserve": INFERENCE["spec"]["predictor"],
    "loader": read("loader/pod.yaml")["spec"],
}
SERVING = ["deployment", "kserve"]


def container(pod: str) -> dict[str, Any]:
    """A pod's one container."""
    (only,) = PODS[pod]["containers"]
    assert isinstance(only, dict)
    return only


def environment(pod: str) -> dict[str, str]:
    """What the container of a pod is told; its own variables win over those of the ConfigMap."""
    own = {each["name"]: each["value"] for each in container(pod)["env"]}
    return SETTINGS | own if "envFrom" in container(pod) else own


def ports(pod: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(pod)["ports"]}


def blocks(language: str) -> list[str]:
    """The code of the guide in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def built(folder: Path) -> Iterator[dict[str, Any]]:
    """What kustomize makes of a folder."""
    if shutil.which("kustomize") is not None:
        command = ["kustomize", "build"]
    elif shutil.which("kubectl") is not None:
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return iter(yaml.safe_load_all(result.stdout))


def test_every_file_is_in_a_kustomization_and_none_names_a_namespace() -> None:
    listed: set[Path] = set()
    for file in KUSTOMIZATIONS:
        content = yaml.safe_load(file.read_text())
        assert "namespace" not in content, named(file)
        entries = {(file.parent / entry).resolve() for entry in content["resources"]}
        assert all(entry in MANIFESTS or entry / "kustomization.yaml" in KUSTOMIZATIONS for entry in entries)
        listed |= entries
        for generator in content.get("configMapGenerator", ()):
            assert all((file.parent / env).is_file() for env in generator["envs"])
    assert set(MANIFESTS) <= listed
    assert not any("namespace" in read(named(file))["metadata"] for file in MANIFESTS)


def test_the_image_is_the_one_of_this_version_wherever_it_runs() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for file in KUSTOMIZATIONS:
        resources = yaml.safe_load(file.read_text())["resources"]
        runs = any("image: surprisal\n" in (file.parent / each).read_text() for each in resources if ".yaml" in each)
        images = [{"name": "surprisal", "newTag": version}] if runs else []
        assert yaml.safe_load(file.read_text()).get("images", []) == images, named(file)
    assert {container(pod)["image"] for pod in PODS} == {"surprisal"}


def test_selectors_find_the_pods_of_the_deployment_and_no_others() -> None:
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == LABELS
    assert SERVICE["spec"]["selector"] == LABELS
    assert read("disruption-budget.yaml")["spec"]["selector"]["matchLabels"] == LABELS
    assert read("network-policy.yaml")["spec"]["podSelector"]["matchLabels"] == LABELS
    for constraint in PODS["deployment"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == LABELS
    for file in MANIFESTS:
        assert read(named(file))["metadata"]["labels"][NAME] == "surprisal", named(file)
    # KServe gives its pods the labels of the InferenceService.
    others = [INFERENCE, read("loader/pod.yaml")]
    assert all(other["metadata"]["labels"][COMPONENT] != LABELS[COMPONENT] for other in others)


@pytest.mark.parametrize("pod", SERVING)
def test_ports_are_where_the_service_listens_and_probes_ask_one_of_them(pod: str) -> None:
    assert f"EXPOSE {Settings().port}" in IMAGE
    assert "SURPRISAL_HOST=0.0.0.0" in IMAGE
    assert ports(pod) == {"http": Settings().port, "ops": int(environment(pod)["SURPRISAL_OPS_PORT"])}
    assert container(pod)["ports"][0]["name"] == "http", "KServe sends requests to the first one"
    probes = {kind: container(pod)[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    asked = {kind: (probe["httpGet"]["port"], probe["httpGet"]["path"]) for kind, probe in probes.items()}
    if pod == "deployment":
        assert asked == {
            "startup": ("ops", "/healthz"),
            "liveness": ("ops", "/healthz"),
            "readiness": ("ops", "/readyz"),
        }
    else:
        live, ready = ("http", "/v2/health/live"), ("http", "/v2/health/ready")
        assert asked == {"startup": live, "liveness": live, "readiness": ready}


def test_the_service_object_leads_to_ports_of_the_pod() -> None:
    for port in SERVICE["spec"]["ports"]:
        assert port["targetPort"] == port["name"]
        assert port["port"] == ports("deployment")[port["name"]]


@pytest.mark.parametrize("pod", SERVING)
def test_pods_are_given_the_time_that_the_service_needs_to_end(pod: str) -> None:
    given = environment(pod)
    drain = float(given["SURPRISAL_DRAIN_SECONDS"])
    grace = float(given.get("SURPRISAL_GRACE_SECONDS", Settings().grace_seconds))
    assert drain > Settings().drain_seconds, "endpoints take longer to follow than a load balancer's health check"
    assert PODS[pod]["terminationGracePeriodSeconds"] > drain + grace + LAST_SPANS_SECONDS
    assert "lifecycle" not in container(pod)


@pytest.mark.parametrize("pod", PODS)
def test_every_pod_is_hardened_and_bounded(pod: str) -> None:
    user = re.search(r"^USER (\d+)$", IMAGE, re.MULTILINE)
    assert user is not None
    of_the_pod = PODS[pod]["securityContext"]
    assert of_the_pod["runAsNonRoot"] is True
    assert {of_the_pod[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user[1])}
    assert of_the_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert PODS[pod]["automountServiceAccountToken"] is False
    for bound in ("requests", "limits"):
        assert set(container(pod)["resources"][bound]) == {"cpu", "memory"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(PODS[pod])


@pytest.mark.parametrize("pod", PODS)
def test_the_name_of_the_service_sets_no_setting(pod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kubernetes would tell every pod of the namespace where a Service called surprisal is.
    monkeypatch.setenv("SURPRISAL_PORT", "tcp://10.0.0.1:8000")
    with pytest.raises(ValidationError):
        Settings()
    assert PODS[pod]["enableServiceLinks"] is False


@pytest.mark.parametrize("pod", PODS)
def test_volumes_and_mounts_belong_together(pod: str) -> None:
    volumes = {volume["name"]: volume for volume in PODS[pod]["volumes"]}
    mounts = {mount["name"]: mount for mount in container(pod)["volumeMounts"]}
    assert set(volumes) == set(mounts)
    assert f"SURPRISAL_MODELS={mounts['models']['mountPath']}" in IMAGE
    claim = volumes["models"]["persistentVolumeClaim"]
    assert claim["claimName"] == CLAIM["metadata"]["name"]
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"]
    writes = pod == "loader"
    assert claim.get("readOnly", False) is mounts["models"].get("readOnly", False) is not writes
    if pod in SERVING:
        keys = volumes["keys"]["secret"]
        assert not keys.get("optional"), "without its keys a service must not answer"
        assert keys["secretName"] == "surprisal-keys"
        assert environment(pod)["SURPRISAL_KEYS_FILE"] == f"{mounts['keys']['mountPath']}/keys"
        assert "kubectl create secret generic surprisal-keys --from-file=keys=" in GUIDE
        assert mounts["tmp"]["mountPath"] == "/tmp"
        assert "sizeLimit" in volumes["tmp"]["emptyDir"]


def test_pods_have_the_memory_that_two_workers_need(tmp_path: Path) -> None:
    sizing = (ROOT / "docs" / "operations.md").read_text()
    supervisor, rest, loaded = (
        re.search(rf"(\d+) MiB {words}", sizing)
        for words in ("for the supervisor", "a worker at rest", "under mixed load")
    )
    assert supervisor is not None
    assert rest is not None
    assert loaded is not None
    for pod in SERVING:
        resources = container(pod)["resources"]
        workers = int(resources["limits"]["cpu"])
        assert resources["requests"]["cpu"] == resources["limits"]["cpu"], "the workers follow the limit"
        requested = int(resources["requests"]["memory"].removesuffix("Mi"))
        assert requested > int(supervisor[1]) + workers * int(loaded[1])
        limit = int(resources["limits"]["memory"].removesuffix("Gi")) << 10
        (tmp_path / "memory.max").write_text(str(limit << 20))
        budget = budget_bytes(workers, tmp_path) / 2**20
        assert int(supervisor[1]) + workers * (int(rest[1]) + 1.25 * budget) <= limit, "whatever is sent"


def test_every_variable_is_a_setting_and_the_service_takes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    known = set(map(variable, Settings.model_fields))
    text = "".join(file.read_text() for file in (*MANIFESTS, *KUSTOMIZATIONS, FOLDER / "settings.env")) + GUIDE
    assert set(re.findall(r"\b(SURPRISAL_[A-Z_]+)", text)) - known == set()
    for pod in SERVING:
        for name, value in environment(pod).items():
            monkeypatch.setenv(name, value)
    assert Settings().drain_seconds == float(SETTINGS["SURPRISAL_DRAIN_SECONDS"])
    assert Settings().log_level == SETTINGS["SURPRISAL_LOG_LEVEL"]


def test_prometheus_finds_the_service_and_calls_it_what_the_alerts_call_it() -> None:
    monitor = read("service-monitor.yaml")["spec"]
    labels = SERVICE["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    alerts = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text()
    assert set(re.findall(r'job="(\w+)"', alerts)) == {labels[monitor["jobLabel"]]}
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in SERVICE["spec"]["ports"]}
    assert (endpoint["port"], endpoint["path"]) == ("ops", "/metrics")


def test_the_autoscaler_moves_the_deployment_by_something_that_is_measured() -> None:
    autoscaler = read("autoscaler.yaml")["spec"]
    reference = {key: DEPLOYMENT[key] for key in ("apiVersion", "kind")} | {"name": DEPLOYMENT["metadata"]["name"]}
    assert autoscaler["scaleTargetRef"] == reference
    assert "replicas" not in DEPLOYMENT["spec"], "each apply would undo what the autoscaler did"
    budget = read("disruption-budget.yaml")["spec"]["maxUnavailable"]
    assert autoscaler["maxReplicas"] > autoscaler["minReplicas"] > budget
    by_type = {metric["type"]: metric for metric in autoscaler["metrics"]}
    assert by_type.keys() == {"Resource", "Pods"}
    metric = by_type["Pods"]["pods"]["metric"]["name"]
    assert f"# TYPE {metric} gauge" in Metrics().expose().decode()
    assert int(by_type["Pods"]["pods"]["target"]["averageValue"]) < Settings().max_queue_records
    (rule,) = yaml.safe_load(blocks("yaml")[1])
    assert rule["seriesQuery"].startswith(f"{metric}{{")
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_a_rollout_takes_no_pod_away_before_its_successor_is_ready() -> None:
    for strategy in (DEPLOYMENT["spec"]["strategy"], INFERENCE["spec"]["predictor"]["deploymentStrategy"]):
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_the_network_policy_opens_the_ports_of_the_service_and_nothing_else() -> None:
    policy = read("network-policy.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    opened = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    assert opened.keys() == ports("deployment").keys()
    assert {"podSelector": {}} in opened["http"]
    for peer in opened["ops"]:
        assert set(peer) == {"namespaceSelector", "podSelector"}
    for rule in policy["egress"]:
        assert all(set(peer) == {"namespaceSelector", "podSelector"} for peer in rule["to"])
    left = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    collector = re.search(
        r"^#OTEL_EXPORTER_OTLP_ENDPOINT=http://\S+:(\d+)$", (FOLDER / "settings.env").read_text(), re.M
    )
    assert collector is not None
    assert left == {("UDP", 53), ("TCP", 53), ("TCP", int(collector[1]))}


def test_kserve_is_told_which_protocol_it_is() -> None:
    assert container("kserve")["name"] == "kserve-container"
    assert environment("kserve")["PROTOCOL"] == "v2"
    assert INFERENCE["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_the_guide_names_files_that_there_are() -> None:
    for path in re.findall(r"`((?:storage/)?[\w-]+\.yaml)`", GUIDE):
        assert (FOLDER / path).exists(), path
    for path in re.findall(r"\bdeploy/kubernetes(?:/\w+)?", GUIDE):
        assert ROOT / path / "kustomization.yaml" in KUSTOMIZATIONS, path
    for path in re.findall(r"\]\((\w+\.md)", GUIDE):
        assert (ROOT / "docs" / path).exists(), path


def test_the_guide_makes_objects_of_the_rules(tmp_path: Path) -> None:
    (script,) = blocks("sh")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\n[ "$*" = "apply -f -" ] && cat >> {tmp_path}/applied && echo --- >> {tmp_path}/applied'
    )
    kubectl.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, env=path, check=True, timeout=60)
    applied = [each for each in yaml.safe_load_all((tmp_path / "applied").read_text()) if each]
    rules = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    assert [each["kind"] for each in applied] == ["PrometheusRule"] * len(rules)
    assert [each["metadata"]["name"] for each in applied] == [f"surprisal-{file.stem}" for file in rules]
    assert [each["spec"] for each in applied] == [yaml.safe_load(file.read_text()) for file in rules]


@pytest.mark.parametrize("folder", [named(file.parent) for file in KUSTOMIZATIONS])
def test_kustomize_builds_every_folder(folder: str) -> None:
    for made in built(FOLDER / folder):
        images = re.findall(r"'image': '([^']*)'", str(made))
        assert all(re.fullmatch(r"surprisal:\d+\.\d+\.\d+", image) for image in images)
        if made["kind"] in {"Deployment", "InferenceService", "Pod"}:
            assert len(images) == 1


def test_kustomize_builds_what_the_guide_lays_over_it(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "deploy" / "kubernetes")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "kustomization.yaml").write_text(blocks("yaml")[0])
    made = {each["kind"]: each for each in built(tmp_path / "ours")}
    assert {each["metadata"]["namespace"] for each in made.values()} == {"surprisal"}
    (running,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert running["image"].startswith("registry.example.com/surprisal:")
    assert made["ConfigMap"]["data"] == SETTINGS | {"SURPRISAL_MAX_RECORDS": "5000"}
    assert running["envFrom"] == [{"configMapRef": {"name": made["ConfigMap"]["metadata"]["name"]}}]


@pytest.mark.parametrize("manifest", [named(file) for file in MANIFESTS])
def test_kubernetes_takes_every_manifest(manifest: str) -> None:
    if shutil.which("kubernetes-validate") is None:
        pytest.skip("kubernetes-validate is not installed")
    # It knows Kubernetes' own kinds; of others it only warns.
    command = ["kubernetes-validate", "--strict", "--quiet", str(FOLDER / manifest)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
