"""The house rules of the Dockerfile and the Compose files, checked without a container engine."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.test_documents import settings_names
from workers import private_broker

ROOT = Path(__file__).parents[1]
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.cpu.yml")
TARGETS = ("api", "worker", "training")


class ComposeYaml(YAML):
    """Reads YAML with Compose's own `!reset`, which takes a setting of the file below away."""

    def __init__(self) -> None:
        super().__init__(typ="safe", pure=True)
        self.constructor.add_constructor("!reset", lambda *_: None)


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    """One Compose file as it is written, its variables not yet filled in."""
    return ComposeYaml().load((ROOT / name).read_text())


def environment(service: str) -> dict[str, Any]:
    """What a service is given; None is handed on from `.env`, if it is set there."""
    return dict(compose()["services"][service]["environment"])


def stages() -> dict[str, list[str]]:
    """Each named stage of the Dockerfile with its instructions, lines that continue joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if start := re.match(r"FROM \S+ AS (\S+)", line):
            found[start.group(1)] = lines = []
        elif found and line and not line.startswith("#"):
            lines.append(line)
    return found


# --- Dockerfile ------------------------------------------------------------------------------------------------------


def test_the_dockerfile_pleases_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; it comes with the test extra")
    report = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert report.returncode == 0, report.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_runs_as_a_numeric_user_without_rights(target: str) -> None:
    users = [line for line in stages()[target] if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", users[-1])


@pytest.mark.parametrize("target", ["api", "worker"])
def test_every_service_image_says_whether_it_is_healthy(target: str) -> None:
    assert any(line.startswith("HEALTHCHECK ") for line in stages()[target])


@pytest.mark.parametrize("target", TARGETS)
def test_what_builds_an_image_stays_out_of_it(target: str) -> None:
    copied = [line for line in stages()[target] if line.startswith("COPY ")]
    assert f"COPY --from=build-{target} /opt/contrafact /opt/contrafact" in copied
    assert not any("pip install" in line for line in stages()[target])


@pytest.mark.parametrize(("target", "extras"), [("api", {"oidc", "otel"}), ("worker", {"${DEVICE}", "otel"})])
def test_every_setting_of_an_image_finds_the_package_it_needs(target: str, extras: set[str]) -> None:
    (installed,) = re.findall(r'pip install "/src\[(.+?)\]"', "\n".join(stages()[f"build-{target}"]))
    assert set(installed.split(",")) == extras


# --- Compose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_the_compose_files_follow_the_compose_specification(name: str, tmp_path: Path) -> None:
    written = tmp_path / f"{name}.json"
    written.write_text(json.dumps(compose(name)))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(written)]
    report = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert report.returncode == 0, report.stdout


def test_a_missing_password_is_refused() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    mentions = re.findall(r"\$\{?REDIS_PASSWORD[^}]*\}?", text)
    assert set(mentions) == {"${REDIS_PASSWORD:?set REDIS_PASSWORD in .env}"}


def test_the_example_environment_names_every_variable_of_the_compose_files() -> None:
    text = "".join((ROOT / name).read_text() for name in COMPOSE_FILES)
    handed_on = {name for service in ("api", "worker") for name, value in environment(service).items() if value is None}
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) | handed_on == example


@pytest.mark.parametrize("service", ["redis", "api", "worker"])
def test_every_container_is_hardened_and_can_be_scaled(service: str) -> None:
    settings = compose()["services"][service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in settings
    assert "container_name" not in settings


def test_only_this_machine_reaches_the_api_and_nobody_the_rest() -> None:
    ports = {name: service.get("ports", []) for name, service in compose()["services"].items()}
    assert [port.rsplit(":", 1)[0] for port in ports.pop("api")] == ["127.0.0.1:${PORT:-8000}"]
    assert all(published == [] for published in ports.values())


def test_the_broker_forgets_no_accepted_job() -> None:
    redis = compose()["services"]["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert [volume.split(":")[1] for volume in redis["volumes"]] == ["/data"]


def test_what_is_erased_leaves_the_broker_s_disk() -> None:
    command = compose()["services"]["redis"]["command"]
    assert_forgets_what_is_erased(dict(zip(command[1::2], command[2::2], strict=True)))


def assert_forgets_what_is_erased(options: dict[str, str]) -> None:
    """No snapshot keeps it, the file is written anew no later than a private broker's, and the API may ask for it."""
    assert options["--save"] == ""
    assert 0 < int(options["--auto-aof-rewrite-percentage"]) <= 100
    assert _mb(options["--auto-aof-rewrite-min-size"]) <= _mb(private_broker.REWRITTEN_FROM)
    assert not any("rename-command" in option for option in options)


def _mb(size: str) -> int:
    number, unit = int(size[:-2]), size[-2:]
    return number * {"mb": 1, "gb": 1024}[unit]


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_others_wait_for_a_healthy_broker(service: str) -> None:
    services = compose()["services"]
    assert services[service]["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert "healthcheck" in services["redis"]


def test_the_worker_reserves_a_gpu_unless_there_is_none() -> None:
    devices = compose()["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert [(device["driver"], device["capabilities"]) for device in devices] == [("nvidia", ["gpu"])]
    without = compose("docker-compose.cpu.yml")["services"]["worker"]
    assert without["deploy"] is None
    assert without["build"]["args"]["DEVICE"] == "cpu"


@pytest.mark.parametrize("service", ["api", "worker"])
def test_what_api_and_workers_must_agree_on_is_handed_to_both(service: str) -> None:
    shared = {"RESULT_TTL_S", "MAX_STORED_BYTES", "TRACES_ENDPOINT"}
    assert {name for name in shared if environment(service)[name] is None} == shared


def test_the_api_may_be_told_who_may_come_in_and_whom_to_tell() -> None:
    given = environment("api")
    assert {"RATE", "OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_SCOPES_CLAIM"} <= given.keys()
    (mounted,) = [volume for volume in compose()["services"]["api"]["volumes"] if "${WEBHOOKS_FILE" in str(volume)]
    assert (mounted["target"], mounted["read_only"]) == (given["WEBHOOKS_FILE"], True)


@pytest.mark.parametrize("service", ["api", "worker"])
def test_a_service_is_given_only_settings_that_exist_and_a_target_that_exists(service: str) -> None:
    settings = compose()["services"][service]
    assert settings["environment"].keys() <= settings_names()
    assert settings["build"]["target"] in stages()
