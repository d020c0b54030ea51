-- How many texts match each metadata entry. Counts of several batches add up.
-- in:  matched (entries, passed): texts in scope; entries = ids of the entries matched
-- out: entry, texts
select entry, count(*) as texts
from (select unnest(entries) as entry from matched where passed)
group by entry
