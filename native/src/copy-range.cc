#include "copy-range.h"

#if defined(__linux__)

#include <memory>
#include <new>

#include "range-copier.h"

// Plain Node-API: the wrapper of C++ ends the process when a promise cannot be settled because its
// worker thread is being terminated. Here such a promise stays as it is.

namespace {

struct Work {
  RangeCopier copier;
  napi_deferred deferred;
  napi_async_work handle;
};

void Execute(napi_env, void* data) { static_cast<Work*>(data)->copier.Run(); }

void Complete(napi_env env, napi_status, void* data) {
  std::unique_ptr<Work> work(static_cast<Work*>(data));
  napi_delete_async_work(env, work->handle);
  const RangeCopier& copier = work->copier;
  napi_value result;
  napi_value copied;
  napi_value shared;
  napi_value error;
  napi_value reading;
  if (napi_create_object(env, &result) == napi_ok &&
      napi_create_int64(env, copier.copied(), &copied) == napi_ok &&
      napi_create_int64(env, copier.shared(), &shared) == napi_ok &&
      napi_create_int32(env, copier.error(), &error) == napi_ok &&
      napi_get_boolean(env, copier.reading(), &reading) == napi_ok &&
      napi_set_named_property(env, result, "copied", copied) == napi_ok &&
      napi_set_named_property(env, result, "shared", shared) == napi_ok &&
      napi_set_named_property(env, result, "errno", error) == napi_ok &&
      napi_set_named_property(env, result, "reading", reading) == napi_ok) {
    napi_resolve_deferred(env, work->deferred, result);
  }
}

}  // namespace

napi_value CopyRange(napi_env env, napi_callback_info info) {
  constexpr int64_t kMax = (int64_t{1} << 53) - 1;
  size_t count = 5;
  napi_value arguments[5];
  int64_t numbers[5];
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok) return nullptr;
  for (size_t at = 0; at < 5; at++) {
    if (at >= count || napi_get_value_int64(env, arguments[at], &numbers[at]) != napi_ok ||
        numbers[at] < 0 || numbers[at] > kMax) {
      napi_throw_type_error(env, nullptr, "copyRange takes five numbers from 0 to 2^53 - 1");
      return nullptr;
    }
  }
  const auto [in, in_offset, out, out_offset, length] = numbers;
  std::unique_ptr<Work> work(new (std::nothrow) Work{
      RangeCopier(static_cast<int>(in), in_offset, static_cast<int>(out), out_offset, length),
      nullptr, nullptr});
  napi_value promise;
  napi_value name;
  if (work == nullptr || napi_create_promise(env, &work->deferred, &promise) != napi_ok ||
      napi_create_string_utf8(env, "spapr-htab copyRange", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_async_work(env, nullptr, name, Execute, Complete, work.get(), &work->handle) !=
          napi_ok) {
    napi_throw_error(env, "ENOMEM", "copyRange could not be begun");
    return nullptr;
  }
  if (napi_queue_async_work(env, work->handle) != napi_ok) {
    napi_delete_async_work(env, work->handle);
    napi_throw_error(env, "ENOMEM", "copyRange could not be begun");
    return nullptr;
  }
  work.release();
  return promise;
}

#endif
