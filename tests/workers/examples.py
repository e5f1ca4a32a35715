"""A job's record, report and explanation with plausible figures, for tests that need one but do not compute one."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from workers.explain import Explanation, Flip, Frame, Reconstruction
from workers.jobs import JobRecord, JobRequest, Report
from workers.walked import Walked

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

REPORT = Report.model_validate(
    {
        "mode": "generated",
        "target_class": "present",
        "threshold": 0.5,
        "input": {
            "probability": 0.31,
            "decision": False,
            "sha256": "0" * 64,
            "rows": 224,
            "columns": 200,
            "kind": "png",
        },
        "reconstruction": {
            "probability": 0.29,
            "surrogate_probability": 0.33,
            "agrees": True,
            "mae": 0.03,
            "ms_ssim": 0.9,
        },
        "start": {"frame": 0, "probability": 0.29, "lambda": 0.0},
        "frames": [
            {
                "index": 0,
                "lambda": 0.0,
                "asked": None,
                "probability": 0.29,
                "surrogate_probability": 0.33,
                "reached": True,
            },
            {
                "index": 1,
                "lambda": 1.9,
                "asked": 0.5,
                "probability": 0.53,
                "surrogate_probability": 0.5,
                "reached": True,
            },
        ],
        "flip": {"reached": True, "lambda": 1.9, "probability": 0.53, "frame": 1, "changed_pixels": 0.07},
        "provenance": {
            "space": {"id": "toy-space", "version": 1, "sha256": "1" * 64},
            "classifier": {"sha256": "2" * 64},
            "direction": {"name": "main", "sha256": "3" * 64},
            "runtime": "onnxruntime 1.0 / CPUExecutionProvider",
            "software": "contrafact 0.1.0",
        },
        "timing_ms": {
            "queued": 1,
            "decode": 2,
            "encode": 3,
            "traverse": 4,
            "synthesise": 5,
            "predict": 6,
            "render": 7,
            "total": 27,
        },
    }
)


def a_job(id_: str = "job", **request: Any) -> JobRecord:
    """A job that waits since noon."""
    wanted = JobRequest(classifier_id="toy", classifier_version=1, **request)
    return JobRecord(id=id_, request=wanted, created_at=NOON)


def an_explanation(
    probabilities: list[float],
    *,
    start: int = 0,
    flip: int | None = None,
    unreached: tuple[int, ...] = (),
    size: int = 16,
    channels: int = 1,
    target: str = "present",
) -> Explanation:
    """An explanation with these probabilities, its frames ever brighter."""
    frames = tuple(
        Frame(
            index=index,
            lambda_=1.5 * (index - start),
            asked=None if index == start else p,
            probability=p,
            surrogate_probability=p,
            reached=index not in unreached,
            pixels=np.full((channels, size, size), 40 + 5 * index, np.uint8),
        )
        for index, p in enumerate(probabilities)
    )
    walked = Walked(
        np.array([frame.lambda_ for frame in frames]), np.array(probabilities), np.stack([f.pixels for f in frames])
    )
    found = Flip(reached=False)
    if flip is not None:
        found = Flip(True, frames[flip].lambda_, frames[flip].probability, flip, 0.07, frames[flip].pixels)
    return Explanation(
        mode="generated",
        target=target,
        direction="main",
        threshold=0.5,
        input_probability=0.31,
        input_decision=False,
        reconstruction=Reconstruction(0.3, 0.3, True, 0.03, 0.9),
        start_index=start,
        frames=frames,
        flip=found,
        code=np.zeros(8, np.float32),
        walked=walked,
        residual=None,
        timing_ms={"encode": 1.0, "traverse": 1.0, "synthesise": 1.0, "predict": 1.0},
    )
