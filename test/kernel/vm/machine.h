#pragma once

#include <napi.h>

#include <memory>

#include "region.h"

// What JavaScript holds of memory: it is unmapped when that is collected.
using RegionHandle = Napi::External<std::shared_ptr<Region>>;

Napi::Value OpenKvm(const Napi::CallbackInfo& info);
Napi::Value CreateVm(const Napi::CallbackInfo& info);
Napi::Value CheckExtension(const Napi::CallbackInfo& info);
Napi::Value AllocateHtab(const Napi::CallbackInfo& info);
Napi::Value SetMemory(const Napi::CallbackInfo& info);
Napi::Value ConfigureV3Mmu(const Napi::CallbackInfo& info);
Napi::Value GetHtabFd(const Napi::CallbackInfo& info);
