#include "page-walker.h"

#if defined(__linux__)

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "bus-guard.h"

namespace {

// Mapping and unmapping costs little beside it, and it is not much of a process's memory.
constexpr int64_t kWindow = 16 * 1024 * 1024;
// Of the file where it is read: small enough to be in a core's cache when it is looked at.
constexpr int64_t kPiece = 512 * 1024;

// RAM_SAVE_FLAG_* of a page of the block before (QEMU migration/ram.c).
constexpr uint64_t kZeroAgain = 0x22;
constexpr uint64_t kPageAgain = 0x28;
constexpr uint64_t kFlags = 0xfff;
constexpr int64_t kPage = 4096;
// Word and fill byte: no entry is shorter, and none has more in front of a page.
constexpr int64_t kHead = 9;

uint64_t BigEndian(const char* bytes) {
  uint64_t value = 0;
  for (int at = 0; at < 8; at++) value = value << 8 | static_cast<uint8_t>(bytes[at]);
  return value;
}

int64_t PageStart(int64_t position) { return position - position % kPageBytes; }

}  // namespace

PageWalker::PageWalker(int fd, int64_t position, int64_t end, int64_t used_length)
    : fd_(fd), end_(end), used_length_(used_length), passed_{position, 0, 0, false} {}

void PageWalker::Walk() {
  while (!passed_.stopped && end_ - passed_.position >= kHead) {
    const int64_t before = passed_.position;
    if (mapped_) mapped_ = PassMapped();
    if (!mapped_ && !PassRead()) return;
    if (passed_.position == before) return;
  }
}

// False where the window must be read: nothing of it counts then.
bool PageWalker::PassMapped() {
  if (!BusGuard::Ready()) return false;
  const int64_t from = PageStart(passed_.position);
  const int64_t length = std::min(kWindow, end_ - from);
  void* const mapping = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd_, from);
  if (mapping == MAP_FAILED) return false;
  // What follows is read from the device meanwhile.
  if (from + length < end_) {
    posix_fadvise(fd_, from + length, std::min(kWindow, end_ - from - length), POSIX_FADV_WILLNEED);
  }
  Window window{static_cast<const char*>(mapping), from, length, end_, used_length_, passed_};
  bool whole = BusGuard::Run(window.bytes, length, PassOver, &window);
  munmap(mapping, length);
  // A page whose end is cut off has zeros there, and what stands in entries was not looked at.
  char last;
  if (whole && window.passed.position > passed_.position) {
    whole = pread(fd_, &last, 1, window.passed.position - 1) == 1;
  }
  if (whole) passed_ = window.passed;
  return whole;
}

bool PageWalker::PassRead() {
  if (memory_ == nullptr) memory_ = NewPageMemory(kPiece);
  if (memory_ == nullptr) return false;
  const int64_t from = PageStart(passed_.position);
  // Where it cannot be read, it is as if the file ended there.
  int failed;
  const int64_t count =
      ReadFully(fd_, memory_.get(), std::min(kPiece, end_ - from), from, &failed);
  Window window{memory_.get(), from, count, from + count, used_length_, passed_};
  PassOver(&window);
  passed_ = window.passed;
  return true;
}

// Passes over the entries that begin in the window and end in front of its limit. It may be left at any
// read from the window.
void PageWalker::PassOver(void* it) {
  Window& window = *static_cast<Window*>(it);
  Passed passed = window.passed;
  while (window.from + window.length - passed.position >= kHead) {
    const char* const head = window.bytes + (passed.position - window.from);
    const uint64_t word = BigEndian(head);
    const uint64_t flags = word & kFlags;
    const bool zero = flags == kZeroAgain && head[8] == 0;
    if ((word & ~kFlags) >= window.used_length || !(zero || flags == kPageAgain)) {
      passed.stopped = true;
      break;
    }
    const int64_t entry = zero ? kHead : 8 + kPage;
    if (window.limit - passed.position < entry) break;
    (zero ? passed.zero_pages : passed.pages)++;
    passed.position += entry;
  }
  window.passed = passed;
}

#endif
