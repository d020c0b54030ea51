-- Texts whose CLIP score is not a number between -1 and 1 (rounding of half precision allowed).
-- in:  ledger
select text_uid, clip_score
from ledger
where clip_score is not null and not (isfinite(clip_score) and abs(clip_score) <= 1.001)
