#pragma once

#include <napi.h>

Napi::Value ServeFd(const Napi::CallbackInfo& info);
