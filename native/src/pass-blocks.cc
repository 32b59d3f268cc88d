#include "pass-blocks.h"

#if defined(__linux__)

#include <memory>
#include <new>

#include "arguments.h"
#include "block-passer.h"
#include "operation.h"
#include "record.h"

namespace {

class Pass : public Operation {
 public:
  template <typename... Parts>
  explicit Pass(Parts... parts) : passer_(parts...) {}

 private:
  void Run() override { passer_.Run(); }

  napi_value Result(napi_env env) override {
    return Record(env)
        .Number("bytes", passer_.bytes())
        .Number("blocks", passer_.blocks())
        .Number("valid", passer_.valid())
        .Number("errno", passer_.error())
        .Boolean("reading", passer_.reading())
        .value();
  }

  BlockPasser passer_;
};

}  // namespace

napi_value PassBlocks(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  BlockPasser::Range range;
  int64_t slots;
  bool from_little;
  bool to_little;
  if (!arguments.Number(0, &range.in) || !arguments.Integer(1, kMaxInteger, &range.in_offset) ||
      !arguments.Number(2, &range.out) || !arguments.Integer(3, kMaxInteger, &range.out_offset) ||
      !arguments.Integer(4, kMaxInteger, &range.length) ||
      !arguments.Integer(5, kMaxInteger, &slots) || !arguments.Boolean(6, &from_little) ||
      !arguments.Boolean(7, &to_little)) {
    return ThrowTypeError(env,
                          "passBlocks takes a descriptor and an offset twice, a length, slots, and "
                          "whether headers are little-endian twice");
  }
  return Operation::Begin(env, "spapr-htab passBlocks",
                          std::unique_ptr<Operation>(new (std::nothrow) Pass(
                              range, slots, from_little, to_little)));
}

#endif
