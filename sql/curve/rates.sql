-- Texts and samples that each threshold keeps, for all rows and by group.
-- in:  bins (kind, name, bin, texts, samples) of all batches; steps (threshold, place from 1 in the order of falling strictness
--      as `bin` counts them); $least = texts that a group must have to be shown
-- out: kind (all, language, host, source), name, threshold, texts (with a value), kept, keep_rate, samples_kept, missing
with sums as (
    select kind, name, bin, sum(texts)::bigint as texts, sum(samples)::bigint as samples from bins group by all
),
totals as (
    select kind, name, coalesce(sum(texts) filter (where bin is not null), 0)::bigint as texts,
        coalesce(sum(texts) filter (where bin is null), 0)::bigint as missing
    from sums
    group by all
)
select t.kind, t.name, s.threshold, t.texts, coalesce(sum(b.texts), 0)::bigint as kept,
    coalesce(sum(b.texts), 0) / nullif(t.texts, 0) as keep_rate,
    coalesce(sum(b.samples), 0)::bigint as samples_kept, t.missing
from totals t
cross join steps s
left join sums b on b.kind = t.kind and b.name = t.name and b.bin >= s.place
where t.texts >= $least or t.kind = 'all'
group by t.kind, t.name, s.threshold, t.texts, t.missing
order by t.kind <> 'all', t.kind desc, t.texts desc, t.name, s.threshold
