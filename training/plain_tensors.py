"""Weights from files that hold numbers and nothing else: safetensors and npz. Pickles are refused, by content.

Reading a pickle runs whatever code its maker put inside. So `.pkl`, `.pt` and `.pth` files are told by their first
bytes, whatever they are called, and never opened. Lives elsewhere: what the tensors mean (`training.official_layout`).
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import WeightsRefused

PICKLE = "reading a pickle runs whatever code is inside. Convert the weights to safetensors where you trust the file"
LEGACY_TAR = b"ustar"  # the oldest torch files: a tar archive of pickles; its mark stands at byte 257


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors or npz file, as float32, by name.

    Raises:
        WeightsRefused: the file is missing, a pickle or an archive that holds one, of another format, broken, or holds
            something that is not a finite number.
    """
    kind = sniff(path)
    try:
        stored = load_file(path) if kind == "safetensors" else _read_npz(path)
    except (SafetensorError, zipfile.BadZipFile, OSError, ValueError, EOFError, MemoryError) as e:
        raise WeightsRefused(f"{path.name} is not a sound {kind} file: {e}") from e
    return {name: _as_float32(name, tensor) for name, tensor in stored.items()}


def sniff(path: Path) -> str:
    """`safetensors` or `npz`, told by the content; WeightsRefused for all else, with the reason."""
    try:
        with path.open("rb") as f:
            head = f.read(512)
    except OSError as e:
        raise WeightsRefused(f"cannot read {path.name}: {e.strerror}") from e
    if head[:1] == b"\x80" or head[257:262] == LEGACY_TAR:
        raise WeightsRefused(f"{path.name} is a pickle: {PICKLE}")
    if head[:4] == b"PK\x03\x04":
        _refuse_foreign_members(path)
        return "npz"
    if head[8:9] == b"{":
        return "safetensors"
    raise WeightsRefused(f"{path.name} is neither a safetensors nor an npz file")


def _refuse_foreign_members(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as e:
        raise WeightsRefused(f"{path.name} is a broken zip archive: {e}") from e
    if any(name.endswith((".pkl", ".pickle")) for name in names):
        raise WeightsRefused(f"{path.name} is a zip archive with a pickle inside: {PICKLE}")
    foreign = [name for name in names if not name.endswith(".npy")]
    if foreign:
        raise WeightsRefused(f"{path.name} is a zip archive, but not an npz file: it holds {foreign[0]}")


def _read_npz(path: Path) -> dict[str, Tensor]:
    found = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                values = arrays[name]
            except ValueError as e:
                if "allow_pickle" in str(e):
                    raise WeightsRefused(f"{path.name}: {name} holds Python objects, as a pickle: {PICKLE}") from e
                raise
            if values.dtype.kind not in "fiub":
                raise WeightsRefused(f"{path.name}: {name} holds {values.dtype}, not numbers")
            found[name] = torch.from_numpy(np.array(values, np.float32))
    return found


def _as_float32(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        raise WeightsRefused(f"{name} holds complex numbers")
    plain = tensor.float()
    if not torch.isfinite(plain).all():
        raise WeightsRefused(f"{name} holds values that are not finite")
    return plain
