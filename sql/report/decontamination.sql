-- What fell to each evaluation set: texts rejected, of how many samples, by what they matched.
-- in:  decisions
-- out: evaluation_set, matched_by, texts, samples, only_reason (texts that no other rule rejects)
select
    evaluation_set,
    evaluation_match as matched_by,
    count(*) as texts,
    count(distinct sample_uid) as samples,
    count(*) filter (where len(rejected_by) = 1) as only_reason
from decisions
where evaluation_set is not null
group by all
order by texts desc, evaluation_set, matched_by
