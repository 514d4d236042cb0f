show server_version
----
[server_version]
15.0
SHOW

set application_name = 'test'
----
SET
PARAMETER application_name=test

set nonsense = 1
----
ERROR 42704: unrecognized configuration parameter "nonsense"

set server_version = '16'
----
ERROR 55P02: parameter "server_version" cannot be changed

show search_path
----
[search_path]
"$user", public
SHOW

set search_path to a, public
----
SET

show search_path
----
[search_path]
a, public
SHOW

set timezone = 'Europe/Berlin'
----
SET
PARAMETER TimeZone=Europe/Berlin

show timezone
----
[TimeZone]
Europe/Berlin
SHOW

set statement_timeout = '2s'; show statement_timeout
----
SET
[statement_timeout]
2s
SHOW

select current_setting('statement_timeout')
----
[current_setting]
2s
SELECT 1

select set_config('work_mem', '8MB', false)
----
[set_config]
8MB
SELECT 1

show work_mem
----
[work_mem]
8MB
SHOW

discard all
----
DISCARD ALL
PARAMETER application_name=
PARAMETER TimeZone=UTC

show work_mem
----
[work_mem]
4MB
SHOW

set default_transaction_read_only = on
----
SET
PARAMETER default_transaction_read_only=on

create table t (a int)
----
ERROR 25006: cannot execute CREATE TABLE in a read-only transaction

set session characteristics as transaction read write
----
SET
PARAMETER default_transaction_read_only=off

create table t (a int)
----
CREATE TABLE

select current_user, current_database()
----
[current_user | current_database]
root | defaultdb
SELECT 1
