"""The laws of `curation.signal`, for every signal in `curation.signals`, and a golden file of their outputs.

Numbers that change need a new `version` in the class; then write the golden file anew:

    TAMIS_WRITE_GOLDEN=1 python -m pytest tests/curation/test_signal_laws.py
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import curation.signals
from curation.av.segment_signal import SegmentSignal
from curation.fitted import FittedSignal, content_digest
from curation.signal import ImageSignal, Signal
from tests.curation.signal_rows import FIELDS, OPTIONAL, TinyScorer, computed, outputs, pictures, rows_of

GOLDEN = Path(__file__).parent / "golden" / "signals.json"
GOLDEN_OPTIONAL = GOLDEN.with_name("optional_signals.json")
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
    # those of video and audio have theirs in tests/curation/av/test_segment_signals.py
    return [member for member in classes if not issubclass(member, SegmentSignal)]


def make(cls: type[Signal]) -> Signal:
    fields = {"model": "tiny", "scorer": SCORER} if "scorer" in cls.model_fields else {}
    return cls.model_validate({**fields, **FIELDS.get(cls.__name__, {})})


def is_installed(cls: type[Signal]) -> bool:
    return cls.__name__ not in OPTIONAL or importlib.util.find_spec(OPTIONAL[cls.__name__]) is not None


SIGNALS = [make(cls) for cls in signal_classes() if is_installed(cls)]
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
    num_rows = num_rows or rows_of(signal).num_rows
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
        table = computed(signal, rows_of(signal).slice(0, 0))
    assert table.num_rows == 0
    assert table.schema == signal.writes()


@EACH
def test_null_in_null_out(signal: Signal) -> None:
    if isinstance(signal, ImageSignal):
        table = signal.compute_images([None, None])
    else:
        rows = rows_of(signal).select(signal.reads())
        table = computed(signal, pa.table({f.name: pa.nulls(2, f.type) for f in rows.schema}))
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
        rows = rows_of(signal)
        assert computed(signal, rows.select(signal.reads())).equals(computed(signal, rows))


@pytest.mark.parametrize("signal", [each for each in SIGNALS if isinstance(each, FittedSignal)], ids=repr)
def test_a_fit_does_not_depend_on_parts_or_their_order(signal: FittedSignal) -> None:
    rows = rows_of(signal).select(signal.reads())
    whole = content_digest(signal.fit_pool([rows]))
    for cuts in ([1], [3], [1, 3, 4]):
        ends = [0, *cuts, rows.num_rows]
        parts = [rows.slice(a, b - a) for a, b in itertools.pairwise(ends)]
        assert content_digest(signal.fit_pool(parts)) == whole
        assert content_digest(signal.fit_pool(parts[::-1])) == whole
    assert content_digest(signal.fit_pool([rows.slice(0, 2)])) != whole
    assert signal.fit_pool([]).schema.names == signal.fit_pool([rows]).schema.names
    assert signal.changed(fit="0123").key() == signal.key()


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
    plain = [type(signal) for signal in SIGNALS if not any(f.is_required() for f in type(signal).model_fields.values())]
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
        assert re.sub("^cl[ia]p_", "{name}_", name) in text or name in text
    assert "version" in vars(type(signal))


@EACH
def test_docstring_gives_every_number_its_range(signal: Signal) -> None:
    text = " ".join((type(signal).__doc__ or "").split())
    text = text[text.index("Column") :]
    names = {name: f"(?:{name}|{re.escape(re.sub('^cl[ia]p_', '{name}_', name))})" for name in signal.writes().names}
    other = "|".join(names.values())
    for field in signal.writes():
        if (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)) and "Range: " not in text:
            # what is said of it, or of a row of columns that it stands in, before the next one
            said = re.search(rf"`{names[field.name]}`(?:(?:,| and) `(?:{other})`)*(.*?)(?:`(?:{other})`|Unit:)", text)
            assert said is not None
            assert re.search(r"\d", said[1]), f"no range of {field.name}: {said[1]!r}"


def golden_form(signal: Signal) -> dict[str, Any]:
    rows = outputs(signal).to_pydict()
    plain = {name: [_plain(value) for value in values] for name, values in rows.items()}
    return {"version": type(signal).version, "columns": plain}


def _plain(value: Any) -> Any:
    """JSON of a value; bytes by their first, floats to six digits (the last ones differ between processors)."""
    match value:
        case bytes():
            return value[:24].hex()
        case float() | np.floating():
            return float(f"{float(value):.6g}")
        case list():
            return [_plain(item) for item in value]
    return value


def golden_forms(optional: bool) -> dict[str, Any]:
    """Of the signals that need a package which may be missing, or of the others."""
    return {
        f"{type(signal).__module__}.{type(signal).__name__}": golden_form(signal)
        for signal in SIGNALS
        if (type(signal).__name__ in OPTIONAL) == optional
    }


def test_golden_outputs_of_optional_models() -> None:
    """To a hundredth: networks round otherwise on other processors. What is not installed stays as it is."""
    now, kept = golden_forms(optional=True), json.loads(GOLDEN_OPTIONAL.read_text())
    if os.environ.get("TAMIS_WRITE_GOLDEN"):
        kept |= now
        GOLDEN_OPTIONAL.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    assert len(kept) >= 3
    for name, form in now.items():
        assert name in kept, f"{name}: write the golden file anew (see the top of this file)"
        assert form["version"] == kept[name]["version"], name
        then, columns = kept[name]["columns"], json.loads(json.dumps(form["columns"]))
        assert columns.keys() == then.keys()
        for column, values in columns.items():
            for row, (value, old) in enumerate(zip(values, then[column], strict=True)):
                assert _alike(value, old), f"{name}.{column}, row {row}: {value}, then {old}; raise its `version`"


def _alike(value: Any, old: Any) -> bool:
    if isinstance(value, list) and isinstance(old, list):
        return len(value) == len(old) and all(map(_alike, value, old))
    if isinstance(value, int | float) and isinstance(old, int | float):
        return abs(value - old) <= 1e-2 * max(1.0, abs(old))
    return bool(value == old)


def test_golden_outputs() -> None:
    now = golden_forms(optional=False)
    if os.environ.get("TAMIS_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(now, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    kept = json.loads(GOLDEN.read_text())
    assert sorted(kept) == sorted(now), "signals came or went: write the golden file anew (see the top of this file)"
    for name, form in now.items():
        hint = f"{name}: raise its `version`, then write the golden file anew (see the top of this file)"
        assert json.loads(json.dumps(form["columns"])) == kept[name]["columns"], hint
        assert form["version"] == kept[name]["version"], hint
