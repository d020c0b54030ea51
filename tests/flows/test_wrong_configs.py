"""Every wrong name or number in a training config ends `tamis train` before any data is read.

The message says the place in the YAML and what would be right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from flows.training import train_config
from pipelines.store import Store
from pipelines.yaml_place import RecipeError
from pretrain.config import parse_config
from pretrain.run import run_key
from pretrain.version import find_version

sys.path.append(str(Path(__file__).parents[1] / "pretrain"))

import tiny
from tiny import sample, spec, uid, write_version

Change = dict[str, Any] | Callable[[Path], dict[str, Any]]
HALF = {"version": "tiny", "share": 0.5}
NCE = {"use": "pretrain.targets.info_nce.InfoNCE"}
TRANSFORMER = {"use": "pretrain.encoders.transformer.Transformer"}


def target(name: str, **fields: Any) -> dict[str, Any]:
    return {"targets": [{"use": f"pretrain.targets.{name}", **fields}]}


def model(stream: str | None = None, part: str = "", **fields: Any) -> dict[str, Any]:
    """The tiny model with one part of a stream, or other fields of the model, changed."""
    made: dict[str, Any] = spec()["model"]
    if stream is None:
        return {"model": {**made, **fields}}
    made["streams"][stream] = {**made["streams"][stream], part: fields}
    return {"model": made}


def stages(**later: Any) -> dict[str, Any]:
    return {"stages": [{"stage": "one"}, {"stage": "two", **later}]}


NUMBERS = {"version": "numbers"}
"""With a vector of 4 numbers (`four`), one of 6 beside each text (`texts.six`), and half a number (`half`)."""


def taught(a: str, b: str) -> dict[str, Any]:
    return target("distillation.Distillation", teachers_a=[a], teachers_b=[b]) | NUMBERS


def with_numbers(number: int, width: int) -> dict[str, Any]:
    made = sample(number)
    texts = [{**text, "six": [0.5] * 6} for text in made["texts"]]
    return {**made, "texts": texts, "four": [0.5] * width, "half": 0.5}


def subset(table: dict[str, Any] | str) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        path = folder / "subset.parquet"
        if isinstance(table, str):
            path.write_text(table)
        else:
            pq.write_table(pa.table(table), path)
        return {"subset": str(path)}

    return made


def pickled(folder: Path) -> dict[str, Any]:
    torch.save({"x": torch.zeros(1)}, folder / "weights.pt")
    return {"init": str(folder / "weights.pt")}


def other_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    save_file({"model.x": torch.zeros(1)}, folder / "other.safetensors")
    return {"init": str(folder / "other.safetensors")}


EARLY: dict[str, tuple[Change, list[str]]] = {
    "a field": ({"lerning_rate": 1}, ["lerning_rate = 1", "no such field", "lr", "warmup_steps"]),
    "no model": ({"model": None}, ["model", "mapping with `use`"]),
    "a module": ({"targets": [{"use": "pretrain.targets.infonce.InfoNCE"}]},
                 ["targets.0", "cannot be imported", "pretrain.targets.info_nce.InfoNCE"]),
    "a class": (target("info_nce.InfoNce"), ["targets.0", "no 'InfoNce'", "info_nce.InfoNCE", "siglip.SigLIP"]),
    "no import path": ({"targets": [{"use": "InfoNCE"}]}, ["targets.0", "must be an import path", "siglip.SigLIP"]),
    "an encoder for a target": ({"targets": [TRANSFORMER]}, ["targets.0", "is no Target", "siglip.SigLIP"]),
    "a target's field": (target("siglip.SigLIP", biass=1), ["targets.0", "biass = 1", "no such field", "bias"]),
    "weight 0": (target("info_nce.InfoNCE", weight=0), ["targets.0.weight = 0", "greater than 0"]),
    "a target's stream": (target("info_nce.InfoNCE", b="texts"), ["targets.0", "'texts'", "valid: image, text"]),
    "one stream twice": (target("info_nce.InfoNCE", a="text"), ["targets.0", "must be two streams"]),
    "tokens of an encoder without": (target("late_interaction.LateInteraction"),
                                     ["targets.0", "reads tokens of 'image'", "none"]),
    "no fusion": (target("matching.ImageTextMatching"), ["targets.0", "needs model.fusion"]),
    "no decoder": (target("captioning.Captioning"), ["targets.0", "needs model.decoder"]),
    "dims": (target("matryoshka.Matryoshka", target=NCE, dims=[16, 64]), ["targets.0: ", "(16, 64)", "embed_dim 32"]),
    "a nested target that reads tokens": (
        target("matryoshka.Matryoshka", dims=[8], target={"use": "pretrain.targets.late_interaction.LateInteraction"}),
        ["targets.0", "must read vectors only; LateInteraction"]),
    "a head that cannot be cut": (
        target("matryoshka.Matryoshka", dims=[8, 32],
               target={"use": "pretrain.targets.graded.Graded", "target": NCE, "column": "width_px"}),
        ["targets.0: Matryoshka: target: Graded", "one width", "put Matryoshka inside it"]),
    "a queue that cannot be cut": (
        target("matryoshka.Matryoshka", dims=[8], target={"use": "pretrain.targets.queue.MomentumQueue",
                                                          "embed_dim": 8}),
        ["targets.0: Matryoshka: target: MomentumQueue", "one width"]),
    "cut twice": (
        target("matryoshka.Matryoshka", dims=[8, 32],
               target={"use": "pretrain.targets.matryoshka.Matryoshka", "target": NCE, "dims": [4, 16]}),
        ["targets.0: Matryoshka: target: its dims (4, 16) go beyond the 8"]),
    "endless epochs": ({"steps": None, "epochs": float("inf")}, ["epochs = inf", "finite"]),
    "an endless rate": ({"lr": float("inf")}, ["lr = inf", "finite"]),
    "an endless weight": (target("info_nce.InfoNCE", weight=float("inf")), ["targets.0.weight = inf", "finite"]),
    "an endless field": (target("distillation.Distillation", teachers_a=["a"], teachers_b=["b"],
                                teacher_scale=float("inf")),
                         ["targets.0", "teacher_scale = inf", "finite"]),
    "blocks to compute anew": ({"activation_checkpointing": True},
                               ["activation_checkpointing", "no row of blocks", "say false"]),
    "blocks of a later stage": (stages(activation_checkpointing=True), ["stage two: ", "activation_checkpointing"]),
    "width of a queue": (target("queue.MomentumQueue", embed_dim=64), ["targets.0: ", "embed_dim is 64", "model's 32"]),
    "a column": (target("graded.Graded", target=NCE, column="quality"),
                 ["targets.0", "'quality'", "category", "texts.clip_score"]),
    "a column of the texts": (target("graded.Graded", target=NCE, column="texts.quality"),
                              ["targets.0", "'texts.quality'", "texts.clip_score"]),
    "a column without numbers": (target("graded.Graded", target=NCE, column="category"),
                                 ["targets.0", "'category'", "string", "no numbers"]),
    "a column in where": ({"where": [{"column": "spilt", "equals": "x"}]},
                          ["where.0.column = 'spilt'", "category", "split"]),
    "a condition": ({"where": [{"column": "split", "equal": "x"}]}, ["where.0.equal = 'x'", "equals, in, not_equals"]),
    "two conditions": ({"where": [{"column": "split", "equals": "x", "not_equals": "y"}]},
                       ["where.0", "exactly one of equals, not_equals, in"]),
    "freeze": ({"freeze": ["model.streams.image.*", "models.*"]},
               ["freeze: 'models.*' matches no parameter", "model.streams.image."]),
    "everything frozen": ({"freeze": ["*"]}, ["freeze: nothing is left to train"]),
    "lora": ({"lora": {"layers": ["*.attn"]}}, ["lora.layers: '*.attn' matches no linear layer", "projection"]),
    "lora's rank": ({"lora": {"layers": ["*"], "rank": 0}}, ["lora.rank = 0", "greater than or equal to 1"]),
    "a version": ({"version": "tinny"}, ["version = 'tinny'", "no dataset version", "tiny-"]),
    "a version outside": ({"version": "/no/such/version"}, ["version = '/no/such/version'", "no manifest.json"]),
    "a URI": ({"version": "warp://core/version"}, ["version = 'warp://core/version'", "warp", "s3"]),
    "not decontaminated": ({"version": "unchecked"}, ["unchecked-", "decontamination is 'missing'", "waived"]),
    "a mixed version": ({"mixture": [{"version": "older", "share": 0.2}]},
                        ["mixture.0.version = 'older'", "there are:", "tiny-"]),
    "share 0": ({"mixture": [{"version": "tiny", "share": 0}]}, ["mixture.0.share = 0", "greater than 0"]),
    "share below 0": ({"mixture": [{"version": "tiny", "share": -0.5}]}, ["mixture.0.share = -0.5"]),
    "shares of 1": ({"mixture": [{"version": "tiny", "share": 0.5}] * 2}, ["mixture: shares", "leave nothing"]),
    "a share too small": ({"mixture": [{"version": "tiny", "share": 1e-5}]}, ["mixture: shares below 1/4096"]),
    "where of a mixed version": (
        {"mixture": [{"version": "tiny", "share": 0.5, "where": [{"column": "spilt", "equals": "x"}]}]},
        ["mixture.0.where.0.column = 'spilt'", "split"]),
    "subset of a mixed version": ({"mixture": [{"version": "tiny", "share": 0.5, "subset": "no.parquet"}]},
                                  ["mixture.0.subset: no.parquet", "cannot be read"]),
    "subset": ({"subset": "no.parquet"}, ["subset: no.parquet", "cannot be read"]),
    "subset without samples": (subset({"uid": ["a"]}), ["no column sample_uid; it has: uid"]),
    "subset that is no Parquet": (subset("select * from texts"), ["cannot be read as Parquet"]),
    "subset with words for weights": (subset({"sample_uid": ["a"], "weight": ["high"]}), ["weight holds string"]),
    "more workers than samples": ({"num_workers": 32}, ["batch_size 16", "num_workers 32"]),
    "workers that do not divide": ({"num_workers": 3}, ["batch_size 16", "cut evenly", "num_workers 3"]),
    "pieces that do not divide": ({"micro_batch": 5}, ["batch_size 16", "micro_batch 5"]),
    "fewest above most": ({"min_workers": 4, "num_workers": 2}, ["min_workers 4", "above num_workers 2"]),
    "workers without Ray": ({"num_workers": 2}, ["num_workers = 2", "needs Ray", "--address local"]),
    "a GPU": ({"device": "cuda"}, ["device = 'cuda'", "no GPU"]),
    "a device": ({"device": "tpu"}, ["device = 'tpu'", "'auto', 'cpu' or 'cuda'"]),
    "sharding": ({"sharding": "zero"}, ["sharding = 'zero'", "'ddp' or 'fsdp'"]),
    "precision": ({"precision": "fp16"}, ["precision = 'fp16'", "'fp32' or 'bf16'"]),
    "a word for a number": ({"lr": "fast"}, ["lr = 'fast'", "valid number"]),
    "schedule": ({"schedule": "cosin"}, ["schedule = 'cosin'", "'cosine', 'linear' or 'constant'"]),
    "ema": ({"ema": 1.5}, ["ema = 1.5", "less than 1"]),
    "steps and epochs": ({"epochs": 2}, ["exactly one of steps and epochs"]),
    "neither": ({"steps": None}, ["exactly one of steps and epochs"]),
    "a text policy": ({"texts": {"language_alfa": 1}}, ["texts.language_alfa = 1", "language_alpha"]),
    "language temperature": ({"texts": {"language_alpha": 2}}, ["texts.language_alpha = 2", "less than or equal to 1"]),
    "weights of texts": ({"texts": {"weight_column": "score"}},
                         ["texts.weight_column = 'score'", "clip_score"]),
    "no sources": ({"texts": {"sources": {"alt": 1}}}, ["texts.sources", "no `source`", "language"]),
    "init": ({"init": "models/none"}, ["init = 'models/none'", "no weights at"]),
    "init of a pickle": (pickled, ["c.yaml: init: ", "is no whole safetensors file", "pickled weights are not read"]),
    "init of another model": (other_weights, ["c.yaml: init: ", "does not fit", "missing ['streams.image."]),
    "a projection from nowhere": (target("old_space.OldSpace", older_dim=4, other="image"),
                                  ["targets.0: its projection", "init = None has none", "name a run that learned it"]),
    "a share of no init": ({"init_share": 0.5}, ["init_share 0.5", "no init"]),
    "a model's init": (model(init="no.safetensors"), ["model: no weights at no.safetensors"]),
    "a tokenizer": (
        model("text", "embedding", use="pretrain.embeddings.tokenizer_file.TokenizerTable", tokenizer="no.json"),
        ["model", "streams.text.embedding", "tokenizer: no tokenizer at no.json"]),
    "heads": (model("text", "encoder", **TRANSFORMER, heads=3), ["model: width 32 is no multiple of heads 3"]),
    "shared streams": (model(shared=["image", "txt"]), ["model", "shared: 'txt' is no stream"]),
    "an architecture of open_clip": (
        {"model": {"use": "pretrain.encoders.open_clip_model.OpenClip", "name": "ViT-B-23"}},
        ["no architecture 'ViT-B-23'", "ViT-B-32"]),
    "a timm network": (model("image", "encoder", use="pretrain.encoders.timm_tower.TimmTower", name="resnet19t"),
                       ["streams.image.encoder", "no architecture 'resnet19t'", "resnet10t"]),
    "a stream's source": (model(streams={**spec()["model"]["streams"], "smell": spec()["model"]["streams"]["text"]}),
                          ["'smell': 'smell'", "valid: image, text, audio, video"]),
    "a sound that no version has": (
        model(streams={**spec()["model"]["streams"], "audio": {
            "embedding": {"use": "pretrain.embeddings.audio.LogMel", "width": 32}, "encoder": TRANSFORMER}}),
        ["model.streams: read ['audio']", "there are: image, text"]),
    "a stage's field": (stages(freze=[]), ["stages[1]", "freze = []", "freeze"]),
    "what a later stage freezes": (stages(freeze=["model.tower.*"]),
                                   ["stage two: freeze: 'model.tower.*' matches no parameter"]),
    "what a later stage adapts": (stages(lora={"layers": ["*.attn"]}), ["stage two: lora.layers: '*.attn'"]),
    "a later stage's version": (stages(mixture=[{"version": "older", "share": 0.2}]),
                                ["stage two: mixture.0.version = 'older'", "tiny-"]),
    "a later stage's column": (stages(**target("graded.Graded", target=NCE, column="quality")),
                               ["stage two: targets.0: column 'quality'", "category"]),
    "a later stage's start": (stages(init="models/none"), ["stage two: init = 'models/none'"]),
    "a share of no start in a later stage": (stages(init="fresh", init_share=0.5),
                                             ["stage two: init_share 0.5", "no init"]),
    "another model in a later stage": (
        stages(**model(embed_dim=16)),
        ["stage two: init: the model of the stage before does not fit", "streams.image.projection.weight", "fresh"]),
    "before the first stage": ({"stages": [{"init": "before"}]}, ["stages[0]", "no stage before the first"]),
    "no stages": ({"stages": []}, ["stages must be a list of at least one"]),
}  # fmt: skip
"""What is told by names and numbers alone."""
BY_ROWS: dict[str, tuple[Change, list[str]]] = {
    "where": ({"where": [{"column": "split", "equals": "trian"}]}, ["where: none of the 48 samples", "trian"]),
    "a subset of nothing": (subset({"sample_uid": pa.array([], pa.string())}), ["subset:", "holds no samples"]),
    "a subset of others": (subset({"sample_uid": ["someone"]}), ["subset:", "names none of the samples"]),
    "weights below 0": (subset({"sample_uid": [uid("sample", 1)], "weight": [-1.0]}), ["below 0"]),
    "a sample twice": (subset({"sample_uid": [uid("sample", 1)] * 2}), ["names a sample twice"]),
    "a batch larger than the data": ({"batch_size": 64}, ["batch_size = 64", "only 40 samples", "at most 40"]),
    "a batch larger than its share": (
        lambda folder: {"mixture": [{**HALF, **subset({"sample_uid": [uid("sample", 1)]})(folder)}]},
        ["batch_size = 16, 0.5 of them from mixture.0.version", "only 1 samples", "at most 2"]),
    "a subset of a mixed version": (
        lambda folder: {"mixture": [{**HALF, **subset({"sample_uid": ["x"]})(folder)}]},
        ["mixture.0: subset:", "names none"]),
    "languages": ({"exclude_languages": ["aa", "ab", "ac", "zz"]}, ["exclude_languages", "no text", "is left"]),
    "weights as levels": (target("graded.Graded", target=NCE, column="width_px", weights=[1, 2]),
                          ["targets.0", "'width_px' holds levels 24 to 24", "0 to 1"]),
    "tags": (target("tags.TagClassification", column="width_px", num_tags=4),
             ["targets.0", "num_tags is 4", "single numbers"]),
    "a teacher that is a number": (taught("width_px", "width_px"),
                                   ["targets.0", "vectors", "'width_px' holds single numbers"]),
    "teachers of two widths": (taught("four", "texts.six"),
                               ["targets.0", "one width", "'four' holds lists of 4", "'texts.six' holds lists of 6"]),
    "an older model of two widths": (
        target("topology.Topology", older_a="four", older_b="texts.six") | NUMBERS, ["targets.0", "one width"]),
    "weights from a number": (target("soft.ContinuouslyWeighted", weights_from="width_px"),
                              ["targets.0", "vectors are needed: 'width_px' holds single numbers"]),
    "a meaning that is a number": (target("separation.IntraModalSeparation", meaning_from="width_px"),
                                   ["targets.0", "vectors are needed: 'width_px' holds single numbers"]),
    "a column of another width in a mixed version": (
        target("soft.ContinuouslyWeighted", weights_from="four") | NUMBERS
        | {"mixture": [{"version": "wider", "share": 0.5}]},
        ["mixture.0.version = 'wider'", "'four' holds lists of 5 numbers", "lists of 4 numbers"]),
    "tags that are none": (target("tags.TagClassification", column="four", num_tags=4) | NUMBERS,
                           ["targets.0", "'four' holds 0.5", "1 where it applies, 0 elsewhere"]),
    "clusters that are none": (
        target("prototypes.Prototypes", clusters_a="half", clusters_b="half", num_clusters=2) | NUMBERS,
        ["targets.0", "'half' holds 0.5", "no cluster number"]),
    "levels that are none": (target("graded.Graded", target=NCE, column="half", weights=[1, 2]) | NUMBERS,
                             ["targets.0", "'half' holds 0.5", "no level"]),
    "a threshold that nothing reaches": (
        target("graded.Graded", target=NCE, column="half", weighted=False, admit_from=3, admit_to=2) | NUMBERS,
        ["targets.0", "'half' holds at most 0.5", "no row is ever admitted from 2 on"]),
}  # fmt: skip
"""What takes a look at the light columns: nothing is decoded, no worker starts."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("wrong") / "store")


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what takes a look at the rows."""
    return filled(tmp_path_factory.mktemp("other") / "store")


def filled(root: Path) -> Path:
    Store.create(root)
    write_version(root, [sample(n, "val" if n % 6 == 0 else "train") for n in range(48)])
    write_version(root, [sample(n) for n in range(20)], name="unchecked", decontamination="missing")
    of_texts = pa.list_(pa.struct([*tiny.TEXT, ("six", pa.list_(pa.float32()))]))
    columns = [pa.field(each.name, of_texts) if each.name == "texts" else each for each in tiny.SCHEMA]
    schema = pa.schema([*columns, ("four", pa.list_(pa.float32())), ("half", pa.float32())])
    for name, width in (("numbers", 4), ("wider", 5)):
        write_version(root, [with_numbers(n, width) for n in range(40)], name=name, schema=schema)
    return root


def told(store: Path, folder: Path, change: Change) -> str:
    changes = change(folder) if callable(change) else change
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(spec(**{"version": "tiny", **changes})))
    with pytest.raises(RecipeError) as error:
        train_config(path, store, "serial", lambda _: None)
    said = str(error.value)
    assert said.startswith(str(path))
    assert all(noise not in said for noise in ("TrainConfig", "after validation", ".target:"))
    return said


@pytest.mark.parametrize("name", EARLY)
def test_names_and_numbers_are_told_before_any_data_is_read(store: Path, tmp_path: Path, name: str) -> None:
    change, parts = EARLY[name]
    said = told(store, tmp_path, change)
    assert [part for part in parts if part not in said] == [], said
    assert not (store / "models").exists()
    assert not (store / "cache").exists()


@pytest.mark.parametrize("name", BY_ROWS)
def test_what_rows_tell_is_told_before_anything_is_decoded(other_store: Path, tmp_path: Path, name: str) -> None:
    change, parts = BY_ROWS[name]
    said = told(other_store, tmp_path, change)
    assert [part for part in parts if part not in said] == [], said
    assert not (other_store / "cache" / "pictures").exists()


def test_a_damaged_checkpoint_is_told(other_store: Path, tmp_path: Path) -> None:
    settings = parse_config(spec(version="tiny", name="damaged"))
    key = run_key(settings, find_version(other_store, "tiny").digest)
    checkpoint = other_store / "models" / f"damaged-{key[:12]}" / "checkpoints" / "step-00000005"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"half")
    said = told(other_store, tmp_path, {"name": "damaged"})
    assert f"{checkpoint} is damaged" in said
    assert "remove it to go on from the one before" in said


def test_values_that_no_row_has_are_noted(other_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    where = [{"column": "split", "not_equals": "vall"}, {"column": "category", "in": ["odd", "evne"]}]
    changes = {"version": "tiny", "where": where, "exclude_languages": ["zz", "de"], "batch_size": 64}
    path.write_text(yaml.safe_dump(spec(**changes)))
    with pytest.raises(RecipeError, match="only 24 samples"):
        train_config(path, other_store, "serial", lambda _: None)
    path.write_text(yaml.safe_dump(spec(**{**changes, "batch_size": 16, "steps": 1, "pictures": "streamed"})))
    said: list[str] = []
    train_config(path, other_store, "serial", said.append)
    notes = [line for line in said if "note:" in line]
    assert [line.partition("note: ")[2].partition(";")[0] for line in notes] == [
        "exclude_languages: no text is in de", "where.0: no sample has split = ['vall']",
        "where.1: no sample has category = ['evne']",
    ]  # fmt: skip
    assert "languages: aa, ab, ac, zz" in notes[0]
    assert "values: train, val" in notes[1]
