// SPDX-License-Identifier: Apache-2.0
// Kernel aio (io_setup(2) and its kin), by the raw calls and by the mapped ring.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

long IoSetup(unsigned n, aio_context_t* id) { return syscall(SYS_io_setup, n, id); }
long Destroy(aio_context_t id) { return syscall(SYS_io_destroy, id); }
long Submit(aio_context_t id, long n, iocb** list) { return syscall(SYS_io_submit, id, n, list); }
long GetEvents(aio_context_t id, long min, long max, io_event* events, timespec* timeout = nullptr) {
  return syscall(SYS_io_getevents, id, min, max, events, timeout);
}
long Cancel(aio_context_t id, iocb* request, io_event* event) { return syscall(SYS_io_cancel, id, request, event); }

struct Context {
  explicit Context(unsigned n = 8) { EXPECT_OK(IoSetup(n, &id)); }
  ~Context() {
    if (id) Destroy(id);
  }
  long Submit1(iocb* request) { return Submit(id, 1, &request); }
  // The result of one request that completes.
  long long Run(iocb* request) {
    if (Submit1(request) != 1) return -10000 - errno;
    io_event event = {};
    if (GetEvents(id, 1, 1, &event) != 1) return -20000 - errno;
    EXPECT_EQ(event.obj, reinterpret_cast<uint64_t>(request));
    EXPECT_EQ(event.data, request->aio_data);
    EXPECT_EQ(event.res2, 0);
    return event.res;
  }
  aio_context_t id = 0;
};

iocb Make(int op, int fd, const void* buffer, size_t n, long long offset = 0) {
  iocb request = {};
  request.aio_lio_opcode = op;
  request.aio_fildes = fd;
  request.aio_buf = reinterpret_cast<uint64_t>(buffer);
  request.aio_nbytes = n;
  request.aio_offset = offset;
  request.aio_data = 0x1234567800000000 + op;
  return request;
}

Fd OpenTemp(const TempDir& dir, const std::string& content = "") {
  EXPECT_TRUE(WriteFile(dir / "f", content));
  return Fd(open((dir / "f").c_str(), O_RDWR));
}

TEST(Aio, ReadsAndWritesAtOffsets) {
  TempDir dir;
  Fd f = OpenTemp(dir, "0123456789");
  Context context;
  iocb write = Make(IOCB_CMD_PWRITE, f.get(), "abc", 3, 2);
  EXPECT_EQ(context.Run(&write), 3);
  char buffer[16] = {};
  iocb read = Make(IOCB_CMD_PREAD, f.get(), buffer, 16, 1);
  EXPECT_EQ(context.Run(&read), 9);
  EXPECT_STREQ(buffer, "1abc56789");
  EXPECT_EQ(lseek(f.get(), 0, SEEK_CUR), 0);
}

TEST(Aio, VectoredReadsAndWrites) {
  TempDir dir;
  Fd f = OpenTemp(dir);
  Context context;
  iovec out[2] = {{const_cast<char*>("hello "), 6}, {const_cast<char*>("world"), 5}};
  iocb write = Make(IOCB_CMD_PWRITEV, f.get(), out, 2);
  EXPECT_EQ(context.Run(&write), 11);
  char a[3] = {}, b[16] = {};
  iovec in[2] = {{a, 2}, {b, 15}};
  iocb read = Make(IOCB_CMD_PREADV, f.get(), in, 2);
  EXPECT_EQ(context.Run(&read), 11);
  EXPECT_STREQ(a, "he");
  EXPECT_STREQ(b, "llo world");
}

TEST(Aio, SyncsRegularFilesOnly) {
  TempDir dir;
  Fd f = OpenTemp(dir, "x");
  Context context;
  iocb sync = Make(IOCB_CMD_FSYNC, f.get(), nullptr, 0);
  EXPECT_EQ(context.Run(&sync), 0);
  sync = Make(IOCB_CMD_FDSYNC, f.get(), nullptr, 0);
  EXPECT_EQ(context.Run(&sync), 0);
  sync = Make(IOCB_CMD_FSYNC, f.get(), nullptr, 1);
  EXPECT_FAILS(EINVAL, context.Submit1(&sync));
  Pipe p;
  sync = Make(IOCB_CMD_FSYNC, p.w.get(), nullptr, 0);
  EXPECT_FAILS(EINVAL, context.Submit1(&sync));
}

TEST(Aio, PipesHaveNoOffset) {
  Pipe p;
  Context context;
  iocb write = Make(IOCB_CMD_PWRITE, p.w.get(), "pipe", 4);
  EXPECT_EQ(context.Run(&write), 4);
  char buffer[8] = {};
  iocb read = Make(IOCB_CMD_PREAD, p.r.get(), buffer, 8);
  EXPECT_EQ(context.Run(&read), 4);
  EXPECT_STREQ(buffer, "pipe");
}

TEST(Aio, EventfdCountsCompletions) {
  TempDir dir;
  Fd f = OpenTemp(dir, "abcdef");
  Fd e(eventfd(0, EFD_NONBLOCK));
  Context context;
  char buffer[2][4];
  iocb a = Make(IOCB_CMD_PREAD, f.get(), buffer[0], 4), b = Make(IOCB_CMD_PREAD, f.get(), buffer[1], 4);
  iocb* list[2] = {&a, &b};
  for (iocb* request : list) {
    request->aio_flags = IOCB_FLAG_RESFD;
    request->aio_resfd = e.get();
  }
  ASSERT_EQ(Submit(context.id, 2, list), 2);
  io_event events[2];
  ASSERT_EQ(GetEvents(context.id, 2, 2, events), 2);
  uint64_t count = 0;
  ASSERT_EQ(read(e.get(), &count, sizeof count), 8);
  EXPECT_EQ(count, 2u);
  a.aio_resfd = f.get();
  EXPECT_FAILS(EINVAL, context.Submit1(&a));
  a.aio_resfd = -1;
  EXPECT_FAILS(EBADF, context.Submit1(&a));
}

TEST(Aio, PollCompletesWhenTheFileIsReady) {
  Pipe p;
  Fd e(eventfd(0, 0));
  Context context;
  iocb poll_in = Make(IOCB_CMD_POLL, p.r.get(), reinterpret_cast<void*>(POLLIN), 0);
  poll_in.aio_flags = IOCB_FLAG_RESFD;
  poll_in.aio_resfd = e.get();
  ASSERT_EQ(context.Submit1(&poll_in), 1);
  io_event event;
  timespec zero = {};
  EXPECT_EQ(GetEvents(context.id, 1, 1, &event, &zero), 0);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  ASSERT_EQ(GetEvents(context.id, 1, 1, &event), 1);
  EXPECT_EQ(event.res & POLLIN, POLLIN);
  uint64_t count = 0;
  ASSERT_EQ(read(e.get(), &count, sizeof count), 8);
  EXPECT_EQ(count, 1u);
  // Ready at once.
  EXPECT_EQ(context.Run(&poll_in) & POLLIN, POLLIN);
  iocb hang_up = Make(IOCB_CMD_POLL, p.r.get(), reinterpret_cast<void*>(POLLPRI), 0);
  ASSERT_EQ(context.Submit1(&hang_up), 1);
  p.w.reset();
  ASSERT_EQ(GetEvents(context.id, 1, 1, &event), 1);
  EXPECT_EQ(event.res, POLLHUP);
}

TEST(Aio, WaiterIsWokenByAnotherThreadsPoll) {
  Pipe p;
  Context context;
  iocb poll_in = Make(IOCB_CMD_POLL, p.r.get(), reinterpret_cast<void*>(POLLIN), 0);
  ASSERT_EQ(context.Submit1(&poll_in), 1);
  std::thread writer([&] { EXPECT_EQ(write(p.w.get(), "x", 1), 1); });
  io_event event;
  EXPECT_EQ(GetEvents(context.id, 1, 1, &event), 1);
  writer.join();
}

TEST(Aio, CancelledPollCompletes) {
  Pipe p;
  Context context;
  iocb poll_in = Make(IOCB_CMD_POLL, p.r.get(), reinterpret_cast<void*>(POLLIN), 0);
  ASSERT_EQ(context.Submit1(&poll_in), 1);
  io_event event;
  EXPECT_FAILS(EINPROGRESS, Cancel(context.id, &poll_in, &event));
  ASSERT_EQ(GetEvents(context.id, 1, 1, &event), 1);
  EXPECT_EQ(event.obj, reinterpret_cast<uint64_t>(&poll_in));
  EXPECT_FAILS(EINVAL, Cancel(context.id, &poll_in, &event));
  poll_in.aio_key = 77;
  EXPECT_FAILS(EINVAL, Cancel(context.id, &poll_in, &event));
  EXPECT_FAILS(EFAULT, Cancel(context.id, reinterpret_cast<iocb*>(8), &event));
}

TEST(Aio, RingIsMappedAtTheContext) {
  struct Ring {
    unsigned id, nr, head, tail, magic, compat, incompat, length;
    io_event events[0];
  };
  TempDir dir;
  Fd f = OpenTemp(dir, "abc");
  Context context(100);
  auto* ring = reinterpret_cast<volatile Ring*>(context.id);
  EXPECT_EQ(ring->magic, 0xa10a10a1u);
  EXPECT_EQ(ring->length, 32u);
  EXPECT_EQ(ring->incompat, 0u);
  EXPECT_GE(ring->nr, 200u);
  char buffer[4] = {};
  iocb read = Make(IOCB_CMD_PREAD, f.get(), buffer, 3);
  ASSERT_EQ(context.Submit1(&read), 1);
  // Reaped without a call, as fio does.
  ASSERT_EQ(ring->tail, 1u);
  EXPECT_EQ(reinterpret_cast<io_event*>(context.id + 32)[0].res, 3);
  ring->head = 1;
  io_event event;
  timespec zero = {};
  EXPECT_EQ(GetEvents(context.id, 0, 1, &event, &zero), 0);
  EXPECT_NE(ReadFile("/proc/self/maps").find("[aio]"), std::string::npos);
}

TEST(Aio, HostileRingIndicesAreHarmless) {
  Context context(4);
  auto* words = reinterpret_cast<volatile unsigned*>(context.id);
  words[2] = 0xffffffff;
  words[3] = 0xffffffff;
  TempDir dir;
  Fd f = OpenTemp(dir, "abc");
  char buffer[4];
  iocb read = Make(IOCB_CMD_PREAD, f.get(), buffer, 3);
  iocb* list[1] = {&read};
  for (int i = 0; i < 1000; ++i) (void)Submit(context.id, 1, list);
  words[2] = 0x80000001;
  std::vector<io_event> events(100000);
  timespec zero = {};
  EXPECT_LE(GetEvents(context.id, 0, 100000, events.data(), &zero), 100000);
}

TEST(Aio, FullRingRefuses) {
  TempDir dir;
  Fd f = OpenTemp(dir, "abc");
  Context context(1);
  char buffer[4];
  iocb read = Make(IOCB_CMD_PREAD, f.get(), buffer, 3);
  long done = 0, n;
  while (done < 100000 && (n = context.Submit1(&read)) == 1) ++done;
  EXPECT_FAILS(EAGAIN, n);
  EXPECT_GE(done, 1);
  io_event event;
  ASSERT_EQ(GetEvents(context.id, 1, 1, &event), 1);
  std::vector<io_event> rest(done);
  EXPECT_EQ(GetEvents(context.id, 0, done, rest.data()), done - 1);
  EXPECT_EQ(context.Submit1(&read), 1);
}

TEST(Aio, BadContexts) {
  aio_context_t id = 0;
  EXPECT_FAILS(EINVAL, IoSetup(0, &id));
  EXPECT_FAILS(EINVAL, IoSetup(-1u, &id));
  EXPECT_FAILS(EFAULT, IoSetup(1, reinterpret_cast<aio_context_t*>(8)));
  id = 1;
  EXPECT_FAILS(EINVAL, IoSetup(1, &id));
  io_event event;
  iocb request = {};
  for (aio_context_t bad : {aio_context_t{0}, aio_context_t{4096}, ~aio_context_t{0}}) {
    iocb* list[1] = {&request};
    EXPECT_FAILS(EINVAL, Destroy(bad));
    EXPECT_FAILS(EINVAL, Submit(bad, 1, list));
    EXPECT_FAILS(EINVAL, GetEvents(bad, 0, 1, &event));
    EXPECT_FAILS(EINVAL, Cancel(bad, &request, &event));
  }
}

TEST(Aio, BadRequests) {
  TempDir dir;
  Fd f = OpenTemp(dir, "abc");
  Fd d(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  Context context;
  char buffer[4];
  iocb* bad_pointer[1] = {reinterpret_cast<iocb*>(8)};
  EXPECT_FAILS(EFAULT, Submit(context.id, 1, bad_pointer));
  EXPECT_FAILS(EFAULT, Submit(context.id, 1, reinterpret_cast<iocb**>(8)));
  EXPECT_FAILS(EINVAL, Submit(context.id, -1, bad_pointer));
  EXPECT_EQ(Submit(context.id, 0, nullptr), 0);

  iocb request = Make(99, f.get(), buffer, 3);
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  request = Make(6, f.get(), nullptr, 0);  // IOCB_CMD_NOOP
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, -1, buffer, 3);
  EXPECT_FAILS(EBADF, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, f.get(), buffer, 3, -5);
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, f.get(), buffer, -1);
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, f.get(), buffer, 3);
  request.aio_reserved2 = 1;
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, f.get(), buffer, 3);
  request.aio_rw_flags = 0x40000000;
  EXPECT_FAILS(EOPNOTSUPP, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, d.get(), buffer, 3);
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  request = Make(IOCB_CMD_POLL, f.get(), reinterpret_cast<void*>(0x10000), 0);
  EXPECT_FAILS(EINVAL, context.Submit1(&request));
  Fd r(open((dir / "f").c_str(), O_RDONLY));
  request = Make(IOCB_CMD_PWRITE, r.get(), buffer, 3);
  EXPECT_FAILS(EBADF, context.Submit1(&request));
  request = Make(IOCB_CMD_PREAD, f.get(), reinterpret_cast<void*>(8), 3);
  EXPECT_EQ(context.Run(&request), -EFAULT);

  // What came before the bad one was taken.
  iocb good = Make(IOCB_CMD_PREAD, f.get(), buffer, 3);
  iocb* list[2] = {&good, reinterpret_cast<iocb*>(8)};
  EXPECT_EQ(Submit(context.id, 2, list), 1);

  io_event event;
  EXPECT_FAILS(EINVAL, GetEvents(context.id, 2, 1, &event));
  EXPECT_FAILS(EINVAL, GetEvents(context.id, -1, 1, &event));
  EXPECT_FAILS(EFAULT, GetEvents(context.id, 1, 1, reinterpret_cast<io_event*>(8)));
  EXPECT_FAILS(EFAULT, GetEvents(context.id, 1, 1, &event, reinterpret_cast<timespec*>(8)));
}

TEST(Aio, GetEventsTimesOut) {
  Context context;
  io_event event;
  timespec short_time = {0, 1000000};
  EXPECT_EQ(GetEvents(context.id, 1, 1, &event, &short_time), 0);
}

void OnTick(int) {}

TEST(Aio, GetEventsIsInterrupted) {
  Context context;
  ScopedHandler handler(SIGALRM, OnTick, SA_RESTART);
  ScopedTicks ticks;
  io_event event;
  EXPECT_FAILS(EINTR, GetEvents(context.id, 1, 1, &event));
}

TEST(Aio, PgeteventsUsesTheMask) {
  Context context;
  struct {
    const sigset_t* mask;
    size_t size;
  } set;
  sigset_t none = SetOf({});
  set = {&none, 8};
  ScopedHandler handler(SIGUSR1, OnTick);
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  io_event event;
  EXPECT_FAILS(EINTR, syscall(SYS_io_pgetevents, context.id, 1, 1, &event, nullptr, &set));
  set.size = 4;
  EXPECT_FAILS(EINVAL, syscall(SYS_io_pgetevents, context.id, 1, 1, &event, nullptr, &set));
  EXPECT_FAILS(EFAULT, syscall(SYS_io_pgetevents, context.id, 1, 1, &event, nullptr, (void*)8));
}

TEST(Aio, DestroyUnmapsAndEnds) {
  Context context;
  Pipe p;
  iocb poll_in = Make(IOCB_CMD_POLL, p.r.get(), reinterpret_cast<void*>(POLLIN), 0);
  ASSERT_EQ(context.Submit1(&poll_in), 1);
  aio_context_t id = std::exchange(context.id, 0);
  EXPECT_OK(Destroy(id));
  EXPECT_FAILS(EINVAL, Destroy(id));
  unsigned char resident;
  EXPECT_FAILS(ENOMEM, mincore(reinterpret_cast<void*>(id), 4096, &resident));
}

TEST(Aio, ContextIsNotInherited) {
  Context context;
  EXPECT_EQ(RunInChild([&] {
              io_event event;
              timespec zero = {};
              CHILD_CHECK(GetEvents(context.id, 0, 1, &event, &zero) == -1 && errno == EINVAL);
            }),
            Exited(0));
}

TEST(Aio, EndsWithTheProcessAndWithExec) {
  Pipe p;
  for (bool exec : {false, true}) {
    EXPECT_EQ(RunInChild([&] {
                aio_context_t id = 0;
                CHILD_CHECK(IoSetup(16, &id) == 0);
                iocb poll_in = Make(IOCB_CMD_POLL, p.r.get(), reinterpret_cast<void*>(POLLIN), 0);
                iocb* list[1] = {&poll_in};
                CHILD_CHECK(Submit(id, 1, list) == 1);
                if (exec) execl("/bin/true", "true", nullptr);
              }),
              Exited(0));
  }
  // Nobody waits on the pipe any more, and it works.
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
}

TEST(Aio, LimitIsShownAndEnforced) {
  long before = atol(ReadFile("/proc/sys/fs/aio-nr").c_str());
  long max = atol(ReadFile("/proc/sys/fs/aio-max-nr").c_str());
  ASSERT_GT(max, 0);
  {
    Context context(50);
    EXPECT_GE(atol(ReadFile("/proc/sys/fs/aio-nr").c_str()), before + 50);
  }
  aio_context_t id = 0;
  EXPECT_FAILS(EAGAIN, IoSetup(static_cast<unsigned>(max) + 1, &id));
}

}  // namespace
