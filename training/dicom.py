"""DICOM objects as raw material of a data set: which there are, whose they are, what they say, which way up they lie.

Pixels come from `models.pixels` (polarity, rescale, VOI LUT and window), as for every upload. Making a data set of a
folder is `training.dicom_set`. Letters: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from pydicom.uid import DeflatedExplicitVRLittleEndian

from models.pixels import decode
from training.errors import DataError
from training.prepared import Unusable
from training.runfolder import progress

Orientation = tuple[str, str]
LARGEST_PX = 64_000_000


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


def list_dicoms(folder: Path) -> list[str]:
    """Names, relative to the folder, of all files below it with a DICOM preamble, in order.

    Raises:
        DataError: there is no such folder, or no DICOM file in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if _has_preamble(path)]
    if not names:
        raise DataError(f"{folder} holds no DICOM file")
    return names


def _has_preamble(path: Path) -> bool:
    if not path.is_file() or path.name == "DICOMDIR":
        return False
    with path.open("rb") as f:
        return f.read(132)[128:] == b"DICM"


def read_header(path: Path, patient_tag: str = "PatientID", label_tag: str | None = None) -> Header:
    """The header of one object; Unusable when it cannot be read."""
    try:
        if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise Unusable("its transfer syntax is deflated: its size cannot be told before it is inflated")
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        is_image = bool(dataset.get("Rows") and dataset.get("Columns"))
        if not is_image and "SOPClassUID" not in dataset:
            raise Unusable("its header breaks off")
        spacing = dataset.get("ImagerPixelSpacing") or dataset.get("PixelSpacing")
        return Header(
            patient=_text(dataset, patient_tag),
            label=_text(dataset, label_tag) if label_tag else "",
            description=" ".join(_text(dataset, tag) for tag in ("SeriesDescription", "StudyDescription")),
            date=_text(dataset, "StudyDate"),
            orientation=_orientation(dataset),
            spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing and len(spacing) == 2 else None,
            is_image=is_image,
        )
    except Unusable:
        raise
    except (InvalidDicomError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise Unusable(f"its header cannot be read ({type(e).__name__})") from None  # messages may quote patients


def known_tag(keyword: str) -> str:
    """The keyword of a DICOM element, e.g. ImageLaterality; DataError when the standard has none of that name."""
    if tag_for_keyword(keyword) is None:
        raise DataError(f"{keyword!r} is no DICOM keyword; write it as in the standard, e.g. ImageLaterality")
    return keyword


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _orientation(dataset: pydicom.Dataset) -> Orientation | None:
    value = dataset.get("PatientOrientation")
    if value is None or len(value) != 2 or not all(value):
        return None
    return str(value[0]), str(value[1])


def upright(pixels: np.ndarray, orientation: Orientation | None) -> np.ndarray:
    """Turns a frontal image so that its rows point to the patient's left and its columns to the feet.

    Lateral images are only turned head up. Without a header's word, nothing is done.

    Args:
        pixels: [H, W] or [H, W, 3].
        orientation: where rows and columns point to now (PatientOrientation; PS3.3, C.7.6.1.1.1).

    Returns:
        The same pixels, their axes swapped or reversed.
    """
    if orientation is None:
        return pixels
    along_row, along_column = orientation[0][0], orientation[1][0]
    if along_row in "HF" and along_column in "LRAP":
        pixels = pixels.swapaxes(0, 1)
        along_row, along_column = along_column, along_row
    if along_column == "H":
        pixels = pixels[::-1]
    if along_row == "R":
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


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
    pixels = decode(one_frame(data, frame) if frame else data, max_pixels=LARGEST_PX).pixels
    return upright(pixels, header.orientation)


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
