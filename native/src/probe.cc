#include "probe.h"

#if defined(__linux__)

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include "htab-ioctl.h"

namespace {

// KVM_CAP_PPC_HTAB_FD, include/uapi/linux/kvm.h; defined for every architecture.
constexpr int kCapHtabFd = 84;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Napi::Value Probe(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  int api = 0;
  int extension = 0;
  Fd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  const int error = kvm.get() < 0 ? errno : 0;
  if (error == 0) {
    api = ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
    extension = ioctl(kvm.get(), KVM_CHECK_EXTENSION, kCapHtabFd);
  }
  result.Set("supported", true);
  result.Set("ioctl", static_cast<double>(kGetHtabFd));
  result.Set("errno", error);
  result.Set("apiVersion", api);
  result.Set("extension", extension);
  return result;
}

#else

Napi::Value Probe(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("supported", false);
  return result;
}

#endif
