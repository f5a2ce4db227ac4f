"""An & Cho's setting: each digit in turn is the anomaly; and network attacks by family.

    python -m benchmarks.studies.reconstruction_probability DATA [--budget small|full]

DATA holds `mnist.npz`, `nslkdd_train20.parquet` and `nslkdd_test.parquet`. Of MNIST a model with An & Cho's network
(400 units, 200 latent dimensions, 10 draws in training, 16 in scoring) learns nine digits of the training part; all
digits of the test part are scored. Of NSL-KDD a model with our defaults learns the normal connections of the training
part; each family of attacks of the test part is told from its normal connections. `combined` is our default score, on
the same model. The autoencoders have the same networks and squared error of pixels and numbers. PCA and kNN have the
tenth of the rows, too, that tells the models' best epoch.

Reference:
    An & Cho 2015, "Variational autoencoder based anomaly detection using reconstruction probability", section 4;
    Tavallaee et al. 2009, "A detailed analysis of the KDD CUP 99 data set", for the families of attacks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.studies import fitting, image_sets, tabular
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.markdown import show
from benchmarks.studies.tabular import labelled, without
from training.data.read import read
from training.evaluation import baselines
from training.evaluation.measures import detection

Scores = dict[str, npt.NDArray[np.floating]]

SHOWN = {
    "reconstruction probability": "reconstruction",
    "ELBO": "elbo",
    "combined": "combined",
    "autoencoder": "autoencoder",
    "PCA": "PCA",
    "kNN, k = 5": "kNN, k = 5",
}
FAMILIES = {
    "denial of service": "apache2 back land mailbomb neptune pod processtable smurf teardrop udpstorm worm",
    "probe": "ipsweep mscan nmap portsweep saint satan",
    "remote to local": "ftp_write guess_passwd httptunnel imap multihop named phf sendmail snmpgetattack snmpguess "
    "spy warezclient warezmaster xlock xsnoop",
    "user to root": "buffer_overflow loadmodule perl ps rootkit sqlattack xterm",
}


@dataclass(frozen=True)
class Budget:
    """Training images of the nine digits, and epochs."""

    images: int
    epochs: int


BUDGETS = {"small": Budget(6000, 15), "full": Budget(60_000, 60)}


def without_digit(digits: image_sets.ImageSet, digit: int, arguments: Arguments) -> Scores:
    """Scores of all test images by models of the nine other digits."""
    budget = BUDGETS[arguments.budget]
    train = digits.train[digits.train_labels != digit][: budget.images]
    fit = {"epochs": budget.epochs, "batch_size": 100, "patience": budget.epochs}
    content = {"preset": "an-cho", "seed": arguments.seed, "fit": fit}
    model, _ = fitting.fit(train, content, "bernoulli", arguments.device)
    found: Scores = dict(fitting.scores(model, digits.test))
    content["objective"] = {"kind": "autoencoder", "draws": 1}
    autoencoder, _ = fitting.fit(train, content, "fixed-gaussian", arguments.device)
    found["autoencoder"] = fitting.scores(autoencoder, digits.test)["expected_log_likelihood"]
    flat = [images.reshape(len(images), -1) / 255.0 for images in (train, digits.test)]
    return found | {name: detector(flat[1]) for name, detector in baselines.fit(flat[0], arguments.seed).items()}


def connections(arguments: Arguments) -> tuple[Scores, npt.NDArray[np.str_]]:
    """Scores of all test connections by models of normal ones, and what each connection is."""
    train, attack = labelled(
        without(read(arguments.data / "nslkdd_train20.parquet"), ("attack", "difficulty")), "label"
    )
    test = read(arguments.data / "nslkdd_test.parquet")
    normal, every = np.flatnonzero(~attack), np.arange(test.table.num_rows)
    content: dict[str, Any] = {"seed": arguments.seed}
    model, record = tabular.fit(train, normal, content, arguments.device)
    found: Scores = {
        **tabular.scores(model, record, test, every),
        **tabular.others(record, (train, normal), (test, every), arguments.seed),
    }
    content["objective"] = {"kind": "autoencoder"}
    autoencoder, record = tabular.fit(train, normal, content, arguments.device, "fixed-gaussian")
    found["autoencoder"] = tabular.scores(autoencoder, record, test, every)["expected_log_likelihood"]
    return found, np.asarray(test.table["attack"].to_pylist())


def measured(found: Scores, normal: npt.NDArray[np.bool_], anomalous: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
    """AUROC and average precision of each score that is shown."""
    return [detection(found[name][normal], found[name][anomalous]) for name in SHOWN.values()]


def cells(measures: list[dict[str, float]]) -> list[str]:
    """A row of a table: AUROC / average precision."""
    return [f"{each['auroc']:.3f} / {each['average_precision']:.3f}" for each in measures]


def main() -> None:
    """Measure both sets; each cell is AUROC / average precision."""
    arguments = parse(__doc__, "mnist.npz", "nslkdd_train20.parquet", "nslkdd_test.parquet")
    digits = image_sets.read(arguments.data, "mnist")
    with study("Reconstruction probability: AUROC / average precision"):
        rows = []
        for digit in range(10):
            anomalous = digits.test_labels == digit
            rows.append(measured(without_digit(digits, digit, arguments), ~anomalous, anomalous))
        table = [[str(digit), *cells(row)] for digit, row in enumerate(rows)]
        means = [
            {key: float(np.mean([row[place][key] for row in rows])) for key in rows[0][0]}
            for place in range(len(SHOWN))
        ]
        show(("anomalous digit", *SHOWN), [*table, ["mean", *cells(means)]])
        found, attacks = connections(arguments)
        normal = attacks == "normal"
        table = [["all attacks", f"{np.sum(~normal):,}", *cells(measured(found, normal, ~normal))]]
        for family, names in FAMILIES.items():
            anomalous = np.isin(attacks, names.split())
            table.append([family, f"{anomalous.sum():,}", *cells(measured(found, normal, anomalous))])
        show(("attacks", "connections", *SHOWN), table)


if __name__ == "__main__":
    main()
