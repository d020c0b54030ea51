-- Texts by where they are from (columns of links, generators): how many, how many are copies of each other, how varied their words are.
-- in:  texts, generated_texts, decided
-- out: text_source, generator, generator_revision (null of links), texts, samples, kept, sheared, duplicate_share (texts that are the
--      same, letter by letter, as another one of the source, less one of each), distinct_1, distinct_2 (different words, and pairs
--      of words, over all of them; Li et al. 2016, arXiv 1510.03055; of scripts without spaces a stretch is one word)
with origins as (
    select t.text_source, g.generator, g.generator_revision, t.text_uid, t.sample_uid, t.text, coalesce(d.kept, false) as kept,
        coalesce(g.is_sheared, false) as is_sheared, regexp_extract_all(lower(t.text), '[\p{L}\p{M}\p{N}]+') as words
    from texts t
    left join generated_texts g using (text_uid)
    left join decided d using (text_uid)
    where t.text is not null
),
ones as (
    select text_source, generator, generator_revision, unnest(words) as word from origins
),
pairs as (
    select text_source, generator, generator_revision,
        unnest(list_transform(range(1, len(words)), lambda i: words[i] || ' ' || words[i + 1])) as word
    from origins
),
varied_1 as (
    select text_source, generator, generator_revision, count(distinct word) / count(*) as distinct_1 from ones group by all
),
varied_2 as (
    select text_source, generator, generator_revision, count(distinct word) / count(*) as distinct_2 from pairs group by all
),
counts as (
    select text_source, generator, generator_revision, count(*) as texts, count(distinct sample_uid) as samples,
        count(*) filter (where kept) as kept, count(*) filter (where is_sheared) as sheared,
        1 - count(distinct text) / count(*) as duplicate_share
    from origins
    group by all
)
select c.text_source, c.generator, c.generator_revision, c.texts, c.samples, c.kept, c.sheared,
    round(c.duplicate_share, 4) as duplicate_share, round(a.distinct_1, 4) as distinct_1, round(b.distinct_2, 4) as distinct_2
from counts c
left join varied_1 a on a.text_source is not distinct from c.text_source and a.generator is not distinct from c.generator
    and a.generator_revision is not distinct from c.generator_revision
left join varied_2 b on b.text_source is not distinct from c.text_source and b.generator is not distinct from c.generator
    and b.generator_revision is not distinct from c.generator_revision
order by c.generator is not null, c.texts desc, c.text_source
