-- Pairs of looks: of what several buckets or kinds say of a pair, the surest, then the first kind, then the nearest.
-- in:  pairs_found (look_a, look_b, kind, distance, sure), crowd_found (the same), looks (look, phash), crowds (phash);
--      $kinds = the kinds in order
-- out: look_a, look_b, kind, distance, sure; pairs of looks that are there, with crowds only the sure ones found for
--      crowds (what else joins these is in crowd_groups)
with crowd_looks as (select distinct look from looks where phash in (select phash from crowds)),
everything as (
    select * from pairs_found where look_a not in (from crowd_looks) and look_b not in (from crowd_looks)
    union all
    select * from crowd_found where sure
)
select look_a, look_b, best.kind, best.distance, best.sure
from (
    select look_a, look_b,
        arg_min({'kind': kind, 'distance': distance, 'sure': sure}, (not sure, list_position($kinds, kind), distance)) as best
    from everything
    where look_a in (select look from looks) and look_b in (select look from looks)
    group by look_a, look_b
)
