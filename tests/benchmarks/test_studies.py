"""What the studies draw, split and count; the figures themselves are measured, not tested."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.studies import arguments, fraud, image_sets, log_likelihood, symbols
from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training import config, modality

PUBLIC = Path(__file__).parents[3] / "shared" / "data"


def test_a_digit_becomes_a_blend_of_two_colours_on_a_larger_board() -> None:
    digits = np.zeros((2, 28, 28, 1), np.uint8)
    digits[:, 10], digits[:, 12] = 255, 51
    found = image_sets.coloured(digits, seed=3)
    assert found.shape == (2, 32, 32, 3)
    assert found.dtype == np.uint8
    paper, ink, blend = (found[:, row, 16].astype(float) for row in (0, 12, 14))
    np.testing.assert_allclose(blend, 0.8 * paper + 0.2 * ink, atol=1.0)
    assert not np.array_equal(ink[0], ink[1])
    np.testing.assert_array_equal(found, image_sets.coloured(digits, seed=3))


def test_low_contrast_is_the_levels_moved_towards_127() -> None:
    levels = np.array([0, 127, 255], np.uint8)
    np.testing.assert_array_equal(image_sets.low_contrast(levels), [83, 127, 172])


@pytest.mark.parametrize("arrays", [{}, {"x": (2, 3, 32, 32)}, {"a": (2, 32, 32, 3), "b": (2, 32, 32, 3)}])
def test_a_file_without_one_array_of_coloured_images_is_refused(
    tmp_path: Path, arrays: dict[str, tuple[int, ...]]
) -> None:
    np.savez(
        tmp_path / "svhn.npz", allow_pickle=False, **{name: np.zeros(shape, np.uint8) for name, shape in arrays.items()}
    )
    with pytest.raises(ValueError, match=r"svhn\.npz: there should be one array of images"):
        image_sets.foreign(tmp_path / "svhn.npz")


def test_missing_files_are_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", str(tmp_path), "--svhn", str(tmp_path / "all.npz")])
    with pytest.raises(SystemExit) as ended:
        arguments.parse("A study.", "digits.npz")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"no file {tmp_path / 'digits.npz'}, no {tmp_path / 'all.npz'}" in said


def test_symbols_lie_where_the_truth_says() -> None:
    scenes, truth = symbols.draw(200, 1.0, np.random.default_rng(0))
    cells = symbols.pixels(scenes).reshape(200, 2, 2, -1)
    ink = cells.sum(axis=-1) / 255.0
    assert (ink[truth == 0] == 0).all()
    np.testing.assert_allclose(ink[truth == 1], np.pi * 25, rtol=0.05)
    np.testing.assert_allclose(ink[truth == 2], 100, rtol=0.05)
    np.testing.assert_array_equal(scenes[5, :16, 16:, 0].ravel(), cells[5, 0, 1])


def test_clusters_are_read_and_named_whatever_their_numbers() -> None:
    seen, _ = symbols.draw(50, 0.0, np.random.default_rng(0))
    fresh, truth = symbols.draw(40, 0.0, np.random.default_rng(1))
    clusters = symbols.read(symbols.pixels(seen), symbols.pixels(fresh), seed=0)
    np.testing.assert_array_equal(symbols.named(clusters, truth), truth)
    np.testing.assert_array_equal(symbols.named((clusters + 1) % 3, truth), truth)


def test_recall_is_where_no_more_false_alarms_than_allowed_are_raised() -> None:
    normal = np.arange(2000.0)
    found = fraud.figures(normal, np.array([1997.0, 1997.5, 1998.0, 3000.0]))
    assert found["recall"] == 0.75, "two of 2 000 are allowed: what lies above the third"
    assert found["precision"] == 0.04


def test_pixels_are_black_and_white_as_often_as_their_level_says() -> None:
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1).expand(4000, 1, 3, 1)
    drawn = log_likelihood.Binarised(levels, torch.Generator().manual_seed(0))
    once, again = (drawn.take(torch.arange(4000)).pixels for _ in range(2))
    assert set(once.unique().tolist()) == {0, 255}
    np.testing.assert_allclose((once == 255).double().mean(dim=0).flatten(), [0.0, 0.2, 1.0], atol=0.02)
    assert not torch.equal(once, again)


def test_a_network_begins_at_the_mean_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    record = ImageSchema(fields=(ImageField(name="image", height=4, width=4, channels=1, likelihood="bernoulli"),))
    vae = modality.of(record).vae(config.build({"network": log_likelihood.NETWORK}).network)
    log_likelihood.centre(vae, images)
    first, last = (
        next(each for each in net if isinstance(each, nn.Linear)) for net in (vae.encoder, vae.decoder[::-1])
    )
    mean = torch.from_numpy(images.mean(axis=0)).flatten().float()
    torch.testing.assert_close(first(mean / 127.5 - 1.0), torch.zeros(200), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(torch.sigmoid(last.bias), mean / 255.0, atol=1e-5, rtol=0.0)


@pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the public data sets are not at {PUBLIC}")
@pytest.mark.parametrize("told", [True, False])
def test_frauds_are_tested_on_after_all_that_is_trained_on(told: bool) -> None:
    task = fraud.simulated_cards(PUBLIC, 0, told=told)
    assert task.train.max() < task.tested.min()
    names = task.data.table.column_names
    assert not {"TX_FRAUD", "TX_FRAUD_SCENARIO", "TX_TIME_DAYS", "CUSTOMER_ID"} & set(names)
    assert any("RISK" in name for name in names) is told


@pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the public data sets are not at {PUBLIC}")
def test_no_row_of_credit_cards_is_trained_on_and_tested_on() -> None:
    task = fraud.credit_cards(PUBLIC, 0)
    assert not set(task.train) & set(task.tested)
    assert not {"Class", "Time", "source"} & set(task.data.table.column_names)
