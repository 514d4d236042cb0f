create table t (k int primary key, v int, u text unique)
----
CREATE TABLE

insert into t values (1, 10, 'a')
----
INSERT 0 1

insert into t values (1, 11, 'b') on conflict do nothing
----
INSERT 0 0

insert into t values (1, 11, 'b') on conflict (k) do update set v = t.v + excluded.v returning *
----
[k | v | u]
1 | 21 | a
INSERT 0 1

insert into t values (2, 5, 'a') on conflict (u) do update set v = excluded.v
----
INSERT 0 1

insert into t values (2, 5, 'a') on conflict (k) do update set v = excluded.v
----
ERROR 23505: duplicate key value violates unique constraint "t_u_key"
DETAIL: Key (u)=(a) already exists.

insert into t values (3, 1, 'c'), (3, 2, 'd') on conflict (k) do update set v = excluded.v
----
ERROR 21000: ON CONFLICT DO UPDATE command cannot affect row a second time
HINT: Ensure that no rows proposed for insertion within the same command have duplicate constrained values.

insert into t values (3, 1, 'c'), (3, 2, 'd') on conflict do nothing
----
INSERT 0 1

insert into t values (3, 100, 'x') on conflict (k) do update set v = excluded.v where t.v > 5
----
INSERT 0 0

select * from t order by k
----
[k | v | u]
1 | 5 | a
3 | 1 | c
SELECT 2
