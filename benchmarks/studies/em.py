"""Expectation-maximisation, step by step: where the bound touches log p(x), and where it cannot.

    python -m benchmarks.studies.em DATA [--budget small|full]

DATA is not read: records are drawn here; both budgets are the same. EM with the exact posterior climbs log p(x) of a
mixture of three Gaussians and of factor analysis with two latents, some of whose loadings are held at 0, so that
latents cannot be turned. Mean field begins where exact EM ended, with and without those zeros. The amortised q is a
VAE's encoder, trained by the product's own code until it no longer changes; its decoder is linear and has one noise for
all columns, so that log p(x) of each epoch is known, and so is the best that there is (probabilistic PCA). The gap is
taken as a difference, log p(x) less the bound, and the KL of q and the posterior from these two alone. The gap of the
encoder is also taken apart, into what its shape, its bounded input, its mean and its variances add.

Reference:
    Dempster, Laird & Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm"; Neal & Hinton 1998, "A
    view of the EM algorithm that justifies incremental, sparse, and other variants"; Cremer et al. 2018, "Inference
    suboptimality in variational autoencoders"; Lucas et al. 2019, "Don't blame the ELBO!", for linear VAEs.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import nn

from benchmarks.studies import figures
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.gap import Gap
from benchmarks.studies.linear_gaussian import Array, Gaussian, LinearGaussian, probabilistic_pca
from benchmarks.studies.markdown import show
from benchmarks.studies.mixture import Mixture
from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from training import config, modality
from training.fitting.fit import Fit
from training.network.vae import VAE
from training.report.figures import COLOURS, INK

RECORDS = 1000
NOISE = 0.5
"""Standard deviation in every column."""
LOADINGS = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.8], [0.9, 0.6], [0.6, 0.9], [0.7, 0.7]])
MIXTURE_STEPS, FACTOR_STEPS, SETTLED, MEAN_FIELD_STEPS, TURNED_STEPS = 8, 8, 600, 14, 3000
"""Of each kind of EM: those that are drawn, those that find the maximum, those of mean field, and those until latents
have turned."""
EPOCHS, LEARNING_RATE = 200, 2e-2
SEEN = (10, 25, 50, 100)
"""After how many epochs the pieces of the gap are printed, beside the last."""
ROUNDING = 1e-9

Q = TypeVar("Q")
_Given = TypeVar("_Given", contravariant=True)


class Latent(Protocol[_Given]):
    """A model with a hidden variable."""

    def log_likelihood(self, x: Array) -> Array:
        """log p(x), (n,) nats."""

    def bound(self, x: Array, q: _Given) -> Array:
        """The evidence lower bound, (n,) nats."""

    def divergence(self, x: Array, q: _Given) -> Array:
        """KL(q || posterior), (n,) nats."""

    def maximise(self, x: Array, q: _Given) -> Any:
        """M step."""


@dataclass(frozen=True)
class Climb(Generic[Q]):
    """What an ascent came to, place by place; means over records, nats.

    Args:
        model: The last one.
        q: The last one.
        log_likelihood: log p(x), of EM after E, M, E, … E; of a VAE at the start and after each epoch.
        bound: The bound there.
        divergence: KL(q || posterior) there.
    """

    model: Any
    q: Q
    log_likelihood: Array
    bound: Array
    divergence: Array

    @property
    def gap(self) -> Array:
        """log p(x) - bound."""
        return self.log_likelihood - self.bound


@dataclass(frozen=True)
class Training(Climb[Gaussian]):
    """The same of a VAE, with the pieces of its gap at each place."""

    pieces: tuple[Gap, ...]


def falls(values: Array) -> int:
    """How often what is followed became smaller."""
    return int((np.diff(values) < -ROUNDING).sum())


def climb(model: Latent[Q], x: Array, infer: Callable[[Any, Array], Q], steps: int) -> Climb[Q]:
    """Alternate E and M steps; the last is an E step.

    Args:
        model: To begin with.
        x: Records (n, D).
        infer: E step: q of a model and records.
        steps: M steps.
    """
    q = infer(model, x)
    seen = [terms(model, x, q)]
    for _ in range(steps):
        model = model.maximise(x, q)
        seen.append(terms(model, x, q))
        q = infer(model, x)
        seen.append(terms(model, x, q))
    return Climb(model, q, *np.array(seen).T)


def terms(model: Latent[Q], x: Array, q: Q) -> tuple[float, ...]:
    """log p(x), bound and KL(q || posterior): means over records (n, D), nats."""
    found = (model.log_likelihood(x), model.bound(x, q), model.divergence(x, q))
    return tuple(float(each.mean()) for each in found)


def clusters(random: np.random.Generator) -> tuple[Array, Mixture]:
    """Records of three overlapping Gaussians in a plane, and a mixture to begin with."""
    means = np.array([[-1.5, 0.0], [1.5, 0.5], [0.2, 2.2]])
    component = random.choice(3, RECORDS, p=(0.5, 0.3, 0.2))
    x = means[component] + random.normal(size=(RECORDS, 2)) * np.array([[0.9, 0.5], [0.6, 0.9], [0.6, 0.4]])[component]
    start = Mixture(np.full(3, 1 / 3), x[random.choice(RECORDS, 3, replace=False)], np.stack([np.cov(x.T)] * 3))
    return x, start


def factors(random: np.random.Generator) -> tuple[Array, LinearGaussian]:
    """Records of two latents, each column of mean 0 and variance 1, and a model to begin with."""
    columns = len(LOADINGS)
    x = random.normal(size=(RECORDS, 2)) @ LOADINGS.T + NOISE * random.normal(size=(RECORDS, columns))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    free = LOADINGS != 0
    start = random.normal(scale=0.3, size=LOADINGS.shape) * free
    return x, LinearGaussian(start, np.zeros(columns), np.ones(columns), free)


def as_linear_gaussian(vae: VAE) -> LinearGaussian:
    """The model that a VAE with a linear decoder and one noise is."""
    decoder = vae.decoder[-1]
    assert isinstance(decoder, nn.Linear)
    loadings, mean = (part.detach().double().numpy().copy() for part in (decoder.weight, decoder.bias))
    return LinearGaussian(loadings, mean, np.full(len(mean), NOISE**2), np.ones_like(loadings, dtype=bool))


@torch.no_grad()
def amortised(vae: VAE, inputs: torch.Tensor) -> Gaussian:
    """q(z|x) of a VAE's encoder for what it sees of n records."""
    posterior = vae.encode(inputs)
    variance = posterior.log_variance.double().exp().numpy()
    return Gaussian(posterior.mean.double().numpy(), variance[:, None] * np.eye(variance.shape[1]))


def train(x: Array, seed: int) -> Training:
    """A VAE with linear encoder and decoder, trained on records (n, D)."""
    fields = tuple(
        NumericField(
            name=f"x{column}", missing_rate=1e-9, mean=0.0, scale=1.0, likelihood="fixed-gaussian", fixed_scale=NOISE
        )
        for column in range(x.shape[1])
    )
    record = TableSchema(fields=fields)
    settings = config.build(
        {
            "seed": seed,
            "network": {"hidden": (), "latent_size": 2},
            "objective": {"kl_warm_up": 0.0},
            "fit": {"epochs": EPOCHS, "patience": EPOCHS, "batch_size": 50, "learning_rate": LEARNING_RATE},
        }
    )
    torch.manual_seed(seed)
    vae = modality.of(record).vae(settings.network)
    batch = vae.standardise({"numeric": torch.from_numpy(x)})
    run = Fit(vae, batch, batch, settings.objective, settings.fit, names=record.names, seed=seed)
    inputs = vae.preprocess(batch)
    states = [(as_linear_gaussian(vae), amortised(vae, inputs))]
    run.run(lambda _: states.append((as_linear_gaussian(vae), amortised(vae, inputs))))
    pieces = tuple(Gap.of(model, x, inputs.double().numpy(), q) for model, q in states)
    log_likelihood, bound, divergence = np.array([terms(model, x, q) for model, q in states]).T
    return Training(*states[-1], log_likelihood, bound, divergence, pieces)


@dataclass(frozen=True)
class Drawn:
    """A panel of the picture.

    Args:
        title: Above it.
        climb: What it shows.
        places: Of the climb in one unit of the horizontal axis.
        unit: Of that axis.
        start: Where that axis begins.
        best: The largest log p(x) there can be, or None where nothing marks it.
    """

    title: str
    climb: Climb[Any]
    places: int = 2
    unit: str = "E steps"
    start: int = 0
    best: float | None = None


def draw(arguments: Arguments, panels: list[Drawn]) -> None:
    """log p(x), the bound below it, and the gap between."""
    with figures.drawing(arguments.pictures / "em.svg", 8.6, 6.2) as figure:
        for axes, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
            climb = panel.climb
            first = panel.start * panel.places
            across = np.arange(len(climb.bound))[first:] / panel.places
            bound, log_likelihood = climb.bound[first:], climb.log_likelihood[first:]
            axes.fill_between(across, bound, log_likelihood, color=COLOURS[1], alpha=0.25, linewidth=0)
            axes.plot(across, log_likelihood, color=COLOURS[0], linewidth=1.8)
            axes.plot(across, bound, color=COLOURS[1], linewidth=1.4)
            if panel.places == 2:
                axes.plot(across[::2], bound[::2], "o", color=COLOURS[1], markersize=3.5)
            if panel.best is not None:
                axes.axhline(panel.best, color=INK, linestyle=":", linewidth=1.4)
            axes.set(title=panel.title, xlabel=panel.unit, ylabel="nats a record")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(visible=True)
        handles = [
            Line2D([], [], color=COLOURS[0], linewidth=1.8, label="log p(x)"),
            Line2D(
                [], [], color=COLOURS[1], linewidth=1.4, marker="o", markersize=3.5, label="bound, dots: after E steps"
            ),
            Patch(facecolor=COLOURS[1], alpha=0.25, label="gap: KL(q ‖ p(z|x))"),
            Line2D([], [], color=INK, linestyle=":", linewidth=1.4, label="largest log p(x)"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)


def row(name: str, climb: Climb[Any], touches: Array, formula: str | None) -> list[str | None]:
    """A line of the table: where a climb ended and how, `touches` from the least to the largest."""
    return [
        name,
        f"{climb.log_likelihood[-1]:.4f}",
        f"{climb.bound[-1]:.4f}",
        f"{unsigned(touches.min())} to {unsigned(touches.max())}",
        unsigned(climb.gap[-1]),
        formula,
        f"{np.abs(climb.gap - climb.divergence).max():.0e}",
        f"{falls(climb.log_likelihood)} of {len(touches) - 1}",
        str(falls(climb.bound)),
    ]


def show_pieces(vae: Training) -> None:
    """A table of the pieces of a VAE's gap on the way."""
    epochs = [*(each for each in SEEN if each < EPOCHS), EPOCHS]
    found = [(*astuple(vae.pieces[each]), vae.pieces[each].total, vae.gap[each]) for each in epochs]
    show(
        ("epoch", "shape", "bounded input", "learned mean", "learned variances", "sum", "gap"),
        [[str(epoch), *map(unsigned, each)] for epoch, each in zip(epochs, found, strict=True)],
    )


def unsigned(gap: float) -> str:
    """Four decimals, without the sign of a 0."""
    return f"{round(gap, 4) + 0.0:.4f}"


def main() -> None:
    """Climb four ways, print where each came to, and draw them."""
    arguments = parse(__doc__)
    random = np.random.default_rng(arguments.seed)
    with study("Expectation-maximisation: bound and log p(x), nats a record"):
        points, start = clusters(random)
        mixture = climb(start, points, Mixture.posterior, MIXTURE_STEPS)
        x, model = factors(random)
        exact = climb(model, x, LinearGaussian.posterior, FACTOR_STEPS)
        settled = climb(exact.model, x, LinearGaussian.posterior, SETTLED)
        mean_field = climb(settled.model, x, LinearGaussian.mean_field, MEAN_FIELD_STEPS)
        every = np.ones_like(model.free)
        turned = climb(replace(settled.model, free=every), x, LinearGaussian.mean_field, TURNED_STEPS)
        vae = train(x, arguments.seed)
        best = float(probabilistic_pca(x, vae.model.loadings.shape[1], NOISE**2).log_likelihood(x).mean())
        columns = (
            "ascent",
            "log p(x)",
            "bound",
            "gap, least to largest",
            "gap at the end",
            "mean field's by formula",
            "gap less KL, at most",
            "log p(x) fell",
            "bound fell",
        )
        formula = {
            name: f"{each.model.mean_field_gap:.4f}" for name, each in (("m", mean_field), ("t", turned), ("v", vae))
        }
        rows = [
            row("mixture, exact", mixture, mixture.gap[::2], None),
            row("factor analysis, exact", exact, exact.gap[::2], None),
            row("the same until it settles", settled, settled.gap[::2], None),
            row("mean field from there", mean_field, mean_field.gap[::2], formula["m"]),
            row("mean field, all loadings free", turned, turned.gap[::2], formula["t"]),
            row("VAE, linear encoder and decoder", vae, vae.gap, formula["v"]),
        ]
        show(columns, rows)
        print(f"\nProbabilistic PCA, the largest log p(x) of the VAE's model: {best:.4f}")
        show_pieces(vae)
    panels = [
        Drawn("Mixture of Gaussians, exact: the bound touches", mixture),
        Drawn("Factor analysis, exact: the bound touches", exact),
        Drawn("Mean field: log p(x) falls, the bound does not", mean_field, best=settled.log_likelihood[-1]),
        Drawn("A VAE's linear encoder: a bounded input, a gap", vae, 1, "epochs", EPOCHS // 20, best),
    ]
    draw(arguments, panels)


if __name__ == "__main__":
    main()
