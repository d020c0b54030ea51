-- The ledger: one row for each text of the pool, whatever became of it.
-- in:  rows (the view candidates, with text_clean, language and clip_score null where no signal gives them), decided,
--      duplicates
-- out: sample_uid, text_uid, url, text (repaired), language (resolved, else as claimed), status and reason of the media,
--      kept, rejected_by, duplicate_group, duplicate_of, keep_probability, clip_score
select
    r.sample_uid,
    r.text_uid,
    r.url,
    coalesce(r.text_clean, r.text) as text,
    coalesce(r.language, r.language_claimed) as language,
    r.status,
    r.reason,
    coalesce(d.kept, false) as kept,
    d.rejected_by,
    g.duplicate_group,
    d.duplicate_of,
    d.keep_probability,
    r.clip_score
from rows r
left join decided d using (text_uid)
left join duplicates g on g.media_uid = r.media_uid
