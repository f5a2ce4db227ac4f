"""What is wrong with a bundle is told from one process to another."""

import pickle
from pathlib import Path

from bundle.errors import BundleRefused, DigestMismatch


def test_a_refused_bundle_goes_from_process_to_process() -> None:
    error = DigestMismatch("scorer.onnx", "its bytes are not those that were written")
    error.folder = Path("models/payments/1")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, BundleRefused)
    assert (type(again), again.whole, again.reason) == (DigestMismatch, error.whole, error.reason)
