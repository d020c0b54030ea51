-- Decisions that are not one for each text, kept with a rejecting rule, or rejected without one.
-- in:  texts, decisions
select text_uid, 'rejected_by does not match kept' as problem
from decisions
where kept <> (len(rejected_by) = 0) or len(rejected_by) <> len(saw)
union all
select text_uid, 'no decision'
from texts
where exists (select 1 from decisions) and text_uid not in (select text_uid from decisions)
union all
select text_uid, 'decided more than once'
from decisions
group by text_uid
having count(*) > 1
