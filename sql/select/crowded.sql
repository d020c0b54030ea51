-- The rows that share values of a quota, those of one value side by side, in the order in which it gives places.
-- in:  crowded (tamis__row, tamis__crowd and tamis__value: the value, tamis__high and tamis__low: the keyed digest of the
--      unit that is counted, columns of the ordering); the quota's ordering takes the place of the braces
-- out: tamis__row
select tamis__row
from crowded
order by tamis__crowd, tamis__value, {prefer}
, tamis__high, tamis__low
