-- The funnel: texts and samples that are left after each stage and rule, in the policy's order, and lost at each.
-- Texts that came after the last selection, or while it is being made, are not decided yet: no rule has kept them.
-- in:  ledger, policy_rules (place, rule)
-- out: place, step, texts_lost, texts_left, samples_left
with rules as (select place, rule from policy_rules),
first_rejection as (
    select l.text_uid, l.sample_uid, l.rejected_by is null as is_undecided, min(r.place) as place
    from ledger l
    left join rules r on list_contains(l.rejected_by, r.rule)
    group by l.text_uid, l.sample_uid, is_undecided
),
placed as (
    select text_uid, sample_uid, case when is_undecided then -1 else coalesce(place, 1000000) end as place
    from first_rejection
),
steps as (
    select -2 as place, 'in the pool' as step
    union all select distinct -1, 'not decided yet' from placed where place = -1
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
