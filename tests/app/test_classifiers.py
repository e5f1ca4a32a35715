"""GET /classifiers and /spaces show what can be explained, and nothing of what cannot."""

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from app.main import create_app
from app.settings import Settings
from models.bundle import write_bundle
from tests.app.conftest import client_of
from tests.app.test_explain import assert_problem, post
from tests.app.test_health import announce_a_worker
from tests.toys import classifier_files, classifier_manifest, space_files, space_manifest, write_toys


@pytest.fixture
def own_bundles(tmp_path: Path) -> Path:
    """Toy bundles that a test may damage, with a second version of the classifier."""
    write_toys(tmp_path)
    write_bundle(tmp_path, classifier_manifest(version=2), classifier_files())
    return tmp_path


@pytest.fixture
def own_client(own_bundles: Path, settings: Settings, broker: Redis) -> TestClient:  # noqa: ARG001 - the broker is to be empty
    """A client of a service on those bundles."""
    return client_of(create_app(settings.model_copy(update={"BUNDLES_DIR": own_bundles})))


def test_classifiers_are_listed_in_their_highest_version(own_client: TestClient) -> None:
    (classifier,) = own_client.get("/classifiers").json()["classifiers"]
    assert (classifier["id"], classifier["version"], classifier["versions"]) == ("toy", 2, [1, 2])
    assert classifier["target_class"] == "present"
    assert classifier["space"] == {"id": "toy-space", "version": 1}


def test_a_classifier_shows_manifest_metrics_and_card(own_client: TestClient) -> None:
    (listed,) = own_client.get("/classifiers").json()["classifiers"]
    highest = own_client.get(listed["url"]).json()
    assert highest == own_client.get("/classifiers/toy/versions/2").json()
    assert highest["manifest"]["version"] == 2
    assert highest["manifest"]["metrics"]["flip_rate"]["met"] is True
    assert highest["card"].startswith("# ")
    assert own_client.get("/classifiers/toy/versions/1").json()["manifest"]["version"] == 1


def test_a_space_shows_manifest_and_card(own_client: TestClient) -> None:
    (listed,) = own_client.get("/spaces").json()["spaces"]
    assert (listed["id"], listed["size_px"], listed["modality"]) == ("toy-space", 16, "bands")
    space = own_client.get(listed["url"]).json()
    assert space == own_client.get("/spaces/toy-space/versions/1").json()
    assert "generator.onnx" in space["manifest"]["files"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/classifiers/nobody", "classifier-not-found"),
        ("/classifiers/toy/versions/9", "classifier-not-found"),
        ("/classifiers/..%2F..%2Fspaces", "not-found"),
        ("/spaces/nowhere", "space-not-found"),
        ("/spaces/toy-space/versions/9", "space-not-found"),
    ],
)
def test_what_is_not_there_is_not_found(client: TestClient, path: str, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_a_version_is_a_whole_number(client: TestClient) -> None:
    for path in ("/classifiers/toy/versions/latest", "/spaces/toy-space/versions/0"):
        assert_problem(client.get(path), 422, "invalid-request", path)


def test_a_damaged_version_is_refused_by_name_and_the_good_one_beside_it_serves(
    own_client: TestClient, own_bundles: Path
) -> None:
    (own_bundles / "classifiers/toy/2/classifier.onnx").write_bytes(b"rust")
    (classifier,) = own_client.get("/classifiers").json()["classifiers"]
    assert classifier["versions"] == [1]
    path = "/classifiers/toy/versions/2"
    answer = own_client.get(path)
    problem = assert_problem(answer, 503, "bundle-unusable", path)
    assert int(answer.headers["retry-after"]) >= 1
    assert str(own_bundles) not in str(problem)
    assert post(own_client).json()["classifier"] == {"id": "toy", "version": 1}


def test_a_classifier_whose_space_is_gone_takes_no_images(own_client: TestClient, own_bundles: Path) -> None:
    shutil.rmtree(own_bundles / "spaces")
    assert_problem(post(own_client), 503, "bundle-unusable")


@pytest.mark.parametrize("pin", ['{"version": 9}', "rust"])
@pytest.mark.parametrize(("kind", "id_"), [("classifiers", "toy"), ("spaces", "toy-space")])
def test_a_pin_that_cannot_be_followed_takes_away_its_own_bundle_alone(
    own_client: TestClient, own_bundles: Path, broker: Redis, pin: str, kind: str, id_: str
) -> None:
    write_bundle(own_bundles, space_manifest(id="other-space"), space_files())
    write_bundle(own_bundles, classifier_manifest(id="other"), classifier_files())
    (own_bundles / kind / id_ / "pin.json").write_text(pin)
    assert [listed["id"] for listed in own_client.get(f"/{kind}").json()[kind]] == [id_.replace("toy", "other")]
    announce_a_worker(broker)
    (unusable,) = own_client.get("/health/ready").json()["unusable_bundles"]
    assert unusable["bundle"] == f"{kind}/{id_}/pin.json"


def test_a_promoted_version_is_the_one_that_is_listed(own_client: TestClient, own_bundles: Path) -> None:
    (own_bundles / "classifiers/toy/pin.json").write_text('{"version": 1}')
    (classifier,) = own_client.get("/classifiers").json()["classifiers"]
    assert (classifier["version"], classifier["versions"]) == (1, [1, 2])


def test_a_space_is_loaded_when_a_classifier_of_it_is(own_client: TestClient, broker: Redis) -> None:
    assert own_client.get("/spaces/toy-space").json()["loaded"] is False
    announce_a_worker(broker)
    assert own_client.get("/spaces/toy-space").json()["loaded"] is True


def test_without_a_broker_nobody_knows_whether_a_space_is_loaded(client_without_broker: TestClient) -> None:
    assert client_without_broker.get("/spaces/toy-space").json()["loaded"] is None
