create table t (g text, v int, f float8, n numeric(10,2))
----
CREATE TABLE

insert into t values ('a', 1, 1.5, 1.10), ('a', 2, 2.5, 2.20), ('b', 3, null, 3.30), ('b', null, 4, 4.40), (null, 5, 5, 5.50)
----
ERROR 42883: function unique_rowid() does not exist
HINT: No function matches the given name and argument types. You might need to add explicit type casts.

select g, count(*), count(v), sum(v), avg(v), min(v), max(v) from t group by g order by g
----
[g | count | count | sum | avg | min | max]
SELECT 0

select sum(f), avg(n), sum(n) from t
----
[sum | avg | sum]
NULL | NULL | NULL
SELECT 1

select count(distinct g) from t
----
[count]
0
SELECT 1

select g, count(*) from t group by g having count(*) > 1 order by g
----
[g | count]
SELECT 0

select count(*) filter (where v > 1) from t
----
[count]
0
SELECT 1

select count(*), sum(v) from t where v > 100
----
[count | sum]
0 | NULL
SELECT 1

select string_agg(g, ',' order by v desc) from t
----
[string_agg]
NULL
SELECT 1

select array_agg(v order by v) from t
----
[array_agg]
NULL
SELECT 1

select bool_and(v > 0), bool_or(v > 4) from t
----
[bool_and | bool_or]
NULL | NULL
SELECT 1

select g, sum(v) from t group by rollup (g) order by g, 2
----
[g | sum]
NULL | NULL
SELECT 1

select v % 2 as odd, count(*) from t group by 1 order by 1
----
[odd | count]
SELECT 0

select max(v) from t group by g order by 1
----
[max]
SELECT 0
