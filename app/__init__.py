"""The HTTP face: validates, queues and reports. Never loads torch, onnxruntime or the explanation engine."""
