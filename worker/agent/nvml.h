// What NVIDIA's management library (NVML) says of this host's GPUs. It belongs to the driver and is
// opened when the program runs, so an agent needs no CUDA to be built or to run without GPUs.
// Functions and their meaning: NVML API reference, "Device Queries".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace weft::worker {

struct Gpu {
  std::string uuid;   // "GPU-5f1c...": names it to CUDA, whatever the order of devices
  std::string model;  // "NVIDIA H200"
  int major = 0;      // compute capability: 9.0 is major 9, minor 0
  int minor = 0;
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
};

struct GpuUse {
  int64_t memory_used_bytes = 0;  // by all processes
  double busy = 0;                // share of the last sampling period in which a kernel ran, 0 to 1
};

// One thread at a time.
class Nvml {
 public:
  static constexpr char kLibrary[] = "libnvidia-ml.so.1";

  // kUnavailable, with the reason, where there is no such library or no driver. "": functions of
  // that name in this program itself, for tests.
  static absl::StatusOr<std::unique_ptr<Nvml>> Open(const std::string& library = kLibrary);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // In the library's order. kUnavailable when the driver stops answering.
  absl::StatusOr<std::vector<Gpu>> Gpus();
  // kNotFound for an unknown GPU; kUnavailable when the driver does not give the figures.
  absl::StatusOr<GpuUse> Use(const std::string& uuid);

 private:
  struct Functions;
  explicit Nvml(void* library);

  void* library_;
  std::unique_ptr<Functions> functions_;
};

// The GPUs that a program started with this value of CUDA_VISIBLE_DEVICES may use, in its order:
// numbers or beginnings of uuids, separated by commas; as CUDA does, what follows the first entry
// that names none is dropped. `visible` null: all of them.
std::vector<Gpu> VisibleGpus(const std::vector<Gpu>& gpus, const char* visible);

}  // namespace weft::worker
