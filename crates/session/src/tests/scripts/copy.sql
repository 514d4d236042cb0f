create table t (a int primary key, b text, c float8)
----
CREATE TABLE

copy t from stdin
\copy
1	one	1.5
2	\N	2
3	tab\there	-3e10
----
COPY IN 3
COPY 3

select * from t order by a
----
[a | b | c]
1 | one | 1.5
2 | NULL | 2
3 | tab	here | -30000000000
SELECT 3

copy t (a, b) from stdin with (format csv, header)
\copy
a,b
4,"quoted, ""text"""
5,
----
COPY IN 2
COPY 2

copy t to stdout
----
COPY OUT 3
1	one	1.5
2	\N	2
3	tab\there	-30000000000
4	quoted, "text"	\N
5	\N	\N
COPY 5

copy (select b, a from t where a > 3 order by a) to stdout with (format csv, header)
----
COPY OUT 2
b,a
"quoted, ""text""",4
,5
COPY 2

copy t from stdin
\copy
6	six
----
COPY IN 3
ERROR 22P04: missing data for column "c"

copy t from stdin
\copy
x	six	1
----
COPY IN 3
ERROR 22P02: invalid input syntax for type integer: "x"

copy t from stdin
\copy
1	dup	1
----
COPY IN 3
ERROR 23505: duplicate key value violates unique constraint "t_pkey"
DETAIL: Key (a)=(1) already exists.

begin; truncate t; copy t from stdin; commit
\copy
9	nine	9
----
BEGIN
TRUNCATE TABLE
COPY IN 3
COPY 1
COMMIT

select * from t
----
[a | b | c]
9 | nine | 9
SELECT 1
