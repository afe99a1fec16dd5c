#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SQLite: rollback journal and WAL, four writers and readers at once, locks, a writer that is killed, integrity at the end.
. /suite/check.sh
for mode in delete wal; do
  for directory in /tmp /root; do
    db=$directory/$mode.db
    sqlite3 "$db" "pragma journal_mode=$mode; create table t(worker, n, text); create index i on t(worker, n);" >/dev/null || die "create $db"
    jobs=()
    for worker in 1 2 3 4; do
      for ((n = 0; n < 25; n++)); do
        echo ".timeout 60000"
        echo "begin immediate; insert into t select $worker, value, hex(randomblob(50)) from generate_series($((n * 20 + 1)), $((n * 20 + 20))); commit;"
        echo "select count(*) from t where worker = $worker;"
      done | sqlite3 -bail "$db" >"$directory/out.$worker" 2>&1 &
      jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || die "a writer of $db: $(tail -n 2 "$directory"/out.*)"; done
    check "2000|501000.0" "$(sqlite3 "$db" 'select count(*), sum(n) * 1.0 from t')" "rows of $db"
    for worker in 1 2 3 4; do check 500 "$(tail -n 1 "$directory/out.$worker")" "a writer sees its own rows"; done
    # Killed in the middle of a transaction: nothing of it is seen.
    mkfifo "$directory/pipe.$mode"
    sqlite3 "$db" <"$directory/pipe.$mode" >"$directory/killed" &
    victim=$!
    exec 3>"$directory/pipe.$mode"
    printf '%s\n' "pragma cache_size=5;" "begin;" "update t set text = 'killed';" "select 'written';" >&3
    for ((i = 0; i < 600; i++)); do grep -q written "$directory/killed" && break; sleep 0.05; done
    kill -KILL $victim && exec 3>&-
    wait $victim
    check "0" "$(sqlite3 "$db" "select count(*) from t where text = 'killed'")" "an unfinished transaction"
    check ok "$(sqlite3 "$db" 'pragma integrity_check')" "the integrity of $db"
    sqlite3 "$db" "delete from t where n % 2; vacuum;" || die vacuum
    check "1000|ok" "$(sqlite3 "$db" 'select count(*), (select * from pragma_integrity_check) from t')" "after a vacuum"
  done
done
passed
