#include "behind-writer.h"

#if defined(__linux__)

#include <cerrno>
#include <unistd.h>

BehindWriter::~BehindWriter() {
  Finish();
  pthread_cond_destroy(&filled_);
  pthread_cond_destroy(&emptied_);
}

bool BehindWriter::Begin() {
  void* memory = nullptr;
  if (posix_memalign(&memory, kPage, kPieces * kPiece) != 0) return false;
  memory_.reset(static_cast<char*>(memory));
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
  const char* const bytes = memory + piece.from;
  for (int64_t done = 0; done < piece.length;) {
    const ssize_t count = pwrite(fd_, bytes + done, piece.length - done, piece.offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    // A regular file takes at least a byte, or says why not.
    if (count == 0) return EIO;
    done += count;
  }
  return 0;
}

#endif
