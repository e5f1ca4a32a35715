"""The engine: Celery tasks around a pure explanation core on ONNX Runtime. No torch, no FastAPI."""
