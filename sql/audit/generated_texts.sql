-- Texts of generators that do not say what wrote them and beside which text of their sample, or that were cut and are longer than that one.
-- in:  generated_texts, texts
with parents as (
    select t.sample_uid, t.text_uid
    from texts t
    left join generated_texts g using (text_uid)
    where t.text is not null and g.text_uid is null
)
select g.text_uid, 'no generator, revision, prompt or medium' as problem
from generated_texts g
where g.generator is null or g.generator_revision is null or g.prompt_hash is null or g.generated_for is null
union all
select g.text_uid, 'no parent, though its sample has texts'
from generated_texts g
where g.parent_text_uid is null and exists (select 1 from parents p where p.sample_uid = g.sample_uid)
union all
select g.text_uid, 'its parent is no text of its sample'
from generated_texts g
left join parents p on p.text_uid = g.parent_text_uid and p.sample_uid = g.sample_uid
where g.parent_text_uid is not null and p.text_uid is null
union all
select g.text_uid, 'longer than its parent'
from generated_texts g
where g.tokenizer is not null and not coalesce(g.num_tokens <= g.parent_num_tokens, false)
