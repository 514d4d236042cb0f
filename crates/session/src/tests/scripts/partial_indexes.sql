# Indexes of some rows.

CREATE TABLE t (id int PRIMARY KEY, a int, b int, s text, flag bool);
INSERT INTO t SELECT g, g % 10, g, CASE WHEN g % 3 = 0 THEN 'open' ELSE 'done' END, g % 4 = 0 FROM generate_series(1, 30) g
----
CREATE TABLE
INSERT 0 30

CREATE INDEX t_open ON t (b) WHERE s = 'open'
----
CREATE INDEX

CREATE UNIQUE INDEX t_one ON t (a) WHERE flag AND (b) > 100 AND t.s IS NOT NULL
----
CREATE INDEX

# The condition's form is one whatever its writing.

SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY indexname; SELECT pg_get_indexdef(indexrelid), indpred FROM pg_index WHERE indpred IS NOT NULL ORDER BY 1
----
[indexdef]
CREATE UNIQUE INDEX t_one ON public.t USING btree (a) WHERE (flag AND (b > 100) AND (s IS NOT NULL))
CREATE INDEX t_open ON public.t USING btree (b) WHERE (s = 'open')
CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)
SELECT 3
[pg_get_indexdef | indpred]
CREATE INDEX t_open ON public.t USING btree (b) WHERE (s = 'open') | (s = 'open')
CREATE UNIQUE INDEX t_one ON public.t USING btree (a) WHERE (flag AND (b > 100) AND (s IS NOT NULL)) | (flag AND (b > 100) AND (s IS NOT NULL))
SELECT 2

EXPLAIN (COSTS OFF) SELECT id FROM t WHERE s = 'open' AND b > 5 ORDER BY b
----
[QUERY PLAN]
Project
  Output: t.id
  ->  Index Only Scan on t using t_open
        Index Cond: (b > 5)
EXPLAIN

EXPLAIN (COSTS OFF) SELECT id, a FROM t WHERE s = 'open' AND b = 5
----
[QUERY PLAN]
Index Join on t
  ->  Index Only Scan on t using t_open
        Index Cond: (b = 5)
EXPLAIN

# Another value, none, or one that is not known yet: not this index.

EXPLAIN (COSTS OFF) SELECT id FROM t WHERE s = 'done' AND b > 5
----
[QUERY PLAN]
Project
  Output: t.id
  ->  Seq Scan on t
        Filter: ((t.s = 'done'::text) AND (t.b > 5))
EXPLAIN

EXPLAIN (COSTS OFF) SELECT id FROM t WHERE b > 5
----
[QUERY PLAN]
Project
  Output: t.id
  ->  Seq Scan on t
        Filter: (t.b > 5)
EXPLAIN

SELECT id FROM t WHERE s = 'open' AND b > 20 ORDER BY b
----
[id]
21
24
27
30
SELECT 4

# Rows come and go as the condition turns.

UPDATE t SET s = 'done' WHERE id = 24; UPDATE t SET s = 'open' WHERE id = 22; SELECT id FROM t WHERE s = 'open' AND b > 20 ORDER BY b
----
UPDATE 1
UPDATE 1
[id]
21
22
27
30
SELECT 4

UPDATE t SET s = NULL WHERE b = 27; DELETE FROM t WHERE id = 30; SELECT id FROM t WHERE s = 'open' AND b > 20 ORDER BY b
----
UPDATE 1
DELETE 1
[id]
21
22
SELECT 2

SELECT meridian.check_table('t')
----
[check_table]
t
SELECT 1

# Uniqueness among those rows.

INSERT INTO t VALUES (101, 1, 101, 'x', true), (102, 1, 102, 'x', false), (103, 1, 99, 'x', true), (104, 1, 104, NULL, true), (105, NULL, 105, 'x', true), (106, NULL, 106, 'x', true)
----
INSERT 0 6

INSERT INTO t VALUES (107, 1, 107, 'x', true)
----
ERROR 23505: duplicate key value violates unique constraint "t_one"
DETAIL: Key (a)=(1) already exists.

UPDATE t SET flag = true WHERE id = 102
----
ERROR 23505: duplicate key value violates unique constraint "t_one"
DETAIL: Key (a)=(1) already exists.

UPDATE t SET b = 199 WHERE id = 103
----
ERROR 23505: duplicate key value violates unique constraint "t_one"
DETAIL: Key (a)=(1) already exists.

UPDATE t SET s = 'y' WHERE id = 104
----
ERROR 23505: duplicate key value violates unique constraint "t_one"
DETAIL: Key (a)=(1) already exists.

UPDATE t SET flag = false WHERE id = 101
----
UPDATE 1

UPDATE t SET flag = true WHERE id = 102
----
UPDATE 1

UPDATE t SET flag = NOT flag WHERE id IN (101, 102)
----
UPDATE 2

SELECT meridian.check_table('t')
----
[check_table]
t
SELECT 1

# Only the whole table's uniqueness is inferred from columns.

INSERT INTO t VALUES (108, 1, 108, 'x', true) ON CONFLICT (a) DO NOTHING
----
ERROR 42P10: there is no unique or exclusion constraint matching the ON CONFLICT specification

INSERT INTO t VALUES (108, 1, 108, 'x', true) ON CONFLICT DO NOTHING
----
INSERT 0 0

# What may not be in a condition.

CREATE INDEX ON t (a) WHERE now() > '2020-01-01'
----
ERROR 42P17: functions in index predicate must be marked IMMUTABLE

CREATE INDEX ON t (a) WHERE random() > 0.5
----
ERROR 42P17: functions in index predicate must be marked IMMUTABLE

CREATE INDEX ON t (a) WHERE b > (SELECT 1)
----
ERROR 0A000: cannot use subquery in index predicate

CREATE INDEX ON t (a) WHERE count(*) > 1
----
ERROR 42803: aggregate functions are not allowed in index predicates

CREATE INDEX ON t (a) WHERE row_number() OVER () > 1
----
ERROR 42P20: window functions are not allowed in index predicates

CREATE INDEX ON t (a) WHERE generate_series(1, 2) > 1
----
ERROR 0A000: set-returning functions are not allowed in index predicates

CREATE INDEX ON t (a) WHERE a
----
ERROR 42804: argument of WHERE must be type boolean, not type integer

CREATE INDEX ON t (a) WHERE nosuch > 1
----
ERROR 42703: column "nosuch" does not exist

CREATE INDEX ON t (a) WHERE a > $1
----
ERROR 42P02: there is no parameter $1

CREATE INDEX ON t (a) WHERE t IS NOT NULL
----
ERROR 0A000: "t" in an index, which is no column, is not supported

CREATE TABLE times (id int PRIMARY KEY, at timestamptz, on_day date)
----
CREATE TABLE

CREATE INDEX ON times (id) WHERE at > '2020-01-01 00:00+00'
----
CREATE INDEX

SET TIME ZONE 'Europe/Berlin'; CREATE INDEX ON times (id) WHERE at > '2020-01-01'
----
SET
ERROR 0A000: a constant in an index predicate that is read by the time zone or date style of the session is not supported

CREATE INDEX ON times (id) WHERE at > '2020-01-01 00:00+01'
----
CREATE INDEX

CREATE INDEX ON times (id) WHERE on_day::text > 'x'
----
ERROR 42P17: functions in index predicate must be marked IMMUTABLE

CREATE INDEX ON times (id) WHERE at > on_day
----
ERROR 42P17: functions in index predicate must be marked IMMUTABLE

CREATE INDEX ON times (id) WHERE on_day > 'yesterday'
----
ERROR 0A000: a constant in an index predicate that is read by the time zone or date style of the session is not supported

RESET TIME ZONE; SELECT indexdef FROM pg_indexes WHERE tablename = 'times' ORDER BY indexname
----
RESET
[indexdef]
CREATE INDEX times_id_idx ON public.times USING btree (id) WHERE (at > '2020-01-01 00:00+00')
CREATE INDEX times_id_idx1 ON public.times USING btree (id) WHERE (at > '2020-01-01 00:00+01')
CREATE UNIQUE INDEX times_pkey ON public.times USING btree (id)
SELECT 3

# Errors of the condition: of an old row the index is refused, a new row is.

CREATE INDEX bad ON t (a) WHERE 10 / (b - 1) > 1
----
ERROR 22012: division by zero

SELECT indexname FROM pg_indexes WHERE indexname = 'bad'; DELETE FROM t WHERE b = 1
----
[indexname]
SELECT 0
DELETE 1

CREATE INDEX bad ON t (a) WHERE 10 / (b - 1) > 1
----
CREATE INDEX

INSERT INTO t VALUES (1, 1, 1, 'x', false)
----
ERROR 22012: division by zero

UPDATE t SET b = 1 WHERE id = 2
----
ERROR 22012: division by zero

SELECT meridian.check_table('t'); DROP INDEX bad
----
[check_table]
t
SELECT 1
DROP INDEX

# Names follow; what a dropped column leaves meaningless goes.

ALTER TABLE t RENAME COLUMN s TO "State"; ALTER TABLE t RENAME TO u; SELECT indexdef FROM pg_indexes WHERE tablename = 'u' ORDER BY indexname
----
ALTER TABLE
ALTER TABLE
[indexdef]
CREATE UNIQUE INDEX t_one ON public.u USING btree (a) WHERE (flag AND (b > 100) AND ("State" IS NOT NULL))
CREATE INDEX t_open ON public.u USING btree (b) WHERE ("State" = 'open')
CREATE UNIQUE INDEX t_pkey ON public.u USING btree (id)
SELECT 3

INSERT INTO u VALUES (201, 1, 201, 'open', NULL); SELECT id FROM u WHERE "State" = 'open' AND b > 100
----
INSERT 0 1
[id]
201
SELECT 1

ALTER TABLE u ALTER COLUMN flag TYPE text
----
ERROR 0A000: changing the type of a column that is in an expression or the predicate of an index is not supported

ALTER TABLE u DROP COLUMN flag; SELECT indexname FROM pg_indexes WHERE tablename = 'u' ORDER BY indexname
----
ALTER TABLE
[indexname]
t_open
t_pkey
SELECT 2

ALTER TABLE u ADD COLUMN c int DEFAULT 7; ALTER TABLE u ALTER COLUMN a TYPE text USING a || 'x'; SELECT meridian.check_table('u'); SELECT id FROM u WHERE "State" = 'open' AND b > 20 ORDER BY b
----
ALTER TABLE
ALTER TABLE
[check_table]
t
SELECT 1
[id]
21
22
201
SELECT 3

TRUNCATE u; SELECT meridian.check_table('u'); DROP TABLE u
----
TRUNCATE TABLE
[check_table]
t
SELECT 1
DROP TABLE

# In a block, on a table of the block's own.

BEGIN; CREATE TABLE own (a int, b int); INSERT INTO own VALUES (1, 1), (1, 2), (2, NULL); CREATE UNIQUE INDEX own_a ON own (a) WHERE b > 1; SELECT a FROM own WHERE b > 1 AND a = 1; COMMIT
----
BEGIN
CREATE TABLE
INSERT 0 3
CREATE INDEX
[a]
1
SELECT 1
COMMIT

INSERT INTO own VALUES (1, 3)
----
ERROR 23505: duplicate key value violates unique constraint "own_a"
DETAIL: Key (a)=(1) already exists.

BEGIN; CREATE TABLE two (a int, b int); INSERT INTO two VALUES (1, 1), (1, 2); CREATE UNIQUE INDEX ON two (a) WHERE b > 0
----
BEGIN
CREATE TABLE
INSERT 0 2
ERROR 23505: could not create unique index "two_a_idx"
DETAIL: Key (a)=(1) is duplicated.
(E)

ROLLBACK
----
ROLLBACK

# A condition holds back rows of the same key when the index is made.

INSERT INTO own VALUES (5, 0), (5, 0)
----
INSERT 0 2

CREATE UNIQUE INDEX own_five ON own (a) WHERE b <= 0
----
ERROR 23505: could not create unique index "own_five"
DETAIL: Key (a)=(5) is duplicated.

CREATE UNIQUE INDEX own_five ON own (a) WHERE b < 0; SELECT meridian.check_table('own')
----
CREATE INDEX
[check_table]
t
SELECT 1
