#include "descriptor.h"

#if defined(__linux__)

#include <cerrno>
#include <new>
#include <unistd.h>

Descriptor Descriptor::Own(int fd) {
  Descriptor made;
  made.shared_ = new (std::nothrow) Shared{{1}, fd};
  // Not again after EINTR: the number is free by then, and may be another thread's.
  if (made.shared_ == nullptr) close(fd);
  return made;
}

Descriptor::~Descriptor() {
  if (shared_ == nullptr) return;
  if (shared_->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  close(shared_->fd);
  delete shared_;
}

Opened Opened::Of(long result) {
  if (result < 0) return Failed(errno);
  Opened opened{Descriptor::Own(static_cast<int>(result)), 0};
  if (opened.descriptor.fd() < 0) opened.error = ENOMEM;
  return opened;
}

#endif
