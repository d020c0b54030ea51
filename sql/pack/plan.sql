-- The kept texts of a dataset version of pictures, samples in the order of its shards, each sample's texts together.
-- in:  kept (all columns of candidates, restricted to kept texts, with text_final and language_final), places (media_uid, file,
--      start, length); {extra} and {text_fields} are replaced by quoted column names; $seed
-- out: columns of the sample, columns `texts.<field>` of the text, position, extra columns, place of the bytes
select
    k.sample_uid,
    k.media_uid,
    k.url,
    k.image_format,
    k.width_px,
    k.height_px,
    k.stored_sha256 as image_sha256,
    k.text_uid as "texts.text_uid",
    k.text_final as "texts.text",
    k.language_final as "texts.language",
    k.languages_claimed as "texts.languages"
    {text_fields}
    {extra},
    k.position,
    p.file as tamis__file,
    p.start as tamis__start,
    p.length as tamis__length
from kept k
join places p using (media_uid)
-- a keyed hash shuffles: the order depends on the seed and the uids alone
order by md5($seed || ':' || k.sample_uid), k.sample_uid, k.text_uid
