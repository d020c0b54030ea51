-- Tags by language: the share of texts and of samples with one or more, so that no language is silently without any.
-- in:  texts, text_tags (text_uid, tags, tags_by)
-- out: language (as claimed), texts, tagged (with one or more), tagged_share, samples, tagged_samples, tags_a_text (mean of
--      those that could be tagged), tags_by (parser | entries | none: the language has neither), note
with said as (
    select coalesce(t.language_claimed, 'unknown') as language, t.sample_uid, g.tags, g.tags_by
    from texts t
    left join text_tags g using (text_uid)
    where t.text is not null
)
select
    language,
    count(*) as texts,
    count(*) filter (where len(tags) > 0) as tagged,
    round(count(*) filter (where len(tags) > 0) / count(*), 4) as tagged_share,
    count(distinct sample_uid) as samples,
    count(distinct sample_uid) filter (where len(tags) > 0) as tagged_samples,
    round(avg(len(tags)), 3) as tags_a_text,
    coalesce(string_agg(distinct tags_by, ', ' order by tags_by), 'none') as tags_by,
    case when count(*) filter (where len(tags) > 0) = 0 then 'NO TAGS' else '' end as note
from said
where exists (select 1 from text_tags)
group by all
order by tagged_share, texts desc, language
