-- Texts and kept texts for each language, with the share kept.
-- in:  ledger
-- out: language, texts, kept, kept_share
select coalesce(language, 'unknown') as language, count(*) as texts, count(*) filter (where kept) as kept,
    round(count(*) filter (where kept) / count(*), 4) as kept_share
from ledger
group by all
order by kept desc, texts desc, language
