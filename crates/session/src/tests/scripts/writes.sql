create table t (a int primary key, b int not null, c text unique, check (b > 0))
----
CREATE TABLE

insert into t values (1, 1, 'x'), (2, 2, 'y')
----
INSERT 0 2

insert into t values (3, null, 'z')
----
ERROR 23502: null value in column "b" of relation "t" violates not-null constraint
DETAIL: Failing row contains (3, null, z).

insert into t values (3, 0, 'z')
----
ERROR 23514: new row for relation "t" violates check constraint "t_b_check"
DETAIL: Failing row contains (3, 0, z).

insert into t values (3, 3, 'x')
----
ERROR 23505: duplicate key value violates unique constraint "t_c_key"
DETAIL: Key (c)=(x) already exists.

insert into t values (3, 3, null), (4, 4, null)
----
INSERT 0 2

update t set c = 'y' where a = 1
----
ERROR 23505: duplicate key value violates unique constraint "t_c_key"
DETAIL: Key (c)=(y) already exists.

update t set c = 'x' where a = 1
----
UPDATE 1

update t set a = a + 10
----
UPDATE 4

select * from t order by a
----
[a | b | c]
11 | 1 | x
12 | 2 | y
13 | 3 | NULL
14 | 4 | NULL
SELECT 4

update t set a = 12 where a = 11
----
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (a)=(12) already exists.

update t set b = -1 where a = 11
----
ERROR 23514: new row for relation "t" violates check constraint "t_b_check"
DETAIL: Failing row contains (11, -1, x).

update t set c = 'swap' where a = 12 returning *
----
[a | b | c]
12 | 2 | swap
UPDATE 1

insert into t values (1, 1, 'y') returning a * 2 as twice
----
[twice]
2
INSERT 0 1

delete from t where c is null returning a
----
[a]
13
14
DELETE 2

select c from t where c = 'y'
----
[c]
y
SELECT 1

create index on t (b desc)
----
CREATE INDEX

select a from t where b = 2
----
[a]
12
SELECT 1

select a from t order by b desc
----
[a]
12
1
11
SELECT 3

update t set b = b + (select max(b) from t)
----
UPDATE 3

select a, b from t order by a
----
[a | b]
1 | 3
11 | 3
12 | 4
SELECT 3

insert into t select a + 100, b, null from t
----
INSERT 0 3

select count(*) from t
----
[count]
6
SELECT 1

update t set b = s.n from (values (101, 55), (111, 66)) s (id, n) where t.a = s.id returning t.a, t.b, s.n
----
[a | b | n]
101 | 55 | 55
111 | 66 | 66
UPDATE 2

delete from t using (values (101)) s (id) where t.a = s.id
----
DELETE 1

with gone as (delete from t where a > 100 returning a) select count(*) from gone
----
[count]
2
SELECT 1

select a from t order by a
----
[a]
1
11
12
SELECT 3

select a from t where a = 1 for update
----
[a]
1
SELECT 1

create table noks (v int)
----
CREATE TABLE

insert into noks select g from generate_series(1, 5) g
----
INSERT 0 5

select sum(v) from noks
----
[sum]
15
SELECT 1

delete from noks where v > 3
----
DELETE 2

select * from noks order by v
----
[v]
1
2
3
SELECT 3
