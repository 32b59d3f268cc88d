#pragma once

#if defined(__linux__)

#include <memory>
#include <new>
#include <node_api.h>
#include <utility>

#include "adopt.h"
#include "native-file.h"
#include "operation.h"

// Opens something with the help of a descriptor, on a thread of the pool: `open` makes an Opened of
// its number. The promise gives NativeOpen of src/addon/load.ts.
template <typename Open>
class OpenOperation : public Operation {
 public:
  static napi_value Begin(napi_env env, const char* name, int fd, Open open) {
    // The number may be closed, and be another file's, before the thread gets there.
    return Operation::Begin(env, name,
                            std::unique_ptr<Operation>(new (std::nothrow) OpenOperation(
                                Duplicate(fd), std::move(open))));
  }

 private:
  OpenOperation(Opened with, Open open) : with_(std::move(with)), open_(std::move(open)) {}

  void Run() override { opened_ = with_.error == 0 ? open_(with_.descriptor.fd()) : with_; }

  napi_value Result(napi_env env) override { return NativeOpenOf(env, std::move(opened_)); }

  const Opened with_;
  const Open open_;
  Opened opened_;
};

template <typename Open>
napi_value BeginOpen(napi_env env, const char* name, int fd, Open open) {
  return OpenOperation<Open>::Begin(env, name, fd, std::move(open));
}

#endif
