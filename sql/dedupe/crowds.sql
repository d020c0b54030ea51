-- Hashes that too many different looks share to compare all with all.
-- in:  hashes (look, phash); $max_equal
-- out: phash, rising
select phash
from (select distinct look, phash from hashes where look is not null)
group by phash
having count(*) > $max_equal
order by phash
