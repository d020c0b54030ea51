"""Score: signals in the order of what they read, run again only where something that they read has changed."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.schema import MEDIA, TEXTS
from curation.signal import ColumnSignal, Signal
from curation.signals.text_hygiene import TextHygiene
from curation.table import read_part, write_part
from pipelines.recipe import load_recipe
from pipelines.score import OtherSignal, score_part, waves
from pipelines.workers import PartFailed
from tests.stores import SIGNALS, Served, last_run, links_file, parts_run, recipe, run


class Made(ColumnSignal):
    """A signal that reads and writes what a test says, with a value that is no number in the second row."""

    level = "media"
    needs: tuple[str, ...] = ()
    column: str
    model: bool = False

    def reads(self) -> tuple[str, ...]:
        return self.needs or ("width_px",)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.column, pa.float32()), (f"{self.column}_vector", pa.list_(pa.float32(), 2))])

    def needs_model(self) -> bool:
        return self.model

    def compute(self, rows: pa.Table) -> pa.Table:
        assert rows.column_names == list(dict.fromkeys(self.reads()))
        values = np.arange(rows.num_rows, dtype=np.float32)
        values[1] = np.nan
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(values, 2)), 2)
        return pa.table({self.column: values, f"{self.column}_vector": vectors}, schema=self.writes())


def names(order: list[list[Signal]]) -> list[list[str]]:
    return [[signal.column for signal in wave if isinstance(signal, Made)] for wave in order]


def test_waves_follow_what_is_read_and_models_come_when_nothing_cheap_is_left() -> None:
    signals = [
        Made(column="last", needs=("second", "model")),
        Made(column="model", needs=("x",), model=True),
        Made(column="second", needs=("first", "x")),
        Made(column="first", needs=("x",)),
    ]
    assert names(list(waves(signals, {"x"}))) == [["first"], ["second"], ["model"], ["last"]]
    assert names(list(waves(signals[1:3] + signals[:1], {"x", "first"}))) == [["second"], ["model"], ["last"]]
    assert list(waves([], set())) == []


def test_signals_that_wait_for_each_other_are_named() -> None:
    with pytest.raises(ValueError, match="wait for each other's columns: Made, Made"):
        list(waves([Made(column="a", needs=("b",)), Made(column="b", needs=("a",))], set()))


def part(tmp_path: Path, count: int = 3) -> dict[str, Any]:
    """Arguments of `score_part` for a part of `count` pictures with one text each, nothing downloaded."""
    media = [
        dict.fromkeys(MEDIA.names)
        | {"media_uid": f"m{i}", "sample_uid": f"s{i}", "role": "primary", "modality": "image", "width_px": i}
        for i in range(count)
    ]
    texts = [dict.fromkeys(TEXTS.names) | {"text_uid": f"t{i}", "sample_uid": f"s{i}"} for i in range(count)]
    paths = {
        name: write_part(tmp_path / "tables" / name, 0, name * 16, pa.Table.from_pylist(some, schema=schema)).path
        for name, some, schema in (("media", media, MEDIA), ("texts", texts, TEXTS))
    }
    return {**paths, "upstream": {}, "levels": {}, "tables": tmp_path / "tables", "index": 0, "limits": None}


def test_what_is_not_finite_becomes_a_reason(tmp_path: Path) -> None:
    counts = score_part(signals=[(Made(column="x"), "ab" * 32)], **part(tmp_path))
    assert counts == {"rows": 3, "nonfinite": 1}
    (path,) = (tmp_path / "tables" / "signal_made").iterdir()
    table = read_part(path)
    assert table.column_names == ["media_uid", "x", "x_vector", "reason"]
    assert table.column("x").to_pylist() == [0, None, 2]
    assert table.column("x_vector").to_pylist() == [[0, 0], None, [2, 2]]
    assert table.column("reason").to_pylist() == [None, "score.nonfinite", None]


def test_a_worker_whose_signal_is_another_one_writes_nothing(tmp_path: Path) -> None:
    signal, arguments = Made(column="x"), part(tmp_path)
    with pytest.raises(OtherSignal, match=r"made on .*: the signal's key is .* put the same files and versions"):
        score_part(signals=[(signal, "ab" * 32)], signal_keys={"made": "0" * 64}, **arguments)
    assert not (tmp_path / "tables" / "signal_made").exists()
    score_part(signals=[(signal, "ab" * 32)], signal_keys={"made": signal.key()}, **arguments)
    assert len(list((tmp_path / "tables" / "signal_made").iterdir())) == 1


def test_weights_that_change_under_their_name_while_a_run_goes_on_stop_it(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = links_file(tmp_path / "l.parquet", [(url, "a picture") for url in served.pictures[:3]])
    where_it_began = TextHygiene.key_extras
    wanted = TextHygiene().key()

    def elsewhere(signal: TextHygiene) -> dict[str, object]:
        """Other weights from the moment on that the parts are handed to workers."""
        began = any(frame.function == "score_part" for frame in inspect.stack())
        return {"weights": "replaced"} if began else where_it_began(signal)

    monkeypatch.setattr(TextHygiene, "key_extras", elsewhere)
    assert TextHygiene().key() == wanted
    with pytest.raises(PartFailed, match=r"text_hygiene on .*other ones under the same name"):
        run(tmp_path / "store", recipe(tmp_path / "r.yaml"), links)
    assert not list((tmp_path / "store" / "tables").glob("signal_*"))


class Dropping(Made):
    """A signal that forgets a row."""

    def compute(self, rows: pa.Table) -> pa.Table:
        return super().compute(rows).slice(1)


def test_a_signal_that_drops_a_row_is_caught(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Dropping broke its contract: 2 rows"):
        score_part(signals=[(Dropping(column="x"), "ab" * 32)], **part(tmp_path))
    assert not (tmp_path / "tables" / "signal_dropping").exists()


def test_columns_of_other_rows_are_not_joined(tmp_path: Path) -> None:
    arguments = part(tmp_path)
    swapped = pa.table({"media_uid": ["m1", "m0", "m2"], "other": [1.0, 2.0, 3.0], "reason": [None] * 3})
    path = write_part(tmp_path / "tables" / "signal_other", 0, "cd" * 32, swapped).path
    arguments |= {"upstream": {"other": path}, "levels": {"other": "media"}}
    with pytest.raises(ValueError, match="does not hold the rows of its part in order"):
        score_part(signals=[(Made(column="x", needs=("other",)), "ab" * 32)], **arguments)


def scored(store: Path) -> int:
    (found,) = (stage["parts_run"] for stage in last_run(store)["stages"] if stage["stage"] == "score")
    return int(found)


def test_a_changed_signal_runs_itself_and_what_reads_it(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = links_file(tmp_path / "l.parquet", [(url, f"picture {i}") for i, url in enumerate(served.pictures[:10])])
    store, parts = tmp_path / "store", 2
    run(store, recipe(tmp_path / "r.yaml"), links)
    assert scored(store) == parts * len(SIGNALS)

    def changed(name: str, **fields: Any) -> int:
        signals = [{"use": f"curation.signals.{each}", **(fields if each.endswith(name) else {})} for each in SIGNALS]
        run(store, recipe(tmp_path / "r.yaml", signals=signals), links)
        return scored(store)

    assert changed("KeyedDraw", seed=1) == parts  # nothing reads the draw
    assert changed("KeyedDraw") == 0  # the first one's are still there
    by_reading = {
        type(signal).__name__: set(signal.reads()) & {"text_clean"}
        for signal in load_recipe(recipe(tmp_path / "r.yaml")).signals
    }
    assert by_reading["CaptionStatistics"]
    monkeypatch.setattr(TextHygiene, "version", 99)  # new code, as a new model would be
    assert changed("") == 2 * parts  # itself and CaptionStatistics
    assert parts_run(store)["download"] == parts_run(store)["dedupe"] == 0
    assert changed("Probe") == 0
