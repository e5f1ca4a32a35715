"""A job gets the maps it asks for, GradCAM off the pass that answers anyway, and pictures that say what they show."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.pixels import PreparedImage, to_float
from models.store import Store
from tests import toys
from tests.seeing_toys import write_seeing_toys
from workers.evidence import Onlooker, gather, wanted_maps
from workers.explain import ImpossibleRequest, explain
from workers.heatmaps import strip_map
from workers.jobs import Heatmap, JobRequest
from workers.networks import Networks
from workers.overlay import MapSheet, render_map
from workers.produce import Produced, produce
from workers.report import make_report
from workers.scores import MapScores

INPUT = toys.image(toys.first_for(0.2), 1.0, -1.0)
UPLOAD = PreparedImage(INPUT, "png", toys.SIZE, toys.SIZE)
BAND = slice(0, 2)


def opened(root: Path) -> Networks:
    store = Store(root)
    return Networks.open(store.open_space("toy-space"), store.open_classifier("toy"), threads=1)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """The toy with a feature map."""
    root = tmp_path_factory.mktemp("seeing")
    write_seeing_toys(root)
    return opened(root)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """The toy as a black box."""
    root = tmp_path_factory.mktemp("blind")
    toys.write_toys(root)
    return opened(root)


def made(networks: Networks, heatmap: Heatmap = "both", *, scores: bool = False) -> Produced:
    request = JobRequest(classifier_id="toy", classifier_version=1, heatmap=heatmap, scores=scores)
    return produce(networks, UPLOAD, request)


def maps_of(produced: Produced) -> dict[str, np.ndarray]:
    """The numbers of every map that is delivered."""
    return {
        name.removeprefix("heatmaps/").removesuffix(".npy"): np.load(BytesIO(part))
        for name, part in produced.parts.items()
        if name.endswith(".npy")
    }


def picture(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


# --- Which maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heatmap", "sees", "names"),
    [
        ("both", True, ("strip", "gradcam")),
        ("both", False, ("strip", "occlusion")),
        ("occlusion", True, ("occlusion",)),
        ("gradcam", True, ("gradcam",)),
        ("strip", False, ("strip",)),
        ("none", True, ()),
    ],
)
def test_both_is_the_strip_and_the_best_view_of_the_classifier(
    heatmap: Heatmap, sees: bool, names: tuple[str, ...]
) -> None:
    assert wanted_maps(heatmap, sees) == names


def test_gradcam_of_a_black_box_is_refused(blind: Networks) -> None:
    with pytest.raises(ImpossibleRequest, match="occlusion"):
        made(blind, "gradcam")


# --- What they show ------------------------------------------------------------------------------------------------


def test_every_map_of_the_toy_points_at_the_band_it_reads(seeing: Networks, blind: Networks) -> None:
    found = maps_of(made(seeing)) | maps_of(made(blind, "occlusion"))
    assert set(found) == {"strip", "gradcam", "occlusion"}
    for name, values in found.items():
        assert (values.dtype, values.shape) == (np.float32, (toys.SIZE, toys.SIZE))
        assert np.abs(values[BAND]).mean() > 5 * np.abs(values[6:]).mean(), name


def test_gradcam_costs_the_classifier_no_further_call(seeing: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def count(x: np.ndarray, direction: str = "main") -> np.ndarray:
        asked.append(len(x))
        return plain(x, direction)

    plain, examine, seen = seeing.classify, seeing.examine, list[int]()
    monkeypatch.setattr(seeing, "classify", count)
    explain(seeing, INPUT)
    without = sum(asked)
    asked.clear()
    monkeypatch.setattr(seeing, "examine", lambda x: (seen.append(len(x)), examine(x))[1])
    onlooker = Onlooker(seeing, INPUT)
    found = gather(seeing, onlooker, explain(onlooker, INPUT), INPUT, ("strip", "gradcam"))
    assert sum(asked) + sum(seen) == without
    assert len(seen) == 1
    assert found.places == (toys.SIZE, toys.SIZE)


def test_an_explanation_through_an_onlooker_is_the_models_own(seeing: Networks) -> None:
    watched, plain = explain(Onlooker(seeing, INPUT), INPUT), explain(seeing, INPUT)
    assert watched.input_probability == plain.input_probability
    assert all((a.pixels == b.pixels).all() for a, b in zip(watched.frames, plain.frames, strict=True))


def test_an_onlooker_asks_for_itself_where_it_has_seen_nothing(seeing: Networks) -> None:
    expected = seeing.examine(to_float(INPUT[None]))[1][0]
    assert Onlooker(seeing, INPUT).features() == pytest.approx(expected)


def test_the_delivered_frames_and_answers_give_the_strip_map_again(seeing: Networks) -> None:
    produced = made(seeing, "strip")
    frames = produced.explanation.frames
    decoded = [picture(produced.parts[f"frames/{frame.index}.png"])[..., 0] for frame in frames]
    again = strip_map(np.stack(decoded)[:, None], [frame.probability for frame in frames])
    assert again == pytest.approx(maps_of(produced)["strip"], abs=1e-6)


# --- What is told --------------------------------------------------------------------------------------------------


def test_the_report_names_the_maps_and_what_they_cost(seeing: Networks) -> None:
    produced = made(seeing)
    timing = {**produced.timing_ms, "queued": 0.0, "decode": 0.0, "total": 1.0}
    report = make_report(produced, seeing, UPLOAD, b"", timing)
    assert report.heatmaps.strip == "heatmaps/strip.png"
    assert report.heatmaps.gradcam in produced.parts
    assert (report.heatmaps.occlusion, report.scores) == (None, None)
    assert report.timing_ms.evidence > 0


def test_scores_are_made_where_they_are_asked_for(seeing: Networks) -> None:
    produced = made(seeing, scores=True)
    report = make_report(produced, seeing, UPLOAD, b"", {**produced.timing_ms, "queued": 0, "decode": 0, "total": 1})
    assert report.scores is not None
    assert report.scores.counterfactual == len(report.frames) - 1
    assert report.scores.occlusion is None
    for found in (report.scores.strip, report.scores.gradcam):
        assert found is not None
        assert found.cout > 0  # either map begins with the band


def test_no_map_means_no_part_and_no_score(seeing: Networks) -> None:
    produced = made(seeing, "none", scores=True)
    assert not [name for name in produced.parts if name.startswith("heatmaps/")]
    assert produced.evidence.scores is None


# --- The pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 64, 200, 512])
def test_a_picture_of_any_size_tells_more_from_less_without_colour(seeing: Networks, size: int, channels: int) -> None:
    explanation = explain(seeing, INPUT)
    pixels = np.full((channels, size, size), 90, np.uint8)
    values = np.zeros((size, size), np.float32)
    values[: size // 2, : size // 2], values[size // 2 :, size // 2 :] = 0.4, -0.4
    drawn = picture(render_map("strip", values, pixels, explanation, seeing.classifier.manifest))
    sheet = MapSheet(side=256, frames=1)
    x, y = sheet.corner(0)
    shown = drawn[y : y + 256, x : x + 256].mean(axis=2)
    white = shown == 255
    assert drawn.shape == (sheet.height, sheet.width, 3)
    assert white[:128, :128].sum() > 1.5 * white[128:, 128:].sum() > 0  # an outline, and a broken one
    assert shown[64, 64] > shown[200, 64] + 20  # bright where it is positive, also in grey


def test_a_map_of_noughts_says_so(seeing: Networks) -> None:
    explanation = explain(seeing, INPUT)
    nothing = np.zeros((toys.SIZE, toys.SIZE), np.float32)
    drawn = picture(render_map("gradcam", nothing, INPUT, explanation, seeing.classifier.manifest))
    assert not (drawn == [255, 182, 39]).all(axis=2).any()


def test_the_same_map_gives_the_same_picture(seeing: Networks) -> None:
    assert made(seeing).parts["heatmaps/strip.png"] == made(seeing).parts["heatmaps/strip.png"]


def test_scores_are_plain_numbers() -> None:
    assert vars(MapScores(0.1, 0.2, 0.3)) == {"cout": 0.1, "insertion": 0.2, "deletion": 0.3}
