"""Which pixels make an image strange, and what the model sees in it: the `explainer.onnx` of images."""

from torch import Tensor

from training.image.vae import ImageVAE
from training.network.scores import ExplainerModule


class ImageExplainer(ExplainerModule):
    """The surprisal of each pixel, and the image that is expected.

    Args:
        vae: The trained model.
    """

    vae: ImageVAE
    names = ("field_surprisal", "kl", "conditional_surprisal", "pixel_surprisal", "expected_image")

    def __init__(self, vae: ImageVAE) -> None:
        super().__init__(vae)
        self.fields = vae.likelihood.fields

    def forward(self, record: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, ...]:
        """Explain B images with L draws.

        Args:
            record: `image` (B, H, W, C) uint8.
            noise: eps, (L, K) float32.

        Returns:
            float32: -1/L sum_l log p(x|z_l) (B, 1) and KL(q(z|x) || p(z)) (B,), in nats, which add up to the negative
            ELBO; that sum itself (B, 1), which is what the image costs where nothing else is given; the first term
            by pixel, summed over channels (B, H, W); and the mean over the draws of the level that the decoder
            expects, from 0 to 255 (B, H, W, C).
        """
        vae = self.vae
        batch = vae.standardise(record)
        posterior = vae.posterior(batch)
        kl = vae.kl(posterior)
        parameters = vae.decode(vae.draw(posterior, noise))
        levels = vae.likelihood.log_prob_of_pixels(batch.levels.unsqueeze(1), parameters).mean(dim=1)
        pixels = -levels.sum(dim=1)
        surprisal = pixels.sum(dim=(1, 2)).unsqueeze(1)
        expected = vae.likelihood.expected(parameters).mean(dim=1).permute(0, 2, 3, 1)
        return surprisal, kl, surprisal + kl.unsqueeze(1), pixels, expected
