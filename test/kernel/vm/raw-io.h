#pragma once

#include <napi.h>

Napi::Value Read(const Napi::CallbackInfo& info);
Napi::Value PositionedRead(const Napi::CallbackInfo& info);
Napi::Value Write(const Napi::CallbackInfo& info);
Napi::Value Seek(const Napi::CallbackInfo& info);
Napi::Value StatusFlags(const Napi::CallbackInfo& info);
Napi::Value DescriptorFlags(const Napi::CallbackInfo& info);
Napi::Value Link(const Napi::CallbackInfo& info);
Napi::Value Close(const Napi::CallbackInfo& info);
