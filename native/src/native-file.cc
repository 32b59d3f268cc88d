#include "native-file.h"

#if defined(__linux__)

#include <memory>
#include <new>
#include <utility>

#include "arguments.h"
#include "record.h"
#include "transfer.h"

namespace {

// Tells our objects from those that others have wrapped.
constexpr napi_type_tag kTag = {0x9d0e53c17a4b4f26, 0xb1c84e02d6f3957a};

struct InstanceData {
  napi_ref file_class = nullptr;
};

void DeleteInstanceData(napi_env env, void* data, void*) {
  std::unique_ptr<InstanceData> instance(static_cast<InstanceData*>(data));
  if (instance->file_class != nullptr) napi_delete_reference(env, instance->file_class);
}

void DeleteHeld(napi_env, void* data, void*) { delete static_cast<Descriptor*>(data); }

// Where an object keeps its descriptor; nullptr for everything else.
Descriptor* HeldBy(napi_env env, napi_value value) {
  napi_valuetype type;
  bool ours = false;
  void* held;
  if (value == nullptr || napi_typeof(env, value, &type) != napi_ok || type != napi_object ||
      napi_check_object_type_tag(env, value, &kTag, &ours) != napi_ok || !ours ||
      napi_unwrap(env, value, &held) != napi_ok) {
    return nullptr;
  }
  return static_cast<Descriptor*>(held);
}

// For `new` too, which makes an object that holds nothing and that no method takes.
napi_value Construct(napi_env env, napi_callback_info info) { return Arguments(env, info).self; }

napi_value NotAFile(napi_env env) { return ThrowTypeError(env, "this is no file of the addon"); }

napi_value GetFd(napi_env env, napi_callback_info info) {
  const Descriptor* held = HeldBy(env, Arguments(env, info).self);
  if (held == nullptr) return NotAFile(env);
  napi_value fd;
  return napi_create_int32(env, held->fd(), &fd) == napi_ok ? fd : nullptr;
}

napi_value Close(napi_env env, napi_callback_info info) {
  Descriptor* held = HeldBy(env, Arguments(env, info).self);
  if (held == nullptr) return NotAFile(env);
  *held = Descriptor();
  return nullptr;
}

napi_value Begin(napi_env env, napi_callback_info info, BeginTransfer begin) {
  const Arguments arguments(env, info);
  const Descriptor* held = HeldBy(env, arguments.self);
  return held == nullptr ? NotAFile(env) : begin(arguments, *held);
}

napi_value Read(napi_env env, napi_callback_info info) { return Begin(env, info, BeginRead); }
napi_value Write(napi_env env, napi_callback_info info) { return Begin(env, info, BeginWrite); }
napi_value WriteBlocks(napi_env env, napi_callback_info info) {
  return Begin(env, info, BeginWriteBlocks);
}

}  // namespace

bool DefineNativeFile(napi_env env) {
  const auto method = [](const char* name, napi_callback callback) -> napi_property_descriptor {
    return {name, nullptr, callback, nullptr, nullptr, nullptr, napi_default_method, nullptr};
  };
  const napi_property_descriptor properties[] = {
      {"fd", nullptr, nullptr, GetFd, nullptr, nullptr, napi_enumerable, nullptr},
      method("read", Read),
      method("write", Write),
      method("writeBlocks", WriteBlocks),
      method("close", Close),
  };
  std::unique_ptr<InstanceData> instance(new (std::nothrow) InstanceData);
  napi_value file_class;
  if (instance == nullptr ||
      napi_define_class(env, "NativeFile", NAPI_AUTO_LENGTH, Construct, nullptr,
                        sizeof(properties) / sizeof(properties[0]), properties,
                        &file_class) != napi_ok ||
      napi_create_reference(env, file_class, 1, &instance->file_class) != napi_ok ||
      napi_set_instance_data(env, instance.get(), DeleteInstanceData, nullptr) != napi_ok) {
    return false;
  }
  instance.release();
  return true;
}

napi_value NewNativeFile(napi_env env, Descriptor descriptor) {
  void* data = nullptr;
  napi_value file_class;
  napi_value file;
  std::unique_ptr<Descriptor> held(new (std::nothrow) Descriptor(std::move(descriptor)));
  if (held == nullptr || napi_get_instance_data(env, &data) != napi_ok || data == nullptr ||
      napi_get_reference_value(env, static_cast<InstanceData*>(data)->file_class, &file_class) !=
          napi_ok ||
      napi_new_instance(env, file_class, 0, nullptr, &file) != napi_ok ||
      napi_wrap(env, file, held.get(), DeleteHeld, nullptr, nullptr) != napi_ok) {
    return nullptr;
  }
  held.release();
  return napi_type_tag_object(env, file, &kTag) == napi_ok ? file : nullptr;
}

napi_value NativeOpenOf(napi_env env, Opened opened) {
  Record record(env);
  record.Number("errno", opened.error);
  if (opened.error == 0) record.Value("file", NewNativeFile(env, std::move(opened.descriptor)));
  return record.value();
}

bool DescriptorOf(napi_env env, napi_value value, Descriptor* descriptor) {
  const Descriptor* held = HeldBy(env, value);
  if (held == nullptr) return false;
  *descriptor = *held;
  return true;
}

#endif
