-- The ledger: one row for each text of the pool, whatever became of it.
-- in:  rows (the view candidates, with text_clean, language and clip_score null where no signal gives them), decided,
--      duplicates, text_duplicates
-- out: sample_uid, text_uid, url, text (repaired), language (resolved, else as claimed), status and reason of the media,
--      replaced_sha256 (what a refresh found to be gone or another),
--      kept, rejected_by, duplicate_group, duplicate_of, text_duplicate_group, text_duplicate_of, semantic_duplicate_of,
--      semantic_similarity, evaluation_set, evaluation_item, keep_probability, clip_score
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
    m.duplicate_group,
    d.duplicate_of,
    g.text_duplicate_group,
    d.text_duplicate_of,
    d.semantic_duplicate_of,
    d.semantic_similarity,
    d.evaluation_set,
    d.evaluation_item,
    d.keep_probability,
    r.clip_score
from rows r
left join decided d using (text_uid)
left join duplicates m on m.media_uid = r.media_uid
left join text_duplicates g using (text_uid)
