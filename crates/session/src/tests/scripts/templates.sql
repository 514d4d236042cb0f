create table t (k int primary key, n int, b bigint, s varchar(5), d date)
----
CREATE TABLE

insert into t values (1, 10, 100, 'one', '2020-01-01')
----
INSERT 0 1

insert into t values (2, 20, 200, 'two', '2020-01-02')
----
INSERT 0 1

insert into t values (3, 30, 300, 'th''ee', '2020-01-03')
----
INSERT 0 1

insert into t values (4, 40, 3000000000, 'four', '2020-01-04')
----
INSERT 0 1

insert into t values (5, 50, 4000000000, 'five', '2020-01-05')
----
INSERT 0 1

insert into t values (6, 60, 600, 'too long', '2020-01-06')
----
ERROR 22001: value too long for type character varying(5)

insert into t values (6, 60, 600, 'six', 'yesterweek')
----
ERROR 22007: invalid input syntax for type date: "yesterweek"

insert into t values (3, 30, 300, 'three', '2020-01-03')
----
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (k)=(3) already exists.

select n, s, b + 1 from t where k = 1
----
[n | s | ?column?]
10 | one | 101
SELECT 1

select n, s, b + 1 from t where k = 3
----
[n | s | ?column?]
30 | th'ee | 301
SELECT 1

select n, s, b + 2 from t where k = 4
----
[n | s | ?column?]
40 | four | 3000000002
SELECT 1

select n, s, b + 1 from t where k = 3000000000
----
[n | s | ?column?]
SELECT 0

select n, s, b + 1 from t where k = 3000000001
----
[n | s | ?column?]
SELECT 0

update t set n = n + -5 where k = 1
----
UPDATE 1

update t set n = n + -6 where k = 2
----
UPDATE 1

update t set n = n + -2147483648 where k = 3
----
UPDATE 1

update t set n = n + 7 where k = 9
----
UPDATE 0

update t set n = n / 2, s = 'a' where k = 1
----
UPDATE 1

update t set n = n / 0, s = 'b' where k = 1
----
ERROR 22012: division by zero

update t set n = n / 2, s = 'abcdefg' where k = 1
----
ERROR 22001: value too long for type character varying(5)

update t set n = n / 2, s = 'c' where k = 2
----
UPDATE 1

select 'x', 1 from t where k = '1'
----
[?column? | ?column?]
x | 1
SELECT 1

select 'y', 2 from t where k = '2'
----
[?column? | ?column?]
y | 2
SELECT 1

select 'z', 3 from t where k = 'three'
----
ERROR 22P02: invalid input syntax for type integer: "three"

select n from t where k = 1 order by 1
----
[n]
2
SELECT 1

select n from t where k = 1 order by 2
----
ERROR 42P10: ORDER BY position 2 is not in select list

select d + 1 from t where k = 4
----
[?column?]
2020-01-05
SELECT 1

select d + 2 from t where k = 5
----
[?column?]
2020-01-07
SELECT 1

alter table t alter column s type text
----
ALTER TABLE

update t set n = n / 2, s = 'longer than five' where k = 1
----
UPDATE 1

delete from t where k = 1
----
DELETE 1

delete from t where k = 2
----
DELETE 1

select k, n, b, s, d from t order by k
----
[k | n | b | s | d]
3 | -2147483618 | 300 | th'ee | 2020-01-03
4 | 40 | 3000000000 | four | 2020-01-04
5 | 50 | 4000000000 | five | 2020-01-05
SELECT 3
