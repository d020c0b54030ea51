-- What link tables say, with the part that each known sample is in: known parts first, then new samples by uid.
-- in:  incoming (tamis__row, sample_uid, text_uid, url, text, language ...), known_links (sample_uid, role, filename),
--      known_texts (text_uid), homes (filename, part)
-- out: the columns of incoming, tamis__part (null: the sample is new), tamis__known (whether the pool has the text)
with home as (select sample_uid, part from known_links join homes using (filename) where role = 'primary')
select i.*, home.part as tamis__part, t.text_uid is not null as tamis__known
from incoming i
left join home on home.sample_uid = i.sample_uid
left join known_texts t on t.text_uid = i.text_uid
order by home.part nulls last, i.sample_uid, i.tamis__row
