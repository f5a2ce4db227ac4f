"""Settings of the service: `SURPRISAL_*` environment variables; a flag of the command line wins."""

import difflib
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bundle import wording

_PREFIX = "SURPRISAL_"

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: the folder that workers share their counts in. prometheus_client reads it as it is imported."""

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Environment variable of OpenTelemetry's own; a second one, for traces alone, comes before it."""


class Settings(BaseSettings):
    """Everything that can be set; an empty variable is one that is not set.

    Each field is the variable `SURPRISAL_` plus its name in capitals, but for those that name another.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, allow_inf_nan=False)

    models: Path = Field(default=Path("models"), description="Folder of the bundles, models/NAME/VERSION.")
    default_model: str | None = Field(
        default=None, description="Model that POST /score means; by default the only one."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    keys_file: Path | None = Field(
        default=None,
        description="File of API keys, a line each: its role, and the key or its sha256:; read again when it changes.",
    )
    keys: SecretStr | None = Field(
        default=None,
        description="The same as a variable, separated by commas; a key of either is good, and without any nobody is "
        "asked for one.",
    )
    hosts: str | None = Field(
        default=None,
        description="Names that the service is called by, separated by commas, besides its addresses, localhost and "
        "the machine's name; without keys no other is answered.",
    )
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses and networks of proxies, separated by commas, whose X-Forwarded-For is believed; by "
        "default none is.",
    )
    ops_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for /metrics and health, without a key; then /metrics is there alone.",
    )
    tls_certificate: FilePath | None = Field(
        default=None,
        description="PEM file of the certificate chain; with it, HTTPS is spoken, but not on SURPRISAL_OPS_PORT.",
    )
    tls_key: FilePath | None = Field(default=None, description="PEM file of the certificate's private key.")
    trusted_keys: FilePath | None = Field(
        default=None,
        description="PEM file of one or several ed25519 public keys; with it, only versions that one has signed are "
        "loaded.",
    )
    workers: int | None = Field(
        default=None, ge=1, description="Processes that answer; by default one for each processor of the quota."
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads that score in a worker; by default its share of the processors."
    )
    metrics_folder: Path | None = Field(
        default=None, description="Folder in which workers share their counts; by default a temporary one."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the graph runs; cuda that cannot be had is an error at the start."
    )
    load_seconds: float = Field(
        default=20.0, gt=0, description="Seconds that a version may take to be loaded; then it is refused."
    )
    expect_provider: str | None = Field(
        default=None, description="Execution provider that models should run on; an alert tells when they do not."
    )
    tf32: bool = Field(
        default=False, description="Whether a GPU may round to TF32: faster, and scores are off by some 1e-3 nats."
    )
    gpu_memory_mb: int | None = Field(
        default=None, ge=1, description="Most MiB of GPU memory for a model's tensors; by default there is no limit."
    )
    memory_mb: int | None = Field(
        default=None,
        ge=16,
        description="MiB that requests may take in a worker; by default a share of the container's limit, or of half "
        "of the machine; beyond that requests get 429, and 413 where they could never fit.",
    )
    max_records: int = Field(
        default=10_000,
        ge=1,
        description="Most records in a request; its images together have SURPRISAL_MAX_EXPANDED_BYTES levels at most; "
        "more are answered 413.",
    )
    max_body_bytes: int = Field(
        default=16 * 2**20, ge=1, description="Largest body in bytes; a larger one is answered 413."
    )
    max_expanded_bytes: int = Field(
        default=64 * 2**20,
        ge=1,
        description="Largest gzip or deflate body once inflated; a larger one is answered 413.",
    )
    max_line_bytes: int = Field(
        default=2**20, ge=1, description="Longest line of an NDJSON stream; a longer one is answered by an error line."
    )
    max_head_bytes: int = Field(
        default=2**16, ge=1024, description="Most bytes of a request's head; a larger one is answered 431."
    )
    head_seconds: float = Field(default=10.0, gt=0, description="Seconds that a request's head may take; then 408.")
    idle_seconds: float = Field(
        default=75.0,
        gt=0,
        description="Seconds that a client may be silent, between requests or in a stream; then it is cut off.",
    )
    max_batch_records: int = Field(default=1024, ge=1, description="Most records scored in one batch.")
    max_queue_records: int = Field(
        default=65_536, ge=1, description="Most records waiting for a batch, by model; beyond that requests get 429."
    )
    deadline_ms: int = Field(
        default=10_000, ge=1, description="Milliseconds a request may take; X-Deadline-Ms shortens it; then 504."
    )
    write_idle_seconds: float = Field(
        default=30.0, gt=0, description="Seconds that a streamed answer waits for its client to read on; then it ends."
    )
    drain_seconds: float = Field(
        default=2.0, ge=0, description="Seconds between SIGTERM, when /readyz turns 503, and the end of listening."
    )
    grace_seconds: float = Field(
        default=20.0, gt=0, description="Seconds that requests have to finish once listening has ended."
    )
    watchdog_seconds: float = Field(
        default=10.0, ge=1, description="Seconds that a worker's event loop may stand still; then it is replaced."
    )
    slow_ms: int = Field(default=1000, ge=0, description="Requests whose answer takes longer to begin are logged.")
    otlp_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", OTLP_ENDPOINT),
        description="Where traces are sent to, as OTLP over HTTP; by default nowhere.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="Lines of the log: text for people, json for programs; auto is text on a terminal, json elsewhere.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint_is_a_url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"an address that begins with http:// or https:// is expected, here or in {OTLP_ENDPOINT}")
        return endpoint

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, proxies: str | None) -> str | None:
        networks(proxies or "")
        return proxies

    @model_validator(mode="after")
    def _largest_request_fits_the_queue(self) -> "Settings":
        if self.max_queue_records < self.max_records:
            raise ValueError(
                f"{_PREFIX}MAX_QUEUE_RECORDS: max_queue_records is less than max_records, so that the largest request "
                f"could never be queued; set it to {self.max_records} or more"
            )
        return self

    @model_validator(mode="after")
    def _the_ports_are_two(self) -> "Settings":
        if self.ops_port and self.ops_port == self.port:
            raise ValueError(f"{_PREFIX}OPS_PORT is {self.port}, and so is the service's own port; take another")
        return self

    @model_validator(mode="after")
    def _certificate_and_key_go_together(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(f"{_PREFIX}TLS_CERTIFICATE and {_PREFIX}TLS_KEY go together; set the other one too")
        return self


class SettingsInvalid(wording.Unfit):
    """Settings that do not fit; the message says which, by variable or option, and what is expected."""


def settings(**given: Any) -> Settings:
    """The settings, from the environment and from what is given besides.

    Args:
        given: By name; what is None is not given.

    Raises:
        SettingsInvalid: One of them does not fit.
    """
    named = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**named)
    except ValidationError as error:
        lines = [": ".join([*_named(place, named), fault]) for place, fault in wording.faults(error, Settings)]
        raise SettingsInvalid("; ".join(lines)) from None


def unknown(environment: Iterable[str]) -> list[str]:
    """Variables that look like settings and are none, each in a sentence with what may be meant.

    Args:
        environment: The names of all variables.
    """
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    own = sorted(name for name in environment if name.startswith(_PREFIX) and name.upper() not in known)
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in own}
    return [f"{name}: there is no such setting; did you mean {meant[0]}?" for name, meant in near.items() if meant]


def _named(place: tuple[int | str, ...], given: Iterable[str]) -> list[str]:
    """How a person gave a setting: as an option, or as a variable; one that goes by another name is named by it."""
    if not place:
        return []
    name = str(place[0])
    return [f"--{name.replace('_', '-')}" if name in given else name if name.isupper() else f"{_PREFIX}{name.upper()}"]


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses and networks, separated by commas.

    Raises:
        ValueError: One of them is neither; the message says which place.
    """
    found = []
    for place, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        try:
            found.append(ip_network(part, strict=False))
        except ValueError as error:
            raise ValueError(f"number {place} is no address and no network such as 10.0.0.0/8") from error
    return tuple(found)
