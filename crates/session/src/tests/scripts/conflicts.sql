create table t (a int primary key, b int)
----
CREATE TABLE

insert into t values (1, 1), (2, 2)
----
INSERT 0 2

begin; select * from t where a = 1 for update
----
BEGIN
[a | b]
1 | 1
SELECT 1
(T)

-- b
select b from t where a = 1
----
[b]
1
SELECT 1

-- b
begin; select a from t for update skip locked
----
BEGIN
[a]
2
SELECT 1
(T)

-- b
select a from t where a = 1 for update nowait
----
ERROR 55P03: could not obtain lock on row in relation
(E)

-- b
rollback
----
ROLLBACK

commit
----
COMMIT
