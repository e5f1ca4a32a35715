"""DICOM data sets that were stored without the beginning of a file: no preamble, often no word of how they are written.

They are told by their first elements, never by trying, and made whole so that everything else reads them as any file.
"""

from __future__ import annotations

import warnings
from io import BytesIO

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from training.errors import Unusable

PREAMBLE = b"\0" * 128 + b"DICM"
ENOUGH = 132  # bytes of a file that tell what it is
VALUE_TYPES = (b"UL", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"DT", b"OB")  # of the elements a file may begin with
LONGEST_FIRST = 256  # bytes of the first element, where it does not say its type


def is_whole(head: bytes) -> bool:
    """The file begins as the standard wants."""
    return head[128:132] == b"DICM"


def is_bare(head: bytes) -> bool:
    """The file begins with a data element of group 2 or 8, as a data set without preamble does."""
    if len(head) < 8 or head[:2] not in (b"\2\0", b"\x08\0") or head[3] != 0 or head[2] > 0x60:
        return False
    return head[4:6] in VALUE_TYPES or 0 < int.from_bytes(head[4:8], "little") <= LONGEST_FIRST


def made_whole(data: bytes) -> bytes:
    """A bare data set with the preamble, and how it is written, in front of it.

    Raises:
        Unusable: it is no data set, or none of an image or other object of the standard.
    """
    if data[:2] == b"\2\0":
        whole = PREAMBLE + data
    else:
        is_explicit = data[4:6] in VALUE_TYPES
        syntax = (ExplicitVRLittleEndian if is_explicit else ImplicitVRLittleEndian).encode()
        syntax += b"\0" * (len(syntax) % 2)
        whole = PREAMBLE + b"\2\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax + data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what they stumble over
            dataset = pydicom.dcmread(BytesIO(whole), stop_before_pixels=True, specific_tags=["SOPClassUID", "Rows"])
        if "SOPClassUID" in dataset or "Rows" in dataset:
            return whole
    except Exception as e:
        # A reader of broken objects raises nearly anything; its message may quote them.
        raise Unusable(f"it has no preamble and cannot be read ({type(e).__name__})") from None
    raise Unusable("it has no preamble, and its elements are not those of a DICOM object")
