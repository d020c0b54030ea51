-- Texts of the pool that are not in the ledger exactly once.
-- in:  texts, ledger
select text_uid, count(l.text_uid) as times
from texts t
left join ledger l using (text_uid)
group by text_uid
having count(l.text_uid) <> 1
