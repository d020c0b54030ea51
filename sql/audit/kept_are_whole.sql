-- Kept texts whose medium was not downloaded.
-- in:  ledger
select text_uid, url, status
from ledger
where kept and status is distinct from 'ok'
