#include "kernels/device/cpu/cpu_device.h"

#include <dnnl.h>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/cpu/cpu_stream.h"
#include "kernels/device/host_buffer.h"

namespace weft::kernels {
namespace {

absl::string_view DeviceClassOf(InstructionSet set) {
  switch (set) {
    case InstructionSet::kSse2:
      return "cpu-sse2";
    case InstructionSet::kAvx2:
      return "cpu-avx2";
    case InstructionSet::kAvx512:
      return "cpu-avx512";
  }
  return "?";
}

dnnl_cpu_isa_t LibraryNameOf(InstructionSet set) {
  switch (set) {
    case InstructionSet::kSse2:
      return dnnl_cpu_isa_sse41;  // its lowest
    case InstructionSet::kAvx2:
      return dnnl_cpu_isa_avx2;
    case InstructionSet::kAvx512:
      return dnnl_cpu_isa_avx512_core;
  }
  return dnnl_cpu_isa_sse41;
}

// The matrix library takes one instruction set for the life of the process: the first device's.
absl::Status LimitLibraryTo(InstructionSet set) {
  static absl::Mutex mutex;
  static std::optional<InstructionSet> chosen;
  absl::MutexLock lock(&mutex);
  if (chosen == set) return absl::OkStatus();
  if (chosen.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this process computes with ", NameOf(*chosen), ", not with ", NameOf(set)));
  }
  if (dnnl_set_max_cpu_isa(LibraryNameOf(set)) != dnnl_success) {
    return absl::FailedPreconditionError("the matrix library has already chosen its vector units");
  }
  chosen = set;
  return absl::OkStatus();
}

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, InstructionSet set)
      : set_(set), vector_(VectorTableFor(set)), pool_(threads) {}

  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kCpu; }
  [[nodiscard]] DType compute_dtype() const override { return DType::kF32; }
  [[nodiscard]] absl::string_view device_class() const override { return DeviceClassOf(set_); }
  absl::StatusOr<std::unique_ptr<Stream>> NewStream() override {
    return std::make_unique<CpuStream>(*this, pool_, vector_);
  }
  absl::StatusOr<std::shared_ptr<Buffer>> Allocate(int64_t bytes) override {
    return NewHostBuffer(*this, bytes);
  }
  absl::Status CopyToHost(void* to, const Tensor& from, Stream& /*stream*/) override {
    return CopyOutOfHostBuffer(to, from, *this);
  }
  absl::Status CopyFromHost(Tensor& to, const void* from, Stream& /*stream*/) override {
    return CopyIntoHostBuffer(to, from, *this);
  }

 private:
  const InstructionSet set_;
  const VectorTable& vector_;
  ThreadPool pool_;
};

}  // namespace

CpuStream& AsCpuStream(Stream& stream) {
  WEFT_CHECK(stream.device().kind() == DeviceKind::kCpu);
  return static_cast<CpuStream&>(stream);
}

absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const CpuOptions& options) {
  if (options.threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a CPU device of ", options.threads, " threads"));
  }
  const InstructionSet best = BestInstructionSet();
  const InstructionSet set = options.isa.value_or(best);
  if (set > best) {
    return absl::InvalidArgumentError(
        absl::StrCat("this machine has no ", NameOf(set), "; its best is ", NameOf(best)));
  }
  WEFT_RETURN_IF_ERROR(LimitLibraryTo(set));
  return std::make_unique<CpuDevice>(options.threads, set);
}

}  // namespace weft::kernels
