#include "page-walker.h"

#if defined(__linux__)

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unistd.h>

static_assert(sizeof(off_t) == 8, "files above 2 GiB");

// Of libuv, which Node exports, and not pthread_create: built with a newer glibc, that is a symbol
// which Node itself does not need. Where they are missing, there is one thread.
extern "C" {
int uv_thread_create(pthread_t* thread, void (*entry)(void*), void* argument) __attribute__((weak));
int uv_thread_join(pthread_t* thread) __attribute__((weak));
}

namespace {

bool StartThread(pthread_t* thread, void (*entry)(void*), void* argument) {
  return uv_thread_create != nullptr && uv_thread_join != nullptr &&
         uv_thread_create(thread, entry, argument) == 0;
}

// Large enough for few system calls, small enough to be in a core's cache when it is looked at.
constexpr int64_t kPiece = 1024 * 1024;
// Copying is fastest from and to where pages begin.
constexpr int64_t kAlignment = 4096;

// RAM_SAVE_FLAG_* of a page of the block before (QEMU migration/ram.c).
constexpr uint64_t kZeroAgain = 0x22;
constexpr uint64_t kPageAgain = 0x28;
constexpr uint64_t kFlags = 0xfff;
constexpr int64_t kPage = 4096;

struct Free {
  void operator()(uint8_t* memory) const { free(memory); }
};
using Buffer = std::unique_ptr<uint8_t, Free>;

// Not by `new` with an alignment, which older C++ libraries lack.
Buffer NewBuffer() {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, kPiece) != 0) return nullptr;
  return Buffer(static_cast<uint8_t*>(memory));
}

// How much could be read: less than `length` when the file ends, or cannot be read.
int64_t Read(int fd, uint8_t* bytes, int64_t length, int64_t position) {
  int64_t done = 0;
  while (done < length) {
    const ssize_t count = pread(fd, bytes + done, length - done, position + done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += count;
  }
  return done;
}

uint64_t BigEndian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int at = 0; at < 8; at++) value = value << 8 | bytes[at];
  return value;
}

}  // namespace

PageWalker::PageWalker(int fd, int64_t position, int64_t end, int64_t used_length)
    : fd_(fd),
      end_(end),
      used_length_(used_length),
      base_(position - position % kAlignment),
      position_(position) {}

PageWalker::~PageWalker() { pthread_cond_destroy(&changed_); }

void PageWalker::Walk() {
  pthread_t helper;
  const bool helped = StartThread(&helper, [](void* walker) {
    static_cast<PageWalker*>(walker)->TakeTurns();
  }, this);
  TakeTurns();
  if (helped) uv_thread_join(&helper);
}

void PageWalker::TakeTurns() {
  const Buffer buffer = NewBuffer();
  std::unique_lock<std::mutex> lock(mutex_);
  while (buffer != nullptr && !ended_ && base_ + unread_ * kPiece < end_) {
    const int64_t piece = unread_++;
    const int64_t from = base_ + piece * kPiece;
    const int64_t length = std::min(kPiece, end_ - from);
    lock.unlock();
    const int64_t count = Read(fd_, buffer.get(), length, from);
    lock.lock();
    // Not by std::condition_variable, whose symbols are newer than those that Node itself needs.
    while (turn_ != piece && !ended_) pthread_cond_wait(&changed_, mutex_.native_handle());
    if (ended_) break;
    Pass(buffer.get(), from, count);
    if (count < length) ended_ = true;
    turn_++;
    pthread_cond_signal(&changed_);
  }
}

// Passes over the entries that end within `length` bytes, which are those of the file from `from` on.
void PageWalker::Pass(const uint8_t* bytes, int64_t from, int64_t length) {
  const int64_t stop = from + length;
  if (position_ < from) {
    // Pieces but the last are longer than any entry: one that goes on here ends here.
    const int64_t known = std::min(kHead, from - position_);
    memcpy(head_ + known, bytes, std::min(kHead - known, length));
  }
  while (stop - position_ >= kHead) {
    const uint8_t* const head = position_ < from ? head_ : bytes + (position_ - from);
    bool zero = false;
    const int64_t entry = EntryLength(head, &zero);
    if (entry == 0) {
      ended_ = true;
      return;
    }
    if (stop - position_ < entry) break;
    (zero ? zero_pages_ : pages_)++;
    position_ += entry;
  }
  // None where the file ends in front of the first entry.
  const int64_t left = std::min(kHead, stop - position_);
  if (position_ >= from && left > 0) memcpy(head_, bytes + (position_ - from), left);
}

// 0 for what is not passed over.
int64_t PageWalker::EntryLength(const uint8_t* head, bool* zero) const {
  const uint64_t word = BigEndian(head);
  if ((word & ~kFlags) >= used_length_) return 0;
  switch (word & kFlags) {
    case kPageAgain:
      return 8 + kPage;
    case kZeroAgain:
      *zero = true;
      return head[8] == 0 ? kHead : 0;
    default:
      return 0;
  }
}

#endif
