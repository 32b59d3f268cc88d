#include "behind-writer.h"

#if defined(__linux__)

BehindWriter::~BehindWriter() {
  Finish();
  pthread_cond_destroy(&filled_);
  pthread_cond_destroy(&emptied_);
}

bool BehindWriter::Begin() {
  memory_ = NewPageMemory(kPieces * kPiece);
  if (memory_ == nullptr) return false;
  thread_.Start<BehindWriter, &BehindWriter::Run>(this);
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
  const Piece piece = {from, length, offset};
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
  return WriteFully(fd_, memory + piece.from, piece.length, piece.offset);
}

#endif
