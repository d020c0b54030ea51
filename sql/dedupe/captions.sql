-- What is said about media: normalised captions (letters and digits, lower case), without boilerplate.
-- in:  media, texts, caption_flags (text_uid, is_boilerplate); wanted (media_uid)
-- out: media_uid, caption
select distinct m.media_uid, caption
from wanted
join media m using (media_uid)
join texts t using (sample_uid)
left join caption_flags b using (text_uid),
    lateral (select lower(trim(regexp_replace(nfc_normalize(t.text), '[^\p{L}\p{M}\p{N}]+', ' ', 'g'))) as caption)
where caption <> '' and not coalesce(b.is_boilerplate, false)
