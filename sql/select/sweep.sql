-- What one batch keeps, in all and by language. A sample lies in one batch, so counts of several batches add up.
-- in:  judged (sample_uid, language, kept)
-- out: language (null: all), texts, samples, pool_texts
select
    language,
    count(*) filter (where kept) as texts,
    count(distinct sample_uid) filter (where kept) as samples,
    count(*) as pool_texts
from judged
group by grouping sets ((), (language))
