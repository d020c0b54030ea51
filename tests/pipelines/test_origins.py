import pytest

from pipelines import origins
from pipelines.origins import Origins


def test_an_origin_rests_and_is_tried_once() -> None:
    known: Origins[str] = Origins(max_failures=3, pause_s=10)
    for now in (0.0, 1.0):
        known.failed("a", now)
    known.answered("a")  # not in a row
    for now in (2.0, 3.0):
        known.failed("a", now)
    assert known.rests_until("a", 3.0) is None
    assert not known.must_try("a")
    known.failed("a", 4.0)
    assert known.rests_until("a", 13.9) == 14.0
    assert known.rests_until("b", 4.0) is None
    assert known.rests_until("a", 14.0) is None
    assert known.must_try("a")
    assert not known.is_down("a", 13.9)  # it only rests
    known["a"].trying = "link"
    known.failed("a", 15.0)
    assert known.is_down("a", 24.9)
    assert not known.is_down("a", 25.0)
    assert known.must_try("a")
    known.answered("a")
    assert not known.is_down("a", 24.9)
    assert not known.must_try("a")


def test_an_origin_whose_rules_cannot_be_had_is_down_at_once() -> None:
    known: Origins[str] = Origins(max_failures=3, pause_s=10)
    known.is_lost("c", 0.0)
    assert known.is_down("c", 9.0)
    assert known.must_try("c")


def test_after_a_call_nobody_waits_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_ORIGINS", 2)
    known: Origins[str] = Origins(max_failures=1, pause_s=10)
    for key in ("a", "b", "c"):
        known[key].waiting.append("link")
        known[key].is_asking = True
        known.failed(key, 0.0)
    known.forget_items()
    assert [known.rests_until(key, 1.0) for key in ("a", "b", "c")] == [None, 10.0, 10.0]
    assert known["c"].take_waiting() == []
    assert not known["c"].is_asking
