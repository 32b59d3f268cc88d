#pragma once

#if defined(__linux__)

#include <cstdint>
#include <mutex>
#include <pthread.h>

#include "file-io.h"

// What walkPages does on its threads: plain system calls, without Node-API.
//
// Both threads read pieces of the file, whichever comes next; in order, they are passed over by the one
// that has read what was missing.
class PageWalker {
 public:
  // `position` and `end` are below 2^53.
  PageWalker(int fd, int64_t position, int64_t end, int64_t used_length);
  PageWalker(const PageWalker&) = delete;
  PageWalker& operator=(const PageWalker&) = delete;
  ~PageWalker();

  // On this thread and one more; on this alone where there is no other to be had.
  void Walk();

  // Where the walk stopped: in front of what is no whole entry of a page.
  int64_t position() const { return position_; }
  int64_t pages() const { return pages_; }
  int64_t zero_pages() const { return zero_pages_; }

 private:
  // Word and fill byte: no entry is shorter, and none has more in front of a page.
  static constexpr int64_t kHead = 9;

  enum State { kFree, kTaken, kReady };
  struct Piece {
    State state = kFree;
    int64_t number = 0;
    int64_t count = 0;
    bool whole = false;
    PageMemory bytes;
  };
  static constexpr int kPieces = 4;

  void TakeTurns();
  void PassReady();
  void Pass(const char* bytes, int64_t from, int64_t length);
  int64_t EntryLength(const char* head, bool* zero) const;

  const int fd_;
  const int64_t end_;
  const uint64_t used_length_;
  // Of the first piece.
  const int64_t base_;

  // For all below; but for the bytes and count of a piece that one of the threads has taken.
  std::mutex mutex_;
  Piece pieces_[kPieces];
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
  // The next piece that nobody reads yet, and the next one to be passed over.
  int64_t unread_ = 0;
  int64_t turn_ = 0;
  bool ended_ = false;
  int64_t position_;
  int64_t pages_ = 0;
  int64_t zero_pages_ = 0;
  // The first bytes of an entry that goes on in the next piece.
  char head_[kHead] = {};
};

#endif
