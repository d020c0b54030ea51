"""Figures of an evaluation as text: what each suite measures and on how much is said beside them."""

import re
from pathlib import Path
from typing import Any

import pytest

from flows.figures import figures, others
from pretrain.suite_names import measures

ROOT = Path(__file__).parents[2]


def row(suite: str, metric: str, direction: str | None = None, **more: Any) -> dict[str, Any]:
    base = {"suite": suite, "direction": direction, "metric": metric, "language": None, "value": 0.25}
    return {**base, "lo": 0.1, "hi": 0.4, "chance": 0.05, "n": 1234, "num_candidates": 567, **more}


def test_what_is_measured_and_on_how_much() -> None:
    rows = [row("held_out_pictures", f"recall_at_{k}", direction) for direction in ("t_to_i", "i_to_t") for k in (1, 5)]
    rows += [row("held_out_pictures:texts_in_gd", "recall_at_1", "text_to_text", lo=None, n=40)]
    rows += [row("held_out_pictures", "recall_at_1", "t_to_i", language="de")]
    assert figures(rows).splitlines() == [
        "  held_out_pictures: pictures that training was not shown, with texts in languages that it was",
        "    t_to_i, 1,234 queries, 567 candidates: R@1 0.250 [0.100, 0.400] (chance 0.050), "
        "R@5 0.250 [0.100, 0.400] (chance 0.050)",
        "    i_to_t, 1,234 queries, 567 candidates: R@1 0.250 [0.100, 0.400] (chance 0.050), "
        "R@5 0.250 [0.100, 0.400] (chance 0.050)",
        "  held_out_pictures:texts_in_gd: texts in other languages look for those in 'gd' about the same picture, "
        "which is not looked at",
        "    text_to_text, 40 queries, 567 candidates: R@1 0.250 (chance 0.050)",
    ]
    assert "nothing to evaluate" in figures([])


def test_other_figures() -> None:
    rows = [
        row("held_out_pictures:edits", "prefers_true_over_object", chance=0.5, n=12),
        row("held_out_segments", "recall_at_1_shuffle_drop", "text_to_video", chance=None, num_candidates=None),
        row("held_out_pictures", "mean_rank_variance", "text_to_image", language="de+en"),
        row("held_out_pictures", "median_rank", "text_to_image", language="de"),
        row("held_out_pictures", "recall_at_1", "text_to_image"),
    ]
    told = others(rows)
    assert [line for line in told if line.startswith("    ")] == [
        "    prefers_true_over_object: 0.250 [0.100, 0.400] (chance 0.500), n 12",
        "    recall_at_1_shuffle_drop text_to_video: 0.250 [0.100, 0.400], n 1,234",
        "    mean_rank_variance text_to_image: 0.250 [0.100, 0.400] (chance 0.050), n 1,234",
    ]


def test_every_suite_of_the_readme_is_explained() -> None:
    table = (
        (ROOT / "pretrain" / "README.md").read_text().partition("| suite | figures | chance |")[2].partition("\n\n")[0]
    )
    names = [name for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    suites = [name.replace("...", "held_out_pictures").replace("LANGUAGE", "gd") for name in names if name != "val"]
    suites = [name for name in suites if re.match(r"held_out|all_|labels:", name)]
    assert len(suites) >= 8
    assert all(measures(name) for name in suites), [name for name in suites if not measures(name)]


@pytest.mark.parametrize("name", ["", "nonesuch", "nonesuch:part"])
def test_a_name_that_is_none_of_ours(name: str) -> None:
    assert measures(name) == ""
    assert figures([row(name, "recall_at_1", "a_to_b")]).splitlines()[0] == f"  {name}"
