-- Kept texts that the policy's rules found in an evaluation set, by themselves or by their picture.
-- in:  decisions, evaluation_matches
select d.text_uid, m.rule, m.evaluation_set, m.item
from decisions d
join evaluation_matches m on m.uid = d.media_uid and m.level = 'media'
where d.kept
union all
select d.text_uid, m.rule, m.evaluation_set, m.item
from decisions d
join evaluation_matches m on m.uid = d.text_uid and m.level = 'text'
where d.kept
