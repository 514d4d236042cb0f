create table t (a int primary key, b int, s text)
----
CREATE TABLE

insert into t values (1, 0, 'abc'), (2, 5, null), (3, null, 'xyz')
----
INSERT 0 3

select a from t where b <> 0 and 10 / b > 1
----
[a]
2
SELECT 1

select a, case when b = 0 then -1 when b is null then -2 else 10 / b end from t order by a
----
[a | case]
1 | -1
2 | 2
3 | -2
SELECT 3

select coalesce(b, a, 1 / 0) from t order by a
----
[coalesce]
0
5
3
SELECT 3

select nullif(b, 0), greatest(a, b), least(a, b) from t order by a
----
[nullif | greatest | least]
NULL | 1 | 0
5 | 5 | 2
NULL | 3 | 3
SELECT 3

select a, s like 'a%', s || '!' from t order by a
----
[a | ?column? | ?column?]
1 | t | abc!
2 | NULL | NULL
3 | f | xyz!
SELECT 3

select a from t where not (b > 1) order by a
----
[a]
1
SELECT 1

select b is distinct from 5, b is not distinct from null from t order by a
----
[?column? | ?column?]
t | f
f | f
t | t
SELECT 3

select a from t where s in ('abc', 'xyz', null) order by a
----
[a]
1
3
SELECT 2

select a from t where s not in ('abc', null)
----
[a]
SELECT 0

select array[1, 2, 3][2], array[a, b] from t order by a
----
[array | array]
2 | {1,0}
2 | {2,5}
2 | {3,NULL}
SELECT 3

select 5 = any (array[1, 5]), 5 <> all (array[1, 5])
----
[?column? | ?column?]
t | f
SELECT 1

select row(1, 2) = row(1, 2), (1, null) is null
----
[?column? | ?column?]
t | f
SELECT 1

select '2024-02-29'::date + 1, 1.10::numeric * 3, 7 / 2, 7.0 / 2, -7 % 3
----
[?column? | ?column? | ?column? | ?column? | ?column?]
2024-03-01 | 3.30 | 3 | 3.5000000000000000 | -1
SELECT 1

select b is true from (values (true), (false), (null)) v (b)
----
[?column?]
t
f
f
SELECT 3

select true and null, false and null, true or null, not null::bool
----
[?column? | ?column? | ?column? | ?column?]
NULL | f | t | NULL
SELECT 1
