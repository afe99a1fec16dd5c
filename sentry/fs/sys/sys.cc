// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/sys/sys.h"

#include <dirent.h>

#include <algorithm>
#include <map>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/cpu_caches.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {
namespace {

// The inode numbers are given in order of making, from 1 for the root.
class SysFs final : public vfs::Filesystem {
 public:
  std::string_view TypeName() const override { return "sysfs"; }
  RefPtr<vfs::Inode> Root() override;
  vfs::StatFs GetStatFs() override { return {.magic = 0x62656572}; }
  void OnLastUnmount() override;

 private:
  Mutex mu_{LockRank::kLeaf};
  RefPtr<class SysDirectory> root_ ABSL_GUARDED_BY(mu_);
};

class SysInode : public vfs::Inode {
 public:
  SysInode(SysFs& fs, mode_t mode, uint64_t ino, uint64_t size)
      : Inode(RefPtr<vfs::Filesystem>(&fs), mode & S_IFMT),
        mode_(mode),
        ino_(ino),
        size_(size),
        created_(vfs::Timestamp::Now()) {}
  uint64_t ino() const { return ino_; }
  Result<vfs::InodeStat> GetStat() override {
    vfs::InodeStat stat;
    stat.ino = ino_;
    stat.dev = filesystem().device();
    stat.mode = mode_;
    stat.nlink = IsDirectory() ? 2 : 1;
    stat.size = size_;
    stat.atime = stat.mtime = stat.ctime = created_;
    return stat;
  }

 private:
  const mode_t mode_;
  const uint64_t ino_, size_;
  const vfs::Timestamp created_;
};

class SysFile final : public SysInode {
 public:
  SysFile(SysFs& fs, uint64_t ino, std::string text)
      : SysInode(fs, S_IFREG | 0444, ino, kPageSize), text_(std::move(text)) {}
  const std::string& text() const { return text_; }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;

 private:
  const std::string text_;
};

class SysLink final : public SysInode {
 public:
  SysLink(SysFs& fs, uint64_t ino, std::string target)
      : SysInode(fs, S_IFLNK | 0777, ino, 0), target_(std::move(target)) {}
  Result<std::string> ReadLink() override { return target_; }

 private:
  const std::string target_;
};

class SysDirectory final : public SysInode {
 public:
  SysDirectory(SysFs& fs, uint64_t ino) : SysInode(fs, S_IFDIR | 0555, ino, 0) {}
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    auto it = names_.find(name);
    if (it == names_.end()) return Errno(ENOENT);
    return RefPtr<vfs::Inode>(it->second);
  }
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  // Filled before others see it, and emptied at the end.
  using Names = std::map<std::string, RefPtr<SysInode>, std::less<>>;
  Names& names() { return names_; }
  void Clear() {
    for (auto& [name, inode] : names_) {
      if (inode->IsDirectory()) static_cast<SysDirectory&>(*inode).Clear();
    }
    names_.clear();
  }

 private:
  Names names_;
};

class SysOpenFile final : public vfs::FileDescription {
 public:
  SysOpenFile(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    const std::string& text = static_cast<SysFile&>(*inode()).text();
    if (offset < 0) return Errno(EINVAL);
    if (static_cast<uint64_t>(offset) >= text.size() || !target.remaining()) return size_t{0};
    return target.Put(text.data() + offset, std::min(target.remaining(), text.size() - static_cast<size_t>(offset)));
  }
  // Reached only by who may override the modes.
  Result<size_t> PWrite(IoSource&, int64_t, int64_t*) override { return Errno(EIO); }
};

class SysOpenDirectory final : public vfs::FileDescription {
 public:
  SysOpenDirectory(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EISDIR); }
  Result<void> IterateDirectory(const DirSink& sink) override {
    auto& directory = static_cast<SysDirectory&>(*inode());
    RefPtr<vfs::Dentry> up = path().dentry->parent();
    const uint64_t parent = up ? static_cast<SysInode&>(*up->inode()).ino() : directory.ino();
    MutexLock lock(position_mu());
    int64_t index = 0;
    auto emit = [&](std::string_view name, uint64_t ino, uint8_t type) {
      if (index++ < position()) return true;
      if (!sink({name, ino, type, index})) return false;
      set_position(index);
      return true;
    };
    if (!emit(".", directory.ino(), DT_DIR) || !emit("..", parent, DT_DIR)) return OkResult();
    for (const auto& [name, inode] : directory.names()) {
      if (!emit(name, inode->ino(), static_cast<uint8_t>(inode->type() >> 12))) break;
    }
    return OkResult();
  }
};

Result<vfs::FileRef> SysFile::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<SysOpenFile>(path, flags));
}
Result<vfs::FileRef> SysDirectory::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<SysOpenDirectory>(path, flags));
}

class Builder {
 public:
  explicit Builder(SysFs& fs) : fs_(fs), root_(MakeRef<SysDirectory>(fs, next_++)) {}
  RefPtr<SysDirectory> root() const { return root_; }

  // Makes the directories on the way.
  SysDirectory& Directory(std::string_view path) {
    SysDirectory* at = root_.get();
    while (!path.empty()) {
      const size_t slash = path.find('/');
      std::string name(path.substr(0, slash));
      path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
      RefPtr<SysInode>& child = at->names()[name];
      if (!child) child = MakeRef<SysDirectory>(fs_, next_++);
      at = static_cast<SysDirectory*>(child.get());
    }
    return *at;
  }
  void File(std::string_view path, std::string text) { Add(path, MakeRef<SysFile>(fs_, next_++, text + "\n")); }
  void Link(std::string_view path, std::string target) { Add(path, MakeRef<SysLink>(fs_, next_++, std::move(target))); }

 private:
  void Add(std::string_view path, RefPtr<SysInode> inode) {
    const size_t slash = path.rfind('/');
    SysDirectory& directory = Directory(slash == std::string_view::npos ? std::string_view() : path.substr(0, slash));
    directory.names()[std::string(path.substr(slash + 1))] = std::move(inode);
  }
  SysFs& fs_;
  uint64_t next_ = 1;
  RefPtr<SysDirectory> root_;
};

std::string Range(unsigned count) { return count > 1 ? "0-" + std::to_string(count - 1) : "0"; }

// All processors as cores of one package, each with one thread: what the guest could tell from timing isn't promised
// here.
// A mask as sysfs prints it: words of 32 bits, the highest first.
std::string Mask(uint64_t bits) {
  char text[32];
  if (bits >> 32)
    snprintf(text, sizeof text, "%x,%08x", static_cast<unsigned>(bits >> 32), static_cast<unsigned>(bits));
  else
    snprintf(text, sizeof text, "%x", static_cast<unsigned>(bits));
  return text;
}

uint64_t AllCpus(unsigned count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

// The outer ones are the package's, as the topology has it; the others each processor's own.
void AddCaches(Builder& sys, const std::vector<CpuCache>& caches, unsigned cpu, unsigned count) {
  constexpr const char* kTypes[] = {"", "Data", "Instruction", "Unified"};
  for (size_t i = 0; i < caches.size(); ++i) {
    const CpuCache& cache = caches[i];
    const bool common = cache.level > 2;
    const std::string path = "devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index" + std::to_string(i) + "/";
    sys.File(path + "id", std::to_string(common ? 0 : cpu));
    sys.File(path + "level", std::to_string(cache.level));
    sys.File(path + "type", kTypes[static_cast<size_t>(cache.type)]);
    sys.File(path + "size", std::to_string(cache.Bytes() / 1024) + "K");
    sys.File(path + "coherency_line_size", std::to_string(cache.line_bytes));
    sys.File(path + "physical_line_partition", std::to_string(cache.partitions));
    sys.File(path + "ways_of_associativity", std::to_string(cache.ways));
    sys.File(path + "number_of_sets", std::to_string(cache.sets));
    sys.File(path + "shared_cpu_map", Mask(common ? AllCpus(count) : uint64_t{1} << (cpu & 63)));
    sys.File(path + "shared_cpu_list", common ? Range(count) : std::to_string(cpu));
  }
}

void AddProcessors(Builder& sys, unsigned count) {
  const std::vector<CpuCache> caches = CpuCaches();
  const std::string range = Range(count), base = "devices/system/cpu/";
  for (const char* name : {"online", "possible", "present"}) sys.File(base + name, range);
  sys.File(base + "offline", "");
  sys.File(base + "isolated", "");
  sys.File(base + "kernel_max", "63");
  const uint64_t all = AllCpus(count);
  for (unsigned i = 0; i < count; ++i) {
    const std::string number = std::to_string(i), cpu = base + "cpu" + number + "/",
                      own = Mask(uint64_t{1} << (i & 63));
    if (i) sys.File(cpu + "online", "1");
    sys.File(cpu + "topology/core_id", number);
    sys.File(cpu + "topology/physical_package_id", "0");
    sys.File(cpu + "topology/die_id", "0");
    for (const char* name : {"thread_siblings", "core_cpus"}) {
      sys.File(cpu + "topology/" + name, own);
      sys.File(cpu + "topology/" + name + "_list", number);
    }
    for (const char* name : {"core_siblings", "package_cpus"}) {
      sys.File(cpu + "topology/" + name, Mask(all));
      sys.File(cpu + "topology/" + name + "_list", range);
    }
    AddCaches(sys, caches, i, count);
    sys.Link(cpu + "node0", "../../node/node0");
    sys.Link("bus/cpu/devices/cpu" + number, "../../../devices/system/cpu/cpu" + number);
  }
}

void AddMemory(Builder& sys, const ProcHostInfo& host) {
  const std::string node = "devices/system/node/";
  for (const char* name : {"online", "possible", "has_cpu", "has_memory", "has_normal_memory"})
    sys.File(node + name, "0");
  sys.File(node + "node0/cpulist", Range(host.cpus));
  sys.File(node + "node0/cpumap", Mask(AllCpus(host.cpus)));
  sys.File(node + "node0/distance", "10");
  const std::string total = std::to_string(host.total_memory / 1024);
  sys.File(node + "node0/meminfo", "Node 0 MemTotal:       " + total + " kB\nNode 0 MemFree:        " + total +
                                       " kB\nNode 0 MemUsed:               0 kB");
  const std::string huge = "kernel/mm/transparent_hugepage/";
  sys.File(huge + "enabled", "always [madvise] never");
  sys.File(huge + "defrag", "always defer defer+madvise [madvise] never");
  sys.File(huge + "shmem_enabled", "always within_size advise [never] deny force");
  sys.File(huge + "use_zero_page", "1");
  sys.File(huge + "hpage_pmd_size", "2097152");
  sys.Directory("kernel/mm/hugepages");
  sys.File("kernel/mm/ksm/run", "0");
}

void AddLoopback(Builder& sys) {
  const std::string lo = "devices/virtual/net/lo/";
  static constexpr std::pair<const char*, const char*> kFiles[] = {
      {"address", "00:00:00:00:00:00"},
      {"addr_len", "6"},
      {"broadcast", "00:00:00:00:00:00"},
      {"carrier", "1"},
      {"dev_id", "0x0"},
      {"flags", "0x9"},
      {"ifindex", "1"},
      {"iflink", "1"},
      {"link_mode", "0"},
      {"mtu", "65536"},
      {"operstate", "unknown"},
      {"tx_queue_len", "1000"},
      {"type", "772"},
  };
  for (const auto& [name, text] : kFiles) sys.File(lo + name, text);
  sys.Link("class/net/lo", "../../devices/virtual/net/lo");
}

RefPtr<SysDirectory> Build(SysFs& fs) {
  Builder sys(fs);
  const ProcHostInfo& host = GetProcHostInfo();
  AddProcessors(sys, std::min(host.cpus, 64u));
  AddMemory(sys, host);
  AddLoopback(sys);
  for (const char* name : {"block", "bus", "class/block", "class/mem", "class/misc", "class/tty", "dev/block",
                           "dev/char", "devices/virtual", "firmware", "fs/cgroup", "fs/bpf", "fs/fuse/connections",
                           "hypervisor", "kernel/debug", "kernel/security", "kernel/tracing", "module", "power"}) {
    sys.Directory(name);
  }
  return sys.root();
}

RefPtr<vfs::Inode> SysFs::Root() {
  {
    MutexLock lock(mu_);
    if (root_) return root_;
  }
  RefPtr<SysDirectory> root = Build(*this);
  {
    MutexLock lock(mu_);
    if (!root_) {
      root_ = root;
      return root_;
    }
  }
  root->Clear();
  MutexLock lock(mu_);
  return root_;
}

void SysFs::OnLastUnmount() {
  RefPtr<SysDirectory> root;
  {
    MutexLock lock(mu_);
    root = std::move(root_);
  }
  if (root) root->Clear();
}

}  // namespace

Result<RefPtr<vfs::Filesystem>> NewSysfs(const vfs::MountSource& source) {
  if (!source.options.empty()) return Errno(EINVAL);
  return RefPtr<vfs::Filesystem>(MakeRef<SysFs>());
}

}  // namespace sentry::fs
