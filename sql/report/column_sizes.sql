-- Bytes that each stored column takes, in all and for each row: what a signal or a teacher's embeddings cost to keep.
-- in:  stored_columns() (place, name, column_name, rows, bytes of each column in each row group)
-- out: place (tables | versions), name (of table or version), column_name, rows, bytes (on disk, compressed), bytes_a_row
select place, name, column_name, sum(rows)::bigint as rows, sum(bytes)::bigint as bytes,
    round(sum(bytes) / nullif(sum(rows), 0), 2) as bytes_a_row
from stored_columns()
group by all
order by place, name, bytes desc, column_name
