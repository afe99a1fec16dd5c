#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The JVM: the compiler, threads, the garbage collector, files, processes, Unix-domain channels; each collector once.
. /suite/check.sh
mkdir -p /tmp/j && cd /tmp/j || die cd
cat >Main.java <<'JAVA'
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Main {
  static void need(boolean ok, String what) { if (!ok) throw new AssertionError(what); }
  public static void main(String[] args) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(8);
    List<Future<Long>> sums = new ArrayList<>();
    for (int i = 0; i < 32; i++) sums.add(pool.submit(() -> LongStream.range(0, 100000).sum()));
    for (Future<Long> one : sums) need(one.get() == 4999950000L, "a sum");
    pool.shutdown();
    List<byte[]> kept = new ArrayList<>();
    for (int i = 0; i < 20000; i++) { byte[] b = new byte[10000]; if (i % 500 == 0) kept.add(b); }
    need(kept.size() == 40, "kept");
    Process p = new ProcessBuilder("sh", "-c", "read a; echo got $a").start();
    p.getOutputStream().write("line\n".getBytes()); p.getOutputStream().close();
    need(new String(p.getInputStream().readAllBytes()).equals("got line\n") && p.waitFor() == 0, "a process");
    Path file = Files.createTempFile("x", "y");
    try (FileChannel c = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MappedByteBuffer map = c.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
      map.put(12345, (byte) 7); map.force();
      ByteBuffer one = ByteBuffer.allocate(1); c.read(one, 12345); need(one.get(0) == 7, "a mapping");
      try (FileLock lock = c.lock()) { need(lock.isValid(), "a lock"); }
    }
    UnixDomainSocketAddress address = UnixDomainSocketAddress.of("/tmp/j/sock" + args[0]);
    try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      server.bind(address);
      Thread client = new Thread(() -> { try (SocketChannel c = SocketChannel.open(address)) { c.write(ByteBuffer.wrap("hi".getBytes())); } catch (Exception e) { throw new RuntimeException(e); } });
      client.start();
      try (SocketChannel c = server.accept()) { ByteBuffer b = ByteBuffer.allocate(8); need(c.read(b) == 2, "a socket"); }
      client.join();
    }
    need(Runtime.getRuntime().availableProcessors() > 0 && Runtime.getRuntime().maxMemory() > 0, "the machine");
    System.out.println("all");
  }
}
JAVA
javac Main.java || die javac
for flag in -XX:+UseSerialGC -XX:+UseParallelGC -XX:+UseG1GC -Xint; do
  check all "$(java -Xmx128m $flag Main "${flag##*:}")" "java $flag"
done
passed
