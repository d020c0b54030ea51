"""Recipes: the YAML that names sources, download limits, signals, policy, packing and training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, StringConstraints, model_validator

from curation.av.cutting_up import SegmentOptions
from curation.av.packing import PackMedia
from curation.duplicate_search import SegmentSearch, SemanticSearch, TextSearch
from curation.generator import GENERATED
from curation.hash_bands import MAX_RADIUS
from curation.near_duplicates import DEFAULT_RADIUS
from curation.policy import Policy, PolicyItem, Rule
from curation.schema import LINKS, MEDIA, SEGMENT_TEXTS, SEGMENTS, TEXTS, UNSEEN
from curation.signal import Signal
from curation.step import Step, suggest
from pipelines.download_options import Download
from pipelines.enrich_checks import check_generators
from pipelines.pack_names import own_name
from pipelines.search_checks import check_searches
from pipelines.segment_checks import check_segments
from pipelines.space_checks import check_spaces
from pipelines.used_steps import UsedGenerator, UsedSignal
from pipelines.yaml_place import Places, RecipeError, load

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]


class Columns(Step):
    """Which columns of the link table hold what."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"picture"})

    url: str = "url"
    text: list[str] = ["text"]
    """One column of captions or several (alt, title ...): each non-null value is a text of the sample."""
    language: str | None = None
    """Column with the claimed language (BCP 47), if there is one."""
    hash: str | None = None
    """Column with the expected SHA-256 or MD5 (hex) of the bytes, if the link table promises one; also called `sha256`
    or `md5` here."""
    extra: list[str] = []
    """Columns kept beside the texts, for SQL and for packing (a split, a category)."""
    picture: str | None = None
    """Of sounds: column with the link of the picture that goes with each, if there is one. It is fetched with the
    sound, is what signals of pictures see of it, and is packed as its `image`."""

    def key_extras(self) -> dict[str, object]:
        # so that keys of pools without such a column are what they were before there was one
        return {} if self.picture is None else {"picture": self.picture}

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        named = [name for name in ("hash", "sha256", "md5") if values.get(name) is not None]
        if len(named) > 1:
            raise ValueError(
                f"one column of digests at most, not {' and '.join(named)}: each row has the one or the other"
            )
        found = {("hash" if name in ("sha256", "md5") else name): value for name, value in values.items()}
        return {**found, "text": [found["text"]]} if isinstance(found.get("text"), str) else found

    @model_validator(mode="after")
    def _names_of_their_own(self) -> Columns:
        decided = ("kept", "rejected_by", "saw", "draw", "duplicate_group", "keep_probability", "sampling_weight")
        taken = {*LINKS.names, *SEGMENTS.names, *SEGMENT_TEXTS.names, *decided, "language", "picture_link"}
        spelled = [name.lower() for name in self.extra]  # SQL does not tell `Text` from `text`
        for place, name in enumerate(spelled):
            if name in taken:
                raise ValueError(f"extra: the store has a column {name!r} of its own: rename that of the link table")
            if name in spelled[:place]:
                raise ValueError(f"extra: {name!r} is named twice")
        return self


class Source(Step):
    """Link tables: Parquet, CSV, TSV or JSONL files (the last three also gzipped); or folders of media."""

    links: list[Path] = []
    """Files or folders of files, relative to the recipe; `tamis run --links` takes their place. A folder may also be
    an output folder of img2dataset, or hold videos and sounds (`pipelines.media_folder`)."""
    modality: Literal["image", "video", "audio", "av"] = "image"
    """What the links lead to. `video`: a medium with pictures in motion, its sound with it; `audio`: a medium with
    sound; `av`: either. What of these a medium holds is told by its bytes."""
    columns: Columns = Columns()


class DuplicateSearch(Step):
    """Which media count as duplicates of each other; which of them stays is the policy's decision."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"segments"})

    exact: list[str] = ["sha256"]
    """Media columns that must be equal: `sha256` (bytes), `pixel_hash` (decoded pixels), `final_url` (where redirects
    end). Links with one canonical URL are one sample from the start."""
    perceptual: bool = True
    """Whether near-duplicates are looked for too (needs `curation.signals.perceptual_hash.PerceptualHash`)."""
    radius: int = Field(default=DEFAULT_RADIUS, ge=0, le=MAX_RADIUS)
    """Largest Hamming distance of two 64-bit hashes of copies (re-encoded, resized, marked, cropped by 5%, mirrored);
    every candidate is confirmed on the thumbnails, and pictures of little detail by a shared caption, so look-alikes
    are not merged."""
    texts: TextSearch | None = None
    """Whether and how near-duplicate texts are looked for."""
    semantic: SemanticSearch | None = None
    """Whether and how media (or texts) of nearly one embedding are looked for."""

    segments: SegmentSearch | None = None
    """Whether and how copies among segments are looked for, across containers, codecs and trims (needs
    `curation.signals.media_fingerprint.MediaFingerprint`)."""

    def key_extras(self) -> dict[str, object]:
        # so that keys of pools of pictures are what they were before there were segments
        return {} if self.segments is None else {"segments": self.segments}

    def of_media(self) -> DuplicateSearch:
        """What equal and near-duplicate media depend on."""
        return self.changed(texts=None, semantic=None)


class FaceBlur(Step):
    """Which faces of a version's pictures are blurred (`blur_faces: {}` takes what the signal `Faces` found)."""

    boxes: str = "face_boxes"
    """Column with the boxes of each picture: left, top, right, bottom as shares 0-1 of width and height."""
    quality: int = Field(default=95, ge=1, le=100)
    """Of a JPEG or WebP that is encoded anew."""


def are_boxes(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold boxes, as `curation.boxes.BoxSignal` writes them."""
    kinds = (pa.types.is_list, pa.types.is_fixed_size_list)
    return pa.types.is_list(kind) and any(each(kind.value_type) for each in kinds)


class Pack(Step):
    """How a dataset version is cut into shards."""

    samples_per_shard: int = Field(default=1000, ge=1)
    columns: list[str] = []
    """Columns that travel with each sample beyond the fixed ones; of a text's column, the first text that has one."""
    text_columns: list[str] = []
    """Columns of texts and text signals that travel with each text."""
    media: PackMedia = PackMedia()
    """Of segments: which bytes travel, and in which row groups."""
    blur_faces: FaceBlur | None = None
    """Whether faces are made unrecognisable in what is packed; the manifest then says how many (`face_blur`)."""

    def column_names(self) -> list[tuple[tuple[str, ...], str]]:
        """(place in `pack`, name) of every column that packing reads by name."""
        named = [((kind,), name) for kind in ("columns", "text_columns") for name in getattr(self, kind)]
        return [*named, *([(("blur_faces", "boxes"), self.blur_faces.boxes)] if self.blur_faces else [])]


DOWNLOADED = "downloaded"
"""The rule that no text of a medium that is not there is kept."""


def require_media(policy: list[PolicyItem]) -> None:
    """Put the rule `downloaded` before all others, unless the policy has one of that name."""
    if not any(item.name == DOWNLOADED for item in policy):
        policy.insert(0, Rule(rule=DOWNLOADED, keep="status = 'ok'"))


class Round(Step):
    """One pass of score, dedupe, select and pack, and the training on its result, if any."""

    name: Identifier
    signals: list[UsedSignal] = []
    """Signals beyond those of the recipe and of the rounds before; a model may be one that an earlier round trained."""
    policy: Policy
    """Rules, in order; before them stands the rule `downloaded`: no text of a medium that is not there is kept."""
    train: dict[str, Any] | None = None
    """Training on the version that this round packs: the fields of `pretrain.config.TrainConfig`."""


class Recipe(Step):
    """Everything that decides what a dataset version holds."""

    name: Identifier
    description: str = ""
    seed: int = 0
    source: Source = Source()
    samples_per_part: int = Field(default=1000, ge=1, le=1_000_000)
    """Samples of one part of the pool: what one worker does at a time and what a crash can cost."""
    download: Download = Download()
    segment: SegmentOptions | None = None
    """How videos and sounds become segments; required where `source.modality` is not `image`, and only there."""
    enrich: list[UsedGenerator] = []
    """What writes texts beside those of the links, before anything is scored (`curation.generator`)."""
    signals: list[UsedSignal] = []
    duplicates: DuplicateSearch = DuplicateSearch()
    policy: Policy | None = None
    train: dict[str, Any] | None = None
    pack: Pack = Pack()
    rounds: list[Round] = []
    """In place of `policy` and `train`: several rounds, each on the signals of all before it."""

    @model_validator(mode="after")
    def _policy_or_rounds(self) -> Recipe:
        if (self.policy is None) == (not self.rounds):
            raise ValueError("a recipe has either a `policy` or `rounds`")
        if self.rounds and self.train is not None:
            raise ValueError("a recipe with `rounds` trains inside a round: move `train` there")
        names = [each.name for each in self.rounds]
        if len(set(names)) != len(names):
            raise ValueError(f"two rounds have the same name: {names}")
        return self

    @model_validator(mode="after")
    def _nothing_kept_without_media(self) -> Recipe:
        for policy in [each.policy for each in self.rounds] or [[] if self.policy is None else self.policy]:
            require_media(policy)
        return self

    def all_rounds(self) -> list[Round]:
        """The rounds; a recipe with a single policy has one, called `main`."""
        return self.rounds or [Round(name="main", policy=self.policy or [], train=self.train)]

    def with_model(self, round_name: str, model: str) -> Recipe:
        """The recipe with `run:<round_name>`, the model that a round trains, replaced by where that model lies."""

        def resolved(signals: list[Signal]) -> list[Signal]:
            wanted = f"run:{round_name}"
            return [s.changed(model=model) if getattr(s, "model", None) == wanted else s for s in signals]

        rounds = [each.changed(signals=resolved(each.signals)) for each in self.rounds]
        return self.changed(signals=resolved(self.signals), rounds=rounds)

    def signals_until(self, index: int) -> list[Signal]:
        """Signals known in round `index`: those of the recipe and of the rounds up to it."""
        return [*self.signals, *(signal for each in self.all_rounds()[: index + 1] for signal in each.signals)]


def load_recipe(path: Path, adapted: Callable[[Recipe], Recipe] = lambda recipe: recipe) -> Recipe:
    """Read and check a recipe. Raises RecipeError naming file, line, value and valid choices, before anything runs.

    adapted: what the command line makes of the file, before the rules are held against the columns that there will be.
    """
    from pipelines.policy_checks import check_policy  # 16 MB of DuckDB that workers, who read no policy, do without

    recipe, places = load(path, Recipe)
    check_segments(recipe, places)
    check_generators(recipe, places)
    recipe = adapted(recipe)
    for index, each in enumerate(recipe.all_rounds()):
        prefix: tuple[int | str, ...] = ("rounds", index) if recipe.rounds else ()
        types = column_types(recipe, recipe.signals_until(index), places)
        check_policy(each.policy, {name: kind for name, kind in types.items() if name != "bytes"}, places, prefix)
    types = column_types(recipe, recipe.signals_until(len(recipe.all_rounds()) - 1), places)
    _check_columns(recipe, types, places)
    check_searches(recipe, types, places)
    links = [path.parent / link for link in recipe.source.links]
    try:
        fetch = recipe.download.fetch.with_lists(path.parent)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{places('download', 'fetch')}: {error}") from error
    return recipe.changed(source=recipe.source.changed(links=links), download=recipe.download.changed(fetch=fetch))


def column_types(recipe: Recipe, signals: list[Signal], places: Places) -> dict[str, pa.DataType]:
    """Type of every column that a rule may read. Raises RecipeError where two signals write or none writes a column."""
    schemas = (MEDIA, TEXTS) if recipe.segment is None else (SEGMENTS, SEGMENT_TEXTS)
    types = {field.name: field.type for schema in schemas for field in schema if field.name not in UNSEEN}
    types |= dict.fromkeys(recipe.source.columns.extra, pa.string())
    types |= {field.name: field.type for field in GENERATED if recipe.enrich}
    where: list[tuple[int | str, ...]] = [("signals", i) for i in range(len(recipe.signals))]
    where += [("rounds", r, "signals", i) for r, each in enumerate(recipe.rounds) for i in range(len(each.signals))]
    providers: dict[str, str] = {}
    spelled = {name.lower() for name in types}  # SQL does not tell `Text` from `text`
    for position, signal in enumerate(signals):
        for field in signal.writes():
            if field.name.lower() in spelled:
                other = providers.get(field.name, "the pool's tables")
                raise RecipeError(
                    f"{places(*where[position])}: {type(signal).__name__} writes the column {field.name!r}, "
                    f"which {other} has already: give one of them another name"
                )
            providers[field.name] = type(signal).__name__
            types[field.name] = field.type
            spelled.add(field.name.lower())
    for position, signal in enumerate(signals):
        for name in signal.reads():
            if name not in types:
                raise RecipeError(
                    f"{places(*where[position])}: {type(signal).__name__} reads the column {name!r}, which no "
                    f"signal of the recipe writes; {suggest(name, list(types))}"
                )
    check_spaces(signals, where, places)
    return types


def _check_columns(recipe: Recipe, types: dict[str, pa.DataType], places: Places) -> None:
    types = types | {"keep_probability": pa.float64(), "sampling_weight": pa.float64()}
    types.pop("bytes", None)  # which travel in any case, as `image`
    wanted: list[tuple[tuple[str, ...], str]] = [(("pack", *at), name) for at, name in recipe.pack.column_names()]
    wanted += [(("duplicates", "exact"), name) for name in recipe.duplicates.exact]
    if recipe.duplicates.perceptual:
        names = ("look", "phash", "phash_color", "phash_mirror", "phash_crops", "thumbnail")
        wanted += [(("duplicates", "perceptual"), name) for name in names]
    for where, name in wanted:
        if name not in types:
            raise RecipeError(f"{places(*where)}: there is no column {name!r}; {suggest(name, list(types))}")
        if (wrong := own_name(where[-1], name, types)) is not None:
            raise RecipeError(f"{places(*where)}: {wrong}")
    if recipe.pack.blur_faces and not are_boxes(types[recipe.pack.blur_faces.boxes]):
        raise RecipeError(f"{places('pack', 'blur_faces')}: {recipe.pack.blur_faces.boxes!r} is no column of boxes")
    signals = recipe.signals_until(len(recipe.all_rounds()) - 1)
    of_texts = {
        *(TEXTS if recipe.segment is None else SEGMENT_TEXTS).names,
        *recipe.source.columns.extra,
        *GENERATED.names,
        "keep_probability",
        "sampling_weight",
    } - {"sample_uid"}
    of_texts |= {name for signal in signals if signal.level == "text" for name in signal.writes().names}
    for name in recipe.duplicates.exact:
        if name in of_texts:
            choices = [each for each in types if each not in of_texts]
            raise RecipeError(
                f"{places('duplicates', 'exact')}: {name!r} is a column of texts, media are compared; "
                f"{suggest(name, choices)}"
            )
