-- The value at a place of the falling order, found without sorting all: a histogram first, then its one bin.
-- in:  scored (score: finite double); $place from 1
-- out: one row (cut, num_above, num_equal): rows above the cut and rows at it; none where `scored` is shorter
with span as (
    -- halved, so that the width is finite for any two values
    select min(score) / 2 as lo, nullif(max(score) / 2 - min(score) / 2, 0) as width from scored
),
binned as (
    select score, cast(least(floor(coalesce((score / 2 - lo) / width, 0) * 65536), 65535) as integer) as bin
    from scored, span
),
bins as (select bin, count(*) as num from binned group by bin),
running as (select bin, num, sum(num) over (order by bin desc) as upto from bins),
chosen as (select bin, upto - num as before from running where upto >= $place order by bin desc limit 1),
ranked as (
    select b.score, c.before + row_number() over (order by b.score desc) as place
    from binned b
    join chosen c using (bin)
),
cut as (select score as cut from ranked where place = $place)
select
    cut,
    (select count(*) from scored where score > cut) as num_above,
    (select count(*) from scored where score = cut) as num_equal
from cut
