"""What of a run can be wrong, asked before any data is read: manifests and footers are all that is opened here.

Every message begins with the place in the config, and lists the valid names where a name is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pretrain.build import build_objective
from pretrain.columns import holds_numbers
from pretrain.component import to_spec
from pretrain.config import Clause, ConfigError, TrainConfig
from pretrain.dataset import check_decontamination, shape_of
from pretrain.embeddings.base import OF_TEXTS
from pretrain.engine import repeated_blocks
from pretrain.frozen import freeze, must_train_something
from pretrain.lora import add_lora
from pretrain.model import Model, check_fits, weights_file
from pretrain.objective import Objective
from pretrain.rows import MEDIA
from pretrain.source import subset_schema
from pretrain.version import Version, VersionError, find_version


def find_versions(store: Path, config: TrainConfig) -> list[Version]:
    """The config's own version, then those of its mixture. Raises VersionError with the place, and those there are."""
    wanted = [("version", config.version), *((f"mixture.{i}.version", m.version) for i, m in enumerate(config.mixture))]
    found = []
    for place, name in wanted:
        try:
            found.append(find_version(store, name))
        except VersionError as error:
            raise VersionError(f"{place} = {name!r}: {error}") from error
    return found


def check_run(config: TrainConfig, versions: Sequence[Version]) -> Model:
    """The model of a run all of whose names fit its versions and itself. Raises ConfigError."""
    for version in versions:
        check_decontamination(version, config)
    _check_files(config)
    _check_columns(config, versions)
    model = build_model(config)
    _check_sources(model, versions)
    try:
        build_objective(model, config)
        if config.activation_checkpointing:
            repeated_blocks(model)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    return model


def build_model(config: TrainConfig) -> Model:
    """The model of a config with its start weights. Raises ConfigError where its parts do not fit together."""
    try:
        return config.model.build(config.image_size)
    except ConfigError:
        raise
    except (ValueError, OSError) as error:  # OSError: weights that are not there
        raise ConfigError(f"model: {error}") from error


def check_parts(config: TrainConfig) -> None:
    """What can be asked of a config without its versions and start weights: whether model, targets, `freeze` and `lora`
    fit together. Raises ConfigError."""
    try:
        model = config.model.without_weights().build(config.image_size)
        if config.lora is not None:
            add_lora(model, config.lora)
        objective = Objective(model, config)
        freeze(objective, config.freeze)
        must_train_something(objective)
        shape_of(model)
        if config.activation_checkpointing:
            repeated_blocks(model)
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigError(f"model: {error}") from error


def check_later(name: str, config: TrainConfig, store: Path, before: TrainConfig | None) -> None:
    """A stage that comes later, before the first begins: all but the weights that it will start from.

    before: of the stage whose weights these are, None where it starts otherwise. Raises ConfigError naming the stage.
    """
    try:
        versions = find_versions(store, config)
        for version in versions:
            check_decontamination(version, config)
        _check_files(config)
        _check_columns(config, versions)
        check_parts(config)
        if before is None and config.init is None and config.init_share:
            raise ConfigError(f"init_share {config.init_share}: there is no init whose share it could be")
        if before is not None:
            _check_follows(config, before)
    except (ConfigError, VersionError) as error:
        raise ConfigError(f"stage {name}: {error}") from error


def _check_follows(config: TrainConfig, before: TrainConfig) -> None:
    """Raises ConfigError where a stage's model cannot start from the weights of the stage before."""
    if (to_spec(config.model), config.image_size) == (to_spec(before.model), before.image_size):
        return
    model, theirs = (each.model.without_weights().build(each.image_size) for each in (config, before))
    try:
        check_fits(model, theirs.state_dict(), "the model of the stage before")
    except ValueError as error:
        raise ConfigError(f"init: {error}; say `init: fresh`") from error


def check_batch(config: TrainConfig, num_samples: Sequence[int]) -> None:
    """num_samples: of each source, that qualify. Raises ConfigError where a batch holds more than there are: it would
    hold samples twice."""
    shares = (config.main_share(), *(each.share for each in config.mixture))
    for place, share, number in zip(_places(config), shares, num_samples, strict=True):
        if config.batch_size * share > number:
            of = "" if len(shares) == 1 else f", {share:.3g} of them from {place}version"
            raise ConfigError(
                f"batch_size = {config.batch_size}{of}: only {number:,} samples qualify, so a batch would hold some of "
                f"them twice; take at most {int(number / share)}"
            )


def _places(config: TrainConfig) -> list[str]:
    """What stands before `where`, `subset` of each version in messages."""
    return ["", *(f"mixture.{number}." for number in range(len(config.mixture)))]


def _check_files(config: TrainConfig) -> None:
    """Files that the config names: start weights and subsets."""
    if config.init is not None:
        try:
            weights_file(Path(config.init))
        except FileNotFoundError as error:
            raise ConfigError(f"init = {config.init!r}: {error}; give a run's folder or a safetensors file") from error
    for place, subset in zip(_places(config), (config.subset, *(each.subset for each in config.mixture)), strict=True):
        if subset is not None:
            try:
                subset_schema(Path(subset))
            except ConfigError as error:
                raise ConfigError(f"{place}{error}") from error


def _check_columns(config: TrainConfig, versions: Sequence[Version]) -> None:
    """Columns that conditions, targets and the choice of texts name."""
    conditions = (config.where, *(each.where for each in config.mixture))
    for place, version, where in zip(_places(config), versions, conditions, strict=True):
        schema = version.schema()
        plain = sorted(set(schema.names) - {*MEDIA, "texts"})
        _check_where(f"{place}where", where, plain, version)
        fields = _text_fields(schema)
        for index, weighted in enumerate(config.targets):
            for name in weighted.target.columns():
                kind, known = _column(name, schema, fields, plain)
                if kind is None:
                    raise ConfigError(
                        f"targets.{index}: column {name!r}: {version.folder.name} has: {', '.join(sorted(known))}"
                    )
                if not holds_numbers(kind):
                    raise ConfigError(
                        f"targets.{index}: column {name!r} of {version.folder.name} holds {kind}, no numbers"
                    )
        if config.views is not None and config.views.parameters not in plain:
            raise ConfigError(
                f"views.parameters = {config.views.parameters!r}: {version.folder.name} has: {', '.join(plain)}"
            )
        texts = config.texts
        if texts.weight_column is not None and texts.weight_column not in fields:
            raise ConfigError(
                f"texts.weight_column = {texts.weight_column!r}: the texts of {version.folder.name} have: "
                f"{', '.join(sorted(fields))}"
            )
        if texts.sources is not None and "source" not in fields:
            raise ConfigError(
                f"texts.sources: the texts of {version.folder.name} have no `source`; they have: "
                f"{', '.join(sorted(fields))}"
            )


def _check_where(place: str, where: tuple[Clause, ...], known: list[str], version: Version) -> None:
    for index, clause in enumerate(where):
        if clause.column not in known:
            raise ConfigError(
                f"{place}.{index}.column = {clause.column!r}: {version.folder.name} has: {', '.join(known)}"
            )


def _column(
    name: str, schema: pa.Schema, fields: dict[str, pa.DataType], plain: list[str]
) -> tuple[pa.DataType | None, list[str]]:
    """(type of a column that a target names, None if there is none; the names that there are)."""
    if name.startswith(OF_TEXTS):
        return fields.get(name.removeprefix(OF_TEXTS)), [OF_TEXTS + each for each in fields]
    return (schema.field(name).type if name in plain else None), [*plain, *(OF_TEXTS + each for each in fields)]


def _text_fields(schema: pa.Schema) -> dict[str, pa.DataType]:
    """What is known of each text."""
    if "texts" not in schema.names:
        return {}
    kind = schema.field("texts").type.value_type
    return {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}


def _check_sources(model: Model, versions: Sequence[Version]) -> None:
    """That some version has what the model's streams read."""
    there = {name for version in versions for name in version.columns() if name in MEDIA}
    there |= {"audio"} if "video" in there else set()  # a film holds its sound
    wanted = shape_of(model).sources
    for version in versions:
        fields = _text_fields(version.schema())
        for name in sorted(name for name in wanted if name.startswith(OF_TEXTS)):
            if not _is_said(fields.get(name.removeprefix(OF_TEXTS))):
                usable = [OF_TEXTS + field for field, kind in fields.items() if _is_said(kind)]
                raise ConfigError(
                    f"model.streams: a stream reads {name!r}, but the texts of {version.folder.name} have no such "
                    f"field of texts; they have: {', '.join(sorted(usable))}"
                )
    lacking = sorted(name for name in wanted - there - {"text"} if not name.startswith(OF_TEXTS))
    if lacking:
        raise ConfigError(
            f"model.streams: read {lacking}, of which no version of this run has a column; there are: "
            f"{', '.join([*sorted(there), 'text'])}"
        )


def _is_said(kind: pa.DataType | None) -> bool:
    """Whether a field of this type holds a text, or several."""
    if kind is not None and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        kind = kind.value_type
    if kind is not None and pa.types.is_struct(kind):
        place = kind.get_field_index("text")
        kind = kind.field(place).type if place >= 0 else None
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))
