#pragma once

#include <napi.h>

// What the host's KVM says about the HTAB fd:
//   { supported: boolean, ioctl: number, errno: number, apiVersion: number, extension: number }
// `ioctl` is KVM_PPC_GET_HTAB_FD as this platform's headers make it, which is ppc64's only there.
// `supported` is false where there is no KVM to ask (not Linux). `errno` is that of opening
// /dev/kvm, 0 when it was opened; the rest is only meaningful then.
Napi::Value Probe(const Napi::CallbackInfo& info);
