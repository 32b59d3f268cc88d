#include "htab-io.h"

#if defined(__linux__)

#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "htab-ioctl.h"

namespace {

// struct kvm_get_htab_header (arch/powerpc/include/uapi/asm/kvm.h), in the byte order of the host.
struct BlockHeader {
  uint32_t index;
  uint16_t n_valid;
  uint16_t n_invalid;
};
static_assert(sizeof(BlockHeader) == 8, "no padding");

constexpr size_t kEntryBytes = 16;

template <typename Call>
Transferred Repeated(Call call) {
  for (;;) {
    const ssize_t count = call();
    if (count >= 0) return {static_cast<size_t>(count), 0};
    if (errno != EINTR) return {0, errno};
  }
}

}  // namespace

Opened OpenHtab(int vm, uint64_t flags, uint64_t start_index) {
  HtabFdRequest request = {flags, start_index, {}};
  int result;
  do {
    result = ioctl(vm, kGetHtabFd, &request);
  } while (result < 0 && errno == EINTR);
  return Opened::Of(result);
}

Transferred Read(int fd, char* bytes, size_t length) {
  return Repeated([=] { return read(fd, bytes, length); });
}

Transferred Write(int fd, const char* bytes, size_t length) {
  return Repeated([=] { return write(fd, bytes, length); });
}

BlocksTransferred WriteBlocks(int fd, const char* bytes, size_t length) {
  BlocksTransferred done = {0, 0, 0};
  while (done.bytes < length) {
    const size_t left = length - done.bytes;
    const char* block = bytes + done.bytes;
    BlockHeader header;
    if (left < sizeof(header)) {
      done.error = EINVAL;
      break;
    }
    memcpy(&header, block, sizeof(header));
    const size_t size = sizeof(header) + header.n_valid * kEntryBytes;
    if (left < size) {
      done.error = EINVAL;
      break;
    }
    const Transferred written = Write(fd, block, size);
    if (written.error != 0 || written.count != size) {
      done.error = written.error != 0 ? written.error : EPROTO;
      break;
    }
    done.blocks++;
    done.bytes += size;
  }
  return done;
}

#endif
