#include "worker/agent/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

// The library's binary interface, as far as it is used here.
using Code = int;  // 0: success
using Handle = void*;
struct Memory {
  unsigned long long total, free, used;  // NOLINT(google-runtime-int): as the library has it
};
struct Utilization {
  unsigned gpu, memory;  // per cent
};
constexpr size_t kTextBytes = 96;  // of a name or a uuid

}  // namespace

struct Nvml::Functions {
  Code (*init)();
  Code (*shutdown)();
  const char* (*error)(Code);
  Code (*count)(unsigned*);
  Code (*handle)(unsigned, Handle*);
  Code (*handle_by_uuid)(const char*, Handle*);
  Code (*name)(Handle, char*, unsigned);
  Code (*uuid)(Handle, char*, unsigned);
  Code (*memory)(Handle, Memory*);
  Code (*utilization)(Handle, Utilization*);
  Code (*capability)(Handle, int*, int*);
  Code (*cores)(Handle, unsigned*);
  bool initialized = false;

  absl::Status Check(Code code, absl::string_view call) const {
    if (code == 0) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("NVML: ", call, ": ", error(code)));
  }
};

namespace {

// Looks all functions up; the error names the first that is missing.
template <typename Function>
absl::Status Bind(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("NVML has no ", name));
}

// For fp32, CUDA C++ Programming Guide, "Compute Capabilities": 64 in 8.0, 128 in all that are
// newer.
int CoresOfMultiprocessor(int major, int minor) { return major == 8 && minor == 0 ? 64 : 128; }

}  // namespace

Nvml::Nvml(void* library) : library_(library), functions_(std::make_unique<Functions>()) {}

Nvml::~Nvml() {
  if (functions_->initialized) functions_->shutdown();
  dlclose(library_);
}

absl::StatusOr<std::unique_ptr<Nvml>> Nvml::Open(const std::string& library) {
  void* opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) {
    return absl::UnavailableError(absl::StrCat("no NVIDIA driver: ", dlerror()));
  }
  auto nvml = absl::WrapUnique(new Nvml(opened));
  Functions& f = *nvml->functions_;
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlInit_v2", f.init));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlShutdown", f.shutdown));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlErrorString", f.error));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetCount_v2", f.count));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetHandleByIndex_v2", f.handle));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetHandleByUUID", f.handle_by_uuid));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetName", f.name));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetUUID", f.uuid));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetMemoryInfo", f.memory));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetUtilizationRates", f.utilization));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetCudaComputeCapability", f.capability));
  WEFT_RETURN_IF_ERROR(Bind(opened, "nvmlDeviceGetNumGpuCores", f.cores));
  WEFT_RETURN_IF_ERROR(f.Check(f.init(), "nvmlInit_v2"));
  f.initialized = true;
  return nvml;
}

absl::StatusOr<std::vector<Gpu>> Nvml::Gpus() {
  const Functions& f = *functions_;
  unsigned count = 0;
  WEFT_RETURN_IF_ERROR(f.Check(f.count(&count), "nvmlDeviceGetCount_v2"));
  std::vector<Gpu> gpus;
  for (unsigned i = 0; i < count; ++i) {
    Gpu gpu;
    Handle handle = nullptr;
    std::array<char, kTextBytes> text{};
    Memory memory{};
    WEFT_RETURN_IF_ERROR(f.Check(f.handle(i, &handle), "nvmlDeviceGetHandleByIndex_v2"));
    WEFT_RETURN_IF_ERROR(f.Check(f.uuid(handle, text.data(), kTextBytes), "nvmlDeviceGetUUID"));
    gpu.uuid = text.data();
    WEFT_RETURN_IF_ERROR(f.Check(f.name(handle, text.data(), kTextBytes), "nvmlDeviceGetName"));
    gpu.model = text.data();
    WEFT_RETURN_IF_ERROR(f.Check(f.memory(handle, &memory), "nvmlDeviceGetMemoryInfo"));
    gpu.memory_bytes = static_cast<int64_t>(memory.total);
    WEFT_RETURN_IF_ERROR(f.Check(f.capability(handle, &gpu.major, &gpu.minor),
                                 "nvmlDeviceGetCudaComputeCapability"));
    unsigned cores = 0;
    WEFT_RETURN_IF_ERROR(f.Check(f.cores(handle, &cores), "nvmlDeviceGetNumGpuCores"));
    gpu.multiprocessors = static_cast<int>(cores) / CoresOfMultiprocessor(gpu.major, gpu.minor);
    gpus.push_back(std::move(gpu));
  }
  return gpus;
}

absl::StatusOr<GpuUse> Nvml::Use(const std::string& uuid) {
  const Functions& f = *functions_;
  Handle handle = nullptr;
  if (f.handle_by_uuid(uuid.c_str(), &handle) != 0) {
    return absl::NotFoundError(absl::StrCat("NVML knows no GPU ", uuid));
  }
  Memory memory{};
  Utilization utilization{};
  WEFT_RETURN_IF_ERROR(f.Check(f.memory(handle, &memory), "nvmlDeviceGetMemoryInfo"));
  WEFT_RETURN_IF_ERROR(
      f.Check(f.utilization(handle, &utilization), "nvmlDeviceGetUtilizationRates"));
  return GpuUse{.memory_used_bytes = static_cast<int64_t>(memory.used),
                .busy = utilization.gpu / 100.0};
}

std::vector<Gpu> VisibleGpus(const std::vector<Gpu>& gpus, const char* visible) {
  if (visible == nullptr) return gpus;
  std::vector<Gpu> chosen;
  for (const absl::string_view entry : absl::StrSplit(visible, ',')) {
    const absl::string_view name = absl::StripAsciiWhitespace(entry);
    size_t index = 0;
    auto found = gpus.end();
    if (absl::SimpleAtoi(name, &index)) {
      if (index < gpus.size()) found = gpus.begin() + static_cast<std::ptrdiff_t>(index);
    } else if (!name.empty()) {
      found = std::find_if(gpus.begin(), gpus.end(),
                           [name](const Gpu& gpu) { return absl::StartsWith(gpu.uuid, name); });
    }
    if (found == gpus.end()) break;
    chosen.push_back(*found);
  }
  return chosen;
}

}  // namespace weft::worker
