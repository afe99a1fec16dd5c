#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# PostgreSQL over AF_UNIX: initdb, a server of several processes, pgbench, a crash and its recovery, a dump that reads back.
. /suite/check.sh
export PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) PGHOST=/tmp/pg PGUSER=postgres
mkdir -p /tmp/pg && chown postgres /tmp/pg || die "a directory for postgres"
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
start() { as pg_ctl -D /tmp/pg/data -l /tmp/pg/log -w -t 60 -o "-c listen_addresses= -k /tmp/pg" start >/tmp/start 2>&1; }
as initdb -D /tmp/pg/data --no-locale -E UTF8 -A trust >/tmp/initdb 2>&1 || die "initdb: $(tail -n 5 /tmp/initdb)"
start || die "pg_ctl start: $(tail -n 5 /tmp/start /tmp/pg/log)"
createdb bench || die createdb
pgbench -q -i -s 2 bench >/tmp/init 2>&1 || die "pgbench -i: $(tail -n 5 /tmp/init)"
pgbench -c 4 -j 2 -t 100 bench >/tmp/bench 2>&1 || die "pgbench: $(tail -n 5 /tmp/bench)"
grep -q 'actually processed: 400/400' /tmp/bench || die "pgbench: $(cat /tmp/bench)"
grep -q 'failed transactions: 0 ' /tmp/bench || die "pgbench: $(cat /tmp/bench)"
sums() {
  psql -XAtq bench -c "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
    and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history), count(*) from pgbench_history"
}
check "t|400" "$(sums)" "the sums of the tables"
# A crash: the journal is replayed.
psql -Xq bench -c "create table survivor as select generate_series(1, 1000) as n" || die "create table"
as pg_ctl -D /tmp/pg/data -m immediate -w stop >/dev/null || die "an immediate stop"
start || die "a start after a crash: $(tail -n 5 /tmp/pg/log)"
grep -q 'redo done' /tmp/pg/log || die "no recovery: $(tail -n 5 /tmp/pg/log)"
check "500500" "$(psql -XAtq bench -c 'select sum(n) from survivor')" "the table after a crash"
# Two sessions that wait for each other: one gets an error.
psql -Xq bench -c "select 1 from survivor; create table d as select 1 as a; create table e as select 1 as a" >/dev/null || die tables
session() { psql -Xq bench -c "begin; lock table $1; select pg_sleep(0.5); lock table $2; commit" >"/tmp/lock.$1" 2>&1; }
session d e & one=$!
session e d & two=$!
wait $one; first=$?; wait $two
check 1 $((first != $?)) "of two sessions in a deadlock one fails"
pg_dump bench >/tmp/dump && createdb copy && psql -Xq copy </tmp/dump >/dev/null || die "dump and restore"
check "100000" "$(psql -XAtq copy -c 'select count(*) from pgbench_accounts where aid > 100000')" "the restored table"
as pg_ctl -D /tmp/pg/data -m fast -w stop >/dev/null || die "a fast stop"
passed
