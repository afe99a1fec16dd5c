// SPDX-License-Identifier: Apache-2.0
// Units, properties, and a peer on the bus that is not what it should be. tests/oci/systemd_test.py has a real bus.
#include "runsc/cgroup/systemd.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace runsc {
namespace {

std::string UnitText(const std::string& path) {
  auto unit = SystemdUnitOf(path, "c");
  return unit.ok() ? unit->slice + " " + unit->name : std::string(unit.status().message());
}

TEST(SystemdUnit, OfCgroupsPath) {
  EXPECT_EQ(UnitText("user-1.slice:docker:x"), "user-1.slice docker-x.scope");
  EXPECT_EQ(UnitText(""), "system.slice runsc-c.scope");
  EXPECT_EQ(UnitText(":p:x"), "system.slice p-x.scope");
  EXPECT_NE(UnitText("a.slice:p:b.slice").find("cannot be a slice"), std::string::npos);
  EXPECT_NE(UnitText("/a/b").find("slice:prefix:name"), std::string::npos);
}

// Name=value of properties that are numbers; bytes in hexadecimal.
std::string Properties(const spec::Resources& r, bool v2) {
  dbus::Writer w;
  WriteProperties(r, v2, &w);
  dbus::Reader reader(w.bytes());
  std::string text;
  while (reader.position() < w.bytes().size() && reader.ok()) {
    reader.Align(8);
    absl::StrAppend(&text, reader.String(), "=");
    const std::string type = reader.Signature();
    if (type == "ay") {
      for (uint32_t n = reader.U32(); n > 0; --n) absl::StrAppend(&text, absl::Hex(reader.Byte(), absl::kZeroPad2));
    } else {
      reader.Align(8);
      const uint64_t low = reader.U32();
      absl::StrAppend(&text, low | uint64_t{reader.U32()} << 32);
    }
    text += ";";
  }
  EXPECT_TRUE(reader.ok());
  return text;
}

TEST(SystemdProperties, AreTheLimits) {
  spec::Resources r;
  r.memory_limit = 1000;
  r.memory_swap = 1500;
  r.memory_reservation = 7;
  r.pids_limit = 10;
  r.cpu_shares = 1024;
  r.cpu_quota = 5000;
  r.cpuset_cpus = "0-2,9";
  EXPECT_EQ(Properties(r, false), "MemoryLimit=1000;CPUShares=1024;CPUQuotaPerSecUSec=50000;TasksMax=104;");
  EXPECT_EQ(Properties(r, true),
            "MemoryMax=1000;MemoryLow=7;MemorySwapMax=500;CPUWeight=39;CPUQuotaPerSecUSec=50000;TasksMax=104;"
            "AllowedCPUs=0702;");
  r = {};
  r.memory_limit = r.memory_swap = r.cpu_quota = r.pids_limit = -1;
  const std::string all = "18446744073709551615;";
  EXPECT_EQ(Properties(r, true),
            absl::StrCat("MemoryMax=", all, "MemorySwapMax=", all, "CPUQuotaPerSecUSec=", all, "TasksMax=", all));
  r = {};
  // Rounded up to 10 ms a second: systemd would round down.
  r.cpu_quota = 1001;
  r.cpu_period = 100'000;
  EXPECT_EQ(Properties(r, true), "CPUQuotaPerSecUSec=20000;");
}

// A peer that reads what it is sent and answers with given bytes.
class DbusTest : public testing::Test {
 protected:
  void SetUp() override {
    // Not TEST_TMPDIR, which is longer than a socket's path may be.
    directory_ = "/tmp/bus.XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory_.c_str());
    listener_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener_.get(), 1), 0);
  }
  void TearDown() override {
    unlink((directory_ + "/s").c_str());
    rmdir(directory_.c_str());
  }
  // What a call is answered by a peer that says `auth`, then `answer`, and hangs up.
  absl::Status Ask(const std::string& auth, const std::string& answer) {
    std::thread peer([&] {
      base::UniqueFd fd(accept(listener_.get(), nullptr, nullptr));
      char buffer[1024];
      (void)!read(fd.get(), buffer, sizeof buffer);
      (void)!write(fd.get(), auth.data(), auth.size());
      if (auth.substr(0, 3) != "OK ") return;
      std::string got;
      // Until the call has come: BEGIN may come with it or before.
      while (got.find("Method") == std::string::npos) {
        const ssize_t n = read(fd.get(), buffer, sizeof buffer);
        if (n <= 0) return;
        got.append(buffer, static_cast<size_t>(n));
      }
      (void)!write(fd.get(), answer.data(), answer.size());
    });
    auto bus = dbus::Connection::Open("unix:path=" + directory_ + "/s", false, 20'000);
    absl::Status status = bus.status();
    if (bus.ok()) status = bus->Call({.path = "/p", .member = "Method", .destination = "d"}).status();
    // Before the peer is waited for, which may wait for us.
    if (bus.ok()) {
      auto gone = *std::move(bus);
    }
    peer.join();
    return status;
  }

  std::string directory_;
  base::UniqueFd listener_;
};

std::string Header(uint8_t type, uint32_t body, uint32_t fields) {
  dbus::Writer w;
  w.Byte('l');
  w.Byte(type);
  w.Byte(0);
  w.Byte(1);
  w.U32(body);
  w.U32(77);
  w.U32(fields);
  return w.bytes();
}

TEST_F(DbusTest, APeerMaySayAnything) {
  EXPECT_TRUE(absl::IsPermissionDenied(Ask("REJECTED EXTERNAL\r\n", ""))) << "AUTH";
  EXPECT_TRUE(absl::IsDataLoss(Ask(std::string(2000, 'x'), "")));
  EXPECT_TRUE(absl::IsUnavailable(Ask("OK 1\r\n", "")));
  EXPECT_TRUE(absl::IsUnavailable(Ask("OK 1\r\n", Header(2, 0, 8).substr(0, 10))));
  EXPECT_TRUE(absl::IsDataLoss(Ask("OK 1\r\n", Header(2, 0xffffffff, 0))));
  EXPECT_TRUE(absl::IsDataLoss(Ask("OK 1\r\n", Header(2, 0, 0xfffffff8))));
  // Fields that end within one, have a type that none has, or a length beyond all.
  EXPECT_TRUE(absl::IsDataLoss(Ask("OK 1\r\n", Header(2, 0, 7) + std::string("\5\1u\0\1\0\0\0", 8))));
  EXPECT_TRUE(absl::IsDataLoss(Ask("OK 1\r\n", Header(2, 0, 8) + std::string("\5\1v\0\0\0\0\0", 8))));
  EXPECT_TRUE(absl::IsDataLoss(Ask("OK 1\r\n", Header(2, 0, 8) + std::string("\1\1o\0\xff\xff\xff\xff", 8))));
  // An answer to something else, then one that is right.
  const std::string other = Header(2, 0, 8) + std::string("\5\1u\0\2\0\0\0", 8);
  const std::string right = Header(2, 0, 8) + std::string("\5\1u\0\1\0\0\0", 8);
  EXPECT_TRUE(Ask("OK 1\r\n", other + right).ok());
  // An error without a name.
  EXPECT_TRUE(absl::IsAborted(Ask("OK 1\r\n", Header(3, 0, 8) + std::string("\5\1u\0\1\0\0\0", 8))));
}

TEST(Systemd, IsAskedWhereItIsNot) {
  setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus", 1);
  setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/no/such/bus", 1);
  auto systemd = Systemd::Connect();
  EXPECT_TRUE(absl::IsUnavailable(systemd.status()));
  EXPECT_NE(systemd.status().message().find("/no/such/bus"), std::string::npos) << systemd.status();
}

}  // namespace
}  // namespace runsc
