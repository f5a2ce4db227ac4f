"""What a modality needs for training, export and its report; elsewhere only `match` arms tell tables from images."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from torch import Tensor

from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from training.config import FieldConfig, NetworkConfig, TrainingConfig
from training.data.read import Data, Rows
from training.errors import ConfigInvalid
from training.image import contrived as contrived_images
from training.image import networks as image_networks
from training.image.batch import Images
from training.image.components import ImageComponents
from training.image.explainer import ImageExplainer
from training.image.vae import ImageVAE
from training.network.batch import Record
from training.network.parts import BatchT
from training.network.scores import ExplainerModule, OtherScores
from training.network.vae import VAE
from training.table import contrived as contrived_rows
from training.table import networks as table_networks
from training.table.batch import Standardised
from training.table.components import Components
from training.table.explainer import TableExplainer
from training.table.vae import TableVAE

VAET = TypeVar("VAET", bound=VAE)


class Modality(ABC, Generic[VAET, BatchT]):
    """What records of one kind need."""

    @property
    @abstractmethod
    def usual_network(self) -> str:
        """The kind of network where a configuration names none."""

    @abstractmethod
    def vae(self, config: NetworkConfig, *, deterministic: bool = False) -> VAET:
        """A variational autoencoder of such records, not trained yet.

        Args:
            config: Kind and sizes of the networks.
            deterministic: Whether the encoder gives a point in place of a distribution.

        Raises:
            ConfigInvalid: A network that does not fit the records.
        """

    @abstractmethod
    def other_scores(self, vae: VAET, train: BatchT, held_out: BatchT, noise: Tensor, seed: int) -> OtherScores:
        """The scores beyond the likelihood's own.

        Args:
            vae: Trained.
            train: The rows that it was trained on.
            held_out: Rows that only stopped its training.
            noise: eps, (L, K) float32.
            seed: Of the coreset.
        """

    @abstractmethod
    def explainer(self, vae: VAET) -> ExplainerModule:
        """The module that becomes `explainer.onnx`."""

    @abstractmethod
    def extremes(self, vae: VAET, record: Record) -> Record:
        """Held-out records, and extreme ones made from them, to compare two computations on."""

    @abstractmethod
    def raw(self, data: Data, row: int) -> dict[str, Any]:
        """A row as a client would send it: numbers, booleans and text, timestamps in ISO 8601, null where missing."""

    @abstractmethod
    def contrived(self) -> list[dict[str, Any] | list[Any]]:
        """Records that no data holds, as a client would send them."""

    @abstractmethod
    def places(self, data: Data, rows: Rows) -> Tensor:
        """(n, D): where rows lie, for densities that need no network."""


class Table(Modality[TableVAE, Standardised]):
    """Rows of a table.

    Args:
        record: The bundle's fields.
    """

    def __init__(self, record: TableSchema) -> None:
        self.record = record

    @property
    def usual_network(self) -> str:
        """See `Modality`."""
        return table_networks.USUAL

    def vae(self, config: NetworkConfig, *, deterministic: bool = False) -> TableVAE:
        """See `Modality`."""
        parts = table_networks.build(self.record, config, 1 if deterministic else 2)
        return TableVAE(parts, deterministic=deterministic)

    def other_scores(
        self, vae: TableVAE, train: Standardised, held_out: Standardised, noise: Tensor, seed: int
    ) -> OtherScores:
        """See `Modality`."""
        return Components(vae, train, held_out, noise, seed)

    def explainer(self, vae: TableVAE) -> ExplainerModule:
        """See `Modality`."""
        return TableExplainer(vae, self.record)

    def extremes(self, vae: TableVAE, record: Record) -> Record:
        """See `Modality`."""
        return contrived_rows.extremes(vae.preprocess, record)

    def raw(self, data: Data, row: int) -> dict[str, Any]:
        """See `Modality`."""
        return contrived_rows.raw(self.record, data, row)

    def contrived(self) -> list[dict[str, Any] | list[Any]]:
        """See `Modality`."""
        return contrived_rows.contrived(self.record)

    def places(self, data: Data, rows: Rows) -> Tensor:
        """See `Modality`."""
        return contrived_rows.places(self.record, data, rows)


class Image(Modality[ImageVAE, Images]):
    """Images, a record each.

    Args:
        record: The bundle's one field.
    """

    def __init__(self, record: ImageSchema) -> None:
        self.record = record

    @property
    def usual_network(self) -> str:
        """See `Modality`."""
        return image_networks.USUAL

    def vae(self, config: NetworkConfig, *, deterministic: bool = False) -> ImageVAE:
        """See `Modality`."""
        parts = image_networks.build(self.record.field, config, 1 if deterministic else 2)
        return ImageVAE(parts, deterministic=deterministic)

    def other_scores(self, vae: ImageVAE, train: Images, held_out: Images, noise: Tensor, seed: int) -> OtherScores:
        """See `Modality`."""
        return ImageComponents(vae, train, held_out, noise, seed)

    def explainer(self, vae: ImageVAE) -> ExplainerModule:
        """See `Modality`."""
        return ImageExplainer(vae)

    def extremes(self, vae: ImageVAE, record: Record) -> Record:
        """See `Modality`."""
        return contrived_images.extremes(record)

    def raw(self, data: Data, row: int) -> dict[str, Any]:
        """See `Modality`; an image is a PNG file in base64."""
        return contrived_images.raw(self.record, data, row)

    def contrived(self) -> list[dict[str, Any] | list[Any]]:
        """See `Modality`."""
        return contrived_images.contrived(self.record.field)

    def places(self, data: Data, rows: Rows) -> Tensor:
        """See `Modality`."""
        return contrived_images.places(self.record, data, rows)


def of(record: RecordSchema) -> Modality[Any, Any]:
    """The modality of a bundle's records; what its `vae` and that one's `standardise` give goes into it alone."""
    match record:
        case TableSchema():
            return Table(record)
        case ImageSchema():
            return Image(record)


def refuse_score(config: TrainingConfig, fields: Iterable[FieldConfig]) -> None:
    """Refuse a score that a model will not have, before it is trained.

    Raises:
        ConfigInvalid: It is one of images, and the records are rows of a table.
    """
    of_images_alone = sorted(set(ImageComponents.names) - set(Components.names))
    if config.anomaly_score in of_images_alone and not any(field.kind == "image" for field in fields):
        raise ConfigInvalid(f"scoring.anomaly_score: {' and '.join(of_images_alone)} are scores of images alone")
