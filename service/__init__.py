"""The scoring service: load a bundle, batch, score, answer, measure. It holds no torch."""

import os

# From 1.29 on the packages of ONNX Runtime report to their maker, unless told otherwise before the first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
