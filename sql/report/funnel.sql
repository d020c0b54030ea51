-- The funnel: texts and samples that are left after each stage and rule, in the policy's order, and lost at each.
-- in:  ledger, policy_rules (place, rule)
-- out: place, step, texts_lost, texts_left, samples_left
with rules as (select place, rule from policy_rules),
first_rejection as (
    select l.text_uid, l.sample_uid, l.status, min(r.place) as place
    from ledger l
    left join rules r on list_contains(l.rejected_by, r.rule)
    group by l.text_uid, l.sample_uid, l.status
),
placed as (select text_uid, sample_uid, case when place is null then 1000000 else place end as place from first_rejection),
steps as (
    select -1 as place, 'in the pool' as step
    union all select place, rule from rules
)
select
    s.place,
    s.step,
    (select count(*) from placed p where p.place = s.place) as texts_lost,
    (select count(*) from placed p where p.place > s.place) as texts_left,
    (select count(distinct p.sample_uid) from placed p where p.place > s.place) as samples_left
from steps s
order by s.place
