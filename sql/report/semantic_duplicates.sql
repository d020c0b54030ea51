-- Semantic duplicates by cosine similarity, in steps of a hundredth: how many pairs there are at each.
-- in:  semantic_edges
-- out: similarity_from, pairs, clusters
select
    floor(similarity * 100) / 100 as similarity_from,
    count(*) as pairs,
    count(distinct cluster) as clusters
from semantic_edges
group by similarity_from
order by similarity_from desc
