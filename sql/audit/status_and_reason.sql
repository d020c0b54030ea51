-- Media that are neither ok with bytes nor failed or refused with a reason code.
-- in:  media
select media_uid, url, status, reason
from media
where not coalesce(
    (status = 'ok' and reason is null and sha256 is not null and stored_sha256 is not null and bytes is not null)
    or (status in ('failed', 'refused') and reason is not null and bytes is null), false)
