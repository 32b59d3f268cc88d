#include "copy-range.h"

#if defined(__linux__)

#include <memory>
#include <new>

#include "arguments.h"
#include "operation.h"
#include "range-copier.h"
#include "record.h"

namespace {

class Copy : public Operation {
 public:
  template <typename... Range>
  explicit Copy(Range... range) : copier_(range...) {}

 private:
  void Run() override { copier_.Run(); }

  napi_value Result(napi_env env) override {
    return Record(env)
        .Number("copied", copier_.copied())
        .Number("shared", copier_.shared())
        .Number("errno", copier_.error())
        .Boolean("reading", copier_.reading())
        .value();
  }

  RangeCopier copier_;
};

}  // namespace

napi_value CopyRange(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int in;
  int64_t in_offset;
  int out;
  int64_t out_offset;
  int64_t length;
  if (!arguments.Number(0, &in) || !arguments.Integer(1, kMaxInteger, &in_offset) ||
      !arguments.Number(2, &out) || !arguments.Integer(3, kMaxInteger, &out_offset) ||
      !arguments.Integer(4, kMaxInteger, &length)) {
    return ThrowTypeError(env, "copyRange takes two descriptors, two offsets and a length");
  }
  return Operation::Begin(env, "spapr-htab copyRange",
                          std::unique_ptr<Operation>(new (std::nothrow) Copy(
                              in, in_offset, out, out_offset, length)));
}

#endif
