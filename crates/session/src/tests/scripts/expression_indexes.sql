# Indexes on expressions.

CREATE TABLE t (id int PRIMARY KEY, name text, a int, b int, n numeric(8, 2));
INSERT INTO t SELECT g, chr(64 + g) || 'x', g % 5, g, g / 4.0 FROM generate_series(1, 20) g
----
CREATE TABLE
INSERT 0 20

CREATE UNIQUE INDEX ON t (lower(name))
----
CREATE INDEX

CREATE INDEX ON t ((a + b) DESC, lower(name), (n * 2)) INCLUDE (b) WHERE a > 1
----
CREATE INDEX

SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY indexname; SELECT c.relname, indkey, pg_get_expr(indexprs, indrelid), indpred FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE indexprs IS NOT NULL ORDER BY 1; SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_indexdef(c.oid, a.attnum, true) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relname LIKE 't\_%idx' ORDER BY c.relname, a.attnum
----
[indexdef]
CREATE INDEX t_expr_lower_expr1_b_idx ON public.t USING btree (((a + b)) DESC, lower(name), ((n * 2))) INCLUDE (b) WHERE (a > 1)
CREATE UNIQUE INDEX t_lower_idx ON public.t USING btree (lower(name))
CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)
SELECT 3
[relname | indkey | pg_get_expr | indpred]
t_expr_lower_expr1_b_idx | 0 0 0 4 | (a + b), lower(name), (n * 2) | (a > 1)
t_lower_idx | 0 | lower(name) | NULL
SELECT 2
[attname | format_type | pg_get_indexdef]
expr | integer | (a + b)
lower | text | lower(name)
expr1 | numeric | (n * 2)
b | integer | b
lower | text | lower(name)
SELECT 5

EXPLAIN (COSTS OFF) SELECT id FROM t WHERE lower(name) = 'cx'
----
[QUERY PLAN]
Index Only Scan on t using t_lower_idx
  Index Cond: (lower(name) = 'cx'::text)
EXPLAIN

SELECT id, name FROM t WHERE lower(name) = 'cx'
----
[id | name]
3 | Cx
SELECT 1

SELECT id FROM t WHERE a > 1 AND a + b > 15 ORDER BY a + b DESC, lower(name)
----
[id]
19
18
17
14
13
SELECT 5

EXPLAIN (COSTS OFF) SELECT id FROM t WHERE a > 1 AND a + b > 15 ORDER BY a + b DESC, lower(name)
----
[QUERY PLAN]
Project
  Output: t.id
  ->  Index Join on t
        ->  Index Only Scan on t using t_expr_lower_expr1_b_idx
              Index Cond: (((a + b)) > 15)
EXPLAIN

INSERT INTO t VALUES (21, 'CX', 1, 1, 1)
----
ERROR 23505: duplicate key value violates unique constraint "t_lower_idx"
DETAIL: Key (lower(name))=(cx) already exists.

INSERT INTO t VALUES (21, 'CX', 9, 9, 9) ON CONFLICT (lower(name)) DO UPDATE SET name = excluded.name || '!' RETURNING *
----
[id | name | a | b | n]
3 | CX! | 3 | 3 | 0.75
INSERT 0 1

INSERT INTO t VALUES (22, 'cX!', 9, 9, 9) ON CONFLICT (upper(name)) DO NOTHING
----
ERROR 42P10: there is no unique or exclusion constraint matching the ON CONFLICT specification

UPDATE t SET name = upper(name); UPDATE t SET name = 'DX' WHERE id = 5
----
UPDATE 20
ERROR 23505: duplicate key value violates unique constraint "t_lower_idx"
DETAIL: Key (lower(name))=(dx) already exists.

UPDATE t SET name = NULL WHERE id IN (1, 2); UPDATE t SET n = n + 1.50, b = b - 1 WHERE id > 10; DELETE FROM t WHERE lower(name) = 'fx'; SELECT meridian.check_table('t')
----
UPDATE 2
UPDATE 10
DELETE 1
[check_table]
t
SELECT 1

SELECT id, n FROM t WHERE a > 1 AND a + b = 14 AND lower(name) = 'lx' AND n * 2 = 9
----
[id | n]
SELECT 0

# A row on which an expression fails.

CREATE INDEX bad ON t ((100 / (b - 3)))
----
ERROR 22012: division by zero

SELECT indexname FROM pg_indexes WHERE indexname = 'bad'; DELETE FROM t WHERE b = 3
----
[indexname]
SELECT 0
DELETE 1

CREATE INDEX bad ON t ((100 / (b - 3)))
----
CREATE INDEX

INSERT INTO t VALUES (3, 'q', 3, 3, 3)
----
ERROR 22012: division by zero

UPDATE t SET b = 3 WHERE id = 4
----
ERROR 22012: division by zero

SELECT id FROM t WHERE 100 / (b - 3) = 100
----
[id]
4
SELECT 1

SELECT meridian.check_table('t'); DROP INDEX bad
----
[check_table]
t
SELECT 1
DROP INDEX

ALTER TABLE t RENAME COLUMN name TO "Name"; ALTER TABLE t ADD COLUMN c int DEFAULT 1; ALTER TABLE t DROP COLUMN n; SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY indexname; SELECT id FROM t WHERE lower("Name") = 'gx'; SELECT meridian.check_table('t')
----
ALTER TABLE
ALTER TABLE
ALTER TABLE
[indexdef]
CREATE UNIQUE INDEX t_lower_idx ON public.t USING btree (lower("Name"))
CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)
SELECT 2
[id]
7
SELECT 1
[check_table]
t
SELECT 1

INSERT INTO t VALUES (31, 'dup', 1, 1), (32, 'DUP', 1, 1)
----
ERROR 23505: duplicate key value violates unique constraint "t_lower_idx"
DETAIL: Key (lower("Name"))=(dup) already exists.

BEGIN; CREATE TABLE own (s text); INSERT INTO own VALUES ('a'), ('A'); CREATE UNIQUE INDEX ON own (lower(s))
----
BEGIN
CREATE TABLE
INSERT 0 2
ERROR 23505: could not create unique index "own_lower_idx"
DETAIL: Key (lower(s))=(a) is duplicated.
(E)

ROLLBACK
----
ROLLBACK

BEGIN; CREATE TABLE own (s text); INSERT INTO own VALUES ('a'), ('B'); CREATE UNIQUE INDEX ON own (lower(s)); INSERT INTO own VALUES ('b') ON CONFLICT DO NOTHING; SELECT s FROM own WHERE lower(s) = 'b'; COMMIT
----
BEGIN
CREATE TABLE
INSERT 0 2
CREATE INDEX
INSERT 0 0
[s]
B
SELECT 1
COMMIT

CREATE UNIQUE INDEX two ON own ((s || 'x'), (length(s) + 1)); SELECT meridian.check_table('own'); TRUNCATE own; INSERT INTO own VALUES ('z'); SELECT meridian.check_table('own'); DROP TABLE own, t
----
CREATE INDEX
[check_table]
t
SELECT 1
TRUNCATE TABLE
INSERT 0 1
[check_table]
t
SELECT 1
DROP TABLE

CREATE INDEX ON pg_class (lower(relname))
----
ERROR 42501: permission denied: "pg_class" is a system catalog
