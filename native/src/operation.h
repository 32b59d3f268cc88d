#pragma once

#if defined(__linux__)

#include <memory>
#include <node_api.h>

// Work on a thread of the pool, whose outcome a promise gives. The promise is never rejected; of work
// that is cancelled, as only an environment that ends may do, it stays as it is.
//
// Plain Node-API: the wrapper of C++ ends the process when a promise cannot be settled because its
// worker thread is being terminated. Here such a promise stays as it is.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;

  // The promise; nullptr, with an exception pending, when it could not be begun. `operation` is null
  // where there was no memory for it.
  static napi_value Begin(napi_env env, const char* name, std::unique_ptr<Operation> operation);

 protected:
  // On the thread: no Node-API there.
  virtual void Run() = 0;
  // What the promise gives; nullptr when it cannot be made.
  virtual napi_value Result(napi_env env) = 0;

 private:
  static void Execute(napi_env env, void* data);
  static void Complete(napi_env env, napi_status status, void* data);

  napi_deferred deferred_ = nullptr;
  napi_async_work work_ = nullptr;
};

#endif
