"""The VAE of a table's records."""

from training.network.vae import VAEOf
from training.table.batch import Preprocess, Standardised
from training.table.likelihood import JointLikelihood, Parameters


class TableVAE(VAEOf[Standardised, Parameters]):
    """A variational autoencoder of a table's records, made of what `training.table.networks.build` gives."""

    preprocess: Preprocess
    likelihood: JointLikelihood
