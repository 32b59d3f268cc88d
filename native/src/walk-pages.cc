#include "walk-pages.h"

#if defined(__linux__)

#include <memory>
#include <new>

#include "arguments.h"
#include "operation.h"
#include "page-walker.h"
#include "record.h"

namespace {

class Walk : public Operation {
 public:
  template <typename... Range>
  explicit Walk(Range... range) : walker_(range...) {}

 private:
  void Run() override { walker_.Walk(); }

  napi_value Result(napi_env env) override {
    return Record(env)
        .Number("position", walker_.position())
        .Number("pages", walker_.pages())
        .Number("zeroPages", walker_.zero_pages())
        .value();
  }

  PageWalker walker_;
};

}  // namespace

napi_value WalkPages(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int fd;
  int64_t position;
  int64_t end;
  int64_t used_length;
  if (!arguments.Number(0, &fd) || !arguments.Integer(1, kMaxInteger, &position) ||
      !arguments.Integer(2, kMaxInteger, &end) ||
      !arguments.Integer(3, kMaxInteger, &used_length)) {
    return ThrowTypeError(env, "walkPages takes a descriptor, a position, an end and a length");
  }
  return Operation::Begin(env, "spapr-htab walkPages",
                          std::unique_ptr<Operation>(new (std::nothrow) Walk(
                              fd, position, end, used_length)));
}

#endif
