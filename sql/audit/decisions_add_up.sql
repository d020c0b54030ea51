-- Decisions that are not one for each text, kept with a rejecting rule, or rejected without one.
-- in:  texts, decided
select text_uid, 'rejected_by does not match kept' as problem
from decided
where kept <> (len(rejected_by) = 0) or len(rejected_by) <> len(saw)
union all
select text_uid, 'no decision'
from texts
where exists (select 1 from decided) and text_uid not in (select text_uid from decided)
union all
select text_uid, 'decided more than once'
from decided
group by text_uid
having count(*) > 1
