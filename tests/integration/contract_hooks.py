"""What schemathesis cannot know from the OpenAPI document: what an image is, and which classifier this stack serves.

Loaded by schemathesis itself (SCHEMATHESIS_HOOKS); `contract` runs it. A part of the bodies is left as it was made up.
"""

import io
import os
import zlib
from typing import Any

import schemathesis
from PIL import Image

from models.pixels import encode_png
from tests.app.uploads import BAD_UPLOADS, GOOD_UPLOADS
from tests.toys import first_for, image

IMAGES = [encode_png(image(first_for(p), 1.0, -1.0)) for p in (0.1, 0.5, 0.9)]
UPLOADS = [*IMAGES * 20, *GOOD_UPLOADS.values(), *(bad.data for bad in BAD_UPLOADS.values() if len(bad.data) < 100_000)]
TARGET = "present"
CLASSIFIER = os.environ.get("CONTRACT_CLASSIFIER", "toy")


def pick(choices: list[Any], seed: object) -> Any:
    """One of the choices, the same for the same seed."""
    return choices[zlib.crc32(repr(seed).encode()) % len(choices)]


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:  # noqa: ARG001
    """The document's examples name a classifier that ships with the project; here there is another one."""
    form = raw_schema["components"]["schemas"]["ExplainForm"]["properties"]
    form["classifier_id"]["examples"] = [CLASSIFIER]
    form["targets"].pop("examples")  # with it, every example would ask for targets and for frames
    form["target_class"]["examples"] = [TARGET]
    form["image"]["examples"] = [_image_in_ascii()]


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:  # noqa: ARG001
    """Most forms carry a real image and ask for what there is.

    Only what the schema allows already is replaced, by something else that it allows: what was made up to break the
    schema still does.
    """
    if not isinstance(body, dict) or "image" not in body or pick(list(range(10)), body) == 0:
        return body
    real = {name: value for name, value in body.items() if not _is_optional_text(name, value)}
    if isinstance(body["image"], str | bytes):
        real["image"] = pick(UPLOADS, body)
    if isinstance(body.get("classifier_id"), str):
        real["classifier_id"] = CLASSIFIER
    if isinstance(body.get("classifier_version"), int) and body["classifier_version"] >= 1:
        real["classifier_version"] = 1
    if isinstance(body.get("frames"), int) and 3 <= body["frames"] <= 33:
        real["frames"] = body["frames"] | 1
    if body.get("heatmap") == "gradcam":  # the toy is a black box
        real["heatmap"] = "both"
    if body.get("full_resolution") is True:
        real["mode"] = "residual"
    if isinstance(body.get("targets"), int | float):
        real["targets"] = "a number"  # a form has no types: 0.5 in place of a text would be the text that it asks for
    return real


def _image_in_ascii() -> str:
    """A TIFF of bytes below 128 alone: an example in a JSON document can only be text."""
    file = io.BytesIO()
    Image.fromarray(image(first_for(0.5), 1.0, -1.0)[0] // 2).save(file, "TIFF")
    return file.getvalue().decode("ascii")


def _is_optional_text(name: str, value: Any) -> bool:
    """A field that the schema lets be any text, and that the service has its own rules for."""
    return name in ("span", "targets", "direction", "target_class", "callback") and (
        value is None or isinstance(value, str)
    )
