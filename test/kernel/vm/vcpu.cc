#include "vcpu.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>

#include "machine.h"
#include "result.h"

namespace {

constexpr uint64_t kCode = 0x100;
constexpr uint64_t kCounter = 0x200;
// MSR of a little-endian program in 64-bit mode without translation and interrupts (Power ISA 3.0
// Book III 4.2.1).
constexpr uint64_t kMsr = uint64_t{1} << 63 | 1;
// Counts for ever, so that its memory shows that it runs.
constexpr uint32_t kProgram[] = {
    0x38630001,  // addi r3,r3,1
    0xF8640000,  // std r3,0(r4)
    0x4BFFFFF8,  // b back to the first
};

void Ignore(int) {}

// A vCPU that a thread of its own keeps running until it is stopped.
class Vcpu {
 public:
  explicit Vcpu(std::shared_ptr<Region> memory) : memory_(std::move(memory)) {}
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;
  ~Vcpu() {
    Stop();
    if (run_ != nullptr) munmap(run_, run_size_);
    if (fd_ >= 0) close(fd_);
  }

  // False with errno set. Returns when the guest's program has counted.
  bool Start(int kvm, int vm) {
    fd_ = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (fd_ < 0) return false;
    const int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < 0) return false;
    void* run = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (run == MAP_FAILED) return false;
    run_ = static_cast<kvm_run*>(run);
    run_size_ = size;
    if (!Prepare()) return false;
    struct sigaction action = {};
    // Not with SA_RESTART: the signal is to end KVM_RUN.
    action.sa_handler = Ignore;
    if (sigaction(Signal(), &action, nullptr) != 0) return false;
    const int error = pthread_create(&thread_, nullptr, Enter, this);
    if (error != 0) {
      errno = error;
      return false;
    }
    running_ = true;
    return Counts();
  }

  void Stop() {
    if (!running_) return;
    stop_ = true;
    // Wherever the thread is: a KVM_RUN that begins after this ends at once.
    __atomic_store_n(&run_->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(thread_, Signal());
    pthread_join(thread_, nullptr);
    running_ = false;
  }

  // What KVM_RUN ended with.
  int error() const { return error_; }
  uint32_t exit_reason() const { return run_->exit_reason; }
  uint64_t count() const {
    const auto* counter = reinterpret_cast<const uint64_t*>(memory_->bytes() + kCounter);
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
  }

 private:
  // Node uses SIGUSR1.
  static int Signal() { return SIGRTMIN + 3; }

  static void* Enter(void* vcpu) {
    static_cast<Vcpu*>(vcpu)->Run();
    return nullptr;
  }

  bool Prepare() {
    if (memory_->size() < Region::kPage) {
      errno = EINVAL;
      return false;
    }
    memset(memory_->bytes(), 0, Region::kPage);
    memcpy(memory_->bytes() + kCode, kProgram, sizeof kProgram);
    // HV KVM runs guests of PAPR only (kvmppc_sanity_check of arch/powerpc/kvm/powerpc.c).
    kvm_enable_cap papr = {};
    papr.cap = KVM_CAP_PPC_PAPR;
    if (ioctl(fd_, KVM_ENABLE_CAP, &papr) != 0) return false;
    kvm_regs registers = {};
    registers.pc = kCode;
    registers.msr = kMsr;
    registers.gpr[4] = kCounter;
    return ioctl(fd_, KVM_SET_REGS, &registers) == 0;
  }

  void Run() {
    while (!stop_) {
      if (ioctl(fd_, KVM_RUN, 0) == 0) return;
      if (errno != EINTR) {
        error_ = errno;
        return;
      }
    }
    error_ = EINTR;
  }

  bool Counts() {
    constexpr timespec kPause = {0, 5'000'000};
    for (int i = 0; i < 4000; i++) {
      if (count() > 0) return true;
      if (error_ != 0) {
        errno = error_;
        return false;
      }
      nanosleep(&kPause, nullptr);
    }
    errno = ETIME;
    return false;
  }

  std::shared_ptr<Region> memory_;
  int fd_ = -1;
  kvm_run* run_ = nullptr;
  size_t run_size_ = 0;
  pthread_t thread_ = {};
  bool running_ = false;
  std::atomic<bool> stop_{false};
  std::atomic<int> error_{0};
};

}  // namespace

// (kvm, vm, memory of the slot at 0). The vCPU runs until it is stopped or collected.
Napi::Value StartVcpu(const Napi::CallbackInfo& info) {
  const auto memory = info[2].As<RegionHandle>();
  auto vcpu = std::make_unique<Vcpu>(*memory.Data());
  const bool started = vcpu->Start(Descriptor(info[0]), Descriptor(info[1]));
  Napi::Object result = Result(info.Env(), started ? 0 : -1);
  if (started) {
    result.Set("vcpu", Napi::External<Vcpu>::New(info.Env(), vcpu.release(),
                                                 [](Napi::Env, Vcpu* data) { delete data; }));
  }
  return result;
}

// What KVM_RUN ended with is not a failure of stopping it: the result is 0.
Napi::Value StopVcpu(const Napi::CallbackInfo& info) {
  Vcpu* vcpu = info[0].As<Napi::External<Vcpu>>().Data();
  const uint64_t before = vcpu->count();
  vcpu->Stop();
  Napi::Object result = Result(info.Env(), 0);
  result.Set("ended", vcpu->error());
  result.Set("exitReason", vcpu->exit_reason());
  result.Set("rounds", Napi::BigInt::New(info.Env(), before));
  return result;
}
