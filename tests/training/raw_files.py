"""DICOM files that the tests write, and prepared sets that they read."""

import csv
import zipfile
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from models.pixels import decode


def write_dicom(path: Path, pixels: np.ndarray, **elements: object) -> Path:
    """An object of 8-bit grey pixels [H, W] with the given elements, like a computed radiograph's."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    """labels.csv of a prepared set."""
    with (out / "labels.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def image_of(out: Path, row: dict[str, str]) -> np.ndarray:
    """The pixels of one row."""
    with zipfile.ZipFile(out / "images.zip") as images:
        return decode(images.read(row["file"])).pixels
