#include "child.h"

#if defined(__linux__)

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "arguments.h"
#include "file-state.h"
#include "native-file.h"
#include "open-operation.h"
#include "record.h"

namespace {

// Through /proc: a duplicate would share its position, and its flags, with the original.
Opened Reopen(int fd, off_t position) {
  // To open one of the others may wait for another process, or do something.
  FileState file;
  if (!FileState::Of(fd, &file)) return Opened::Failed(errno);
  if (!file.regular() && !S_ISBLK(file.mode)) return Opened::Failed(ESPIPE);
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  Opened opened = Opened::Of(open(path, O_RDONLY | O_CLOEXEC));
  if (opened.error != 0) return opened;
  return lseek(opened.descriptor.fd(), position, SEEK_SET) == position ? opened
                                                                       : Opened::Failed(errno);
}

napi_value ReopenFd(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int fd;
  int64_t position;
  if (!arguments.Number(0, &fd) || !arguments.Integer(1, kMaxInteger, &position)) {
    return ThrowTypeError(env, "reopen takes a descriptor and a position");
  }
  return BeginOpen(env, "spapr-htab reopen", fd,
                   [position](int file) { return Reopen(file, position); });
}

napi_value Pipe(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int capacity;
  if (!arguments.Number(0, &capacity)) return ThrowTypeError(env, "pipe takes a number of bytes");
  int ends[2] = {-1, -1};
  const int error = pipe2(ends, O_CLOEXEC) == 0 ? 0 : errno;
  Record record(env);
  if (error != 0) return record.Number("errno", error).value();
  // Without the right to more than /proc/sys/fs/pipe-max-size, or than pipe-user-pages-soft for all of
  // a user's, it stays as it is.
  fcntl(ends[1], F_SETPIPE_SZ, capacity);
  Opened writer = Opened::Of(ends[1]);
  record.Number("errno", writer.error);
  if (writer.error == 0) {
    record.Number("readFd", ends[0]);
    record.Value("writer", NewNativeFile(env, std::move(writer.descriptor)));
  }
  const napi_value result = record.value();
  if (result == nullptr || writer.error != 0) close(ends[0]);
  // Refused, without effect, where something else is thrown already.
  if (result == nullptr) napi_throw_error(env, "ENOMEM", "the pipe could not be made");
  return result;
}

}  // namespace

napi_value CreateChild(napi_env env) {
  return Record(env).Function("reopen", ReopenFd).Function("pipe", Pipe).value();
}

#endif
