"""DICOM objects as raw material of a data set: which there are, whose they are, what they say.

Which way up they lie is `training.orientation`'s, what lacks its preamble `training.bare_dicom`'s. Pixels come from
`models.pixels` (polarity, rescale, VOI LUT and window), as for every upload. Making a data set of a folder is
`training.dicom_set`. Letters: H rows, W columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate, get_frame
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from models.kinds import sniff
from models.pixels import decode
from training.bare_dicom import ENOUGH, is_bare, is_whole, made_whole
from training.errors import DataError, Unusable
from training.orientation import Orientation, orientation_of, upright
from training.runfolder import progress

LARGEST_PX = 64_000_000
ENDINGS = (".dcm", ".dicom", ".ima")
IMAGES = "Image Storage"  # in the name of every class of objects that are images


@dataclass(frozen=True)
class Header:
    """What a data set needs of an object's header, besides its pixels.

    Attributes:
        patient: the identifier as it stands there; never written anywhere.
        label: the value of the tag that labels, "" where none is asked for.
        description: of the series.
        date: of the study, YYYYMMDD or "".
        orientation: where rows and columns point to in the patient, e.g. ("L", "F"); None where the header is silent.
        spacing_mm: of rows and columns; None where the header is silent.
        is_image: it has rows and columns.
    """

    patient: str
    label: str
    description: str
    date: str
    orientation: Orientation | None
    spacing_mm: tuple[float, float] | None
    is_image: bool


def list_dicoms(folder: Path, report: Callable[[str], None] = print) -> list[str]:
    """Names, relative to the folder, of all files below it that are DICOM, or should be, in order.

    Those are files with a preamble, data sets without one, whatever is called so, and empty files: what cannot be read
    is for the reader to name, and must not vanish here.

    Args:
        folder: searched with all folders below it; hidden files and DICOMDIR are left alone.
        report: told how many other files there are.

    Raises:
        DataError: there is no such folder, or no DICOM file in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    files = [
        p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "DICOMDIR" and not p.name.startswith(".")
    ]
    names = [path.relative_to(folder).as_posix() for path in files if _is_dicom(path)]
    if not names:
        raise DataError(f"{folder} holds no DICOM file")
    if others := Counter(path.suffix.lower() or "no ending" for path in files if not _is_dicom(path)):
        endings = ", ".join(f"{n} with {ending}" for ending, n in sorted(others.items()))
        report(f"{others.total()} files are no DICOM and are left out: {endings}")
    return names


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in ENDINGS:
        return True
    with path.open("rb") as f:
        head = f.read(ENOUGH)
    return not head or is_whole(head) or is_bare(head)


def _open(path: Path) -> Path | BytesIO:
    """What pydicom can read of a file: itself, or a bare data set made whole; Unusable where it is neither."""
    with path.open("rb") as f:
        head = f.read(ENOUGH)
    if is_whole(head):
        return path
    if not head:
        raise Unusable("it is empty")
    if not is_bare(head):
        raise Unusable("it is no DICOM file")
    return BytesIO(made_whole(path.read_bytes()))


def read_header(path: Path, patient_tag: str = "PatientID", label_tag: str | None = None) -> Header:
    """The header of one object; Unusable when it cannot be read."""
    try:
        opened = _open(path)
        if _syntax(opened) == DeflatedExplicitVRLittleEndian:
            raise Unusable("its transfer syntax is deflated: its size cannot be told before it is inflated")
        dataset = pydicom.dcmread(opened, stop_before_pixels=True)
        is_image = bool(dataset.get("Rows") and dataset.get("Columns"))
        kind = dataset.get("SOPClassUID")
        if not is_image and (kind is None or IMAGES in UID(kind).name):
            raise Unusable("its header breaks off")
        spacing = dataset.get("ImagerPixelSpacing") or dataset.get("PixelSpacing")
        return Header(
            patient=_text(dataset, patient_tag),
            label=_text(dataset, label_tag) if label_tag else "",
            description=" ".join(_text(dataset, tag) for tag in ("SeriesDescription", "StudyDescription")),
            date=_text(dataset, "StudyDate"),
            orientation=orientation_of(dataset),
            spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing and len(spacing) == 2 else None,
            is_image=is_image,
        )
    except Unusable:
        raise
    except (InvalidDicomError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise Unusable(f"its header cannot be read ({type(e).__name__})") from None  # messages may quote patients


def _syntax(opened: Path | BytesIO) -> str | None:
    if isinstance(opened, Path):
        return read_file_meta_info(opened).get("TransferSyntaxUID")
    syntax = pydicom.dcmread(opened, specific_tags=["SOPClassUID"], stop_before_pixels=True).file_meta
    opened.seek(0)
    return syntax.get("TransferSyntaxUID")


def known_tag(keyword: str) -> str:
    """The keyword of a DICOM element, e.g. ImageLaterality; DataError when the standard has none of that name."""
    if tag_for_keyword(keyword) is None:
        raise DataError(f"{keyword!r} is no DICOM keyword; write it as in the standard, e.g. ImageLaterality")
    return keyword


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def one_frame(data: bytes, frame: str) -> bytes:
    """A DICOM file with one frame of many; a file of one frame stays as it is.

    Args:
        data: the file.
        frame: first, middle, last, or a number from 0.

    Raises:
        Unusable: there is no such frame, or it cannot be taken out.
    """
    try:
        dataset = pydicom.dcmread(BytesIO(data))
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames == 1:
            return data
        index = {"first": 0, "middle": frames // 2, "last": frames - 1}.get(frame, -1)
        index = int(frame) if frame.isdecimal() else index
        if not 0 <= index < frames:
            raise Unusable(f"it has {frames} frames and no frame {frame}")
        _keep_frame(dataset, index, frames)
        buffer = BytesIO()
        dataset.save_as(buffer)
        return buffer.getvalue()
    except Unusable:
        raise
    except Exception as e:
        # A reader of broken objects raises nearly anything; its message may quote them.
        raise Unusable(f"its frames cannot be told apart ({type(e).__name__})") from None


def _keep_frame(dataset: pydicom.Dataset, index: int, frames: int) -> None:
    """Leaves one frame in the data set, with the window and rescale that are its own."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.PixelData = encapsulate([get_frame(dataset.PixelData, index, number_of_frames=frames)])
    else:
        size = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1) * dataset.BitsAllocated // 8
        whole = bytes(dataset.PixelData[index * size : (index + 1) * size])
        dataset.PixelData = whole + b"\0" * (len(whole) % 2)
    del dataset.NumberOfFrames
    shared, per_frame = (dataset.get(f"{kind}FunctionalGroupsSequence") for kind in ("Shared", "PerFrame"))
    for groups in ((shared or [None])[0], (per_frame or {index: None})[index]):
        for name in ("FrameVOILUTSequence", "PixelValueTransformationSequence"):
            for element in (groups.get(name) or [[]])[0] if groups is not None else []:
                dataset.add(element)


def read_pixels(path: Path, header: Header, frame: str | None = None) -> np.ndarray:
    """The image of one object, upright: uint8 [H, W] or [H, W, 3].

    Raises:
        UndecodableImage: as `models.pixels.decode`; so for several frames, unless one is asked for.
        Unusable: there is no such frame.
    """
    data = path.read_bytes()
    if is_bare(data[:ENOUGH]) and not is_whole(data[:ENOUGH]):
        data = made_whole(data)
    pixels = decode(one_frame(data, frame) if frame else data, max_pixels=LARGEST_PX).pixels
    return upright(pixels, header.orientation)


@dataclass(frozen=True)
class UprightImage:
    """An image of a data set as it is to be seen.

    Attributes:
        pixels: uint8 [H, W] or [H, W, 3], turned as its header says.
        is_dicom: it was a DICOM object.
        is_oriented: and said which way up it lies.
    """

    pixels: np.ndarray
    is_dicom: bool
    is_oriented: bool


def read_image(data: bytes) -> UprightImage:
    """One image of any kind that is read, a DICOM object with or without preamble turned upright.

    Raises:
        UndecodableImage: as `models.pixels.decode`.
        Unusable: it looks like a DICOM object without preamble, and is none.
    """
    if not data:
        raise Unusable("it is empty")
    if sniff(data) is None and is_bare(data[:ENOUGH]):
        data = made_whole(data)
    decoded = decode(data, max_pixels=LARGEST_PX)
    if decoded.kind != "dicom":
        return UprightImage(decoded.pixels, is_dicom=False, is_oriented=False)
    orientation = _orientation_in(data)
    return UprightImage(upright(decoded.pixels, orientation), is_dicom=True, is_oriented=orientation is not None)


def _orientation_in(data: bytes) -> Orientation | None:
    tags = ["PatientOrientation", "ImageOrientationPatient"]
    try:
        return orientation_of(pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(tags)))
    except Exception:
        # A reader of broken elements raises nearly anything; the pixels were read, only this is not known.
        return None


def tell_unoriented(headers: Iterable[Header | Unusable], report: Callable[[str], None]) -> None:
    """Says of how many images nobody knows which way up they lie."""
    images = [header for header in headers if isinstance(header, Header) and header.is_image]
    if unoriented := sum(header.orientation is None for header in images):
        report(f"{unoriented} of {len(images)} DICOM images do not say which way up they lie, and stay as they are")


def shrunk(pixels: np.ndarray, max_side: int) -> np.ndarray:
    """The image with its longer side at most `max_side` pixels; smaller ones stay as they are."""
    longest = max(pixels.shape[:2])
    if longest <= max_side:
        return pixels
    height, width = (max(round(side * max_side / longest), 1) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def read_headers(
    folder: Path, names: Sequence[str], patient_tag: str = "PatientID", label_tag: str | None = None
) -> dict[str, Header | Unusable]:
    """The header of every file, or what is wrong with it."""
    found: dict[str, Header | Unusable] = {}
    with progress("reading headers", len(names), unit="files") as advance:
        for name in names:
            try:
                found[name] = read_header(folder / name, patient_tag, label_tag)
            except Unusable as e:
                found[name] = e
            advance(1)
    return found
