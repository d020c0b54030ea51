-- The ledger: one row for each text of the pool, whatever became of it.
-- in:  rows (the view candidates, with text_clean, language and clip_score null where no signal gives them), decisions
-- out: sample_uid, text_uid, url, text (repaired), language (resolved, else as claimed), status and reason of the media,
--      replaced_sha256 (what a refresh found to be gone or another),
--      kept, rejected_by, duplicate_group, duplicate_of, keep_probability, clip_score
select
    r.sample_uid,
    r.text_uid,
    r.url,
    coalesce(r.text_clean, r.text) as text,
    coalesce(r.language, r.language_claimed) as language,
    r.status,
    r.reason,
    r.replaced_sha256,
    coalesce(d.kept, false) as kept,
    d.rejected_by,
    d.duplicate_group,
    d.duplicate_of,
    d.keep_probability,
    r.clip_score
from rows r
left join decisions d using (text_uid)
