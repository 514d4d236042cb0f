create table t (a int primary key, b text, c int default 7)
----
CREATE TABLE

insert into t values (1, 'one', default), (2, 'two', 8), (3, null, null)
----
INSERT 0 3

select * from t
----
[a | b | c]
1 | one | 7
2 | two | 8
3 | NULL | NULL
SELECT 3

select a, b from t where a = 2
----
[a | b]
2 | two
SELECT 1

select a from t where b is null
----
[a]
3
SELECT 1

select a, c from t where a > 1 order by a desc
----
[a | c]
3 | NULL
2 | 8
SELECT 2

select a + c as sum, upper(b) from t order by a limit 2
----
[sum | upper]
8 | ONE
10 | TWO
SELECT 2

select count(*), sum(c), max(b) from t
----
[count | sum | max]
3 | 15 | two
SELECT 1

update t set c = c + 1 where a = 1
----
UPDATE 1

update t set c = 0 where c is null returning a, c
----
[a | c]
3 | 0
UPDATE 1

delete from t where a = 2
----
DELETE 1

select * from t order by a
----
[a | b | c]
1 | one | 8
3 | NULL | 0
SELECT 2

select 1; select 2
----
[?column?]
1
SELECT 1
[?column?]
2
SELECT 1

select nonsense
----
ERROR 42703: column "nonsense" does not exist

selec 1
----
ERROR 42601: syntax error at or near "selec"

select 1/0
----
ERROR 22012: division by zero

;
----
EMPTY

insert into t values (1, 'again')
----
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (a)=(1) already exists.

insert into t (b) values ('no key')
----
ERROR 23502: null value in column "a" of relation "t" violates not-null constraint
DETAIL: Failing row contains (null, no key, 7).

select a from t where a in (1, 3, 5) order by a
----
[a]
1
3
SELECT 2

select a from t where a between 2 and 9
----
[a]
3
SELECT 1

table t
----
[a | b | c]
1 | one | 8
3 | NULL | 0
SELECT 2

values (1, 'x'), (2, 'y')
----
[column1 | column2]
1 | x
2 | y
SELECT 2

select distinct c from t order by c
----
[c]
0
8
SELECT 2

select case when a = 1 then 'first' else 'other' end from t order by a
----
[case]
first
other
SELECT 2

explain select * from t where a = 1
----
[QUERY PLAN]
Point Select on t  (rows=1)
  Key: (a = 1)
EXPLAIN

truncate t
----
TRUNCATE TABLE

select * from t
----
[a | b | c]
SELECT 0

drop table t
----
DROP TABLE

select * from t
----
ERROR 42P01: relation "t" does not exist
