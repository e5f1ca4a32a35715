"""The verbs that make a data set of raw files, before a run begins: `python -m training prepare-oai` and the like.

Each writes a folder with images.zip, labels.csv, preview.png and prepared.json, and goes on where it stopped.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from training.errors import DataError

if TYPE_CHECKING:
    from training.prepared import Options
    from training.slides import Tiling

Out = Annotated[Path, typer.Option("--out", help="Folder to make; it must not be there.")]
MaxCorrupt = Annotated[int, typer.Option("--max-corrupt", help="Files that may be skipped, each named.", min=0)]
Seed = Annotated[int, typer.Option("--seed", help="Of the split by patient.")]
Shares = Annotated[str, typer.Option("--shares", help="Of train, val and test.")]
DEFAULT_SHARES = "0.7,0.15,0.15"


def register(app: typer.Typer) -> None:
    """Adds the verbs of this module to the command line."""
    app.command("prepare-dicom")(prepare_dicom_command)
    app.command("prepare-oai")(prepare_oai_command)
    app.command("prepare-slides")(prepare_slides_command)
    app.command("prepare-camelyon16")(prepare_camelyon16_command)
    app.command("split-patients")(split_patients_command)


def prepare_dicom_command(
    folder: Annotated[Path, typer.Argument(help="Searched with all folders below it.")],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="CSV: file, label; patient, split and more if it has them.")
    ] = None,
    label_tag: Annotated[
        str | None, typer.Option(help="Instead: header element of the label, e.g. BodyPartExamined.")
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Instead: nothing says a label.")] = False,
    patient_tag: Annotated[str, typer.Option(help="Header element that says whose image it is.")] = "PatientID",
    frame: Annotated[
        str | None, typer.Option(help="Of several: first, middle, last or a number. Else refused.")
    ] = None,
    max_side: Annotated[int, typer.Option(help="Longer side of the images that are written, in pixels.", min=8)] = 1024,
    max_corrupt: MaxCorrupt = 0,
    seed: Seed = 0,
    shares: Shares = DEFAULT_SHARES,
) -> None:
    """Make a data set of DICOM files."""
    from training.dicom_set import prepare_dicom

    counts = prepare_dicom(
        folder,
        _options(out, max_corrupt, seed, shares),
        labels=labels,
        label_tag=label_tag,
        unlabelled=unlabelled,
        patient_tag=patient_tag,
        frame=frame,
        max_side=max_side,
        report=typer.echo,
    )
    _tell(out, counts)


def prepare_oai_command(
    folder: Annotated[Path, typer.Argument(help="The DICOM files of one visit, as they were handed out.")],
    table: Annotated[Path, typer.Option(help="Central readings, e.g. kxr_sq_bu00.txt.")],
    out: Out,
    visit: Annotated[str, typer.Option(help="Two digits, as in V00XRKL.")] = "00",
    projects: Annotated[str, typer.Option(help="Reading projects, the most trusted first.")] = "15,37,42",
    series: Annotated[str, typer.Option(help="What the series description must contain.")] = "PA Fixed Flexion",
    crop_mm: Annotated[float, typer.Option(help="Side of the square around the joint.", min=20)] = 120.0,
    max_side: Annotated[int, typer.Option(help="Of the images that are written, in pixels.", min=8)] = 512,
    max_corrupt: MaxCorrupt = 0,
    seed: Seed = 0,
    shares: Shares = DEFAULT_SHARES,
) -> None:
    """Make a data set of graded single knees from the Osteoarthritis Initiative's files."""
    from training.oai import prepare_oai

    counts = prepare_oai(
        folder,
        table,
        _options(out, max_corrupt, seed, shares),
        visit=visit,
        projects=tuple(projects.split(",")),
        series=series,
        crop_mm=crop_mm,
        max_side=max_side,
        report=typer.echo,
    )
    _tell(out, counts)


@dataclass(frozen=True)
class Cut:
    """How tiles are cut from slides and where they go: what the two verbs about slides share."""

    options: Options
    tiling: Tiling


def read_cut(
    out: Out,
    tile_px: Annotated[int, typer.Option(help="Side of a tile as it is written.", min=8)] = 128,
    mpp: Annotated[float, typer.Option(help="Microns per pixel of a written tile.", min=0.05)] = 0.97,
    level: Annotated[
        int | None, typer.Option(help="Instead: a level of the slides' pyramid, 0 the finest.", min=0)
    ] = None,
    tissue_share: Annotated[float, typer.Option(help="Of a tile that must be tissue.", min=0, max=1)] = 0.5,
    per_slide: Annotated[int, typer.Option(help="Most tiles of one label from one slide.", min=1)] = 500,
    max_corrupt: MaxCorrupt = 0,
    seed: Seed = 0,
    shares: Shares = DEFAULT_SHARES,
) -> Cut:
    """The options of a verb about slides as one value."""
    from training.slides import Tiling

    tiling = Tiling(tile_px, mpp, level, tissue_share, per_slide, seed=seed)
    return Cut(_options(out, max_corrupt, seed, shares), tiling)


def cutting(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command, which takes `cut`, the options of `read_cut` in its place."""
    own, shared = _parameters(command), _parameters(read_cut)
    del own["cut"]

    def with_options(**given: Any) -> None:
        cut = read_cut(**{name: given[name] for name in shared})
        command(**{name: given[name] for name in own}, cut=cut)

    together = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own.values(), *shared.values())]
    with_options.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in together}
    with_options.__doc__ = command.__doc__
    return with_options


def _parameters(command: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a command, with their annotations as values."""
    hints = get_type_hints(command, include_extras=True)
    found = inspect.signature(command).parameters
    return {name: p.replace(annotation=hints[name]) for name, p in found.items()}


@cutting
def prepare_slides_command(
    folder: Annotated[Path, typer.Argument(help="Slides; searched with all folders below it.")],
    cut: Cut,
    annotations: Annotated[Path | None, typer.Option(help="Folder of ASAP files, named as the slides.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV: slide; patient, split, label if it has them.")] = None,
    tumour_groups: Annotated[str, typer.Option(help="Groups of outlines around tumour.")] = "Tumor,_0,_1",
    excluded_groups: Annotated[str, typer.Option(help="Groups of outlines that cut out of them.")] = "Exclusion,_2",
) -> None:
    """Make a data set of tiles from whole slides."""
    from training.slide_set import prepare_slides

    tumour, excluded = tuple(tumour_groups.split(",")), tuple(excluded_groups.split(","))
    tiling = replace(cut.tiling, tumour_groups=tumour, excluded_groups=excluded)
    counts = prepare_slides(folder, cut.options, tiling, annotations=annotations, labels=labels, report=typer.echo)
    _tell(cut.options.out, counts)


@cutting
def prepare_camelyon16_command(
    folder: Annotated[Path, typer.Argument(help="The slides and outlines, as they were handed out.")],
    cut: Cut,
    partly: Annotated[str, typer.Option(help="Slides whose tumour is outlined in part, with commas between.")] = "",
    exclude: Annotated[str, typer.Option(help="Slides to leave out, with commas between.")] = "",
) -> None:
    """Make a data set of tiles from Camelyon16's slides and outlines."""
    from training.camelyon import prepare_camelyon16

    left_out = {"partly": _names(partly), "exclude": _names(exclude)}
    counts = prepare_camelyon16(folder, cut.options, cut.tiling, **left_out, report=typer.echo)
    _tell(cut.options.out, counts)


def split_patients_command(
    labels: Annotated[Path, typer.Argument(help="A CSV with a row for every image.")],
    out: Annotated[Path, typer.Option("--out", help="CSV to write; it must not be there.")],
    patient_column: Annotated[str, typer.Option(help="Whom an image belongs to.")] = "patient",
    label_column: Annotated[str, typer.Option(help="What is to be spread evenly.")] = "label",
    split_column: Annotated[str, typer.Option(help="Column to add.")] = "split",
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="The table says no label: spread nothing.")] = False,
    seed: Seed = 0,
    shares: Shares = DEFAULT_SHARES,
) -> None:
    """Add a split by patient, stratified by label, to a CSV that has none."""
    from training.split_table import split_table

    label = None if unlabelled else label_column
    columns = {"patient_column": patient_column, "label_column": label, "split_column": split_column}
    _tell(out, split_table(labels, out, **columns, shares=read_shares(shares), seed=seed))


def read_shares(text: str) -> dict[str, float]:
    """`0.7,0.15,0.15` → the shares of train, val and test; DataError when it is no three numbers."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--shares must be three numbers like {DEFAULT_SHARES}, not {text!r}") from None
    return {"train": train, "val": val, "test": test}


def _options(out: Path, max_corrupt: int, seed: int, shares: str) -> Options:
    from training.prepared import Options

    return Options(out, max_corrupt, seed, read_shares(shares))


def _names(text: str) -> list[str]:
    return [name.strip().lower() for name in text.split(",") if name.strip()]


def _tell(out: Path, counts: Mapping[str, Counter[str]]) -> None:
    for split, labels in counts.items():
        typer.echo(
            f"{split:5} {labels.total():7} images  "
            + "  ".join(f"{k or 'unlabelled'}: {n}" for k, n in sorted(labels.items()))
        )
    typer.echo(f"wrote {out}")
