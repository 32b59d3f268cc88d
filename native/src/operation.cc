#include "operation.h"

#if defined(__linux__)

napi_value Operation::Begin(napi_env env, const char* name, std::unique_ptr<Operation> operation) {
  napi_value promise;
  napi_value resource;
  Operation* const self = operation.get();
  if (self == nullptr ||
      napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &resource) != napi_ok ||
      napi_create_async_work(env, nullptr, resource, Execute, Complete, self, &self->work_) !=
          napi_ok) {
    napi_throw_error(env, "ENOMEM", "the operation could not be begun");
    return nullptr;
  }
  if (napi_create_promise(env, &self->deferred_, &promise) != napi_ok ||
      napi_queue_async_work(env, self->work_) != napi_ok) {
    napi_delete_async_work(env, self->work_);
    napi_throw_error(env, "ENOMEM", "the operation could not be begun");
    return nullptr;
  }
  operation.release();
  return promise;
}

void Operation::Execute(napi_env, void* data) { static_cast<Operation*>(data)->Run(); }

void Operation::Complete(napi_env env, napi_status status, void* data) {
  std::unique_ptr<Operation> operation(static_cast<Operation*>(data));
  napi_delete_async_work(env, operation->work_);
  // Cancelled: it did not run, and 0 bytes without an errno would be the end of a pass.
  if (status != napi_ok) return;
  const napi_value result = operation->Result(env);
  if (result != nullptr) napi_resolve_deferred(env, operation->deferred_, result);
}

#endif
