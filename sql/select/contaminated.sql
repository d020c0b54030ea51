-- The texts that a rule rejects for what evaluation sets hold, each with the match that tells most.
-- in:  work (text_uid, media_uid), evaluation_matches; $rule = the rule's name
-- out: text_uid, evaluation_set, evaluation_item, evaluation_match (its kind), evaluation_distance, evaluation_similarity
with held as (
    select w.text_uid, m.*
    from work w
    join evaluation_matches m on m.level = 'media' and m.uid = w.media_uid
    where m.rule = $rule
    union all
    select w.text_uid, m.*
    from work w
    join evaluation_matches m on m.level = 'text' and m.uid = w.text_uid
    where m.rule = $rule
)
select
    text_uid,
    evaluation_set,
    item as evaluation_item,
    kind as evaluation_match,
    distance as evaluation_distance,
    similarity as evaluation_similarity
from held
-- equal bytes or pixels first, then the nearest picture, then the likest text or embedding
qualify row_number() over (
    partition by text_uid
    order by
        case kind when 'sha256' then 0 when 'pixel_hash' then 1 else 2 end,
        distance nulls last, similarity desc, evaluation_set, item, kind
) = 1
