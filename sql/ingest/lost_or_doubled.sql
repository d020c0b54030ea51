-- What was written, against what came in: texts that are not in the pool, and rows of the pool beyond one for each text.
-- in:  incoming (text_uid), grown_texts (text_uid)
-- out: lost, doubled
select
    (select count(distinct i.text_uid) from incoming i anti join grown_texts t on t.text_uid = i.text_uid) as lost,
    (select count(*) - count(distinct text_uid) from grown_texts) as doubled
