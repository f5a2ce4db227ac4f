"""From a data file to a bundle: data, the VAE, its objective, calibration and export."""

import os

# libgomp reads this once, when torch is first loaded. Its threads otherwise spin at every barrier for as long as a
# time slice; where other work wants the processors too, a step of the default network then took 357 ms and not 3.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# From 1.29 on the packages of ONNX Runtime report to their maker, unless told otherwise before the first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
