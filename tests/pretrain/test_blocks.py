"""pretrain/blocks.py against torch's own layers on the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretrain.blocks import Attention, Block, causal, heads_of


def torch_attention(mine: Attention, width: int, heads: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([mine.query.weight, mine.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([mine.query.bias, mine.key_value.bias]))
        theirs.out_proj.load_state_dict(mine.out.state_dict())
    return theirs


def test_attention_is_torchs_and_nothing_where_nothing_may_be_seen() -> None:
    torch.manual_seed(0)
    mine = Attention(12, 3)
    theirs = torch_attention(mine, 12, 3)
    x, keys = torch.randn(2, 4, 12), torch.randn(2, 5, 12, requires_grad=True)
    allowed = torch.tensor([[True, True, False, True, False], [False] * 5])
    expected = theirs(x[:1], keys[:1], keys[:1], key_padding_mask=~allowed[:1])[0]
    found = mine(x, keys, allowed)
    torch.testing.assert_close(found[:1], expected)
    assert not bool(found[1].any())
    found.square().sum().backward()
    assert keys.grad is not None
    assert bool(torch.isfinite(keys.grad).all())
    assert float(keys.grad[1].abs().max()) == 0
    assert float(keys.grad[0, 2].abs().max()) == 0


@pytest.mark.parametrize("crosses", [False, True])
def test_a_block_is_torchs_pre_norm_layer(crosses: bool) -> None:
    torch.manual_seed(0)
    block = Block(12, 3, 2.0, 1, crosses=crosses)
    kind = nn.TransformerDecoderLayer if crosses else nn.TransformerEncoderLayer
    theirs = kind(12, 3, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    expert = block.experts["all"]
    with torch.no_grad():
        theirs.self_attn.load_state_dict(torch_attention(block.attention, 12, 3).state_dict())
        theirs.norm1.load_state_dict(block.norm.state_dict())
        last = theirs.norm3 if crosses else theirs.norm2
        for module, state in ((last, expert[0]), (theirs.linear1, expert[1]), (theirs.linear2, expert[3])):
            module.load_state_dict(state.state_dict())
        if crosses:
            theirs.multihead_attn.load_state_dict(torch_attention(block.cross, 12, 3).state_dict())
            theirs.norm2.load_state_dict(block.cross_norm.state_dict())
    x, memory = torch.randn(2, 4, 12), torch.randn(2, 5, 12)
    mask, seen = causal(4, x.device).expand(2, -1, -1), torch.tensor([[True] * 5, [True, True, False, False, True]])
    if crosses:
        expected = theirs(x, memory, tgt_mask=~causal(4, x.device), memory_key_padding_mask=~seen)
        found = block(x, mask, memory, seen)
    else:
        expected, found = theirs(x, src_mask=~causal(4, x.device)), block(x, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_experts_get_their_own_tokens() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, 2.0, 1, experts=("a", "b"))
    x, everything = torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool)
    normed = block.norm(x)
    after = x + block.attention(normed, normed, everything)
    expected = torch.cat(
        [after[:, :2] + block.experts["a"](after[:, :2]), after[:, 2:] + block.experts["b"](after[:, 2:])], 1
    )
    torch.testing.assert_close(block(x, everything, parts={"a": slice(0, 2), "b": slice(2, 5)}), expected)


def test_heads_must_divide_the_width() -> None:
    assert (heads_of(128, None), heads_of(30, None), heads_of(30, 5)) == (2, 1, 5)
    with pytest.raises(ValueError, match="no multiple of heads 7"):
        heads_of(30, 7)
