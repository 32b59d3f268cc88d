#include "htab.h"

#if defined(__linux__)

#include <string>
#include <utility>

#include "adopt.h"
#include "arguments.h"
#include "htab-io.h"
#include "native-file.h"
#include "open-operation.h"
#include "record.h"

namespace {

napi_value ReturnOrThrow(napi_env env, Opened opened) {
  const napi_value result = NativeOpenOf(env, std::move(opened));
  // Refused, without effect, where something else is thrown already.
  if (result == nullptr) napi_throw_error(env, "ENOMEM", "the file could not be made");
  return result;
}

napi_value Open(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int vm;
  uint64_t flags;
  uint64_t start_index;
  if (!arguments.Number(0, &vm) || !arguments.BigUint64(1, &flags) ||
      !arguments.BigUint64(2, &start_index)) {
    return ThrowTypeError(env, "open takes a descriptor and two bigints from 0 to 2^64 - 1");
  }
  return BeginOpen(env, "spapr-htab open", vm, [flags, start_index](int fd) {
    return OpenHtab(fd, flags, start_index);
  });
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
