-- Texts that one of two selections keeps and the other does not, each with its cause.
-- in:  decided_a, decided_b (text_uid, kept, rejected_by, saw); causes (side, rule, place, cause): why a rule rejects on one side
--      what the other keeps; taken_down (text_uid): texts whose medium a take-down removed; owners (text_uid, sample_uid)
-- out: text_uid, sample_uid, direction (in: only b keeps it, out: only a does), cause (rule, signal, data, balance, takedown),
--      rule (the first that rejects it; null where the other pool lacks it), rejected_by, saw (of the side that rejects)
with changed as (
    select
        text_uid,
        case when coalesce(b.kept, false) then 'in' else 'out' end as direction,
        case when coalesce(b.kept, false) then 'a' else 'b' end as side,
        case when coalesce(b.kept, false) then a.rejected_by else b.rejected_by end as rejected_by,
        case when coalesce(b.kept, false) then a.saw else b.saw end as saw
    from decided_a a
    full join decided_b b using (text_uid)
    where coalesce(a.kept, false) <> coalesce(b.kept, false)
)
select
    c.text_uid,
    o.sample_uid,
    c.direction,
    case
        when t.text_uid is not null and (c.rejected_by is null or list_contains(c.rejected_by, 'downloaded')) then 'takedown'
        -- nothing but a take-down deletes texts, those that were written about its media
        when o.sample_uid is null then 'takedown'
        when c.rejected_by is null then 'data'
        else why.cause
    end as cause,
    c.rejected_by[1] as rule,
    c.rejected_by,
    c.saw
from changed c
left join owners o using (text_uid)
left join taken_down t using (text_uid)
left join causes why on why.side = c.side and why.rule = c.rejected_by[1]
order by c.text_uid
