"""Single tokens of pictures and texts on disk, for retrieval by late interaction without the model (FILIP's use case).

Half floats, padding left out, one row for each thing: half of what float32 would take. What is searched is what the
file holds, so a search in a cache that was there finds what one finds that has just been made, bit for bit.
Shape suffixes: N things, L tokens of the longest, W width, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from curation.table import publishing, read_part, write_parquet
from pretrain.checked import EvaluationError
from pretrain.embeddings.base import Tokens
from pretrain.metrics import first_ranks
from pretrain.targets.late_interaction import best_matches

SCHEMA = pa.schema(
    [("item", pa.string()), ("num_tokens", pa.int32()), ("width", pa.int32()), ("tokens", pa.large_binary())]
)
"""tokens: num_tokens x width little-endian half floats, row by row."""
_QUERY_CHUNK = 16


@dataclass(frozen=True)
class TokenSets:
    """The tokens of some things. x_NLW: float16, zero where mask_NL is False."""

    items: tuple[str, ...]
    x_NLW: np.ndarray
    mask_NL: np.ndarray


def cached_tokens(path: Path, items: Sequence[str], encode: Callable[[Sequence[int]], Tokens], batch: int) -> TokenSets:
    """The tokens of these things, from the file or, where it is not there yet, made and written.

    encode: places in `items` -> their tokens; called with at most `batch` at a time. Raises EvaluationError where a
    token is not finite, or the file holds other things.
    """
    if not path.exists():
        rows = []
        for start in range(0, len(items), batch):
            places = range(start, min(start + batch, len(items)))
            rows += _rows([items[place] for place in places], encode(places))
        with publishing(path) as temporary:
            write_parquet(temporary, pa.Table.from_pylist(rows, schema=SCHEMA), {})
    found = read_tokens(path)
    if found.items != tuple(items):
        raise EvaluationError(f"{path} holds the tokens of other things: delete it, it is only a cache")
    return found


def _rows(items: Sequence[str], tokens: Tokens) -> list[dict[str, object]]:
    x_NLW = tokens.x_BLW.detach().float().cpu().numpy()
    mask_NL = np.ones(x_NLW.shape[:2], dtype=bool) if tokens.mask_BL is None else tokens.mask_BL.cpu().numpy()
    rows: list[dict[str, object]] = []
    for item, x_LW, mask_L in zip(items, x_NLW, mask_NL, strict=True):
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told below
            own = x_LW[mask_L].astype("<f2")
        if not np.isfinite(own).all() or not len(own):
            raise EvaluationError(f"{item}: {len(own)} tokens, which must be some, and finite as half floats")
        rows.append({"item": item, "num_tokens": len(own), "width": own.shape[1], "tokens": own.tobytes()})
    return rows


def read_tokens(path: Path) -> TokenSets:
    """What `cached_tokens` wrote, page checksums verified."""
    table = read_part(path)
    counts, widths = (table.column(name).to_numpy() for name in ("num_tokens", "width"))
    x_NLW = np.zeros((len(counts), int(counts.max()), int(widths[0])), dtype=np.float16)
    for place, raw in enumerate(table.column("tokens").to_pylist()):
        x_NLW[place, : counts[place]] = np.frombuffer(raw, dtype="<f2").reshape(counts[place], widths[0])
    mask_NL = np.arange(x_NLW.shape[1])[None, :] < counts[:, None]
    return TokenSets(tuple(table.column("item").to_pylist()), x_NLW, mask_NL)


def late_ranks(query: TokenSets, candidate: TokenSets, positive_QN: np.ndarray) -> np.ndarray:
    """(Q,) ranks of the best positives, by the mean over a query's tokens of the best dot product with a candidate."""
    others = _as_tokens(candidate, slice(None))
    found = []
    for start in range(0, len(query.items), _QUERY_CHUNK):
        chosen = slice(start, start + _QUERY_CHUNK)
        found.append(first_ranks(best_matches(_as_tokens(query, chosen), others).numpy(), positive_QN[chosen]))
    return np.concatenate(found)


def _as_tokens(sets: TokenSets, chosen: slice) -> Tokens:
    x_BLW = torch.from_numpy(sets.x_NLW[chosen].astype(np.float32))
    return Tokens(x_BLW, torch.from_numpy(sets.mask_NL[chosen]))
