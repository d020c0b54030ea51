-- The segments of a dataset version in the order of its shards, texts nested with their times.
-- in:  kept (all columns of candidates, restricted to kept texts, with text_final and language_final), files (media_uid, file,
--      row_in_file); {extra} and {text_fields} are replaced by quoted column names; $seed
-- out: sample_uid, media_uid, source_uid, url, start_s, end_s (in the source), duration_s, has_video, has_audio, has_text (the
--      modality mask), what is known of the streams, media_sha256, texts, extra columns, file, row_in_file
select
    k.sample_uid,
    any_value(k.media_uid) as media_uid,
    any_value(k.source_uid) as source_uid,
    any_value(k.url) as url,
    any_value(k.start_s) as start_s,
    any_value(k.end_s) as end_s,
    any_value(k.duration_s) as duration_s,
    any_value(k.video_codec) is not null as has_video,
    any_value(k.audio_codec) is not null as has_audio,
    bool_or(k.text_final is not null) as has_text,
    any_value(k.container) as container,
    any_value(k.video_codec) as video_codec,
    any_value(k.width_px) as width_px,
    any_value(k.height_px) as height_px,
    any_value(k.num_frames) as num_frames,
    any_value(k.frame_rate_hz) as frame_rate_hz,
    any_value(k.audio_codec) as audio_codec,
    any_value(k.sample_rate_hz) as sample_rate_hz,
    any_value(k.num_channels) as num_channels,
    any_value(k.stored_sha256) as media_sha256,
    list({'text_uid': k.text_uid, 'text': k.text_final, 'language': k.language_final, 'languages': k.languages_claimed,
          'start_s': k.text_start_s, 'end_s': k.text_end_s, 'source': k.text_source
          {text_fields}} order by coalesce(k.text_start_s, -1), k.text_uid) as texts
    {extra},
    any_value(f.file) as file,
    any_value(f.row_in_file) as row_in_file
from kept k
join files f using (media_uid)
group by k.sample_uid
-- a keyed hash shuffles: the order depends on the seed and the uids alone
order by md5($seed || ':' || k.sample_uid), k.sample_uid
