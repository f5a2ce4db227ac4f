"""VAE and importance-weighted autoencoders of dynamically binarised MNIST: log p(x) by 5 000 draws.

    python -m benchmarks.studies.log_likelihood DATA [--budget small|full]

DATA holds `mnist.npz`. One stochastic layer of 50 dimensions, two tanh layers of 200 on each side; every time that an
image is trained on, each of its pixels is drawn black or white anew by its level. Equal epochs for all three, which
begin at the mean image; the last 2 000 training images tell the best epoch and are not trained on. `small` estimates
1 000 test images drawn at random; what is published is of all 10 000, after far longer training.

Reference:
    Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders", section 5 and table 1.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.studies import figures, image_sets
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.fitting import progress
from benchmarks.studies.markdown import show
from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training import config, modality
from training.evaluation.log_likelihood import log_likelihoods
from training.export import graphs, runs
from training.fitting.fit import Fit
from training.image.batch import HALF, Images
from training.network.scores import ScoringNetwork
from training.network.vae import VAE

SAMPLES = 5000
HELD_OUT = 2000
RAREST = 0.001
"""Least probability of white, and of black, at the start."""
CURVE = (1, 5, 50, 500)
"""Fewer draws, to see how the estimate tightens."""
NETWORK = {"kind": "dense", "hidden": (200, 200), "latent_size": 50, "activation": "tanh"}
PUBLISHED = {1: 86.76, 5: 85.54, 50: 84.78}
"""Negative log-likelihood by draws, nats."""


@dataclass(frozen=True)
class Budget:
    """Training images, epochs, images a step, and how many test images log p(x) is estimated of."""

    images: int
    epochs: int
    batch: int
    tested: int


BUDGETS = {"small": Budget(20_000, 20, 50, 1000), "full": Budget(60_000, 200, 100, 10_000)}


@dataclass(frozen=True)
class Binarised:
    """Grey images that become black and white by chance, anew each time that some are taken.

    Args:
        pixels: (n, H, W, C) uint8; a level over 255 is the probability of white.
        generator: Draws.
    """

    pixels: Tensor
    generator: torch.Generator

    @property
    def rows(self) -> int:
        """n."""
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.pixels.device

    def take(self, rows: Tensor) -> Images:
        """A draw of the images at the positions `rows`."""
        shares = self.pixels.index_select(0, rows) / 255.0
        return Images(torch.bernoulli(shares, generator=self.generator).mul_(255.0).to(torch.uint8))

    def pieces(self, rows: int) -> Iterator[Images]:
        """A draw of all, so many at a time."""
        for start in range(0, self.rows, rows):
            yield self.take(torch.arange(start, min(start + rows, self.rows), device=self.device))

    def to(self, device: torch.device) -> "Binarised":
        """The same in a device's memory, drawing from the start; itself where it is there already."""
        if device == self.device:
            return self
        return Binarised(self.pixels.to(device), torch.Generator(device).manual_seed(self.generator.initial_seed()))

    def own_terms(self) -> Sequence[Tensor]:
        """There are none that training asks for."""
        return ()

    def broken(self) -> Tensor:
        """(1,) bool: never."""
        return torch.zeros(1, dtype=torch.bool)


@torch.no_grad()
def centre(vae: VAE, images: image_sets.Levels) -> None:
    """Begin at the mean image: before the first activation it is 0, and it is what the decoder expects.

    Most pixels are black in most digits, and tanh layers learn little of the others before they have learnt that.
    """
    mean = torch.from_numpy(images.mean(axis=0, dtype=np.float64)).flatten()
    first = next(layer for layer in vae.encoder if isinstance(layer, nn.Linear))
    last = next(layer for layer in reversed(vae.decoder) if isinstance(layer, nn.Linear))
    first.bias.copy_(-(first.weight @ (mean / HALF - 1.0).float()))
    last.bias.copy_(torch.logit((mean / 255.0).clamp(RAREST, 1.0 - RAREST)).float())


def fit(digits: image_sets.ImageSet, draws: int, budget: Budget, arguments: Arguments) -> tuple[VAE, ImageSchema, Fit]:
    """Train one model; the last images of the training part tell its best epoch."""
    objective = {"kind": "importance-weighted", "draws": draws} if draws > 1 else {"kind": "elbo"}
    settings = config.build(
        {
            "seed": arguments.seed,
            "network": NETWORK,
            "objective": {**objective, "kl_warm_up": 0.0},
            "fit": {"epochs": budget.epochs, "batch_size": budget.batch, "patience": budget.epochs},
        }
    )
    record = ImageSchema(
        fields=(ImageField(name="image", height=28, width=28, channels=1, likelihood="bernoulli", binary=True),)
    )
    torch.manual_seed(arguments.seed)
    vae = modality.of(record).vae(settings.network)
    trained_on, held_out = digits.train[:-HELD_OUT][: budget.images], digits.train[-HELD_OUT:]
    centre(vae, trained_on)
    vae = vae.to(arguments.device)
    # Not the seed of the posterior's draws, lest pixels and latents come from the same numbers.
    generator = torch.Generator(arguments.device).manual_seed(arguments.seed + 1)
    train, stopped_by = (torch.from_numpy(images).to(arguments.device) for images in (trained_on, held_out))
    stopping = Binarised(stopped_by, generator).take(torch.arange(len(stopped_by), device=arguments.device))
    run = Fit(
        vae,
        Binarised(train, generator),
        stopping,
        settings.objective,
        settings.fit,
        names=record.names,
        seed=arguments.seed,
    )
    run.precision = torch.float32  # the published gaps are of a nat, and bfloat16 is no part of what is compared
    run.run(progress)
    return vae.cpu().eval(), record, run


def main() -> None:
    """Train all three, estimate log p(x) of the same test images, and compare image by image."""
    arguments = parse(__doc__, "mnist.npz")
    budget = BUDGETS[arguments.budget]
    digits = image_sets.read(arguments.data, "mnist")
    chosen = torch.from_numpy(np.random.default_rng(1).permutation(len(digits.test))[: budget.tested])
    test = Binarised(torch.from_numpy(digits.test), torch.Generator().manual_seed(1)).take(chosen).pixels.numpy()
    found: dict[int, npt.NDArray[np.float64]] = {}
    rows, curves = [], {}
    with study("VAE and importance-weighted autoencoders on dynamically binarised MNIST"):
        for draws, published in PUBLISHED.items():
            name = "VAE" if draws == 1 else f"IWAE, {draws} draws"
            started = time.perf_counter()
            vae, record, run = fit(digits, draws, budget, arguments)
            seconds = time.perf_counter() - started
            graph = graphs.export(ScoringNetwork(vae, None).eval(), record).scorer
            session = runs.session(graph, torch.get_num_threads())
            bounds = {
                samples: -log_likelihoods(session, {"image": test}, vae.latent_size, samples, arguments.seed)
                for samples in (*CURVE, SAMPLES)
            }
            found[draws] = bounds[SAMPLES]
            curves[name] = [float(bound.mean()) for bound in bounds.values()]
            rows.append(
                [
                    name,
                    f"{found[draws].mean():.2f} ± {standard_error(found[draws]):.2f}",
                    gain(list(found.values())),
                    f"{run.history[-1].effective_samples:.1f}",
                    f"{published:.2f}",
                    f"{seconds:.0f}",
                ]
            )
        show(
            (
                "model",
                "−log p(x), nats ± standard error",
                "less than the model above",
                "effective samples in training",
                "published",
                "seconds",
            ),
            rows,
        )
    with figures.drawing(arguments.pictures / "log_likelihood.svg", 6, 4) as figure:
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.plot((*CURVE, SAMPLES), curve, marker="o", label=name)
        axes.set(
            title="How tight the bound is, by draws",
            xlabel="draws of an estimate",
            ylabel="importance-weighted bound of −log p(x), nats",
            xscale="log",
        )
        axes.grid(visible=True)
        axes.legend()


def standard_error(values: npt.NDArray[np.float64]) -> float:
    """Of the mean of values (n,)."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def gain(costs: list[npt.NDArray[np.float64]]) -> str | None:
    """How much less the last model's images cost than those of the model before, image by image."""
    if len(costs) < 2:
        return None
    less = costs[-2] - costs[-1]
    return f"{less.mean():.2f} ± {standard_error(less):.2f}"


if __name__ == "__main__":
    main()
