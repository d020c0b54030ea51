-- What new link tables say: one row for each text of each sample, first appearance first, and whether the pool knows it.
-- in:  incoming (row, sample_uid, text_uid, url, url_canonical, url_reason, expected_hash, held_in, text, text_source, language, extras...)
--      known_texts (text_uid)
-- out: the columns of incoming without language, then language_claimed, languages_claimed, known; unique by text_uid
select
    arg_min(columns(i.* exclude (row, text_uid, language)), i.row),
    i.text_uid,
    min(i.row) as row,
    arg_min(i.language, i.row) filter (where i.language is not null) as language_claimed,
    list_sort(coalesce(list_distinct(list(i.language) filter (where i.language is not null)), [])) as languages_claimed,
    i.text_uid in (select text_uid from known_texts) as known
from incoming i
group by i.text_uid
