"""The examples of the OpenAPI document: one explanation, told from its acceptance to its end."""

from typing import Any

from workers.jobs import JobRequest

_ID = "0b9f7c1e-5d0a-4b6e-9a53-2f1c7d8e4a60"
_PATH = f"/jobs/{_ID}"

_REQUEST = JobRequest(classifier_id="knee-oa", classifier_version=1, frames=5).model_dump(mode="json")


def _frame(index: int, lambda_: float, asked: float | None, probability: float, surrogate: float) -> dict[str, Any]:
    return {
        "index": index,
        "lambda": lambda_,
        "asked": asked,
        "probability": probability,
        "surrogate_probability": surrogate,
        "reached": True,
        "pixels_sha256": f"{index}d" * 32,
        "url": f"{_PATH}/frames/{index}.png",
        "full_url": None,
    }


REPORT: dict[str, Any] = {
    "mode": "generated",
    "target_class": "osteoarthritis (KL 2-4)",
    "answer": "probability",
    "grades": None,
    "threshold": 0.5,
    "input": {
        "probability": 0.31,
        "decision": False,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "rows": 224,
        "columns": 224,
        "kind": "png",
    },
    "classified": {
        "width": 64,
        "height": 64,
        "channels": 1,
        "dtype": "float32",
        "range": [-1.0, 1.0],
        "mean": None,
        "std": None,
    },
    "reconstruction": {
        "probability": 0.29,
        "surrogate_probability": 0.33,
        "agrees": True,
        "mae": 0.031,
        "ms_ssim": 0.91,
    },
    "start": {"frame": 1, "probability": 0.29, "lambda": 0.0},
    "frames": [
        _frame(0, -2.4, 0.05, 0.06, 0.04),
        _frame(1, 0.0, None, 0.29, 0.33),
        _frame(2, 1.9, 0.5, 0.53, 0.77),
        _frame(3, 3.2, 0.725, 0.72, 0.92),
        _frame(4, 5.0, 0.95, 0.93, 0.99),
    ],
    "flip": {
        "reached": True,
        "lambda": 1.83,
        "probability": 0.508,
        "frame": None,
        "changed_pixels": 0.07,
        "pixels_sha256": "f1" * 32,
        "url": f"{_PATH}/flip.png",
        "full_url": None,
    },
    "quality": {
        "verdict": "caution",
        "reasons": [
            {
                "code": "second-opinion",
                "sentence": "A second classifier, trained apart from this one, does not follow the change: it may mean "
                "something to this classifier alone.",
            }
        ],
        "typicality": 0.62,
        "strangeness": 0.41,
        "reconstruction_percentile": 0.55,
        "gap": 0.02,
        "monotonicity": 1.0,
        "reached": 1.0,
        "surrogate_error": 0.11,
        "second_opinion": 0.08,
        "survival": 0.93,
    },
    "heatmaps": {"strip": f"{_PATH}/heatmaps/strip.png", "gradcam": f"{_PATH}/heatmaps/gradcam.png", "occlusion": None},
    "heatmaps_sha256": {"strip": "5a" * 32, "gradcam": "6c" * 32, "occlusion": None},
    "scores": None,
    "full_resolution": False,
    "provenance": {
        "space": {"id": "knee-xray", "version": 1, "sha256": "5b" * 32},
        "classifier": {"sha256": "c4" * 32, "endpoint": None, "model": None, "model_version": None},
        "direction": {"name": "main", "sha256": "e1" * 32},
        "runtime": "onnxruntime 1.23.0 / CPUExecutionProvider",
        "software": "contrafact 0.1.0",
        "request": _REQUEST,
    },
    "timing_ms": {
        "queued": 3,
        "decode": 4,
        "encode": 20,
        "traverse": 1,
        "synthesise": 150,
        "predict": 60,
        "evidence": 2,
        "verdict": 15,
        "render": 12,
        "full_resolution": 0,
        "animation": 0,
        "total": 265,
    },
}

QUEUED_JOB: dict[str, Any] = {
    "id": _ID,
    "status": "queued",
    "progress": {"stage": "queued", "percent": 0},
    "queue_position": 1,
    "attempts": 0,
    "created_at": "2026-03-02T09:15:04.120000Z",
    "started_at": None,
    "finished_at": None,
    "expires_at": None,
    "classifier": {"id": "knee-oa", "version": 1},
    "report": None,
    "error": None,
    "links": {
        "self": _PATH,
        "cancel": f"{_PATH}/cancel",
        "events": f"{_PATH}/events",
        "strip": f"{_PATH}/strip.png",
        "animation": None,
        "report": f"{_PATH}/report.json",
        "view": f"/#job={_ID}",
    },
}

RUNNING_JOB: dict[str, Any] = {
    **QUEUED_JOB,
    "status": "running",
    "progress": {"stage": "predict", "percent": 60},
    "queue_position": None,
    "attempts": 1,
    "started_at": "2026-03-02T09:15:04.123000Z",
}

_OVER = {"finished_at": "2026-03-02T09:15:04.373000Z", "expires_at": "2026-03-03T09:15:04.373000Z"}

SUCCEEDED_JOB: dict[str, Any] = {
    **RUNNING_JOB,
    **_OVER,
    "status": "succeeded",
    "progress": {"stage": "deliver", "percent": 100},
    "report": REPORT,
}

FAILED_JOB: dict[str, Any] = {
    **RUNNING_JOB,
    **_OVER,
    "status": "failed",
    "progress": {"stage": "decode", "percent": 0},
    "error": {
        "code": "undecodable-image",
        "title": "The image cannot be read",
        "detail": "the PNG cannot be decoded (SyntaxError)",
    },
}

CANCELED_JOB: dict[str, Any] = {**RUNNING_JOB, **_OVER, "status": "canceled"}

_SUMMARY = {name: value for name, value in SUCCEEDED_JOB.items() if name not in ("queue_position", "report")}

JOB_LIST: dict[str, Any] = {"jobs": [_SUMMARY], "next": "/jobs?limit=1&cursor=MTc3MjQ0MjkwNDEyMCAwYjlm"}

EVENTS = """\
event: status
data: {"status":"running","progress":{"stage":"decode","percent":0},"attempts":1}
id: 1772442904123-0

event: finished
data: {"status":"succeeded","progress":{"stage":"deliver","percent":100},"attempts":1}
id: 1772442904373-0

"""
