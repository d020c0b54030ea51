-- Texts and samples between two thresholds, for all rows and by group. Counts of several batches add up.
-- in:  valued (sample_uid, value: double or null, groups: list of {kind, name}); $thresholds (rising), $sign (1: kept where the
--      value is at least the threshold, -1: at most)
-- out: kind, name, bin (number of thresholds that keep the row; null without a value), texts, samples (whose best text it is)
with grouped as (
    select sample_uid, value * $sign as value, unnest(groups, recursive := true) from valued
),
ranked as (
    select *, row_number() over (partition by kind, name, sample_uid order by value desc nulls last) = 1 as is_best
    from grouped
)
select
    kind,
    name,
    case when value is not null
        then len(list_filter($thresholds, lambda t: value >= t * $sign)) end as bin,
    count(*) as texts,
    count(*) filter (where is_best) as samples
from ranked
group by all
