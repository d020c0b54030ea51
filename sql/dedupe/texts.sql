-- Pairs of texts that are near-duplicates: those of one form linked to the smallest text_uid of it, and of two forms
-- that are near the smallest text_uid of each.
-- in:  forms (text_uid, form), pairs (form_a, form_b, similarity); $same, $alike = what the kinds are called
-- out: text_uid < other_uid, kind, similarity; in this order
with firsts as (select form, min(text_uid) as text_uid from forms where form is not null group by form)
select f.text_uid, t.text_uid as other_uid, $same as kind, 1.0::double as similarity
from forms t
join firsts f using (form)
where t.text_uid <> f.text_uid
union all
select least(a.text_uid, b.text_uid), greatest(a.text_uid, b.text_uid), $alike, max(p.similarity)
from pairs p
join firsts a on a.form = p.form_a
join firsts b on b.form = p.form_b
group by 1, 2
order by 1, 2, 3
