-- The samples of a dataset version in the order of its shards, texts nested.
-- in:  kept (all columns of candidates, restricted to kept texts, with text_final and language_final), files (media_uid, file,
--      row_in_file); {extra} and {text_fields} are replaced by quoted column names; $seed
-- out: sample_uid, media_uid, url, image_format, width_px, height_px, image_sha256, texts, extra columns, file, row_in_file
select
    k.sample_uid,
    any_value(k.media_uid) as media_uid,
    any_value(k.url) as url,
    any_value(k.image_format) as image_format,
    any_value(k.width_px) as width_px,
    any_value(k.height_px) as height_px,
    any_value(k.stored_sha256) as image_sha256,
    list({'text_uid': k.text_uid, 'text': k.text_final, 'language': k.language_final, 'languages': k.languages_claimed
          {text_fields}} order by k.text_uid) as texts
    {extra},
    any_value(f.file) as file,
    any_value(f.row_in_file) as row_in_file
from kept k
join files f using (media_uid)
group by k.sample_uid
-- a keyed hash shuffles: the order depends on the seed and the uids alone
order by md5($seed || ':' || k.sample_uid), k.sample_uid
