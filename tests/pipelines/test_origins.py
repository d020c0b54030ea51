import pytest

from pipelines import origins
from pipelines.origins import Origins


def test_the_circuit_opens_pauses_and_closes() -> None:
    known: Origins[str] = Origins(max_failures=3, pause_s=10)
    for now in (0.0, 1.0):
        known.failed("a", now)
    known.answered("a")  # not in a row
    for now in (2.0, 3.0):
        known.failed("a", now)
    assert not known.is_open("a", 3.0)
    known.failed("a", 4.0)
    assert known.is_open("a", 13.9)
    assert not known.is_open("b", 4.0)
    assert not known.must_try("a", 13.9)
    assert known.must_try("a", 14.0)
    assert not known.is_open("a", 14.0)
    known.failed("a", 15.0)  # the one that tried
    assert known.is_open("a", 24.9)
    known.answered("a")
    assert not known.is_open("a", 24.9)
    assert not known.must_try("a", 99.0)
    known.failed("c", 0.0, weight=3)
    assert known.is_open("c", 9.0)


def test_after_a_call_nobody_waits_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_ORIGINS", 2)
    known: Origins[str] = Origins(max_failures=1, pause_s=10)
    for key in ("a", "b", "c"):
        known[key].waiting.append("link")
        known[key].is_asking = True
        known.failed(key, 0.0)
    known.forget_items()
    assert [known.is_open(key, 1.0) for key in ("a", "b", "c")] == [False, True, True]
    assert known["c"].take_waiting() == []
    assert not known["c"].is_asking
