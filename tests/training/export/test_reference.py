"""What a module gives in float64, and what float32 costs it."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from tests.training.export.test_parity import MIXED, build, ordinary, part
from training.export import reference
from training.export.reference import Exact, Reference, distance
from training.export.runs import Inputs
from training.network.noise import noise_table
from training.network.scores import Decoder, Encoder, ScoringNetwork

NOISE = noise_table(3, 0)
VALUES = np.random.default_rng(0).normal(size=(50, 3))
EPSILON = 2.0**-23


class Weighted(nn.Module):
    """Casts to float32 in all ways, as modules do that are exported."""

    names: tuple[str, ...] = ("called", "asked", "named")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.1, 0.2, 0.3]))

    def forward(self, record: dict[str, Tensor]) -> tuple[Tensor, ...]:
        number = record["numeric"]
        rounded = number.float(), number.to(torch.float32), number.to(dtype=torch.float32)
        return tuple(each * self.weight for each in rounded)


def one(draws: int) -> int:
    return draws


def test_a_modules_own_casts_do_not_round_in_float64() -> None:
    module = Weighted()
    exact = Reference(module, one)(Inputs({"numeric": VALUES}))
    expected = VALUES * module.weight.detach().double().numpy()
    for name in Weighted.names:
        np.testing.assert_array_equal(exact[name], expected)
    assert module.weight.dtype is torch.float32, "the module itself stays as it is"
    assert (torch.zeros(1, dtype=torch.float64).float()).dtype is torch.float32, "and so do casts elsewhere"


def test_what_float32_costs_is_a_few_units_in_the_last_place_of_a_product() -> None:
    inputs, compared = Inputs({"numeric": VALUES}), Reference(Weighted(), one)
    exact = compared(inputs)
    for name, costs in compared.rounded(inputs, exact).items():
        ulps = costs / (EPSILON * np.abs(exact[name]).max(axis=1))
        assert (ulps > 0.1).all()
        assert (ulps < 3.0).all()


class Cancelling(Weighted):
    """A number beside one that is a million times as large."""

    names = ("called",)

    def forward(self, record: dict[str, Tensor]) -> tuple[Tensor, ...]:
        product = record["numeric"].float() * self.weight
        return ((1e6 + product) - 1e6,)


def test_terms_that_cancel_cost_as_much_as_the_largest_rounds() -> None:
    inputs, compared = Inputs({"numeric": VALUES}), Reference(Cancelling(), one)
    costs = compared.rounded(inputs, compared(inputs))["called"]
    assert np.median(costs) > 0.01
    assert costs.max() < 0.1


def test_float32_is_off_by_no_more_than_it_costs_whatever_else_is_summed_first() -> None:
    """The network with its hidden units in another order rounds otherwise, as another runtime does."""
    vae = build(MIXED).eval()
    record = ordinary(MIXED, 200)
    compared = Reference(ScoringNetwork(vae, None).eval(), lambda draws: vae.widest * draws)
    inputs = Inputs(record, NOISE[:16])
    exact = compared(inputs)
    costs = compared.rounded(inputs, exact)
    first, second = vae.encoder[0], vae.encoder[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    order = torch.randperm(len(first.weight), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        second.weight.copy_(second.weight[:, order])
        given = {kind: torch.from_numpy(values) for kind, values in record.items()}
        found = ScoringNetwork(vae, None).eval()(given, torch.from_numpy(NOISE[:16]))
    for name, values in zip(exact, found, strict=True):
        share = distance(values.numpy(), exact[name]) / costs[name]
        assert np.median(share) > 0.1
        assert share.max() < 4.0


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_what_is_right_does_not_depend_on_the_pass(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = build(MIXED).eval()
    record = ordinary(MIXED, 20)
    compared = Reference(ScoringNetwork(vae, None).eval(), one)
    whole = compared(Inputs(record, NOISE[:4]))
    monkeypatch.setattr(reference, "_NUMBERS", 4 * rows)
    _assert_equal(compared(Inputs(record, NOISE[:4])), whole)
    alone = compared(Inputs(part(record, slice(3, 4)), NOISE[:4]))
    _assert_equal(alone, {name: values[3:4] for name, values in whole.items()})


def test_encoder_and_decoder_are_taken_too() -> None:
    vae = build(MIXED).eval()
    posterior = Reference(Encoder(vae).eval(), one)(Inputs(ordinary(MIXED, 5)))
    assert {name: values.shape for name, values in posterior.items()} == dict.fromkeys(Encoder.names, (5, 3))
    parameters = Reference(Decoder(vae).eval(), one)(Inputs({"latent": NOISE[:9]}))
    assert set(parameters) == set(vae.likelihood.parameter_names)
    assert parameters["numeric_mean"].shape == (9, 6)


def test_a_distance_is_the_largest_of_a_row_and_none_of_a_number_that_is_none() -> None:
    expected: npt.NDArray[np.float64] = np.array([[1.0, 2.0], [1.0, np.inf], [0.0, 0.0], [0.0, 0.0]])
    actual = np.array([[1.5, 2.25], [1.0, np.inf], [np.nan, 0.0], [np.inf, 0.0]], np.float32)
    np.testing.assert_array_equal(distance(actual, expected), [0.5, np.nan, np.nan, np.inf])


def _assert_equal(actual: Exact, expected: Exact) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-12, atol=1e-12)
