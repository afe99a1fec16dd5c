#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# node: promises, timers, worker threads, child processes, streams, the file system, an HTTP server on a Unix socket.
. /suite/check.sh
cat >/tmp/main.js <<'JS'
const { Worker, isMainThread, parentPort } = require('worker_threads');
const fs = require('fs'), http = require('http'), os = require('os'), assert = require('assert');
const { execFileSync, fork } = require('child_process');
if (!isMainThread) { let s = 0; for (let i = 0; i < 1e6; i++) s += i; parentPort.postMessage(s); return; }
if (process.argv[2] === 'child') { process.on('message', m => { process.send(m * 2); process.disconnect(); }); return; }
async function main() {
  const sums = await Promise.all([1, 2, 3].map(() => new Promise((ok, bad) => new Worker(__filename).on('message', ok).on('error', bad))));
  assert.deepStrictEqual(sums, [499999500000, 499999500000, 499999500000]);
  assert.strictEqual(execFileSync('sh', ['-c', 'cat | tr a-z A-Z'], { input: 'hello' }).toString(), 'HELLO');
  const doubled = await new Promise(ok => { const c = fork(__filename, ['child']); c.on('message', ok); c.send(21); });
  assert.strictEqual(doubled, 42);
  const changes = await new Promise((ok, bad) => {
    fs.writeFileSync('/tmp/watched', 'a');
    const w = fs.watch('/tmp/watched', type => { w.close(); ok(type); });
    fs.promises.writeFile('/tmp/watched', 'b').catch(bad);
  });
  assert.ok(['change', 'rename'].includes(changes));
  await fs.promises.mkdir('/tmp/tree/a/b', { recursive: true });
  await Promise.all([...Array(200).keys()].map(i => fs.promises.writeFile(`/tmp/tree/a/f${i}`, 'x'.repeat(i))));
  assert.strictEqual((await fs.promises.readdir('/tmp/tree/a')).length, 201);
  assert.ok(os.cpus().length > 0 && os.totalmem() > os.freemem() && os.freemem() > 0);
  const server = http.createServer((q, r) => r.end('hello ' + q.url));
  await new Promise(ok => server.listen('/tmp/http.sock', ok));
  const answers = await Promise.all([...Array(50).keys()].map(i => new Promise((ok, bad) => http.get({ socketPath: '/tmp/http.sock', path: '/' + i },
    r => { let s = ''; r.on('data', d => s += d).on('end', () => ok(s)); }).on('error', bad))));
  assert.strictEqual(answers[49], 'hello /49');
  server.close();
}
main().then(() => console.log('all'), e => { console.error(e); process.exit(1); });
JS
check all "$(node /tmp/main.js)" "node"
passed
