create table t (a int primary key, b int)
----
CREATE TABLE

insert into t values (1, 10), (2, 20), (3, 30)
----
INSERT 0 3

select a, (select max(b) from t) from t order by a
----
[a | max]
1 | 30
2 | 30
3 | 30
SELECT 3

select a, (select count(*) from t s where s.a <= t.a) from t order by a
----
[a | count]
1 | 1
2 | 2
3 | 3
SELECT 3

select (select a from t)
----
ERROR 21000: more than one row returned by a subquery used as an expression

select a from t where b > (select avg(b) from t)
----
[a]
3
SELECT 1

select a from t where b > all (select b from t where a < 3)
----
[a]
3
SELECT 1

select a from t where b = any (select b from t where a > 1) order by a
----
[a]
2
3
SELECT 2

select array(select a from t order by a desc)
----
[array]
{3,2,1}
SELECT 1

select exists (select 1 from t where a = 9), exists (select 1 from t where a = 1)
----
[exists | exists]
f | t
SELECT 1

select case when a = 1 then (select b from t) else 0 end from t where a = 2
----
[case]
0
SELECT 1

select a from t where (a, b) in (select a, b from t where a <> 2) order by a
----
[a]
1
3
SELECT 2

with recursive r (n) as (select 1 union all select n + 1 from r where n < 4) select * from r
----
[n]
1
2
3
4
SELECT 4
