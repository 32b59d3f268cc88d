#include "machine.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstring>

#include "result.h"

// The ioctls of /dev/kvm and of a VM fd. For ppc64 only: elsewhere their numbers are others.

Napi::Value OpenKvm(const Napi::CallbackInfo& info) {
  return Result(info.Env(), open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

Napi::Value CreateVm(const Napi::CallbackInfo& info) {
  const unsigned long type = info[1].As<Napi::Number>().Uint32Value();
  return Result(info.Env(), ioctl(Descriptor(info[0]), KVM_CREATE_VM, type));
}

Napi::Value CheckExtension(const Napi::CallbackInfo& info) {
  const unsigned long extension = info[1].As<Napi::Number>().Uint32Value();
  return Result(info.Env(), ioctl(Descriptor(info[0]), KVM_CHECK_EXTENSION, extension));
}

// The ioctl answers with an order of its own choice where `order` is 0.
Napi::Value AllocateHtab(const Napi::CallbackInfo& info) {
  uint32_t order = info[1].As<Napi::Number>().Uint32Value();
  Napi::Object result =
      Result(info.Env(), ioctl(Descriptor(info[0]), KVM_PPC_ALLOCATE_HTAB, &order));
  result.Set("order", order);
  return result;
}

// (vm, slot, base, size, hugePages, touch). Size 0 removes the slot.
Napi::Value SetMemory(const Napi::CallbackInfo& info) {
  constexpr size_t kHugePage = 16 * 1024 * 1024;
  const size_t size = Length(info[3]);
  const bool huge = info[4].ToBoolean();
  const auto region = Region::Map(size, huge ? kHugePage : Region::kPage);
  if (region == nullptr) return Result(info.Env(), -1);
  if (size > 0) madvise(region->bytes(), region->size(), huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  if (info[5].ToBoolean()) memset(region->bytes(), 0, region->size());
  kvm_userspace_memory_region slot = {};
  slot.slot = info[1].As<Napi::Number>().Uint32Value();
  slot.guest_phys_addr = Unsigned64(info[2]);
  slot.memory_size = size;
  slot.userspace_addr = reinterpret_cast<uint64_t>(region->bytes());
  Napi::Object result =
      Result(info.Env(), ioctl(Descriptor(info[0]), KVM_SET_USER_MEMORY_REGION, &slot));
  auto* held = new std::shared_ptr<Region>(region);
  result.Set("memory",
             RegionHandle::New(info.Env(), held,
                               [](Napi::Env, std::shared_ptr<Region>* data) { delete data; }));
  return result;
}

Napi::Value ConfigureV3Mmu(const Napi::CallbackInfo& info) {
  kvm_ppc_mmuv3_cfg configuration = {};
  configuration.flags = Unsigned64(info[1]);
  configuration.process_table = Unsigned64(info[2]);
  return Result(info.Env(),
                ioctl(Descriptor(info[0]), KVM_PPC_CONFIGURE_V3_MMU, &configuration));
}

// (vm, flags, startIndex, reserved0, reserved1); only (vm) passes a pointer to nothing.
Napi::Value GetHtabFd(const Napi::CallbackInfo& info) {
  const int vm = Descriptor(info[0]);
  if (info.Length() == 1) {
    const auto empty = Region::Map(0);
    if (empty == nullptr) return Result(info.Env(), -1);
    return Result(info.Env(), ioctl(vm, KVM_PPC_GET_HTAB_FD, empty->bytes()));
  }
  kvm_get_htab_fd request = {};
  request.flags = Unsigned64(info[1]);
  request.start_index = Unsigned64(info[2]);
  request.reserved[0] = Unsigned64(info[3]);
  request.reserved[1] = Unsigned64(info[4]);
  return Result(info.Env(), ioctl(vm, KVM_PPC_GET_HTAB_FD, &request));
}
