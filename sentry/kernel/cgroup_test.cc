// SPDX-License-Identifier: Apache-2.0
// The tree of control groups, without tasks.
#include "sentry/kernel/cgroup.h"

#include <gtest/gtest.h>

#include "sentry/kernel/kernel.h"

namespace sentry::kernel {
namespace {

class NoPlatform final : public platform::Platform {
 public:
  const char* Name() const override { return "none"; }
  Result<RefPtr<platform::AddressSpace>> NewAddressSpace() override { return Errno(ENOMEM); }
  std::unique_ptr<platform::Context> NewContext() override { return nullptr; }
  size_t FpuStateSize() const override { return 0; }
};

class CgroupTest : public testing::Test {
 protected:
  CgroupTest() {
    static Kernel& kernel = *new Kernel(std::make_unique<NoPlatform>(), *platform::MemoryFile::Create(), {.cpus = 2});
    (void)kernel;
    root_ = *Cgroups::Get().FindOrMake(/*v2=*/true, 0, "", false);
  }
  ~CgroupTest() override { RemoveBelow(*root_); }
  static void RemoveBelow(Cgroup& group) {
    while (!group.children.empty()) {
      RefPtr<Cgroup> child = group.children.begin()->second;
      RemoveBelow(*child);
      MutexLock lock(Cgroups::mu());
      ASSERT_TRUE(Cgroups::Get().RemoveLocked(*child).ok());
    }
  }
  RefPtr<Cgroup> Make(Cgroup& parent, const std::string& name) {
    MutexLock lock(Cgroups::mu());
    auto made = Cgroups::Get().MakeLocked(parent, name);
    return made.ok() ? *made : nullptr;
  }
  int Control(Cgroup& group, uint32_t enable, uint32_t disable = 0) {
    MutexLock lock(Cgroups::mu());
    auto done = Cgroups::Get().SetSubtreeControlLocked(group, enable, disable);
    return done.ok() ? 0 : done.error().number();
  }
  int MakeThreaded(Cgroup& group) {
    MutexLock lock(Cgroups::mu());
    auto done = Cgroups::Get().MakeThreadedLocked(group);
    return done.ok() ? 0 : done.error().number();
  }
  RefPtr<Cgroup> root_;
};

TEST_F(CgroupTest, Paths) {
  RefPtr<Cgroup> a = Make(*root_, "a"), b = Make(*a, "b"), c = Make(*root_, "c");
  EXPECT_EQ(root_->PathFrom(*root_), "/");
  EXPECT_EQ(b->PathFrom(*root_), "/a/b");
  EXPECT_EQ(b->PathFrom(*a), "/b");
  EXPECT_EQ(a->PathFrom(*b), "/..");
  EXPECT_EQ(c->PathFrom(*b), "/../../c");
  EXPECT_TRUE(b->IsBelow(*a));
  EXPECT_TRUE(a->IsBelow(*a));
  EXPECT_FALSE(a->IsBelow(*b));
  EXPECT_FALSE(c->IsBelow(*a));
  EXPECT_EQ(root_->descendants, 3);
}

TEST_F(CgroupTest, DepthAndNumberAreBounded) {
  RefPtr<Cgroup> at = root_;
  int depth = 0;
  while (RefPtr<Cgroup> next = Make(*at, "x")) {
    at = next;
    ++depth;
    ASSERT_LT(depth, 100000);
  }
  EXPECT_GE(depth, 100);
  RefPtr<Cgroup> a = Make(*root_, "a");
  a->max_depth = 1;
  a->max_descendants = 2;
  RefPtr<Cgroup> b = Make(*a, "b");
  ASSERT_TRUE(b);
  EXPECT_FALSE(Make(*b, "c"));
  EXPECT_TRUE(Make(*a, "d"));
  EXPECT_FALSE(Make(*a, "e"));
  EXPECT_FALSE(Make(*a, "b")) << "there";
}

TEST_F(CgroupTest, ARemovedGroupOutlivesItsName) {
  RefPtr<Cgroup> a = Make(*root_, "a"), b = Make(*a, "b");
  {
    MutexLock lock(Cgroups::mu());
    EXPECT_EQ(Cgroups::Get().RemoveLocked(*a).error_number(), EBUSY);
    EXPECT_TRUE(Cgroups::Get().RemoveLocked(*b).ok());
    EXPECT_TRUE(Cgroups::Get().RemoveLocked(*a).ok());
    EXPECT_EQ(Cgroups::Get().RemoveLocked(*a).error_number(), EBUSY);
  }
  a.Reset();
  EXPECT_EQ(b->PathFrom(*root_), "/a/b");
  EXPECT_FALSE(Make(*b, "c"));
  EXPECT_EQ(root_->descendants, 0);
}

TEST_F(CgroupTest, ControllersAreHandedDown) {
  RefPtr<Cgroup> a = Make(*root_, "a"), b = Make(*a, "b");
  EXPECT_EQ(root_->AvailableControllers(), kV2Controllers);
  EXPECT_EQ(a->AvailableControllers(), 0u);
  EXPECT_EQ(Control(*a, kPids), ENOENT);
  EXPECT_EQ(Control(*root_, kPids | kMemory), 0);
  EXPECT_EQ(a->AvailableControllers(), kPids | kMemory);
  EXPECT_EQ(Control(*a, kPids), 0);
  EXPECT_EQ(Control(*root_, 0, kPids), EBUSY) << "in use below";
  b->pids.max = 7;
  EXPECT_EQ(Control(*a, 0, kPids), 0);
  EXPECT_EQ(b->pids.max, kCgroupNoLimit) << "who is not controlled has no limit";
  EXPECT_EQ(Control(*root_, 0, kPids | kMemory), 0);
}

TEST_F(CgroupTest, Threads) {
  RefPtr<Cgroup> a = Make(*root_, "a"), b = Make(*a, "b"), c = Make(*a, "c"), d = Make(*b, "d");
  EXPECT_TRUE(b->IsValidDomain());
  EXPECT_EQ(MakeThreaded(*root_), EINVAL);
  EXPECT_EQ(MakeThreaded(*b), 0);
  EXPECT_TRUE(a->IsThreadRoot());
  EXPECT_FALSE(c->IsValidDomain());
  EXPECT_FALSE(d->IsValidDomain());
  EXPECT_EQ(MakeThreaded(*d), 0);
  EXPECT_EQ(&d->Domain(), a.get());
  EXPECT_EQ(Control(*root_, kPids | kMemory), 0);
  EXPECT_EQ(Control(*a, kMemory), EOPNOTSUPP) << "memory is not for threads";
  EXPECT_EQ(Control(*a, kPids), 0);
  EXPECT_EQ(Control(*a, 0, kPids), 0);
  EXPECT_EQ(Control(*root_, 0, kPids | kMemory), 0);
}

TEST_F(CgroupTest, V1TakesControllersFromV2) {
  Cgroups& cgroups = Cgroups::Get();
  EXPECT_EQ(cgroups.FindOrMake(false, kPids, "", false).error_number(), EPERM);
  EXPECT_EQ(Control(*root_, kPids), 0);
  EXPECT_EQ(cgroups.FindOrMake(false, kPids, "", true).error_number(), EBUSY) << "v2 uses it";
  EXPECT_EQ(Control(*root_, 0, kPids), 0);
  RefPtr<Cgroup> pids = *cgroups.FindOrMake(false, kPids, "", true);
  EXPECT_EQ(root_->AvailableControllers(), kV2Controllers & ~kPids);
  EXPECT_EQ(*cgroups.FindOrMake(false, kPids, "", true), pids);
  EXPECT_EQ(cgroups.FindOrMake(false, kPids | kCpu, "", true).error_number(), EBUSY);
  RefPtr<Cgroup> named = *cgroups.FindOrMake(false, 0, "systemd", true);
  EXPECT_EQ(cgroups.FindOrMake(false, kMemory, "systemd", true).error_number(), EBUSY);
  // A group keeps the hierarchy.
  RefPtr<Cgroup> a = Make(*pids, "a");
  cgroups.Release(pids->hierarchy());
  EXPECT_EQ(*cgroups.FindOrMake(false, kPids, "", true), pids);
  RemoveBelow(*pids);
  cgroups.Release(pids->hierarchy());
  cgroups.Release(named->hierarchy());
  EXPECT_EQ(root_->AvailableControllers(), kV2Controllers);
  EXPECT_TRUE(pids->removed);
  EXPECT_FALSE(Make(*pids, "b"));
}

TEST_F(CgroupTest, ContainersAreInEveryHierarchy) {
  Cgroups& cgroups = Cgroups::Get();
  RefPtr<Cgroup> container = cgroups.MakeContainerGroup("/k8s/../pod//c1");
  EXPECT_EQ(container->PathFrom(*root_), "/k8s/pod/c1");
  EXPECT_EQ(cgroups.MakeContainerGroup("k8s/pod/c1"), container);
  EXPECT_EQ(container->AvailableControllers(), kV2Controllers) << "though nothing was enabled above";
  container->pids.max = 5;
  RefPtr<CgroupNamespace> ns =
      cgroups.NewNamespace(nullptr, container.get(), Kernel::Get().root_user_ns(), UserCharge());
  RefPtr<Cgroup> pids = *cgroups.FindOrMake(false, kPids, "", true);
  MutexLock lock(Cgroups::mu());
  RefPtr<Cgroup> mirrored = ns->RootOf(pids->hierarchy());
  EXPECT_EQ(mirrored->PathFrom(*pids), "/k8s/pod/c1");
  EXPECT_EQ(mirrored->pids.max, 5);
  EXPECT_EQ(ns->RootOf(root_->hierarchy()), container);
  Cgroups::mu().Unlock();
  cgroups.Release(pids->hierarchy());
  Cgroups::mu().Lock();
  EXPECT_TRUE(mirrored->removed) << "containers' groups alone don't keep a hierarchy";
}

}  // namespace
}  // namespace sentry::kernel
