#include <napi.h>

#include "machine.h"
#include "raw-io.h"
#include "socket.h"
#include "vcpu.h"

// For tests on a real kernel: makes VMs of KVM and does to an HTAB fd what a well-behaved program does
// not. Arguments are not checked; test/kernel/vm.ts is what calls it.

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("openKvm", OpenKvm);
  add("createVm", CreateVm);
  add("checkExtension", CheckExtension);
  add("allocateHtab", AllocateHtab);
  add("setMemory", SetMemory);
  add("configureV3Mmu", ConfigureV3Mmu);
  add("getHtabFd", GetHtabFd);
  add("startVcpu", StartVcpu);
  add("stopVcpu", StopVcpu);
  add("read", Read);
  add("pread", PositionedRead);
  add("write", Write);
  add("lseek", Seek);
  add("statusFlags", StatusFlags);
  add("descriptorFlags", DescriptorFlags);
  add("link", Link);
  add("close", Close);
  add("serveFd", ServeFd);
  return exports;
}

NODE_API_MODULE(spapr_htab_vm, Init)
