#include "behind-writer.h"

#if defined(__linux__)

#include <algorithm>
#include <cstring>

namespace {

bool IsZero(const char* bytes, int64_t length) {
  return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

}  // namespace

BehindWriter::~BehindWriter() {
  Finish();
  pthread_cond_destroy(&filled_);
  pthread_cond_destroy(&emptied_);
}

bool BehindWriter::Begin(int64_t length) {
  memory_ = NewPageMemory(kPieces * kPiece);
  if (memory_ == nullptr) return false;
  if (length > 2 * kPiece) thread_.Start<BehindWriter, &BehindWriter::Run>(this);
  return true;
}

char* BehindWriter::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (given_ - written_ == kPieces) {
    waiting_ = true;
    while (given_ - written_ > kPieces - kEnough && error_ == 0) {
      pthread_cond_wait(&emptied_, mutex_.native_handle());
    }
    waiting_ = false;
  }
  return error_ == 0 ? At(given_) : nullptr;
}

void BehindWriter::Write(int64_t from, int64_t length, int64_t offset) {
  Give({from, length, offset, 0});
}

void BehindWriter::WriteSparse(int64_t from, int64_t length, int64_t offset, int64_t block) {
  Give({from, length, offset, block});
}

void BehindWriter::Give(const Piece& piece) {
  if (!thread_.running()) {
    if (error_ == 0) error_ = WriteOut(At(given_), piece);
    return;
  }
  bool idle;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pieces_[given_ % kPieces] = piece;
    idle = given_ == written_;
    given_++;
  }
  if (idle) pthread_cond_signal(&filled_);
}

int BehindWriter::Finish() {
  if (thread_.running()) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    pthread_cond_signal(&filled_);
    thread_.Join();
  }
  return error_;
}

void BehindWriter::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    while (given_ == written_ && !ended_) pthread_cond_wait(&filled_, mutex_.native_handle());
    if (given_ == written_) return;
    const Piece piece = pieces_[written_ % kPieces];
    const bool failed = error_ != 0;
    lock.unlock();
    // After an error what follows is dropped.
    const int error = failed ? 0 : WriteOut(At(written_), piece);
    lock.lock();
    written_++;
    if (error_ == 0) error_ = error;
    if (waiting_ && (given_ - written_ <= kPieces - kEnough || error_ != 0)) {
      pthread_cond_signal(&emptied_);
    }
  }
}

int BehindWriter::WriteOut(const char* memory, const Piece& piece) const {
  const char* const bytes = memory + piece.from;
  int64_t from = 0;
  for (int64_t at = 0; piece.block > 0 && at < piece.length;) {
    const int64_t next =
        std::min(piece.length, at + piece.block - (piece.offset + at) % piece.block);
    if (IsZero(bytes + at, next - at)) {
      const int error = WriteFully(fd_, bytes + from, at - from, piece.offset + from);
      if (error != 0) return error;
      from = next;
    }
    at = next;
  }
  return WriteFully(fd_, bytes + from, piece.length - from, piece.offset + from);
}

#endif
