#include "range-copier.h"

#if defined(__linux__)

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "behind-writer.h"
#include "file-io.h"
#include "file-state.h"

namespace {

// Zeros that are read stay a hole in such pieces.
constexpr int64_t kBlock = 64 * 1024;

// Whether the kernel copies page by page there. Where the ranges begin at different places of a page,
// each page is made of two, and reading and writing large pieces costs less. File systems of a
// network are others: their server may do it all.
bool CopiesByPage(const struct statfs& fs) {
  switch (static_cast<unsigned long>(fs.f_type)) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
      return true;
    default:
      return false;
  }
}

// Not by the C library: older ones have no wrapper, or one that copies by itself.
ssize_t CopyFileRange(int in, loff_t* in_offset, int out, loff_t* out_offset, size_t length) {
#if defined(SYS_copy_file_range)
  return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, length, 0u);
#else
  errno = ENOSYS;
  return -1;
#endif
}

}  // namespace

void RangeCopier::Run() {
  FileState in;
  if (!FileState::Of(in_, &in)) {
    Fail(errno, true);
    return;
  }
  const int unfit = CheckPositioned(out_);
  if (unfit != 0) {
    Fail(unfit, false);
    return;
  }
  regular_ = in.regular();
  int64_t available = 0;
  if (!Available(&available)) return;
  end_ = available;
  struct statfs fs;
  if (fstatfs(out_, &fs) != 0) {
    Fail(errno, false);
    return;
  }
  const int64_t block = fs.f_bsize;
  const bool alike = block > 0 && in_offset_ % block == out_offset_ % block;
  in_kernel_ = alike || !CopiesByPage(fs);
  if (alike && regular_) Share(block);
  if (error_ == 0) CopyTo(end_);
}

// How much of the range the input has now: all of it, where it has no size.
bool RangeCopier::Available(int64_t* available) {
  *available = end_;
  if (!regular_) return true;
  FileState in;
  if (!FileState::Of(in_, &in)) return Fail(errno, true);
  *available = std::clamp<int64_t>(in.size - in_offset_, 0, end_);
  return true;
}

// Lets both files share the whole blocks of the range, where the file system can. Holes are kept.
void RangeCopier::Share(int64_t block) {
  const int64_t head = (block - in_offset_ % block) % block;
  if (end_ - head < block) return;
  struct file_clone_range range = {};
  range.src_fd = in_;
  range.src_offset = in_offset_ + head;
  range.src_length = (end_ - head) / block * block;
  range.dest_offset = out_offset_ + head;
  int result;
  do {
    result = ioctl(out_, FICLONERANGE, &range);
  } while (result != 0 && errno == EINTR);
  // Whatever the reason: the range is copied then, and that tells what is wrong if anything is.
  if (result != 0) return;
  if (!CopyTo(head)) return;
  shared_ = range.src_length;
  done_ = head + shared_;
}

// False when there is no more to copy: an error, or the input ends.
bool RangeCopier::CopyTo(int64_t end) {
  while (done_ < end) {
    int64_t next = end;
    const off_t data = regular_ ? lseek(in_, in_offset_ + done_, SEEK_DATA) : -1;
    if (data >= 0) {
      done_ = std::min<int64_t>(data - in_offset_, end);
      if (done_ == end) return true;
      const off_t hole = lseek(in_, data, SEEK_HOLE);
      // It became shorter in between, which the next SEEK_DATA tells.
      if (hole < 0 && errno == ENXIO) continue;
      if (hole >= 0) next = std::min<int64_t>(hole - in_offset_, end);
    } else if (regular_ && errno == ENXIO) {
      // A hole up to the end of the file, which need not be where it was.
      int64_t available = 0;
      if (!Available(&available)) return false;
      done_ = std::max(done_, std::min(available, end));
      return done_ == end;
    }
    // Without SEEK_DATA here (EINVAL), everything is data.
    if (!CopyData(next)) return false;
  }
  return true;
}

bool RangeCopier::CopyData(int64_t end) {
  if (in_kernel_ && CopyInKernel(end)) return true;
  return ReadAndWrite(end);
}

// False when the kernel will not (EXDEV, EINVAL, ENOSYS, EOPNOTSUPP, ETXTBSY, EPERM of a sandbox),
// and for every other error and the end of the input too: reading and writing then shows which of
// the two files it is.
bool RangeCopier::CopyInKernel(int64_t end) {
  while (done_ < end) {
    loff_t from = in_offset_ + done_;
    loff_t to = out_offset_ + done_;
    const ssize_t count = CopyFileRange(in_, &from, out_, &to, static_cast<size_t>(end - done_));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      in_kernel_ = false;
      return false;
    }
    done_ += count;
  }
  return true;
}

// Writing is the longer part, and goes on behind.
bool RangeCopier::ReadAndWrite(int64_t end) {
  BehindWriter writer(out_);
  if (!writer.Begin(end - done_)) return Fail(ENOMEM, true);
  const int64_t begin = done_;
  int failed = 0;
  while (done_ < end && failed == 0) {
    char* const piece = writer.Next();
    if (piece == nullptr) break;
    const int64_t offset = out_offset_ + done_;
    // Where they lie in a page of the output, and pieces end where blocks of it do.
    const int64_t skew = offset % kBlock;
    const int64_t wanted = std::min(BehindWriter::kPiece - skew, end - done_);
    const int64_t count = ReadFully(in_, piece + skew, wanted, in_offset_ + done_, &failed);
    writer.WriteSparse(skew, count, offset, kBlock);
    done_ += count;
    if (count < wanted) break;
  }
  const int error = writer.Finish();
  if (error != 0) {
    // Some of it may be there.
    done_ = begin;
    return Fail(error, false);
  }
  if (failed != 0) return Fail(failed, true);
  return done_ == end;
}

bool RangeCopier::Fail(int error, bool reading) {
  error_ = error;
  reading_ = reading;
  return false;
}

#endif
