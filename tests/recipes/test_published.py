"""Published recipes load, say where they come from and what is not exact, and decide what a policy is asked for."""

from pathlib import Path

import pytest

from pipelines.recipe import load_recipe
from tests.recipes.published import RECIPES, names, published

OF_ISSUE = {
    "laion2b_en", "laion_multi", "datacomp_basic", "datacomp_clip_l14_top30", "datacomp_text_based",
    "datacomp_image_based", "datacomp_image_and_clip", "metaclip_400m", "metaclip2_worldwide", "cc3m_like",
    "cc12m_like",
    "align_like", "dfn_like", "t_mars", "negcliploss_normsim", "semdedup", "wukong_zero_like",
    "panda_70m_like", "internvid_like", "openvid_like", "vidal_like", "emilia_like",
}  # fmt: skip
UNCERTAIN = {"laion2b_en", "laion_multi", "cc3m_like", "cc12m_like", "align_like", "t_mars", "negcliploss_normsim",
             "semdedup", "wukong_zero_like", "panda_70m_like", "internvid_like", "openvid_like"}  # fmt: skip


def test_the_recipes_that_there_are() -> None:
    assert set(names()) >= OF_ISSUE | {"demo", "image_text", "video_audio"}


@pytest.mark.parametrize("name", names())
def test_every_published_recipe_loads(name: str, tmp_path: Path) -> None:
    found = load_recipe(published(name, tmp_path / "r"))
    assert found.name == name.replace("_", "-")
    for each in found.all_rounds():
        assert [item.name for item in each.policy].count("downloaded") == 1


@pytest.mark.parametrize("name", sorted(OF_ISSUE))
def test_a_recipe_says_where_it_comes_from_and_what_is_not_exact(name: str) -> None:
    text = (RECIPES / f"{name}.yaml").read_text()
    head = text[: text.index("name: ")]
    assert "Source: " in head
    assert "What cannot be exact" in head
    assert ("[uncertain" in text) == (name in UNCERTAIN)
    assert all(len(line) <= 120 for line in text.splitlines())
