"""The house rules of the Kubernetes example, checked without a cluster."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.test_containers import assert_forgets_what_is_erased
from tests.test_documents import section, settings_names

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docs/examples/kubernetes").glob("*.yaml"))


def objects() -> list[dict[str, Any]]:
    """Every object of every file."""
    reader = YAML(typ="safe", pure=True)
    return [found for path in FILES for found in reader.load_all(path.read_text())]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [found for found in objects() if found["kind"] in kinds]


def pods() -> dict[str, dict[str, Any]]:
    """The pods that are run, by the name of what runs them."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]["spec"] for found in of_kind("Deployment", "StatefulSet")
    }


def test_every_object_says_what_it_is() -> None:
    for found in objects():
        assert {"apiVersion", "kind", "metadata", "spec"} - {"spec"} <= set(found)
        assert found["metadata"]["name"].startswith("contrafact")


def test_broker_api_and_worker_are_there() -> None:
    assert set(pods()) == {"contrafact-redis", "contrafact-api", "contrafact-worker"}


@pytest.mark.parametrize("name", sorted(pods()))
def test_every_pod_is_without_rights(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_labels_and_selectors_agree() -> None:
    for found in of_kind("Deployment", "StatefulSet"):
        assert found["spec"]["selector"]["matchLabels"] == found["spec"]["template"]["metadata"]["labels"]
    labels = [found["spec"]["template"]["metadata"]["labels"] for found in of_kind("Deployment", "StatefulSet")]
    for service in of_kind("Service"):
        assert service["spec"]["selector"] in labels


def test_every_setting_that_is_made_exists() -> None:
    made = {name for found in of_kind("ConfigMap") for name in found["data"]}
    made |= {
        variable["name"]
        for name in ("contrafact-api", "contrafact-worker")
        for variable in pods()[name]["containers"][0]["env"]
        if "fieldRef" not in variable.get("valueFrom", {})
    }
    assert made - settings_names() == set()


def test_a_pod_has_longer_than_its_worker_s_grace() -> None:
    worker = pods()["contrafact-worker"]
    grace = next(v["value"] for v in worker["containers"][0]["env"] if v["name"] == "STOP_GRACE_S")
    assert worker["terminationGracePeriodSeconds"] >= float(grace) + 10


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_a_worker_is_ready_when_its_image_calls_itself_healthy(probe: str) -> None:
    (worker,) = pods()["contrafact-worker"]["containers"]
    *python, asks = worker[probe]["exec"]["command"]
    assert python == ["python3", "-c"]
    compile(asks, probe, "exec")
    assert json.dumps(asks) in (ROOT / "Dockerfile").read_text()


def policy(name: str) -> dict[str, Any]:
    """The rules of one network policy."""
    (found,) = [found["spec"] for found in of_kind("NetworkPolicy") if found["metadata"]["name"] == name]
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert found["podSelector"]["matchLabels"] == {"app": name}
    return dict(found)


def test_nobody_but_api_and_workers_reaches_the_broker() -> None:
    (rule,) = policy("contrafact-redis")["ingress"]
    (callers,) = rule["from"]
    (names,) = callers["podSelector"]["matchExpressions"]
    assert (names["key"], set(names["values"])) == ("app", {"contrafact-api", "contrafact-worker"})


def test_a_worker_reaches_the_broker_and_names_and_nothing_else() -> None:
    rules = policy("contrafact-worker")
    ports = [[port["port"] for port in rule["ports"]] for rule in rules["egress"]]
    assert (rules["ingress"], ports) == ([], [[6379], [53, 53]])
    assert rules["egress"][0]["to"] == [{"podSelector": {"matchLabels": {"app": "contrafact-redis"}}}]


def test_every_api_writes_an_audit_log_of_its_own_to_a_volume_that_lasts() -> None:
    api = pods()["contrafact-api"]
    (container,) = api["containers"]
    file = next(v["value"] for v in container["env"] if v["name"] == "AUDIT_FILE")
    mount = next(m for m in container["volumeMounts"] if file.startswith(m["mountPath"]))
    volume = next(v for v in api["volumes"] if v["name"] == mount["name"])
    assert "$(POD)" in file
    assert not mount.get("readOnly", False)
    assert "persistentVolumeClaim" in volume
    assert api["securityContext"]["fsGroup"] == api["securityContext"]["runAsGroup"]


def test_the_broker_forgets_nothing() -> None:
    arguments = " ".join(pods()["contrafact-redis"]["containers"][0]["args"])
    for promise in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert promise in arguments


def test_what_is_erased_leaves_the_broker_s_disk() -> None:
    arguments = pods()["contrafact-redis"]["containers"][0]["args"]
    assert_forgets_what_is_erased(dict(zip(arguments[1::2], arguments[2::2], strict=True)))


def test_it_is_said_what_becomes_of_the_audit_logs_of_pods_that_are_gone() -> None:
    page = section("howto/let-clients-in.md", "The audit log")
    (api,) = pods()["contrafact-api"]["containers"]
    file = next(variable["value"] for variable in api["env"] if variable["name"] == "AUDIT_FILE")
    assert file.replace("$(POD)", "POD") in page


def test_keda_scales_the_worker_by_figures_that_the_api_tells() -> None:
    (scaled,) = of_kind("ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] in pods()
    (trigger,) = scaled["spec"]["triggers"]
    told = "".join((ROOT / "app" / name).read_text() for name in ("figures.py", "metrics.py"))
    for figure in re.findall(r"contrafact_\w+", trigger["metadata"]["query"]):
        assert f'"{figure}"' in told
