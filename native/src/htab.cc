#include "htab.h"

#if defined(__linux__)

#include <memory>
#include <new>
#include <string>
#include <utility>

#include "adopt.h"
#include "arguments.h"
#include "htab-io.h"
#include "native-file.h"
#include "operation.h"
#include "record.h"

namespace {

napi_value ReturnOrThrow(napi_env env, Opened opened) {
  const napi_value result = NativeOpenOf(env, std::move(opened));
  // Refused, without effect, where something else is thrown already.
  if (result == nullptr) napi_throw_error(env, "ENOMEM", "the file could not be made");
  return result;
}

class OpenOperation : public Operation {
 public:
  OpenOperation(Opened vm, uint64_t flags, uint64_t start_index)
      : vm_(std::move(vm)), flags_(flags), start_index_(start_index) {}

 private:
  void Run() override {
    opened_ = vm_.error == 0 ? OpenHtab(vm_.descriptor.fd(), flags_, start_index_) : vm_;
  }

  napi_value Result(napi_env env) override { return NativeOpenOf(env, std::move(opened_)); }

  const Opened vm_;
  const uint64_t flags_;
  const uint64_t start_index_;
  Opened opened_;
};

napi_value Open(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int vm;
  uint64_t flags;
  uint64_t start_index;
  if (!arguments.Number(0, &vm) || !arguments.BigUint64(1, &flags) ||
      !arguments.BigUint64(2, &start_index)) {
    return ThrowTypeError(env, "open takes a descriptor and two bigints from 0 to 2^64 - 1");
  }
  // The number may be closed, and be another file's, before the thread gets there.
  return Operation::Begin(env, "spapr-htab open",
                          std::unique_ptr<Operation>(new (std::nothrow) OpenOperation(
                              Duplicate(vm), flags, start_index)));
}

napi_value DuplicateFd(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int fd;
  if (!arguments.Number(0, &fd)) return ThrowTypeError(env, "duplicate takes a descriptor");
  return ReturnOrThrow(env, Duplicate(fd));
}

napi_value TakeFd(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int pid;
  int fd;
  if (!arguments.Number(0, &pid) || !arguments.Number(1, &fd)) {
    return ThrowTypeError(env, "take takes a process id and a descriptor");
  }
  return ReturnOrThrow(env, Take(pid, fd));
}

napi_value ConnectTo(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string path;
  if (!arguments.Text(0, &path)) return ThrowTypeError(env, "connect takes a path without NUL");
  return ReturnOrThrow(env, Connect(path));
}

napi_value ReceiveFd(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Descriptor socket;
  if (arguments.count < 1 || !DescriptorOf(env, arguments.values[0], &socket)) {
    return ThrowTypeError(env, "receive takes a file of the addon");
  }
  return ReturnOrThrow(env, Receive(socket.fd()));
}

}  // namespace

napi_value CreateHtab(napi_env env) {
  if (!DefineNativeFile(env)) return nullptr;
  return Record(env)
      .Function("open", Open)
      .Function("duplicate", DuplicateFd)
      .Function("take", TakeFd)
      .Function("connect", ConnectTo)
      .Function("receive", ReceiveFd)
      .value();
}

#endif
