"""Slides become tiles of tissue at the right scale, labelled by outlines or by slide, grouped by patient.

A slide here is a small pyramid: white glass, a pink block of tissue, and in it a purple block of tumour. The outline is
drawn around the purple, so a tile's own colour says whether its label is right.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from tests.training.raw_files import image_of, rows_of
from training.__main__ import app
from training.camelyon import find_slides, prepare_camelyon16
from training.errors import DataError, Unusable
from training.outlines import inside, read_outlines
from training.prepared import Options
from training.slide_set import prepare_slides
from training.slides import Slide, Tiling, tiles_of
from training.tissue import otsu, shares, tissue_mask

WIDTH, HEIGHT, MPP = 1536, 1024, 0.5
GLASS, PINK, PURPLE = (243, 242, 244), (230, 150, 190), (140, 80, 160)
TISSUE0 = (256, 256, 1280, 896)  # left, top, right, bottom
TUMOUR0 = (512, 384, 896, 768)
OUTLINE0 = (516, 388, 892, 764)  # a line drawn on the edge of a tile would touch the next
LONE_POINT = "<ASAP_Annotations><Annotation><Coordinate {} X='1' Y='1'/></Annotation></ASAP_Annotations>"
TILING = Tiling(tile_px=32, mpp=1.0)  # tiles of 64 px at full resolution


def drawn(tumour: bool) -> np.ndarray:
    """A slide at full resolution, uint8 [H, W, 3]."""
    rng = np.random.default_rng(0)
    image = np.empty((HEIGHT, WIDTH, 3))
    image[:] = GLASS
    for (left, top, right, bottom), colour in ((TISSUE0, PINK), (TUMOUR0, PURPLE))[: 1 + tumour]:
        image[top:bottom, left:right] = colour
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def write_slide(path: Path, *, tumour: bool = False, mpp: float | None = MPP, nested: bool = False) -> Path:
    """A tiled TIFF of three levels, as sub-images of the first page or as pages of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(slide_bytes(tumour, mpp, nested))
    return path


@cache
def slide_bytes(tumour: bool, mpp: float | None, nested: bool) -> bytes:
    """What `write_slide` writes; each kind is made once."""
    base, file = drawn(tumour), BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for level in range(3):
            step = 2**level
            tiff.write(
                base[::step, ::step],
                photometric="rgb",
                tile=(128, 128),
                compression="jpeg",
                compressionargs={"level": 95},
                resolution=None if mpp is None else (1e4 / (mpp * step),) * 2,
                resolutionunit="CENTIMETER" if mpp else None,
                subfiletype=1 if level else 0,
                subifds=2 if nested and not level else None,
            )
    return file.getvalue()


def write_outlines(path: Path, *outlines: tuple[str, tuple[int, int, int, int]]) -> Path:
    """An ASAP file of rectangles, each with its group; points are numbered but not in order, as ASAP may write them."""
    areas = []
    for i, (group, (left, top, right, bottom)) in enumerate(outlines):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        points = [f'<Coordinate Order="{n}" X="{x}.0" Y="{y}.0" />' for n, (x, y) in enumerate(corners)]
        areas.append(
            f'<Annotation Name="Annotation {i}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{points[2]}{points[0]}{points[3]}{points[1]}</Coordinates></Annotation>"
        )
    groups = '<AnnotationGroups><Group Name="_0" PartOfGroup="None" Color="#00ff00" /></AnnotationGroups>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{"".join(areas)}</Annotations>{groups}</ASAP_Annotations>'
    )
    return path


def is_purple(pixels: np.ndarray) -> bool:
    """Whether a tile is mostly of the tumour's colour."""
    middle = pixels.reshape(-1, 3).mean(axis=0)
    return bool(np.abs(middle - PURPLE).sum() < np.abs(middle - PINK).sum())


@pytest.mark.parametrize("nested", [False, True])
def test_tiles_are_tissue_at_the_scale_asked_for_with_the_label_of_their_outline(tmp_path: Path, nested: bool) -> None:
    path = write_slide(tmp_path / "a.tif", tumour=True, nested=nested)
    outlines = write_outlines(tmp_path / "a.xml", ("_0", OUTLINE0))
    found = tiles_of(Slide(path, "a", outlines=outlines), TILING)
    assert Counter(example.label for example in found) == {"tumour": 36, "normal": 124}  # 6 x 6 of 16 x 10
    assert all(example.pixels.shape == (32, 32, 3) for example in found)
    assert all(is_purple(example.pixels) == (example.label == "tumour") for example in found)
    assert all(256 <= int(example.more["x"]) < 1280 and 256 <= int(example.more["y"]) < 896 for example in found)


@pytest.mark.parametrize("mpp", [0.5, 1.0, 1.5, 2.0])
def test_a_tile_shows_the_same_place_at_every_scale(tmp_path: Path, mpp: float) -> None:
    path = write_slide(tmp_path / "a.tif", tumour=True)
    found = tiles_of(Slide(path, "a", label="x"), Tiling(tile_px=32, mpp=mpp, tissue_share=0.9, per_slide=40))
    whole = drawn(True)
    for example in found[:: max(len(found) // 12, 1)]:
        x, y, side = int(example.more["x"]), int(example.more["y"]), round(32 * mpp / MPP)
        expected = whole[y : y + side, x : x + side].mean(axis=(0, 1))
        assert np.abs(example.pixels.mean(axis=(0, 1)) - expected).max() < 3


def test_a_tile_that_tumour_only_brushes_is_neither(tmp_path: Path) -> None:
    left, top, right, bottom = TUMOUR0
    outlines = write_outlines(tmp_path / "a.xml", ("Tumor", (left - 10, top - 10, right + 10, bottom + 10)))
    path = write_slide(tmp_path / "a.tif", tumour=True)
    labels = Counter(example.label for example in tiles_of(Slide(path, "a", outlines=outlines), TILING))
    assert labels == {"tumour": 36, "normal": 124 - 28}  # the ring of tiles around it


def test_what_is_cut_out_of_an_outline_and_foreign_groups_do_not_count(tmp_path: Path) -> None:
    areas = ("_1", (0, 0, 80, 80)), ("_2", (20, 20, 40, 40)), ("Vessel", (90, 0, 99, 99))
    outlines = read_outlines(write_outlines(tmp_path / "a.xml", *areas))
    mask = inside(outlines, (100, 100), 1.0)
    assert mask[10, 10]
    assert mask[60, 60]
    assert not mask[30, 30]
    assert not mask[50, 95]


def test_a_slide_without_outlines_is_normal_throughout(tmp_path: Path) -> None:
    found = tiles_of(Slide(write_slide(tmp_path / "a.tif"), "a"), TILING)
    assert Counter(example.label for example in found) == {"normal": 160}


def test_of_a_slide_outlined_in_part_nothing_is_called_normal(tmp_path: Path) -> None:
    outlines = write_outlines(tmp_path / "a.xml", ("_0", OUTLINE0))
    path = write_slide(tmp_path / "a.tif", tumour=True)
    found = tiles_of(Slide(path, "a", outlines=outlines, partly=True), TILING)
    assert Counter(example.label for example in found) == {"tumour": 36}


def test_a_slide_gives_no_more_of_a_label_than_asked_for_and_the_seed_draws_them(tmp_path: Path) -> None:
    slide = Slide(write_slide(tmp_path / "a.tif"), "a")
    few = Tiling(tile_px=32, mpp=1.0, per_slide=10)
    tilings = (few, few, replace(few, seed=1))
    places = [[(e.more["x"], e.more["y"]) for e in tiles_of(slide, tiling)] for tiling in tilings]
    assert len(places[0]) == 10
    assert places[0] == places[1] != places[2]


def test_a_level_may_be_chosen_for_slides_that_do_not_say_their_scale(tmp_path: Path) -> None:
    slide = Slide(write_slide(tmp_path / "a.tif", mpp=None), "a")
    with pytest.raises(Unusable, match="choose a level"):
        tiles_of(slide, TILING)
    assert len(tiles_of(slide, Tiling(tile_px=32, level=1))) == 160
    with pytest.raises(Unusable, match="3 levels and no level 3"):
        tiles_of(slide, Tiling(level=3))


def test_a_scan_that_is_too_coarse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"scanned at 0\.5 microns per pixel, coarser than the 0\.25"):
        tiles_of(Slide(write_slide(tmp_path / "a.tif"), "a"), Tiling(mpp=0.25))


def test_a_slide_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not a slide")
    with pytest.raises(Unusable, match="cannot be read"):
        tiles_of(Slide(tmp_path / "a.tif", "a"), TILING)


def test_bare_glass_holds_no_tissue_and_black_is_none() -> None:
    rng = np.random.default_rng(0)
    glass = np.clip(np.full((60, 60, 3), 243.0) + rng.normal(0, 2, (60, 60, 3)), 0, 255).astype(np.uint8)
    assert tissue_mask(glass).mean() < 0.01
    glass[:20] = 0
    assert tissue_mask(glass).mean() < 0.01


def test_otsu_parts_two_heaps() -> None:
    values = np.concatenate([np.full(900, 0.1), np.full(100, 0.6)])
    assert 0.1 < otsu(values) < 0.6


def test_shares_are_counted_exactly() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, :2] = True
    corners = np.array([[0, 0], [0, 8], [8, 0]])
    assert shares(mask, 2.0, corners, 8.0).tolist() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<ASAP_Annotations>", "is no ASAP annotation"),
        ("<Other/>", "begins with Other"),
        (
            "<ASAP_Annotations><Annotation><Coordinate Order='0' X='1' Y='1'/></Annotation></ASAP_Annotations>",
            "1 points",
        ),
        (LONE_POINT.format(""), "Order"),
    ],
)
def test_outlines_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_outlines(tmp_path / "a.xml")


def write_camelyon(folder: Path) -> None:
    """Four normal, three tumour and two test slides, one of them with tumour, where their owners put them."""
    for i in range(1, 5):
        write_slide(folder / "training" / "normal" / f"normal_{i:03}.tif")
    for i in range(1, 4):
        write_slide(folder / "training" / "tumor" / f"tumor_{i:03}.tif", tumour=True)
        write_outlines(folder / "training" / "lesion_annotations" / f"tumor_{i:03}.xml", ("_0", OUTLINE0))
    write_slide(folder / "testing" / "images" / "test_001.tif", tumour=True)
    write_slide(folder / "testing" / "images" / "test_002.tif")
    write_outlines(folder / "testing" / "lesion_annotations" / "test_001.xml", ("Tumor", OUTLINE0))
    write_slide(folder / "evaluation" / "evaluation_masks" / "tumor_001_evaluation_mask.tif")


def test_camelyon16_becomes_tiles_split_by_slide(tmp_path: Path) -> None:
    write_camelyon(tmp_path / "in")
    command = ["prepare-camelyon16", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tile-px", "32"]
    result = CliRunner().invoke(app, [*command, "--mpp", "1", "--per-slide", "12", "--partly", "tumor_002"])
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "out")
    assert {row["patient"] for row in rows if row["split"] == "test"} == {"test_001", "test_002"}
    by_patient = Counter((row["patient"], row["label"]) for row in rows)
    assert by_patient["tumor_001", "tumour"] == by_patient["tumor_001", "normal"] == 12
    assert by_patient["tumor_002", "normal"] == 0
    assert by_patient["test_002", "normal"] == 12
    assert len({(row["patient"], row["split"]) for row in rows}) == 9
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    for row in rows[::10]:
        assert is_purple(image_of(tmp_path / "out", row)) == (row["label"] == "tumour")


def test_a_tumour_slide_without_outlines_is_an_error(tmp_path: Path) -> None:
    write_slide(tmp_path / "tumor_001.tif")
    with pytest.raises(DataError, match=r"tumor_001\.xml is missing"):
        find_slides(tmp_path)
    write_slide(tmp_path / "normal_001.tif")
    assert list(find_slides(tmp_path, exclude=["tumor_001"])) == ["normal_001.tif"]
    with pytest.raises(DataError, match=r"no slide tumor_009\.tif"):
        find_slides(tmp_path, partly=["tumor_009"], exclude=["tumor_001"])


def test_a_broken_slide_is_named_and_skipped_and_the_others_are_not_cut_again(tmp_path: Path) -> None:
    write_camelyon(tmp_path / "in")
    (tmp_path / "in" / "training" / "normal" / "normal_003.tif").write_bytes(b"II*\0 broken")
    few = Tiling(tile_px=32, mpp=1.0, per_slide=4)
    told: list[str] = []
    with pytest.raises(DataError, match="--max-corrupt allows 0"):
        prepare_camelyon16(tmp_path / "in", Options(tmp_path / "out"), few, report=told.append)
    assert told[0].startswith("skipped training/normal/normal_003.tif: it cannot be read")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.partial").glob("*.zip")}
    assert done
    counts = prepare_camelyon16(tmp_path / "in", Options(tmp_path / "out", max_corrupt=1), few, report=told.append)
    assert sum(labels.total() for labels in counts.values()) == 4 * (3 + 2 * 3 + 2 + 1)
    assert not (tmp_path / "out.partial").exists()


def test_slides_may_be_labelled_whole_by_a_table(tmp_path: Path) -> None:
    for name in "abcd":
        write_slide(tmp_path / "in" / f"{name}.tif", tumour=name in "cd")
    table = tmp_path / "slides.csv"
    table.write_text("slide,label,patient,split\na,benign,P1,train\nb,benign,P1,train\nc,malignant,P2,test\n")
    told: list[str] = []
    few = Tiling(tile_px=32, mpp=1.0, per_slide=3)
    prepare_slides(tmp_path / "in", Options(tmp_path / "out"), few, labels=table, report=told.append)
    assert told == ["1 slides have no row in the table and are left out"]
    found = Counter((row["patient"], row["label"], row["split"]) for row in rows_of(tmp_path / "out"))
    assert found == {("P1", "benign", "train"): 6, ("P2", "malignant", "test"): 3}


def test_slides_that_name_no_patient_are_said_to_stand_for_their_own(tmp_path: Path) -> None:
    for name in "abc":
        write_slide(tmp_path / "in" / f"{name}.tif", tumour=name == "c")
    table = tmp_path / "slides.csv"
    table.write_text("slide,label,patient\na,benign,\nb,benign, \nc,malignant,P2\n")
    told: list[str] = []
    few = Tiling(tile_px=32, mpp=1.0, per_slide=3)
    prepare_slides(tmp_path / "in", Options(tmp_path / "out"), few, labels=table, report=told.append)
    assert told[0].startswith("2 slides name no patient: each counts as its own")
    assert {row["patient"] for row in rows_of(tmp_path / "out")} == {"a", "b", "P2"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "say --annotations, or --labels"),
        ("slide,patient\na,P1\n", "say --annotations, or --labels"),
        ("name,label\na,P1\n", "must have a column slide"),
        ("slide,label\na,x\na,y\n", "names a slide in more than one row"),
        ("slide,label\nz,x\n", "holds no slide z"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, table: str | None, message: str) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    if table:
        (tmp_path / "slides.csv").write_text(table)
    labels = tmp_path / "slides.csv" if table else None
    with pytest.raises(DataError, match=message):
        prepare_slides(tmp_path, Options(tmp_path / "out"), TILING, labels=labels)
