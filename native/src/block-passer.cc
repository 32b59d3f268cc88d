#include "block-passer.h"

#if defined(__linux__)

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "behind-writer.h"

namespace {

// A block header: u32 index, u16 valid, u16 invalid; entries of 16 bytes follow.
constexpr int64_t kHeader = 8;
constexpr int64_t kEntry = 16;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr bool kHostLittle = true;
#else
constexpr bool kHostLittle = false;
#endif

struct Header {
  uint32_t index;
  uint16_t valid;
  uint16_t invalid;
};

inline Header Turned(const Header& header) {
  return {__builtin_bswap32(header.index), __builtin_bswap16(header.valid),
          __builtin_bswap16(header.invalid)};
}

}  // namespace

void BlockPasser::Run() {
  // There, pwrite(2) ignores its offset.
  const int flags = fcntl(range_.out, F_GETFL);
  if (flags < 0 || (flags & O_APPEND) != 0) return Fail(EBADF, false);
  BehindWriter writer(range_.out);
  if (!writer.Begin()) return Fail(ENOMEM, true);
  const int64_t end = range_.in_offset + range_.length;
  for (int64_t position = range_.in_offset; position < end && !stopped_;) {
    char* const piece = writer.Next();
    if (piece == nullptr) break;
    // Half a page from where they lie in theirs: copies between places that are a few bytes apart
    // in their pages, as input and output are by a section's first words, take half as long again.
    const int64_t skew = (position + BehindWriter::kPage / 2) % BehindWriter::kPage;
    const int64_t wanted = std::min(BehindWriter::kPiece - skew, end - position);
    const int64_t length = Read(piece + skew, wanted, position);
    if (length <= 0) break;
    const int64_t passed = ScanPiece(piece + skew, length, end - position);
    if (passed == 0) break;
    writer.Write(skew, passed, range_.out_offset + (position - range_.in_offset));
    position += passed;
    bytes_ += passed;
  }
  const int error = writer.Finish();
  if (error != 0 && error_ == 0) Fail(error, false);
  // The file ended, or failed, inside a block that was whole when its size was asked for.
  if (inside_ > 0) {
    bytes_ -= open_bytes_ - inside_;
    blocks_--;
    valid_ -= (open_bytes_ - kHeader) / kEntry;
  }
}

// How many bytes were read: fewer than wanted only where the file ends. -1 when it failed.
int64_t BlockPasser::Read(char* bytes, int64_t length, int64_t position) {
  int64_t done = 0;
  while (done < length) {
    const ssize_t count = pread(range_.in, bytes + done, length - done, position + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      Fail(errno, true);
      return -1;
    }
    if (count == 0) break;
    done += count;
  }
  return done;
}

// How much of the piece is passed on: up to a header that is not whole in it, or stops everything.
int64_t BlockPasser::ScanPiece(char* bytes, int64_t length, int64_t left) {
  const bool turn = from_little_ != to_little_;
  if (from_little_ == kHostLittle) {
    return turn ? Scan<true, true>(bytes, length, left) : Scan<true, false>(bytes, length, left);
  }
  return turn ? Scan<false, true>(bytes, length, left) : Scan<false, false>(bytes, length, left);
}

template <bool kNative, bool kTurn>
int64_t BlockPasser::Scan(char* bytes, int64_t length, int64_t left) {
  int64_t at = std::min(inside_, length);
  inside_ -= at;
  int64_t blocks = 0;
  int64_t valid = 0;
  while (length - at >= kHeader) {
    Header stored;
    memcpy(&stored, bytes + at, kHeader);
    const Header turned = Turned(stored);
    const Header& header = kNative ? stored : turned;
    const int64_t index = header.index;
    const int64_t size = kHeader + header.valid * kEntry;
    // An end mark, a block beyond the table, or one that the range does not have whole: what that
    // means is for the caller to say.
    stopped_ = (index == 0 && header.valid == 0 && header.invalid == 0) ||
               index + header.valid + header.invalid > slots_ || size > left - at;
    if (stopped_) break;
    if (kTurn) memcpy(bytes + at, &turned, kHeader);
    blocks++;
    valid += header.valid;
    at += size;
    if (at > length) {
      open_bytes_ = size;
      inside_ = at - length;
      at = length;
    }
  }
  blocks_ += blocks;
  valid_ += valid;
  return at;
}

void BlockPasser::Fail(int error, bool reading) {
  error_ = error;
  reading_ = reading;
}

#endif
