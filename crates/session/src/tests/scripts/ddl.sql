create table t (a int, b text)
----
CREATE TABLE

insert into t select g, 'row ' || g from generate_series(1, 20) g
----
INSERT 0 20

alter table t add primary key (a)
----
ALTER TABLE

insert into t values (1, 'dup')
----
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (a)=(1) already exists.

select b from t where a = 7
----
[b]
row 7
SELECT 1

create unique index t_b on t (b)
----
CREATE INDEX

insert into t values (100, 'row 7')
----
ERROR 23505: duplicate key value violates unique constraint "t_b"
DETAIL: Key (b)=(row 7) already exists.

select a from t where b = 'row 9'
----
[a]
9
SELECT 1

alter table t add column c int
----
ALTER TABLE

alter table t add column d int default 5
----
ALTER TABLE

alter table t add column e int not null default 6
----
ALTER TABLE

select * from t where a < 3 order by a
----
[a | b | c | d | e]
1 | row 1 | NULL | 5 | 6
2 | row 2 | NULL | 5 | 6
SELECT 2

insert into t (a, b) values (21, 'new') returning *
----
[a | b | c | d | e]
21 | new | NULL | 5 | 6
INSERT 0 1

alter table t alter column d type text using 'd' || d
----
ALTER TABLE

select d from t where a = 1
----
[d]
d5
SELECT 1

alter table t drop column c
----
ALTER TABLE

alter table t rename column d to dd
----
ALTER TABLE

alter table t add constraint positive check (a > 0)
----
ALTER TABLE

alter table t add check (a > 5)
----
ERROR 23514: check constraint "t_a_check" of relation "t" is violated by some row

insert into t (a, b) values (-1, 'neg')
----
ERROR 23514: new row for relation "t" violates check constraint "positive"
DETAIL: Failing row contains (-1, neg, 5, 6).

alter table t alter column b set not null
----
ALTER TABLE

alter table t rename to u
----
ALTER TABLE

select * from t
----
ERROR 42P01: relation "t" does not exist

select count(*) from u
----
[count]
21
SELECT 1

drop index t_b
----
DROP INDEX

insert into u (a, b) values (101, 'row 7')
----
INSERT 0 1

create unique index again on u (b)
----
ERROR 23505: could not create unique index "again"
DETAIL: Key (b)=(row 7) is duplicated.

create table if not exists u (x int)
----
NOTICE: relation "u" already exists, skipping
CREATE TABLE

drop table if exists nothing
----
NOTICE: table "nothing" does not exist, skipping
DROP TABLE

create table v as select a, b from u where a < 4
----
SELECT 3

select * from v order by a
----
[a | b]
1 | row 1
2 | row 2
3 | row 3
SELECT 3

begin; create table w (x int primary key); insert into w values (1); create index on w (x); select * from w; commit
----
BEGIN
CREATE TABLE
INSERT 0 1
CREATE INDEX
[x]
1
SELECT 1
COMMIT

select * from w
----
[x]
1
SELECT 1

begin; create table x (y int); rollback
----
BEGIN
CREATE TABLE
ROLLBACK

select * from x
----
ERROR 42P01: relation "x" does not exist

drop table u, v, w
----
DROP TABLE

create schema s
----
CREATE SCHEMA

create table s.t (a serial primary key, b int)
----
CREATE TABLE
