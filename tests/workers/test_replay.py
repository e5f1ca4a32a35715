"""The same provenance gives the same pixels; whatever differs is named, and what cannot be made again is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import write_bundle
from models.pixels import PreparedImage, decode, encode_png, read
from tests.toys import classifier_files, classifier_manifest, first_for, image, write_toys
from workers import replay as replaying
from workers.jobs import JobRequest
from workers.produce import produce
from workers.replay import main
from workers.report import make_report
from workers.served import ServedNetworks
from workers.settings import Settings

UPLOAD = encode_png(image(first_for(0.3), 1.0, -1.0))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bundles, an input, the report that a worker makes of it, and its frames."""
    root = tmp_path_factory.mktemp("made")
    write_toys(root / "bundles")
    networks = ServedNetworks(Settings(BUNDLES_DIR=root / "bundles", THREADS=1)).open("toy", 1)
    prepared = read(UPLOAD, networks.image)
    asked = JobRequest(classifier_id="toy", classifier_version=1, targets=(0.2, 0.7), scores=True)
    result = produce(networks, prepared, asked)
    report = make_report(result, networks, prepared, UPLOAD, {**result.timing_ms, "queued": 0, "decode": 0, "total": 0})
    (root / "report.json").write_text(report.model_dump_json())
    (root / "input.png").write_bytes(UPLOAD)
    for name, data in result.parts.items():
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Callable[..., int]:
    """Replays the report, with any part of it changed."""

    def run(change: Callable[[Any], object] = lambda _: None, upload: bytes = UPLOAD, *more: str) -> int:
        report = json.loads((made / "report.json").read_text())
        change(report)
        (tmp_path / "report.json").write_text(json.dumps(report))
        (tmp_path / "input.png").write_bytes(upload)
        bundles = [] if "--bundles" in more else ["--bundles", str(made / "bundles")]
        return main([str(tmp_path / "report.json"), str(tmp_path / "input.png"), *bundles, *more])

    return run


def test_the_same_comes_out_again(run: Callable[..., int], made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda _: None, UPLOAD, "--frames", str(made / "frames")) == 0
    assert "The same: 3 frames" in capsys.readouterr().out


def test_what_the_service_adds_to_a_report_does_no_harm(run: Callable[..., int]) -> None:
    assert run(lambda report: report["frames"][0].update(url="/jobs/1/frames/0.png")) == 0


def test_another_probability_is_named(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda report: report["frames"][2].update(probability=0.9)) == 1
    assert "The probability on frame 2 is 0.7" in capsys.readouterr().out


def test_another_flip_is_named(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda report: report["flip"].update(reached=False)) == 1
    assert "flip" in capsys.readouterr().out


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "λ of a frame": (lambda r: r["frames"][2].update({"lambda": 9.0}), "The λ of frame 2 is "),
    "decision": (lambda r: r["input"].update(decision=True), "The decision on the input is no, not yes."),
    "reconstruction": (lambda r: r["reconstruction"].update(mae=0.5), ", not 0.500000."),
    "λ of the flip": (lambda r: r["flip"].update({"lambda": 0.25}), "The λ of the flip is "),
    "probability of the flip": (lambda r: r["flip"].update(probability=0.75), "The probability of the flip is 0.5"),
    "change of the flip": (lambda r: r["flip"].update(changed_pixels=0.9), "not 0.900000."),
    "pixels of the flip": (lambda r: r["flip"].update(pixels_sha256="0" * 64), f"of the flip is %s, not {'0' * 64}."),
    "strip map": (lambda r: r["heatmaps_sha256"].update(strip="0" * 64), "The SHA-256 of the map strip is "),
    "a map that is not made": (lambda r: r["heatmaps"].update(gradcam="x"), "The map gradcam was made, and is not"),
    "score": (lambda r: r["scores"]["strip"].update(cout=0.99), "The score cout of the map strip is "),
    "counterfactual": (lambda r: r["scores"].update(counterfactual=0), "maps are scored with is 2, not 0."),
    "verdict": (lambda r: r["quality"].update(verdict="ok"), "The verdict is caution, not ok."),
    "reasons": (lambda r: r["quality"].update(reasons=[]), "What the verdict rests on is not-fitted, not nothing."),
    "sentence": (lambda r: r["quality"]["reasons"][0].update(sentence="All is well."), "not “All is well.”."),
    "figure": (lambda r: r["quality"].update(surrogate_error=0.4), "The verdict's figure surrogate_error is "),
    "unmeasured": (lambda r: r["quality"].update(survival=0.4), "figure survival is unknown, not 0.400000."),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES.keys())
def test_each_part_that_differs_is_named_with_what_was_told_and_what_came_out(
    run: Callable[..., int],
    made: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], object],
    said: str,
) -> None:
    assert run(change) == 1
    flip = json.loads((made / "report.json").read_text())["flip"]["pixels_sha256"]
    assert said.replace("%s", flip) in capsys.readouterr().out


def test_what_is_proven_is_said(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert capsys.readouterr().out.startswith(
        "The same: 3 frames, the flip, the map strip, the map occlusion, the scores and the verdict; numbers within"
    )


def without_later_fields(report: Any) -> None:
    """A report from before flips and maps had digests, and explanations scores and verdicts."""
    report["flip"].pop("pixels_sha256")
    for name in ("heatmaps_sha256", "quality", "scores", "classified"):
        report.pop(name)


def test_an_early_report_is_replayed_and_what_it_does_not_tell_is_said(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(without_later_fields) == 0
    told = capsys.readouterr().out.splitlines()
    missing = "the pixels of the flip, the map strip, the map occlusion, the scores, the verdict"
    assert told[0] == f"Note: not compared, for the report does not hold it: {missing}."
    assert told[1].startswith("The same: 3 frames and the flip; ")


def test_sentences_of_another_version_are_its_own(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    def reworded(report: Any) -> None:
        report["quality"]["reasons"][0]["sentence"] = "Nobody has looked."
        report["provenance"]["software"] = "contrafact 0.0.1"

    assert run(reworded) == 0
    assert "sentences of the verdict, which each version words in its own way" in capsys.readouterr().out


def test_delivered_numbers_of_a_map_are_compared_in_place_of_its_digest(
    run: Callable[..., int], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("strip", "occlusion"):
        (tmp_path / f"{name}.npy").write_bytes((made / f"heatmaps/{name}.npy").read_bytes())
    assert run(without_later_fields, UPLOAD, "--maps", str(tmp_path)) == 0
    assert "the map strip and the map occlusion" in capsys.readouterr().out.splitlines()[-1]
    np.save(tmp_path / "strip.npy", np.load(tmp_path / "strip.npy") + np.float32(0.25))
    assert run(lambda _: None, UPLOAD, "--maps", str(tmp_path)) == 1
    assert "strip.npy differs by 0.250000 at most." in capsys.readouterr().out
    (tmp_path / "strip.npy").write_bytes(b"no numbers")
    assert run(lambda _: None, UPLOAD, "--maps", str(tmp_path)) == 2
    (tmp_path / "strip.npy").unlink()
    assert run(lambda _: None, UPLOAD, "--maps", str(tmp_path)) == 2
    assert "strip.npy is missing" in capsys.readouterr().err


def test_a_delivered_flip_between_frames_is_compared(
    run: Callable[..., int], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in [*(made / "frames").iterdir(), made / "flip.png"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert run(without_later_fields, UPLOAD, "--frames", str(tmp_path)) == 0
    assert "pixels of the flip" not in capsys.readouterr().out
    (tmp_path / "flip.png").write_bytes((made / "frames/0.png").read_bytes())
    assert run(lambda _: None, UPLOAD, "--frames", str(tmp_path)) == 1
    assert "flip.png differs in" in capsys.readouterr().out


def test_other_pixels_are_found_by_their_digest(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda report: report["frames"][1].update(pixels_sha256="0" * 64)) == 1
    assert "pixels of frame 1" in capsys.readouterr().out


def test_other_pixels_are_found_in_the_delivered_file(
    run: Callable[..., int], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (made / "frames").iterdir():
        pixels = decode(file.read_bytes()).pixels.copy()
        pixels[0, 0] += 3 if file.name == "2.png" else 0
        (tmp_path / file.name).write_bytes(encode_png(pixels))
    assert run(lambda _: None, UPLOAD, "--frames", str(tmp_path)) == 1
    assert "2.png differs in 1 values, by 3 of 255" in capsys.readouterr().out


def test_an_earlier_runtime_is_remarked_on(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda report: report["provenance"].update(runtime="onnxruntime 0.9 / CPUExecutionProvider")) == 0
    assert "the runtime was onnxruntime 0.9" in capsys.readouterr().out


def test_a_report_without_digests_says_that_pixels_were_not_compared(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda report: [frame.pop("pixels_sha256") for frame in report["frames"]]) == 0
    assert "not compared, for the report does not hold it: the pixels of the frames." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "upload", "said"),
    [
        (lambda _: None, encode_png(image(0.0)), "another image"),
        (lambda report: report["provenance"].update(request=None), UPLOAD, "does not hold the request"),
        (lambda report: report["provenance"]["request"].update(classifier_version=7), UPLOAD, "bundle-not-found"),
        (
            lambda report: report["provenance"]["classifier"].update(sha256="0" * 64),
            UPLOAD,
            "not the one of the report",
        ),
        (lambda report: report["provenance"]["space"].update(sha256="0" * 64), UPLOAD, "space toy-space/1 is not"),
        (lambda report: report["provenance"]["direction"].update(sha256="0" * 64), UPLOAD, "direction.npz"),
        (lambda report: report["provenance"]["request"].update(direction="gone"), UPLOAD, "direction must be one of"),
        (lambda report: report.pop("frames"), UPLOAD, "is no report"),
    ],
)
def test_what_cannot_be_made_again_is_refused_with_the_reason(
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], object],
    upload: bytes,
    said: str,
) -> None:
    assert run(change, upload) == 2
    assert said in capsys.readouterr().err


def test_another_classifier_under_the_same_name_is_not_taken_for_the_old_one(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toys(tmp_path / "others")
    for file in sorted((tmp_path / "others/classifiers/toy/1").iterdir(), reverse=True):
        file.unlink()
    (tmp_path / "others/classifiers/toy/1").rmdir()
    write_bundle(tmp_path / "others", classifier_manifest(title="Another"), classifier_files())
    assert run(lambda _: None, UPLOAD, "--bundles", str(tmp_path / "others")) == 2
    assert "classifier toy/1 is not the one of the report" in capsys.readouterr().err


def test_a_frame_that_is_missing_from_the_folder_is_an_error(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda _: None, UPLOAD, "--frames", str(tmp_path)) == 2
    assert "0.png is missing" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.json"), str(tmp_path / "no.png")]) == 2
    assert "no.json" in capsys.readouterr().err


def test_the_replay_goes_through_what_a_worker_calls(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[JobRequest] = []

    def watched(networks: Any, image: PreparedImage, request: JobRequest) -> Any:
        asked.append(request)
        return produce(networks, image, request)

    monkeypatch.setattr(replaying, "produce", watched)
    assert run() == 0
    assert asked == [JobRequest(classifier_id="toy", classifier_version=1, targets=(0.2, 0.7), scores=True)]
