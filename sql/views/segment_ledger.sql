-- The ledger of a pool of video and audio: the same rows with where each segment comes from and when its text is said.
-- in:  plain (the ledger), segments, texts
-- out: the columns of the ledger, then source_uid, modality, start_s, end_s (of the segment in its source; null where
--      the source has no segment), text_start_s, text_end_s (from the segment's start; null of texts about all of it)
select p.*, s.source_uid, s.modality, s.start_s, s.end_s, t.text_start_s, t.text_end_s
from plain p
join segments s using (sample_uid)
join segment_texts t using (text_uid)
