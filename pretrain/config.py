"""What one training run is: a config read from YAML, with clear errors before any data is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    model_serializer,
    model_validator,
)

from curation.yaml_keys import refuse_repeated_keys
from pretrain.component import describe, parser, to_spec
from pretrain.model import ModelConfig
from pretrain.order import BLOCK
from pretrain.segments import Longer
from pretrain.targets.base import Target
from pretrain.wanted import Wanted, check

Scalar = str | int | float | bool | None


class ConfigError(ValueError):
    """A config that cannot be used; the message names the place, the value and the valid choices."""


class Clause(BaseModel):
    """A condition on one sample column, with exactly one of `equals`, `not_equals`, `in`. A null equals only null."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    column: str
    equals: Scalar = None
    not_equals: Scalar = None
    in_: tuple[Scalar, ...] | None = Field(None, alias="in")

    @model_validator(mode="after")
    def _one_condition(self) -> Clause:
        given = sorted(self.model_fields_set - {"column"})
        if len(given) != 1:
            raise ValueError(f"needs exactly one of equals, not_equals, in; given: {given or 'none'}")
        return self

    @model_serializer
    def _as_written(self, info: SerializationInfo) -> dict[str, Any]:  # noqa: ARG002
        names = {"in_": "in"}
        return {names.get(n, n): getattr(self, n) for n in type(self).model_fields if n in self.model_fields_set}

    def holds(self, value: object) -> bool:
        """Whether a sample with this value in the column qualifies."""
        if "equals" in self.model_fields_set:
            return value == self.equals
        if "not_equals" in self.model_fields_set:
            return value != self.not_equals
        return value in (self.in_ or ())


class Weighted(BaseModel):
    """A target and the factor of its loss in the sum."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    target: Annotated[Target, BeforeValidator(parser(Target, "pretrain.targets")), PlainSerializer(to_spec)]
    weight: float = Field(1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, spec: object) -> object:
        """In YAML the weight stands among the target's fields: `{use: ..., weight: 1}`."""
        if isinstance(spec, dict) and ("use" in spec or "target" not in spec):  # a target may have a field `target`
            rest = {name: value for name, value in spec.items() if name != "weight"}
            return {"target": rest, **({"weight": spec["weight"]} if "weight" in spec else {})}
        return spec


class TextPolicy(BaseModel):
    """Which of a sample's captions are drawn, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sources: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Only texts whose `source` is among these, and how readily each source is drawn of those that a sample has,
    however many texts it has of each: `{subtitles: 1}` for a transcript, `{alt: 1, generated: 1}` for half and half.
    None: all alike."""
    weight_column: str | None = None
    """Column of the texts (`Pack.text_columns`) in proportion to which they are drawn; 0 and null are never drawn."""
    language_alpha: float | None = Field(None, ge=0, le=1)
    """Languages are drawn in proportion to n^alpha, n being how often they are without it, which is the number of their
    texts where samples have as many each: 1 as they are, 0 all alike (temperature sampling; arXiv:1907.05019). Samples
    are seen the more often the rarer their languages are. Exact for one caption a sample (`captions_per_image`); of
    several different ones no language can have more than the samples have."""


class Views(BaseModel):
    """Pictures as teachers saw them (`curation.signals.augmented_image_embedding`), in place of windows and colours of
    the run's own: each time another of the stored views, with the embedding that a teacher gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: str
    """Column with the parameters of the views, such as `clip_augmentations`."""
    embeddings: tuple[str, ...] = Field(min_length=1)
    """Columns with one vector a view, one after the other, such as `clip_augmented_embeddings`; to targets they are the
    vector of the view that is shown."""


class Share(BaseModel):
    """A further dataset version that is mixed in, such as an older one to replay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    share: float = Field(gt=0, lt=1)
    """Of all samples seen. The config's own version has what the others leave."""
    where: tuple[Clause, ...] = ()
    subset: str | None = None


class Lora(BaseModel):
    """Low-rank updates of linear layers (arXiv:2106.09685): W + (alpha / rank) B A, only A and B are trained.

    After training they are merged into the weights, so the run's model is an ordinary one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    layers: tuple[str, ...] = Field(min_length=1)
    """Patterns (`*` stands for anything) of the names of linear layers in the model."""
    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)


class TrainConfig(BaseModel):
    """One training run on one dataset version."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field("model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """First part of the run folder's name."""
    version: str = "latest"
    """Dataset version: its name, folder name, the start of its digest (6 digits or more), `latest`, or a URI."""
    where: tuple[Clause, ...] = ()
    """Conditions that a sample must all meet to be trained on."""
    subset: str | None = None
    """Parquet file of `sample_uid` and, if there, `weight`: only these samples, as often as their weight says."""
    mixture: tuple[Share, ...] = ()
    """Further versions that are mixed in, each with its share of the samples seen."""
    texts: TextPolicy = Field(default_factory=lambda: TextPolicy.model_validate({}))
    """Which captions are drawn."""
    decontamination: Literal["required", "waived"] = "required"
    """Whether a version must have been checked, all of it, against evaluation sets (`decontaminate` in its recipe)."""
    exclude_languages: tuple[str, ...] = ()
    """Texts all of whose languages are among these are left out (and evaluated separately)."""
    model: Annotated[
        ModelConfig,
        BeforeValidator(parser(ModelConfig, "pretrain.encoders", default="pretrain.model.Streams")),
        PlainSerializer(to_spec),
    ]
    targets: tuple[Weighted, ...] = Field(min_length=1)
    init: str | None = None
    """Run folder or safetensors file whose weights training starts from: the model's, and those of targets that stand
    at the same place. None: as `model` says."""
    init_share: float = Field(0.0, ge=0, le=1)
    """Share of `init` in the weights that the run leaves: between what it started from and what it learned
    (WiSE-FT, arXiv:2109.01903; continual updates, arXiv:2408.14471)."""
    freeze: tuple[str, ...] = ()
    """Patterns (`*` stands for anything) of parameter names that are not trained, such as `model.streams.image.*`."""
    lora: Lora | None = None
    image_size: int | None = Field(None, ge=8, le=1024)
    """Side of the square pictures in pixels; by default what the model wants."""
    batch_size: int = Field(128, ge=2)
    """Samples of one optimizer step over all workers."""
    captions_per_image: int = Field(4, ge=1)
    """Texts drawn for each sample of a batch; the picture is encoded once for all of them."""
    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    """Length of training: exactly one of `steps` and `epochs`."""
    lr: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(50, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up: down to a hundredth of `lr` at the last step, or not at all."""
    weight_decay: float = Field(0.05, ge=0)
    beta2: float = Field(0.98, gt=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0, allow_inf_nan=True)
    """Longer gradients are cut to this norm; infinity (`.inf`): none is."""
    micro_batch: int | None = Field(None, ge=1)
    """Samples of a worker that go through the towers at a time; the loss is that of the whole batch (GradCache)."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights; the run's model is then the average."""
    activation_checkpointing: bool = False
    """Compute the towers' activations anew for the gradient: less memory, a third more time."""
    compile: bool = False
    """Run the towers through `torch.compile`."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """How several workers hold the model: each all of it, or each a part (FSDP2)."""
    pictures: Literal["auto", "cached", "streamed"] = "auto"
    """cached: decoded once to squares of uint8 on disk; streamed: decoded when seen; auto: cached up to 4 GB."""
    sounds: Literal["cached", "streamed"] = "streamed"
    """cached: log-mel frames are kept on disk once they are made, but for random windows of longer sounds (32 kB a
    second with 80 bands every 10 ms); streamed: decoded when seen."""
    longer_sounds: Longer = "random"
    """What becomes of a sound longer than its stream takes: a `random` window, the `middle` one, or `leave_out`."""
    loader_workers: int = Field(0, ge=0)
    """Processes of each worker that read and decode; 0: threads of the worker itself."""
    views: Views | None = None
    """Show the views that teachers saw; pictures are then streamed."""
    augment: bool = True
    """Random crop and colour jitter; never a flip, which would change what letters say."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Below 2^63: the table of runs holds it as an int64."""
    num_workers: int = Field(1, ge=1)
    """Training processes; the batch is cut evenly among them."""
    min_workers: int | None = Field(None, ge=1)
    """With Ray: fewest processes that training starts and goes on with while nodes come and go; `num_workers` is the
    most. Any number between trains on the same global batches. None: always `num_workers`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: int | None = Field(None, ge=1)
    """Threads of each worker; by default its share of the cores."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    checkpoints_kept: int | None = Field(2, ge=1)
    """So many of a run's newest checkpoints stay on disk, each with the optimizer's state; null: all of them."""

    not_in_key: ClassVar[frozenset[str]] = frozenset(
        {"name", "version", "device", "num_threads", "checkpoint_every", "checkpoints_kept", "num_workers",
         "min_workers", "sharding", "sounds", "loader_workers", "decontamination", "init", "subset", "mixture"}
    )  # fmt: skip
    """Fields that do not change what is learned (but for the last digits), or that enter the key by digests."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give exactly one of steps and epochs, not steps={self.steps} and epochs={self.epochs}")
        fewest = self.num_workers if self.min_workers is None else self.min_workers
        if fewest > self.num_workers:
            raise ValueError(f"min_workers {fewest} is above num_workers {self.num_workers}")
        for number in range(fewest, self.num_workers + 1):
            if self.batch_size % (number * (self.micro_batch or 1)):
                raise ValueError(
                    f"batch_size {self.batch_size} cannot be cut evenly among num_workers {number}"
                    + (f" in pieces of micro_batch {self.micro_batch}" if self.micro_batch else "")
                    + (f" (between min_workers {fewest} and num_workers)" if fewest < self.num_workers else "")
                )
        unread = sorted(set(self.views.embeddings) - set(self.columns())) if self.views else []
        if unread:
            raise ValueError(f"views.embeddings: no target reads {unread}; columns that targets read: {self.columns()}")
        known = self.model.stream_names()
        for index, weighted in enumerate(self.targets):
            for stream in weighted.target.streams():
                if stream not in known:
                    raise ValueError(f"targets.{index}: no stream {stream!r}; valid: {', '.join(known)}")
            check(index, weighted.target, self.model)
        Wanted.by(weighted.target for weighted in self.targets)
        if sum(each.share for each in self.mixture) >= 1:
            raise ValueError(f"mixture: shares {[each.share for each in self.mixture]} leave nothing for the version")
        if self.mixture and min(self.main_share(), *(each.share for each in self.mixture)) < 1 / BLOCK:
            raise ValueError(f"mixture: shares below 1/{BLOCK} of all samples cannot be kept")
        momenta = {each.target.momentum() for each in self.targets} - {None}
        if len(momenta) > 1:
            raise ValueError(
                f"targets ask for different momentum models: {sorted(m for m in momenta if m is not None)}"
            )
        return self

    def columns(self) -> tuple[str, ...]:
        """Columns of the version that the targets read."""
        return tuple(dict.fromkeys(name for weighted in self.targets for name in weighted.target.columns()))

    def main_share(self) -> float:
        """Share of the samples seen that come from the config's own version."""
        return 1.0 - sum(each.share for each in self.mixture)

    def num_steps(self, num_samples: int) -> int:
        """Optimizer steps of the whole run on a version with `num_samples` samples that qualify."""
        if self.steps is not None:
            return self.steps
        return max(1, round((self.epochs or 0) * num_samples / (self.batch_size * self.main_share())))


def parse_config(spec: object, place: str = "config") -> TrainConfig:
    """Check a config given as a mapping. Raises ConfigError with a line for each fault."""
    if not isinstance(spec, dict):
        raise ConfigError(f"{place}: must be a mapping of fields, not {type(spec).__name__}")
    try:
        return TrainConfig.model_validate(spec)
    except ValidationError as error:
        lines = "\n  ".join(describe(error, TrainConfig))
        raise ConfigError(f"{place} cannot be used:\n  {lines}") from error


def load_config(path: Path, **changes: object) -> TrainConfig:
    """Read a config from YAML; `changes` replace top-level fields. Raises ConfigError."""
    return parse_config(read_spec(path, **changes), str(path))


def read_spec(path: Path, **changes: object) -> object:
    """What stands in a YAML file; `changes` replace top-level fields. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        spec = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: it is not UTF-8: {error.reason} at byte {error.start}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: no valid YAML: {error}") from error
    try:
        refuse_repeated_keys(root, path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return {**spec, **changes} if isinstance(spec, dict) else spec
