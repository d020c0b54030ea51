-- The kept texts of a dataset version of segments, samples in the order of its shards, each sample's texts by their times.
-- in:  kept (all columns of candidates, restricted to kept texts, with text_final and language_final), places (media_uid, file,
--      start, length, frame_start, frame_length); {extra} and {text_fields} are replaced by quoted column names; $seed
-- out: columns of the sample (start_s and end_s are of the source; has_video, has_audio and has_text are the modality mask),
--      columns `texts.<field>` of the text, position, extra columns, place of the bytes
select
    k.sample_uid,
    k.media_uid,
    k.source_uid,
    k.url,
    k.start_s,
    k.end_s,
    k.duration_s,
    k.video_codec is not null as has_video,
    k.audio_codec is not null as has_audio,
    k.text_final is not null as has_text,  -- of the sample: whether one of its texts is
    k.container,
    k.video_codec,
    k.width_px,
    k.height_px,
    k.num_frames,
    k.frame_rate_hz,
    k.audio_codec,
    k.sample_rate_hz,
    k.num_channels,
    k.stored_sha256 as media_sha256,
    k.text_uid as "texts.text_uid",
    k.text_final as "texts.text",
    k.language_final as "texts.language",
    k.languages_claimed as "texts.languages",
    k.text_start_s as "texts.start_s",
    k.text_end_s as "texts.end_s",
    k.text_source as "texts.source"
    {text_fields}
    {extra},
    k.position,
    p.file as tamis__file,
    p.start as tamis__start,
    p.length as tamis__length,
    p.frame_start as tamis__frame_start,
    p.frame_length as tamis__frame_length
from kept k
join places p using (media_uid)
-- a keyed hash shuffles: the order depends on the seed and the uids alone
order by md5($seed || ':' || k.sample_uid), k.sample_uid, coalesce(k.text_start_s, -1), k.text_uid
