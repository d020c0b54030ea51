-- The rows that a quota rejects.
-- in:  crowded (batch, row, per, unit_uid, counted, place): rows whose value of `per` may have too many; unit_uid = what is
--      counted, place = rank of the counted rows of one value by the quota's preference; $at_most, $thin
-- out: batch, row, num (counted units of this value), place (of the row's unit among them; null where not counted)
with units as (
    select per, unit_uid, dense_rank() over (partition by per order by min(place)) as place
    from crowded
    where counted
    group by per, unit_uid
),
numbers as (select per, max(place) as num from units group by per)
select c.batch, c.row, n.num, case when c.counted then u.place end as place
from crowded c
join numbers n using (per)
left join units u on u.per = c.per and u.unit_uid = c.unit_uid
where n.num > $at_most and (not $thin or (c.counted and u.place > $at_most))
order by c.batch, c.row
