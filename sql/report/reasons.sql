-- Why media were not fetched and which rules rejected texts, with counts; a text counts under every rule that rejects it.
-- in:  media, ledger
-- out: kind (media | rule), reason, rows
select 'media' as kind, coalesce(reason, 'ok') as reason, count(*) as rows
from media
group by all
union all
select 'rule', rule, count(*)
from (select unnest(rejected_by) as rule from ledger)
group by all
order by kind, rows desc, reason
