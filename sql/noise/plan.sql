-- Which captions of a version are to be replaced, in what order, and by which: each by the next one of its language in a keyed order.
-- in:  captions (sample_uid, text_uid, language, text), one row for each text; $seed
-- out: place (from 0: a noise of n rows replaces those at places below n), text_uid, sample_uid, language, text,
--      replacement, replacement_text_uid, replacement_sample_uid. Not there: captions that the next one is of their own sample, or
--      says what their own sample says.
with ordered as (
    select
        *,
        lead(text_uid) over keyed as next_uid,
        lead(sample_uid) over keyed as next_sample,
        lead(text) over keyed as next_text,
        first_value(text_uid) over keyed as first_uid,
        first_value(sample_uid) over keyed as first_sample,
        first_value(text) over keyed as first_text
    from captions
    window keyed as (partition by language order by md5($seed || ':next:' || text_uid), text_uid)
),
paired as (
    select text_uid, sample_uid, language, text,
        case when next_uid is null then first_text else next_text end as replacement,
        coalesce(next_uid, first_uid) as replacement_text_uid,
        coalesce(next_sample, first_sample) as replacement_sample_uid
    from ordered
),
apart as (
    select p.*
    from paired p
    where p.replacement_sample_uid <> p.sample_uid
        and not exists (select 1 from captions c where c.sample_uid = p.sample_uid and c.text = p.replacement)
    -- of two captions of a sample that would become the same one, one stays
    qualify row_number() over (partition by p.sample_uid, p.replacement order by p.text_uid) = 1
)
select (row_number() over (order by md5($seed || ':place:' || text_uid), text_uid) - 1)::bigint as place, *
from apart
order by place
