-- Samples, failures and kept samples for each host: a poisoned or rotten domain stands out here.
-- in:  media, ledger
-- out: host, samples, failed, kept_samples, kept_share_of_all
with hosts as (
    select sample_uid, status, lower(regexp_extract(url, '^[a-zA-Z]+://([^/:?#]+)', 1)) as host from media
),
kept as (select distinct sample_uid from ledger where kept)
select host, count(*) as samples, count(*) filter (where status <> 'ok') as failed, count(k.sample_uid) as kept_samples,
    round(count(k.sample_uid) / nullif(sum(count(k.sample_uid)) over (), 0), 4) as kept_share_of_all
from hosts
left join kept k using (sample_uid)
group by host
order by samples desc, host
