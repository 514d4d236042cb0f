create table t (a int primary key, b int)
----
CREATE TABLE

begin
----
BEGIN
(T)

insert into t values (1, 1)
----
INSERT 0 1
(T)

-- b
select * from t where a = 2
----
[a | b]
SELECT 0

savepoint s
----
SAVEPOINT
(T)

insert into t values (2, 2)
----
INSERT 0 1
(T)

insert into t values (1, 1)
----
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (a)=(1) already exists.
(E)

select 1
----
ERROR 25P02: current transaction is aborted, commands ignored until end of transaction block
(E)

rollback to s
----
ROLLBACK
(T)

select * from t order by a
----
[a | b]
1 | 1
SELECT 1
(T)

insert into t values (3, 3)
----
INSERT 0 1
(T)

release s
----
RELEASE
(T)

commit
----
COMMIT

select * from t order by a
----
[a | b]
1 | 1
3 | 3
SELECT 2

begin; update t set b = 10; rollback
----
BEGIN
UPDATE 2
ROLLBACK

select * from t order by a
----
[a | b]
1 | 1
3 | 3
SELECT 2

insert into t values (4, 4); insert into t values (1, 1)
----
INSERT 0 1
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (a)=(1) already exists.

select count(*) from t
----
[count]
2
SELECT 1

begin read only
----
BEGIN
(T)

insert into t values (9, 9)
----
ERROR 25006: cannot execute INSERT in a read-only transaction
(E)

rollback
----
ROLLBACK

begin
----
BEGIN
(T)

begin
----
WARNING: there is already a transaction in progress
BEGIN
(T)

select 1/0
----
ERROR 22012: division by zero
(E)

commit
----
ROLLBACK

commit
----
WARNING: there is no transaction in progress
COMMIT

rollback
----
WARNING: there is no transaction in progress
ROLLBACK

savepoint x
----
ERROR 25P01: SAVEPOINT can only be used in transaction blocks

begin isolation level read committed
----
BEGIN
(T)

show transaction_isolation
----
[transaction_isolation]
read committed
SHOW
(T)

select count(*) from t
----
[count]
2
SELECT 1
(T)

set transaction isolation level serializable
----
ERROR 25001: SET TRANSACTION ISOLATION LEVEL must be called before any query
(E)

rollback
----
ROLLBACK

begin; set local work_mem = '1MB'; show work_mem
----
BEGIN
SET
[work_mem]
1MB
SHOW
(T)

commit
----
COMMIT

show work_mem
----
[work_mem]
4MB
SHOW

set work_mem = '3MB'
----
SET

begin; set work_mem = '5MB'; rollback; show work_mem
----
BEGIN
SET
ROLLBACK
[work_mem]
3MB
SHOW

reset work_mem; show work_mem
----
RESET
[work_mem]
4MB
SHOW

begin; insert into t values (7, 7); commit and chain
----
BEGIN
INSERT 0 1
COMMIT
(T)

select a from t where a = 7
----
[a]
7
SELECT 1
(T)

rollback
----
ROLLBACK

prepare p (int) as select b from t where a = $1
----
PREPARE

execute p (3)
----
[b]
3
SELECT 1

execute p (3, 4)
----
ERROR 42601: wrong number of parameters for prepared statement "p"
DETAIL: Expected 1 parameters but got 2.

deallocate p
----
DEALLOCATE

execute p (3)
----
ERROR 26000: prepared statement "p" does not exist
