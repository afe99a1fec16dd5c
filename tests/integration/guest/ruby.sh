#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Ruby: threads, fork, pipes, processes, signals, a server on a Unix socket.
. /suite/check.sh
cat >/tmp/main.rb <<'RUBY'
require 'socket'
require 'tempfile'
require 'timeout'
def need(ok, what) = ok || abort("FAILED: #{what}")
Timeout.timeout(60) do
  need((1..8).map { |i| Thread.new { (1..10000).sum * i } }.map(&:value).sum == 50005000 * 36, 'threads')
  r, w = IO.pipe
  pid = fork { r.close; w.write('child'); exit! 3 }
  w.close
  need(r.read == 'child', 'a pipe')
  Process.wait(pid)
  need($?.exitstatus == 3, 'a status')
  need(`echo hello | tr a-z A-Z` == "HELLO\n", 'a shell')
  got = Queue.new
  trap('USR1') { got << 1 }
  Process.kill('USR1', $$)
  need(got.pop == 1, 'a signal')
  server = UNIXServer.new('/tmp/r.sock')
  Thread.new { loop { c = server.accept; c.write(c.gets.upcase); c.close } }
  50.times { |i| UNIXSocket.open('/tmp/r.sock') { |s| s.puts "hi #{i}"; need(s.read == "HI #{i}\n", 'an answer') } }
  Tempfile.create('x') { |f| f.write('y' * 100000); f.flush; need(File.size(f.path) == 100000, 'a file') }
  100000.times { 'x' * 1000 }
  GC.start
end
puts 'all'
RUBY
check all "$(ruby /tmp/main.rb)" "ruby"
passed
