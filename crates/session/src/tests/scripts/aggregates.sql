create table t (g text, v int, f float8, n numeric(10,2))
----
CREATE TABLE

insert into t values ('a', 1, 1.5, 1.10), ('a', 2, 2.5, 2.20), ('b', 3, null, 3.30), ('b', null, 4, 4.40), (null, 5, 5, 5.50)
----
INSERT 0 5

select g, count(*), count(v), sum(v), avg(v), min(v), max(v) from t group by g order by g
----
[g | count | count | sum | avg | min | max]
a | 2 | 2 | 3 | 1.5000000000000000 | 1 | 2
b | 2 | 1 | 3 | 3.0000000000000000 | 3 | 3
NULL | 1 | 1 | 5 | 5.0000000000000000 | 5 | 5
SELECT 3

select sum(f), avg(n), sum(n) from t
----
[sum | avg | sum]
13 | 3.3000000000000000 | 16.50
SELECT 1

select count(distinct g) from t
----
[count]
2
SELECT 1

select g, count(*) from t group by g having count(*) > 1 order by g
----
[g | count]
a | 2
b | 2
SELECT 2

select count(*) filter (where v > 1) from t
----
[count]
3
SELECT 1

select count(*), sum(v) from t where v > 100
----
[count | sum]
0 | NULL
SELECT 1

select string_agg(g, ',' order by v desc) from t
----
[string_agg]
b,b,a,a
SELECT 1

select array_agg(v order by v) from t
----
[array_agg]
{1,2,3,5,NULL}
SELECT 1

select bool_and(v > 0), bool_or(v > 4) from t
----
[bool_and | bool_or]
t | t
SELECT 1

select g, sum(v) from t group by rollup (g) order by g, 2
----
[g | sum]
a | 3
b | 3
NULL | 5
NULL | 11
SELECT 4

select v % 2 as odd, count(*) from t group by 1 order by 1
----
[odd | count]
0 | 1
1 | 3
NULL | 1
SELECT 3

select max(v) from t group by g order by 1
----
[max]
2
3
5
SELECT 3
