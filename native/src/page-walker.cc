#include "page-walker.h"

#if defined(__linux__)

#include <algorithm>
#include <cstring>

#include "second-thread.h"

namespace {

// Large enough for few system calls, small enough to be in a core's cache when it is looked at.
constexpr int64_t kPiece = 512 * 1024;

// RAM_SAVE_FLAG_* of a page of the block before (QEMU migration/ram.c).
constexpr uint64_t kZeroAgain = 0x22;
constexpr uint64_t kPageAgain = 0x28;
constexpr uint64_t kFlags = 0xfff;
constexpr int64_t kPage = 4096;

uint64_t BigEndian(const char* bytes) {
  uint64_t value = 0;
  for (int at = 0; at < 8; at++) value = value << 8 | static_cast<uint8_t>(bytes[at]);
  return value;
}

}  // namespace

PageWalker::PageWalker(int fd, int64_t position, int64_t end, int64_t used_length)
    : fd_(fd),
      end_(end),
      used_length_(used_length),
      base_(position - position % kPageBytes),
      position_(position) {}

PageWalker::~PageWalker() { pthread_cond_destroy(&changed_); }

void PageWalker::Walk() {
  SecondThread helper;
  helper.Start<PageWalker, &PageWalker::TakeTurns>(this);
  TakeTurns();
}

void PageWalker::TakeTurns() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ended_ && base_ + unread_ * kPiece < end_) {
    Piece* const piece = std::find_if(pieces_, pieces_ + kPieces,
                                      [](const Piece& other) { return other.state == kFree; });
    if (piece == pieces_ + kPieces) {
      // The piece whose turn it is takes long. Not by std::condition_variable, whose symbols are
      // newer than those that Node itself needs.
      pthread_cond_wait(&changed_, mutex_.native_handle());
      continue;
    }
    piece->number = unread_++;
    piece->state = kTaken;
    const int64_t from = base_ + piece->number * kPiece;
    const int64_t length = std::min(kPiece, end_ - from);
    lock.unlock();
    if (piece->bytes == nullptr) piece->bytes = NewPageMemory(kPiece);
    // Without memory, or where it cannot be read, it is as if the file ended there.
    int failed;
    piece->count = piece->bytes == nullptr
                       ? 0
                       : ReadFully(fd_, piece->bytes.get(), length, from, &failed);
    piece->whole = piece->count == length;
    lock.lock();
    piece->state = kReady;
    PassReady();
    pthread_cond_signal(&changed_);
  }
}

// Passes over what has been read, as far as nothing is missing in between. Whoever holds the lock does
// it, so that neither thread waits for the other.
void PageWalker::PassReady() {
  for (;;) {
    Piece* const piece = std::find_if(pieces_, pieces_ + kPieces, [this](const Piece& other) {
      return other.state == kReady && other.number == turn_;
    });
    if (piece == pieces_ + kPieces || ended_) return;
    if (piece->count > 0) Pass(piece->bytes.get(), base_ + piece->number * kPiece, piece->count);
    if (!piece->whole) ended_ = true;
    piece->state = kFree;
    turn_++;
  }
}

// Passes over the entries that end within `length` bytes, which are those of the file from `from` on.
void PageWalker::Pass(const char* bytes, int64_t from, int64_t length) {
  const int64_t stop = from + length;
  if (position_ < from) {
    // Pieces but the last are longer than any entry: one that goes on here ends here.
    const int64_t known = std::min(kHead, from - position_);
    memcpy(head_ + known, bytes, std::min(kHead - known, length));
  }
  while (stop - position_ >= kHead) {
    const char* const head = position_ < from ? head_ : bytes + (position_ - from);
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
int64_t PageWalker::EntryLength(const char* head, bool* zero) const {
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
