-- All hashes of looks in crowds: only where one of them goes can there be pairs with such a look.
-- in:  hashes (look, phash, phash_color, phash_mirror, phash_crops); crowds (phash)
-- out: value, rising
select distinct value
from (
    select unnest(list_concat([phash, phash_color, phash_mirror], phash_crops::ubigint[])) as value
    from hashes
    where look is not null and phash in (select phash from crowds)
)
where value is not null
order by value
