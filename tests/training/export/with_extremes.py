"""Held-out records and the extreme ones of their modality, as a training run compares them."""

from training.image import contrived as contrived_images
from training.network.batch import Record
from training.network.vae import VAE
from training.table import contrived as contrived_rows
from training.table.vae import TableVAE


def with_extremes(vae: VAE, record: Record) -> Record:
    """What `training.modality.Modality.extremes` gives."""
    if "image" in record:
        return contrived_images.extremes(record)
    assert isinstance(vae, TableVAE)
    return contrived_rows.extremes(vae.preprocess, record)
