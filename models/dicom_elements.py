"""The elements of a DICOM data set (PS3.5, section 7), found by stepping over them; only those asked for are looked at.

Every step is bounded: a number of elements and a depth that no real object has, and never a byte beyond the file.
Nothing recurses, nothing is inflated, nothing is allocated because the file claims to need it. What the elements mean
for an image stands in `dicom_image`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import ImageDamaged, ImageTruncated

MOST_ELEMENTS = 20_000
DEEPEST = 32
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD

_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


@dataclass(frozen=True, slots=True)
class Element:
    """One element: what it is called, and where its value begins and ends in the file.

    A value of undefined length begins with its first item and ends behind its delimiter.
    """

    tag: int
    vr: bytes
    """Two letters; none where the transfer syntax leaves them out."""
    start: int
    end: int
    is_delimited: bool


class ElementReader:
    """Steps through a data set.

    Args:
        data: The whole file.
        is_implicit: Whether elements carry no value representation.
        order: `<` for little endian, `>` for big endian.
    """

    def __init__(self, data: bytes, *, is_implicit: bool, order: str) -> None:
        self.data, self.order, self.is_implicit = data, order, is_implicit
        self._tag = struct.Struct(order + "HH")
        self._short, self._long = struct.Struct(order + "H"), struct.Struct(order + "I")
        self._left = MOST_ELEMENTS

    def elements(self, start: int, end: int) -> Iterator[Element]:
        """The elements of one level, in the order of the file.

        Raises:
            ImageTruncated: The file ends inside one of them.
            ImageDamaged: One of them contradicts the format, or there are too many, or too deep ones.
        """
        while start < end:
            element = self._element(start, end, self.is_implicit)
            if element.is_delimited:
                after = self._behind_delimiter(element, end)
                element = Element(element.tag, element.vr, element.start, after, True)
            yield element
            start = element.end

    def items(self, sequence: Element) -> Iterator[Element]:
        """The items of a sequence, or the fragments of encapsulated pixel data; their values are their content."""
        start = sequence.start
        while start < sequence.end:
            item = self._item(start, sequence.end)
            if item.tag == SEQUENCE_END:
                return
            if item.tag != ITEM:
                raise ImageDamaged("The DICOM object has something else than items in a sequence.")
            if item.is_delimited:
                after = self._behind_delimiter(item, sequence.end)
                item = Element(item.tag, b"", item.start, after - 8, True)
                start = after
            else:
                start = item.end
            yield item

    def _element(self, position: int, end: int, is_implicit: bool) -> Element:
        """The element at a position; where its length is undefined its end is where its value begins."""
        tag = self._tag_at(position, end)
        if tag >> 16 == 0xFFFE or is_implicit:
            return self._measured(tag, b"", self._long, position + 4, end)
        vr = self.data[position + 4 : position + 6]
        if vr in _SHORT_VRS:
            return self._measured(tag, vr, self._short, position + 6, end)
        if vr in _LONG_VRS:
            return self._measured(tag, vr, self._long, position + 8, end)
        raise ImageDamaged("The DICOM object has an element of no known value representation.")

    def _item(self, position: int, end: int) -> Element:
        return self._measured(self._tag_at(position, end), b"", self._long, position + 4, end)

    def _tag_at(self, position: int, end: int) -> int:
        self._left -= 1
        if self._left < 0:
            raise ImageDamaged(f"The DICOM object has more than {MOST_ELEMENTS} elements.")
        if position + 8 > end:
            raise ImageTruncated("The DICOM object ends inside one of its elements.")
        group, number = self._tag.unpack_from(self.data, position)
        return int(group) << 16 | int(number)

    def _measured(self, tag: int, vr: bytes, length: struct.Struct, position: int, end: int) -> Element:
        start = position + length.size
        if start > end:
            raise ImageTruncated("The DICOM object ends inside one of its elements.")
        (size,) = length.unpack_from(self.data, position)
        if size == UNDEFINED and length.size == 4:
            return Element(tag, vr, start, start, True)
        if start + size > end:
            raise ImageTruncated("The DICOM object has an element that is longer than what is left of the file.")
        return Element(tag, vr, start, start + size, False)

    def _behind_delimiter(self, opened: Element, end: int) -> int:
        """Where what follows a value of undefined length begins. Nested values are kept on a list of what is open."""
        # Unknown elements (UN) of undefined length hold implicit elements (PS3.5, 6.2.2).
        open_ = [(opened.tag == ITEM, self.is_implicit or opened.vr == b"UN")]
        position = opened.start
        while open_:
            is_item, is_implicit = open_[-1]
            found = self._element(position, end, is_implicit) if is_item else self._item(position, end)
            position = found.end
            if found.tag == (ITEM_END if is_item else SEQUENCE_END):
                open_.pop()
            elif not is_item and found.tag != ITEM:
                raise ImageDamaged("The DICOM object has something else than items in a sequence.")
            elif is_item and found.tag >> 16 == 0xFFFE:
                raise ImageDamaged("The DICOM object has an item where an element should be.")
            elif found.is_delimited:
                open_.append((not is_item, is_implicit or found.vr == b"UN"))
            if len(open_) > DEEPEST:
                raise ImageDamaged(f"The DICOM object is nested more than {DEEPEST} deep.")
        return position
