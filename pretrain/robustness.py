"""How a model stands edited captions: whether it prefers the true one, and what an edit costs in retrieval.

Shape suffixes: T texts, P pictures, D dimension, E edits, R resamplings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pretrain.caption_edits import (
    Edit,
    attributes_in,
    change_word_order,
    insert_attribute,
    names_in,
    replace_attribute,
    replace_object,
    replace_relation,
)
from pretrain.checked import check_vectors
from pretrain.found import Found
from pretrain.metrics import chance_reciprocal_rank, first_ranks, mean_row
from pretrain.suites import Suite

WRONG = ("object", "attribute", "relation", "word_order")
"""Edits after which the caption is no longer true of the picture, or no sentence."""
HARMLESS = ("attribute_inserted", "word_order")
"""Edits whose cost in retrieval is measured."""
LANGUAGE = "en"
EQUAL = 1e-5
"""Cosines that differ by less are equal: the same words in another order give float32 sums that differ by some 1e-7."""
MIN_EDITS = 10
"""Captions that an edit must apply to for its figure."""
Encode = Callable[[Sequence[str]], np.ndarray]


def edits_of(suite: Suite, tags: Sequence[Sequence[str]] | None = None) -> dict[str, list[tuple[int, Edit]]]:
    """Kind -> (place of the text, its edit). tags: of each picture, where the version has them; without, the objects
    are what short English captions name. All but the word order need English captions."""
    english = [place for place, spoken in enumerate(suite.languages) if LANGUAGE in spoken]
    of_picture: dict[int, list[int]] = {}
    for place in english:
        of_picture.setdefault(int(suite.picture_T[place]), []).append(place)
    objects = sorted({tag for each in tags for tag in each}) if tags else names_in([suite.texts[t] for t in english])
    found: dict[str, list[tuple[int, Edit]]] = {kind: [] for kind in dict.fromkeys((*WRONG, *HARMLESS))}

    def add(place: int, edit: Edit | None) -> None:
        if edit is not None and edit.text != suite.texts[place]:
            found[edit.kind].append((place, edit))

    for place in english:
        caption, picture = suite.texts[place], int(suite.picture_T[place])
        said = [suite.texts[other] for other in of_picture[picture]]
        own = [*(tags[picture] if tags else names_in(said)), *said]
        add(place, replace_object(caption, objects, own))
        add(place, replace_attribute(caption))
        add(place, replace_relation(caption))
        add(place, insert_attribute(caption, objects, attributes_in([*said, *(tags[picture] if tags else ())])))
    for place, caption in enumerate(suite.texts):
        add(place, change_word_order(caption))
    return found


def robustness(
    suite: Suite,
    image_PD: np.ndarray,
    text_TD: np.ndarray,
    encode: Encode,
    tags: Sequence[Sequence[str]] | None = None,
) -> Found:
    """Figures of the suite `<its name>:edits`.

    `prefers_true_over_<kind>`: share of captions nearer to their picture than the edited one; equal scores count
    against the model, so one that cannot see the edit gets 0; chance 0.5. `reciprocal_rank_before_<kind>`,
    `reciprocal_rank_<kind>` and their difference `reciprocal_rank_drop_<kind>`, whose chance is 0, over the captions
    that the edit applies to.
    """
    found, name = Found(), f"{suite.name}:edits"
    uids = suite.uids or [str(row) for row in suite.rows]
    for kind, edits in edits_of(suite, tags).items():
        if len(edits) < MIN_EDITS:
            continue
        places = np.array([place for place, _ in edits])
        picture_E = suite.picture_T[places]
        texts, clusters = [suite.texts[place] for place in places], [uids[picture] for picture in picture_E]
        edited_ED = encode([edit.text for _, edit in edits])
        check_vectors(f"captions edited by {kind}", edited_ED, image_PD.shape[1])
        if kind in WRONG:
            own_ED = image_PD[picture_E]
            right_E = (own_ED * (text_TD[places] - edited_ED)).sum(axis=1) > EQUAL
            metric = f"prefers_true_over_{kind}"
            found.add_figures([mean_row(metric, right_E, picture_E, 0.5)], suite=name)
            found.add_outcomes(right_E, texts, clusters, suite=name, measure=metric)
        if kind in HARMLESS:
            positive_EP = suite.positive_TP[places]
            before_E = 1 / first_ranks(text_TD[places] @ image_PD.T, positive_EP)
            after_E = 1 / first_ranks(edited_ED @ image_PD.T, positive_EP)
            chance = float(chance_reciprocal_rank(positive_EP.sum(axis=1), len(image_PD)).mean())
            for metric, values_E, none in (
                (f"reciprocal_rank_before_{kind}", before_E, chance),
                (f"reciprocal_rank_{kind}", after_E, chance),
                (f"reciprocal_rank_drop_{kind}", before_E - after_E, 0.0),
            ):
                fixed: dict[str, Any] = {"suite": name, "direction": "text_to_image"}
                row = mean_row(metric, values_E, picture_E, none)
                found.add_figures([row], **fixed, num_candidates=len(image_PD))
                found.add_outcomes(values_E, texts, clusters, **fixed, measure=metric)
    return found
