"""`python -m workers.decoder_child`: decodes images behind walls, one after the other, until its parent hangs up.

It is started by `decoder` alone, which speaks to it over standard input and output (`decoder_frames`). Everything that
decoding needs is loaded, and tried once, before the walls go up (`sandbox`): behind them no file can be opened. Nothing
that a library prints leaves this process.
"""

import mmap
import os
import sys
from io import BytesIO
from typing import Literal

from workers import sandbox
from workers.lifeline import die_with_parent

CPU_S = 10
"""What the processor may spend on one image."""
BASE_BYTES, BYTES_PER_PIXEL = 256 * 2**20, 24
"""Address space for one image: of the largest, several copies at once, one of them with four bytes a pixel."""


def main(shared: int, max_bytes: int, max_pixels: int) -> None:
    """Answer questions until there are no more.

    Args:
        shared: The descriptor of the memory in which uploads come.
        max_bytes: The longest file that is decoded.
        max_pixels: The largest image, rows times columns.
    """
    die_with_parent()
    sandbox.leave_the_network()
    answers = _keep_to_itself()
    upload = mmap.mmap(shared, max_bytes, prot=mmap.PROT_READ)
    _try_every_format()
    sandbox.close_all_doors(BASE_BYTES + max_bytes + BYTES_PER_PIXEL * max_pixels)
    while _answer(upload, answers, max_pixels):
        pass


def _keep_to_itself() -> int:
    """Let what is printed go nowhere; return where answers go instead."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return answers


def _try_every_format() -> None:
    """Load everything, also what Pillow loads only when it is first needed."""
    from PIL import Image  # here, for threads that a library may start must come after the name spaces

    from models.manifest import ImageSpec, Preprocessing
    from models.pixels import read
    from workers import decoder_frames  # noqa: F401 - loaded here, for it cannot be later

    spec = ImageSpec(size_px=8, channels=1, modality="DX", preprocessing=Preprocessing(fit="crop"))
    tiny = Image.new("RGB", (8, 8))
    for kind, options in (("PNG", {}), ("JPEG", {}), ("TIFF", {"compression": "tiff_lzw"})):
        file = BytesIO()
        tiny.save(file, kind, **options)
        read(file.getvalue(), spec)


def _answer(uploads: mmap.mmap, answers: int, max_pixels: int) -> bool:
    """Answer one question; False when there are none any more, or this process should not go on."""
    from models.errors import UndecodableImage
    from models.pixels import read
    from workers.decoder_frames import Pixels, Question, Refusal, receive, send

    try:
        head, _ = receive(0, 0)
    except EOFError:
        return False
    sandbox.allow_cpu(CPU_S)
    question = Question.model_validate_json(head)
    try:
        upload = uploads[: question.upload_bytes]
        most = min(question.max_pixels, max_pixels)
        image = read(upload, question.spec, min(question.original_pixels, most), max_pixels=most)
    except UndecodableImage as error:
        send(answers, Refusal(detail=str(error)))
        return True
    except MemoryError:
        detail = "decoding the image takes more memory than one image may take"
        send(answers, Refusal(detail=detail, is_exhausted=True))
        return False
    channels: Literal[0, 1, 3] = 0 if image.original is None else 1 if image.original.ndim == 2 else 3
    about = Pixels(kind=image.kind, rows=image.rows, columns=image.columns, original_channels=channels)
    send(answers, about, image.pixels.tobytes() + (b"" if image.original is None else image.original.tobytes()))
    return True


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
