create table l (a int primary key, x text)
----
CREATE TABLE

create table r (id int primary key, a int, y text)
----
CREATE TABLE

insert into l values (1, 'l1'), (2, 'l2'), (3, 'l3'), (4, null)
----
INSERT 0 4

insert into r values (10, 1, 'r1'), (11, 1, 'r1b'), (12, 3, 'r3'), (13, null, 'rn'), (14, 9, 'r9')
----
INSERT 0 5

select l.a, r.id from l join r on l.a = r.a order by 1, 2
----
[a | id]
1 | 10
1 | 11
3 | 12
SELECT 3

select l.a, r.id from l left join r on l.a = r.a order by 1, 2
----
[a | id]
1 | 10
1 | 11
2 | NULL
3 | 12
4 | NULL
SELECT 5

select l.a, r.id from l right join r on l.a = r.a order by 2
----
[a | id]
1 | 10
1 | 11
3 | 12
NULL | 13
NULL | 14
SELECT 5

select l.a, r.id from l full join r on l.a = r.a order by 1, 2
----
[a | id]
1 | 10
1 | 11
2 | NULL
3 | 12
4 | NULL
NULL | 13
NULL | 14
SELECT 7

select l.a from l where exists (select 1 from r where r.a = l.a) order by 1
----
[a]
1
3
SELECT 2

select l.a from l where not exists (select 1 from r where r.a = l.a) order by 1
----
[a]
2
4
SELECT 2

select a from l where a in (select a from r) order by 1
----
[a]
1
3
SELECT 2

select a from l where a not in (select a from r) order by 1
----
[a]
SELECT 0

select a from l where a not in (select a from r where a is not null) order by 1
----
[a]
2
4
SELECT 2

select count(*) from l cross join r
----
[count]
20
SELECT 1

select l.a, r.id from l join r on l.a < r.a order by 1, 2
----
[a | id]
1 | 12
1 | 14
2 | 12
2 | 14
3 | 14
4 | 14
SELECT 6

select l.x, m.n from l left join lateral (select count(*) as n from r where r.a = l.a) m on true order by l.a
----
[x | n]
l1 | 2
l2 | 0
l3 | 1
NULL | 0
SELECT 4

select a from l union select a from r order by 1
----
[a]
1
2
3
4
9
NULL
SELECT 6

select a from l union all select a from r order by 1
----
[a]
1
1
1
2
3
3
4
9
NULL
SELECT 9

select a from l intersect select a from r order by 1
----
[a]
1
3
SELECT 2

select a from l except select a from r order by 1
----
[a]
2
4
SELECT 2

with c as (select a, x from l where a < 3) select c.a, c.x, d.a from c join c d on c.a = d.a order by 1
----
[a | x | a]
1 | l1 | 1
2 | l2 | 2
SELECT 2

select * from generate_series(1, 3) g
----
[g]
1
2
3
SELECT 3

select * from generate_series(10, 1, -4) g
----
[g]
10
6
2
SELECT 3

select x, y from (values (1, 2), (3, 4)) v (x, y) where x > 1
----
[x | y]
3 | 4
SELECT 1

select g, row_number() over (order by g desc), sum(g) over (order by g) from generate_series(1, 4) g order by g
----
[g | row_number | sum]
1 | 4 | 1
2 | 3 | 3
3 | 2 | 6
4 | 1 | 10
SELECT 4
