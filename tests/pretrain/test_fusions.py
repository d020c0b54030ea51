"""pretrain/fusions/ and pretrain/decoders/: missing modalities, padding, order, and each against a dull reading."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from assembled import FUSIONS

from pretrain.component import choices
from pretrain.decoders.base import Decoder
from pretrain.decoders.causal import CausalDecoder
from pretrain.decoders.prefix import PrefixDecoder, prefix_mask
from pretrain.embeddings.base import Tokens
from pretrain.embeddings.byte_tokens import VOCABULARY, ByteTokens
from pretrain.fusions.base import Fusion
from pretrain.fusions.cross_attention import CrossAttention
from pretrain.fusions.modality_experts import ModalityExperts
from pretrain.fusions.single_stream import SingleStream
from pretrain.joint import Joint

KINDS: list[Fusion] = [
    SingleStream(width=16, heads=2),
    CrossAttention(width=16, heads=2),
    ModalityExperts(width=16, heads=2),
]
DECODERS: list[Decoder] = [CausalDecoder(heads=2), PrefixDecoder(heads=2), CausalDecoder(heads=2, tied=False)]
NAMES = [type(kind).__name__ for kind in KINDS]
WIDTHS = {"image": 12, "text": 16}


def built(fusion: Fusion) -> Any:
    torch.manual_seed(0)
    return fusion.build(WIDTHS)


def tokens(rows: int = 3) -> dict[str, Tokens]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True] * 3 + [False]])[:rows]
    return {
        "image": Tokens(torch.randn(rows, 5, 12, generator=generator)),
        "text": Tokens(torch.randn(rows, 4, 16, generator=generator), mask),
    }


@pytest.mark.parametrize("fusion", KINDS, ids=NAMES)
def test_a_missing_stream_is_not_seen_whatever_it_holds(fusion: Fusion) -> None:
    module, whole = built(fusion), tokens()
    whole["image"].x_BLW.requires_grad_()
    present = {"image": torch.tensor([True, False, True])}
    fused = module(whole, present)
    fused.tokens["text"].x_BLW[1].sum().backward()
    assert whole["image"].x_BLW.grad is not None
    assert float(whole["image"].x_BLW.grad.abs().max()) == 0
    noisy = {**whole, "image": Tokens(whole["image"].x_BLW.detach().clone())}
    noisy["image"].x_BLW[1] = 1e4
    again = module(noisy, present)
    torch.testing.assert_close(again.pooled_BW, fused.pooled_BW)
    torch.testing.assert_close(again.tokens["text"].x_BLW, fused.tokens["text"].x_BLW)
    assert not torch.allclose(module(whole, {}).pooled_BW[1], fused.pooled_BW[1])
    nothing = module(whole, {name: torch.zeros(3, dtype=torch.bool) for name in WIDTHS})
    assert bool(torch.isfinite(nothing.pooled_BW).all())


@pytest.mark.parametrize("fusion", KINDS, ids=NAMES)
def test_padding_is_nothing(fusion: Fusion) -> None:
    module, whole = built(fusion), tokens()
    noisy = {**whole, "text": Tokens(whole["text"].x_BLW.clone(), whole["text"].mask_BL)}
    noisy["text"].x_BLW[~whole["text"].mask_BL] = 1e4
    torch.testing.assert_close(module(noisy, {}).pooled_BW, module(whole, {}).pooled_BW)
    alone = {name: Tokens(each.x_BLW[1:2, :2] if name == "text" else each.x_BLW[1:2]) for name, each in whole.items()}
    torch.testing.assert_close(module(alone, {}).pooled_BW, module(whole, {}).pooled_BW[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", KINDS, ids=NAMES)
def test_both_streams_matter(fusion: Fusion) -> None:
    module, whole = built(fusion), tokens()
    for name in WIDTHS:
        changed = {**whole, name: Tokens(whole[name].x_BLW.flip(-1), whole[name].mask_BL)}
        assert not torch.allclose(module(changed, {}).pooled_BW, module(whole, {}).pooled_BW, atol=1e-3)


def test_single_stream_is_its_blocks_over_all_tokens() -> None:
    module, whole = built(KINDS[0]), tokens(1)
    entrance = module.entrance
    x = torch.cat(
        [
            module.class_token.expand(1, 1, -1),
            F.linear(whole["image"].x_BLW, entrance.maps["image"].weight, entrance.maps["image"].bias)
            + entrance.segments["image"],
            whole["text"].x_BLW + entrance.segments["text"],
        ],
        dim=1,
    )
    for block in module.blocks:
        x = block(x, torch.ones(1, 10, dtype=torch.bool))
    x = module.norm(x)
    fused = module(whole, {})
    torch.testing.assert_close(fused.pooled_BW, x[:, 0])
    torch.testing.assert_close(fused.tokens["text"].x_BLW, x[:, 6:])


def test_cross_attention_gives_the_stream_it_reads_into() -> None:
    fusion = CrossAttention(width=16, heads=2, into="text")
    fused = built(fusion)(tokens(), {})
    assert (set(fused.tokens), fusion.gives(("image", "text"))) == ({"text"}, ("text",))
    torch.testing.assert_close(fused.pooled_BW, fused.tokens["text"].x_BLW[:, 0])
    with pytest.raises(ValueError, match="at least one other"):
        built(fusion)({"text": tokens()["text"]}, {})
    with pytest.raises(ValueError, match=r"'audio'.*image, text"):
        built(CrossAttention(into="audio"))


@pytest.mark.family("F24")
def test_experts_share_attention_between_towers_and_fusion() -> None:
    """F24 (c): one set of attention weights; alone a stream never touches another's feed-forward, together they do."""
    module = built(ModalityExperts(width=16, heads=2, layers=3, joint_layers=1))
    touched = {}
    for name, some in (("image", ["image"]), ("text", ["text"]), ("both", ["image", "text"])):
        module.zero_grad()
        whole = tokens()
        module({each: whole[each] for each in some}, {}).pooled_BW.square().sum().backward()
        touched[name] = {n for n, p in module.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    shared = {n for n in dict(module.named_parameters()) if ".attention." in n and not n.endswith("key_value.bias")}
    assert shared
    assert all(shared <= names for names in touched.values())
    assert not [n for n in touched["image"] if "experts.text" in n or "experts.joint" in n]
    assert [n for n in touched["both"] if "blocks.2.experts.joint" in n]
    assert not [n for n in touched["both"] if "blocks.2.experts.image" in n]
    with pytest.raises(ValueError, match="joint_layers 4"):
        built(ModalityExperts(layers=3, joint_layers=4))


def writer(decoder: Decoder) -> Joint:
    torch.manual_seed(0)
    return Joint(WIDTHS, 16, None, ByteTokens(width=16, max_tokens=12), decoder)


@pytest.mark.family("F26")
@pytest.mark.parametrize("decoder", DECODERS, ids=["causal", "prefix", "untied"])
def test_a_later_token_changes_no_earlier_score(decoder: Decoder) -> None:
    """F26 (a), and that the memory and the earlier tokens do change them."""
    joint, memory = writer(decoder), {"image": tokens(1)["image"]}
    ids = torch.tensor([[VOCABULARY.start, 66, 67, 68, 69]])
    scores = joint.next_token_scores(ids, memory, {})
    later = ids.clone()
    later[0, 3] = 99
    changed = joint.next_token_scores(later, memory, {})
    torch.testing.assert_close(changed[:, :3], scores[:, :3])
    assert not torch.allclose(changed[:, 3:], scores[:, 3:], atol=1e-3)
    other = {"image": Tokens(memory["image"].x_BLW.flip(-1))}
    assert not torch.allclose(joint.next_token_scores(ids, other, {}), scores, atol=1e-3)
    absent = joint.next_token_scores(ids, other, {"image": torch.tensor([False])})
    torch.testing.assert_close(absent, joint.next_token_scores(ids, memory, {"image": torch.tensor([False])}))


def test_prefix_mask_is_its_definition() -> None:
    seen = torch.tensor([[True, False], [True, True]])
    mask = prefix_mask(seen, 3)
    for row in range(2):
        for q in range(5):
            for k in range(5):
                expected = bool(seen[row, k]) if k < 2 else (q >= 2 and k <= q)
                assert bool(mask[row, q, k]) == expected


def test_tied_scores_use_the_embeddings_table() -> None:
    tied, own = writer(CausalDecoder(heads=2)), writer(CausalDecoder(heads=2, tied=False))
    assert tied.scores is None
    assert own.scores is not None
    ids, memory = torch.tensor([[VOCABULARY.start, 70]]), {"image": tokens(1)["image"]}
    state = tied.decoder(tied.target_embedding(ids).x_BLW, memory, {})
    expected = state @ tied.target_embedding.table.weight.T
    torch.testing.assert_close(tied.next_token_scores(ids, memory, {}), expected)


def test_all_kinds_are_found() -> None:
    assert {path.rsplit(".", 1)[1] for path in choices(Fusion, "pretrain.fusions")} == set(NAMES)
    assert {path.rsplit(".", 1)[1] for path in choices(Decoder, "pretrain.decoders")} == {
        "CausalDecoder",
        "PrefixDecoder",
    }
    assert set(FUSIONS) == {"single_stream", "cross_attention", "experts"}
