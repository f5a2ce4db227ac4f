"""The scores beyond the likelihood's: what they are, in float64 NumPy, and that they are served as they were fitted."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from bundle.contents.scores import TABLE_SCORES
from bundle.record.schema import TableSchema
from tests.training.export.test_parity import GONE, MIXED, build, ordinary
from tests.training.export.with_extremes import with_extremes
from training.detectors.coreset import coreset
from training.detectors.neighbours import SOFTENING, Neighbours
from training.detectors.robust_scale import RobustScale, asinh
from training.detectors.typicality import Typicality
from training.export.graphs import export
from training.export.parity import verify_parity
from training.export.runs import score, session
from training.network.noise import noise_table
from training.network.scores import LIKELIHOOD_OUTPUTS, ScoringNetwork
from training.network.vae import VAE
from training.table.batch import Standardised
from training.table.components import Components

Array = npt.NDArray[np.float64]


def standardised(vae: VAE, rows: int, seed: int) -> Standardised:
    record = ordinary(MIXED, rows, seed)
    return vae.standardise({kind: torch.from_numpy(values) for kind, values in record.items()})


@pytest.fixture(scope="module")
def scorer() -> ScoringNetwork:
    vae = build(MIXED)
    noise = torch.from_numpy(noise_table(vae.latent_size, 0))[:16]
    return ScoringNetwork(
        vae, Components(vae, standardised(vae, 3000, 1), standardised(vae, 400, 2), noise, seed=0)
    ).eval()


@pytest.mark.parametrize("values", [0.0, 1e-6, 0.5, -3.0, 9999.0, 1e4, 1e10, -1e17])
def test_asinh_is_numpys(values: float) -> None:
    assert asinh(torch.tensor(values, dtype=torch.float64)).item() == pytest.approx(np.arcsinh(values), rel=1e-8)


def test_asinh_of_what_overflows_is_finite_and_keeps_its_sign() -> None:
    assert torch.isfinite(asinh(torch.tensor([3e38, -3e38]))).all()
    up, down = asinh(torch.tensor([3e38, -3e38])).tolist()
    assert up == -down == pytest.approx(math.log(2e18), rel=1e-6)


def test_a_robust_scale_is_median_and_mad() -> None:
    values = np.random.default_rng(0).standard_normal((501, 2)) * [3.0, 0.5] + [10.0, -1.0]
    values[:50] *= 1e6  # which a mean and a deviation would follow
    scale = RobustScale(torch.from_numpy(values), torch.tensor([0.1, 0.1]))
    expected = np.arcsinh((values - np.median(values, axis=0)) / stats.median_abs_deviation(values, scale=1.4826**-1))
    np.testing.assert_allclose(scale(torch.from_numpy(values)).numpy(), expected, rtol=1e-6)


def test_what_never_varies_has_a_scale_too() -> None:
    assert torch.isfinite(
        RobustScale(torch.full((20, 1), 7.0), torch.tensor([0.1]))(torch.tensor([[7.0], [8.0]]))
    ).all()


def test_the_nearest_of_the_coreset_is_found() -> None:
    random = np.random.default_rng(0)
    points, positions = random.standard_normal((300, 7)) + 5.0, random.standard_normal((40, 7)) + 5.0
    found = Neighbours(torch.from_numpy(points))(torch.from_numpy(positions)).numpy()
    np.testing.assert_allclose(found[:, 0], cdist(positions, points).min(axis=1) ** 2 + SOFTENING, rtol=1e-9)
    alike = Neighbours(torch.from_numpy(points))(torch.from_numpy(points)).numpy()
    assert alike == pytest.approx(SOFTENING, abs=1e-9)


def test_of_a_coreset_itself_the_nearest_other_counts() -> None:
    points = np.random.default_rng(0).standard_normal((200, 5)) + 9.0
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    found = Neighbours(torch.from_numpy(points)).among_themselves().numpy()
    np.testing.assert_allclose(found[:, 0], distances.min(axis=1) ** 2 + SOFTENING, rtol=1e-9)


def test_a_coreset_is_closer_to_the_points_than_as_many_of_them_at_random() -> None:
    random = np.random.default_rng(0)
    crowds = random.standard_normal((20, 4)) * 10.0
    points = torch.from_numpy(crowds[random.integers(0, 20, 3000)] + random.standard_normal((3000, 4))).float()
    kept = coreset(points.clone(), 100, seed=0)
    assert kept.shape == (100, 4)
    to_centres, to_some = (Neighbours(these)(points).sqrt().mean() for these in (kept, points[:100]))
    assert to_centres < 0.9 * to_some
    torch.testing.assert_close(kept, coreset(points, 100, seed=0), rtol=0, atol=0)


def test_a_coreset_of_few_points_is_these_and_one_of_equal_points_is_no_failure() -> None:
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert coreset(points, 50, seed=0) is points
    assert torch.equal(coreset(torch.ones(500, 3), 20, seed=0), torch.ones(20, 3))


def test_typicality_is_a_distance_in_both_directions() -> None:
    values = np.random.default_rng(0).standard_normal((4000, 3)) * [1.0, 5.0, 0.2]
    typicality = Typicality(torch.from_numpy(values).float())
    centre = torch.from_numpy(np.median(values, axis=0)).float()
    for direction in (1.0, -1.0):
        far = centre + direction * torch.tensor([6.0, 0.0, 0.0])
        assert typicality(far.unsqueeze(0)).item() > typicality(centre.unsqueeze(0)).item() + 1.0


def test_typicality_whitens_what_goes_together() -> None:
    random = np.random.default_rng(0)
    first = random.standard_normal(4000)
    values = np.stack([first, first + 0.1 * random.standard_normal(4000)], axis=1)
    typicality = Typicality(torch.from_numpy(values).float())
    along, across = typicality(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist()
    assert across > 2 * along


def test_the_graph_scores_as_torch_does_and_every_score_is_an_output(scorer: ScoringNetwork) -> None:
    noise = noise_table(scorer.vae.latent_size, 0)
    graph = session(export(scorer, MIXED).scorer)
    held_out = ordinary(MIXED, 1000, seed=3)
    assert verify_parity(scorer, graph, with_extremes(scorer.vae, held_out), noise) < 1.0
    outputs = score(graph, held_out, noise[:16])
    assert tuple(outputs) == scorer.names
    assert {each.output for each in TABLE_SCORES} == {*LIKELIHOOD_OUTPUTS, *Components.names} - {"latent_mean"}
    for each in TABLE_SCORES:
        assert outputs[each.output].shape == (1000,)
        assert np.isfinite(outputs[each.output]).all()


def test_without_numbers_the_graph_scores_as_torch_does() -> None:
    schema = TableSchema(fields=tuple(field for field in MIXED.fields if field.kind != "numeric"))
    vae = build(schema)
    record = ordinary(schema, 300, seed=1)
    batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in record.items()})
    noise = noise_table(vae.latent_size, 0)
    scorer = ScoringNetwork(vae, Components(vae, batch, batch, torch.from_numpy(noise[:16]), seed=0)).eval()
    assert verify_parity(scorer, session(export(scorer, schema).scorer), with_extremes(scorer.vae, record), noise) < 1.0


def test_neighbours_do_not_depend_on_the_draws_and_no_score_on_the_batch(scorer: ScoringNetwork) -> None:
    noise = noise_table(scorer.vae.latent_size, 0)
    graph = session(export(scorer, MIXED).scorer)
    record = ordinary(MIXED, 64, seed=4)
    few, many = score(graph, record, noise[:1]), score(graph, record, noise)
    np.testing.assert_allclose(few["neighbours"], many["neighbours"], rtol=1e-5)
    alone = score(graph, record, noise, rows_a_run=1)
    for name in ("neighbours", "typicality", "combined"):
        np.testing.assert_allclose(alone[name], many[name], rtol=1e-3, atol=1e-4)


def test_what_lies_further_out_is_stranger_and_never_infinite(scorer: ScoringNetwork) -> None:
    noise = torch.from_numpy(noise_table(scorer.vae.latent_size, 0))[:16]
    record = {kind: torch.from_numpy(values) for kind, values in ordinary(MIXED, 1, seed=5).items()}
    found = []
    for deviations in (10.0, 1e2, 1e4, 1e8, 1e300):
        numeric = record["numeric"].clone()
        numeric[0, 0] = 30.0 + 8.0 * deviations
        with torch.no_grad():
            outputs = dict(zip(scorer.names, scorer({**record, "numeric": numeric}, noise), strict=True))
        assert all(torch.isfinite(values).all() for values in outputs.values())
        found.append((outputs["combined"].item(), outputs["neighbours"].item()))
    assert found == sorted(found)
    assert found[1] > found[0]


def test_a_record_of_which_all_but_one_field_is_missing_has_every_score(scorer: ScoringNetwork) -> None:
    record = {kind: np.full_like(values, GONE[kind]) for kind, values in ordinary(MIXED, 1, seed=6).items()}
    record["numeric"][0, 0] = 30.0
    tensors = {kind: torch.from_numpy(values) for kind, values in record.items()}
    outputs = scorer(tensors, torch.from_numpy(noise_table(scorer.vae.latent_size, 0))[:4])
    assert all(torch.isfinite(values).all() for values in outputs)


def test_one_seed_gives_one_coreset() -> None:
    vae = build(MIXED)
    noise = torch.from_numpy(noise_table(vae.latent_size, 0))[:16]
    train, held_out = standardised(vae, 1300, 1), standardised(vae, 50, 2)
    first, again, other = (Components(vae, train, held_out, noise, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.absolute.directions, other.absolute.directions)
