#pragma once

#include <napi.h>

Napi::Value StartVcpu(const Napi::CallbackInfo& info);
Napi::Value StopVcpu(const Napi::CallbackInfo& info);
