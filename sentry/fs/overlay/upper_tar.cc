// SPDX-License-Identifier: Apache-2.0
// The changes of a sandbox's root as an archive.
#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "sentry/fs/overlay/overlay_inode.h"
#include "sentry/fs/overlay/tar_writer.h"

namespace sentry::fs {
namespace {

constexpr size_t kChunk = 256 << 10;
// Marks of an overlay on its layers: a guest's own must not become those of who unpacks the archive.
constexpr std::string_view kOverlayMarks = "trusted.overlay.";

class UpperWalk {
 public:
  UpperWalk(OverlayFilesystem& filesystem, WhiteoutForm form, const TarSink& sink, std::string* at)
      : filesystem_(filesystem), form_(form), tar_(sink), at_(*at), buffer_(new uint8_t[kChunk]) {}

  Result<void> Run() {
    pinned_ = filesystem_.Pinned();
    for (const RefPtr<OverlayInode>& inode : pinned_) unseen_.insert(inode.get());
    RefPtr<vfs::Inode> root = filesystem_.Root();
    TRY(Enter({.inode = RefPtr<OverlayInode>(static_cast<OverlayInode*>(root.get()))}, "./"));
    // By hand, not by calls: guests choose the depth of the tree.
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      if (frame.next == frame.children.size()) {
        frames_.pop_back();
        continue;
      }
      Child child = std::move(frame.children[frame.next++]);
      TRY(Visit(std::move(child)));
    }
    return tar_.Finish();
  }

 private:
  struct Child {
    std::string name;
    RefPtr<OverlayInode> inode;  // null: to be looked up, or a whiteout
    bool is_change = false;      // the overlay's own entry, not the lower directory's
    // Set by Visit.
    bool whole = false, opaque = false;
  };
  // A directory on the way to where the walk is.
  struct Frame {
    RefPtr<OverlayInode> directory;
    std::string path;     // with a final slash
    bool whole = false;   // all of it is told, as if there were nothing below
    bool opaque = false;  // and hides a directory below
    bool written = false;
    std::vector<Child> children;
    size_t next = 0;
  };

  // The path of an entry in the directory where the walk is.
  std::string PathOf(const std::string& name) const {
    return (frames_.size() > 1 ? frames_.back().path : std::string()) + name;
  }

  Result<void> Visit(Child child) {
    const Frame& parent = frames_.back();
    const bool in_whole = parent.whole;
    const RefPtr<OverlayInode> directory = parent.directory;
    std::string path = PathOf(child.name);
    at_ = path;
    if (!child.inode) {
      if (child.is_change) return in_whole ? OkResult() : Whiteout(path, child.name);
      auto found = directory->Lookup(child.name);
      if (!found.ok()) {
        // Removed since the directory was listed.
        if (found.error() == Errno(ENOENT)) return OkResult();
        return found.error();
      }
      child.inode = RefPtr<OverlayInode>(static_cast<OverlayInode*>(found->get()));
    }
    OverlayInode& inode = *child.inode;
    unseen_.erase(&inode);
    RefPtr<vfs::Inode> below = child.is_change && !in_whole ? directory->LowerEntry(child.name) : nullptr;
    const bool in_place = !in_whole && (!child.is_change || (below && below == inode.lower()));
    child.whole = !in_place;
    child.opaque = child.whole && below && below->IsDirectory();
    if (inode.IsDirectory()) return Enter(std::move(child), path + "/");
    if (in_place && !inode.IsCopiedUp()) return OkResult();
    return WriteFile(inode, path, child.name, in_whole);
  }

  Result<void> Enter(Child child, std::string path) {
    Frame frame{.directory = child.inode, .path = std::move(path), .whole = child.whole, .opaque = child.opaque};
    OverlayInode& directory = *frame.directory;
    unseen_.erase(&directory);
    const auto changes = directory.Changes();
    for (const auto& [name, inode] : changes)
      frame.children.push_back({.name = name, .inode = inode, .is_change = true});
    // Names of the lower directory hide no change once all are found, unless everything is told.
    if (frame.whole || !unseen_.empty()) {
      for (OverlayNode::Entry& entry : directory.ListEntries()) {
        if (!changes.contains(entry.name)) frame.children.push_back({.name = std::move(entry.name)});
      }
    }
    const bool write = frame.whole || directory.IsCopiedUp();
    frames_.push_back(std::move(frame));
    return write ? WriteFrames() : OkResult();
  }

  // The directories on the way, those that are not yet in the archive.
  Result<void> WriteFrames() {
    for (Frame& frame : frames_) {
      if (std::exchange(frame.written, true)) continue;
      TarEntry entry = TRY(EntryOf(*frame.directory, frame.path));
      if (frame.opaque && form_ == WhiteoutForm::kOverlay) entry.xattrs.emplace_back("trusted.overlay.opaque", "y");
      TRY(tar_.Add(entry));
      if (frame.opaque && form_ == WhiteoutForm::kOci)
        TRY(tar_.Add({.path = frame.path + ".wh..wh..opq", .mode = S_IFREG}));
    }
    return OkResult();
  }

  Result<void> Whiteout(const std::string& path, const std::string& name) {
    TRY(WriteFrames());
    if (form_ == WhiteoutForm::kOverlay) return tar_.Add({.path = path, .mode = S_IFCHR});
    return tar_.Add({.path = path.substr(0, path.size() - name.size()) + ".wh." + name, .mode = S_IFREG});
  }

  Result<void> WriteFile(OverlayInode& inode, const std::string& path, const std::string& name, bool in_whole) {
    if (inode.type() == S_IFSOCK) return OkResult();
    TarEntry entry = TRY(EntryOf(inode, path));
    // renameat2(2) with RENAME_WHITEOUT.
    if (inode.type() == S_IFCHR && entry.rdev == 0) return in_whole ? OkResult() : Whiteout(path, name);
    TRY(WriteFrames());
    auto stat = inode.GetStat();
    if (stat.ok() && stat->nlink > 1) {
      auto [it, is_first] = names_.try_emplace(&inode, path);
      if (is_first) {
        linked_.push_back(RefPtr<OverlayInode>(&inode));
      } else {
        entry.hard_link = it->second;
        entry.xattrs.clear();
        return tar_.Add(entry);
      }
    }
    TRY(tar_.Add(entry));
    return inode.IsRegular() && entry.size ? WriteData(inode, entry.size) : OkResult();
  }

  Result<void> WriteData(OverlayInode& inode, uint64_t size) {
    vfs::Path place{nullptr, vfs::Dentry::NewRoot(RefPtr<vfs::Inode>(&inode), "tar")};
    vfs::FileRef file = TRY(inode.Real()->Open(place, OverlayNode::RealFlags(O_RDONLY | O_NOATIME)));
    for (uint64_t done = 0; done < size;) {
      BufferTarget target(buffer_.get(), std::min<uint64_t>(kChunk, size - done));
      const size_t got = TRY(file->PRead(target, static_cast<int64_t>(done)));
      if (got == 0) break;
      TRY(tar_.Data(buffer_.get(), got));
      done += got;
    }
    return tar_.EndData();
  }

  Result<TarEntry> EntryOf(OverlayInode& inode, const std::string& path) {
    at_ = path;
    const vfs::InodeStat stat = TRY(inode.GetStat());
    TarEntry entry{.path = path,
                   .mode = static_cast<mode_t>(inode.type() | (stat.mode & 07777)),
                   .size = inode.IsRegular() ? stat.size : 0,
                   .uid = stat.uid,
                   .gid = stat.gid,
                   .rdev = stat.rdev,
                   .mtime = stat.mtime};
    if (inode.IsSymlink()) entry.target = TRY(inode.ReadLink());
    if (auto names = inode.ListXattr(); names.ok()) {
      for (const std::string& name : *names) {
        // A record's key ends at the first "=".
        if (name.starts_with(kOverlayMarks) || name.find('=') != std::string::npos) continue;
        if (auto value = inode.GetXattr(name); value.ok()) entry.xattrs.emplace_back(name, *value);
      }
    }
    return entry;
  }

  OverlayFilesystem& filesystem_;
  const WhiteoutForm form_;
  TarWriter tar_;
  std::string& at_;
  std::unique_ptr<uint8_t[]> buffer_;
  std::vector<RefPtr<OverlayInode>> pinned_, linked_;           // keep what the next two name
  std::unordered_set<const OverlayInode*> unseen_;              // changed, and not yet met
  std::unordered_map<const OverlayInode*, std::string> names_;  // of files with several: the first in the archive
  std::vector<Frame> frames_;
};

}  // namespace

Result<void> WriteUpperTar(vfs::Filesystem& overlay, WhiteoutForm form, const TarSink& sink, std::string* at) {
  return UpperWalk(static_cast<OverlayFilesystem&>(overlay), form, sink, at).Run();
}

}  // namespace sentry::fs
