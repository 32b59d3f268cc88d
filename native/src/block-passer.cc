#include "block-passer.h"

#if defined(__linux__)

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "behind-writer.h"
#include "block-header.h"
#include "file-io.h"

namespace {

constexpr int64_t kHeaderBytes = sizeof(BlockHeader);

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr bool kHostLittle = true;
#else
constexpr bool kHostLittle = false;
#endif

inline BlockHeader Turned(const BlockHeader& header) {
  return {__builtin_bswap32(header.index), __builtin_bswap16(header.n_valid),
          __builtin_bswap16(header.n_invalid)};
}

}  // namespace

void BlockPasser::Run() {
  const int unfit = CheckPositioned(range_.out);
  if (unfit != 0) return Fail(unfit, false);
  BehindWriter writer(range_.out);
  if (!writer.Begin(range_.length)) return Fail(ENOMEM, true);
  const int64_t end = range_.in_offset + range_.length;
  for (int64_t position = range_.in_offset; position < end && !stopped_;) {
    char* const piece = writer.Next();
    if (piece == nullptr) break;
    // Half a page from where they lie in theirs: copies between places that are a few bytes apart
    // in their pages, as input and output are by a section's first words, take half as long again.
    const int64_t skew = (position + kPageBytes / 2) % kPageBytes;
    const int64_t wanted = std::min(BehindWriter::kPiece - skew, end - position);
    int failed;
    const int64_t length = ReadFully(range_.in, piece + skew, wanted, position, &failed);
    if (failed != 0) Fail(failed, true);
    if (failed != 0 || length == 0) break;
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
    valid_ -= (open_bytes_ - kHeaderBytes) / kEntryBytes;
  }
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
  while (length - at >= kHeaderBytes) {
    BlockHeader stored;
    memcpy(&stored, bytes + at, kHeaderBytes);
    const BlockHeader turned = Turned(stored);
    const BlockHeader& header = kNative ? stored : turned;
    const int64_t index = header.index;
    const int64_t size = kHeaderBytes + header.n_valid * kEntryBytes;
    // An end mark, a block beyond the table, or one that the range does not have whole: what that
    // means is for the caller to say.
    stopped_ = (index == 0 && header.n_valid == 0 && header.n_invalid == 0) ||
               index + header.n_valid + header.n_invalid > slots_ || size > left - at;
    if (stopped_) break;
    if (kTurn) memcpy(bytes + at, &turned, kHeaderBytes);
    blocks++;
    valid += header.n_valid;
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
