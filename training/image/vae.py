"""The VAE of images."""

from training.image.batch import ImagePreprocess, Images
from training.image.likelihood import ImageLikelihood, ImageParameters
from training.network.vae import VAEOf


class ImageVAE(VAEOf[Images, ImageParameters]):
    """A variational autoencoder of images, made of what `training.image.networks.build` gives."""

    preprocess: ImagePreprocess
    likelihood: ImageLikelihood
