#pragma once

#if defined(__linux__)

#include <cstdint>
#include <mutex>
#include <pthread.h>

#include "file-io.h"
#include "second-thread.h"

// Writes pieces of a file on a thread of its own, while the next ones are made. Memory is bounded by
// the number of pieces. Where no thread can be started, each piece is written when it is handed over.
class BehindWriter {
 public:
  static constexpr int64_t kPiece = 256 * 1024;

  explicit BehindWriter(int fd) : fd_(fd) {}
  BehindWriter(const BehindWriter&) = delete;
  BehindWriter& operator=(const BehindWriter&) = delete;
  // Waits for what was handed over.
  ~BehindWriter();

  // For about so many bytes: a thread is started where they are several pieces. False when there is no
  // memory for the pieces.
  bool Begin(int64_t length);
  // Memory of kPiece bytes that begins a page; nullptr after an error.
  char* Next();
  // Hands over what `Next` gave last: `length` bytes from `from` on go to that offset of the file.
  void Write(int64_t from, int64_t length, int64_t offset);
  // The same, to where nothing was written before: blocks of the file that are zeros are left out.
  void WriteSparse(int64_t from, int64_t length, int64_t offset, int64_t block);
  // Waits until all is written. The errno of the first write that failed, or 0.
  int Finish();

 private:
  static constexpr int kPieces = 8;
  // A thread that waits is woken when so many are free: each wake costs more than a piece.
  static constexpr int kEnough = kPieces / 2;

  struct Piece {
    int64_t from;
    int64_t length;
    int64_t offset;
    // 0 where all of it is written.
    int64_t block;
  };

  void Give(const Piece& piece);
  void Run();
  int WriteOut(const char* memory, const Piece& piece) const;
  char* At(unsigned piece) const { return memory_.get() + piece % kPieces * kPiece; }

  const int fd_;
  PageMemory memory_;
  Piece pieces_[kPieces] = {};
  std::mutex mutex_;
  // Not of the C++ library: its symbols are newer than those that Node itself needs.
  pthread_cond_t filled_ = PTHREAD_COND_INITIALIZER;
  pthread_cond_t emptied_ = PTHREAD_COND_INITIALIZER;
  // Pieces that were handed over, and that are written: they are used in turn.
  unsigned given_ = 0;
  unsigned written_ = 0;
  bool waiting_ = false;
  bool ended_ = false;
  int error_ = 0;
  SecondThread thread_;
};

#endif
