// What this host offers: its cores and memory, cut into devices. One rank runs on one device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "weft/v1/worker.pb.h"
#include "worker/agent/nvml.h"

namespace weft::worker {

struct HostResources {
  int cores = 1;             // that this process may use: affinity and the limit of its cgroup
  int64_t memory_bytes = 0;  // that it may use: of the machine, or the limit of its cgroup
  std::string cpu_model;     // "AMD EPYC 9654"; empty when the system does not tell
};

// Looks at the machine. `root` is "/" except in tests.
HostResources FindHostResources(const std::string& root = "/");

// CPU devices for `threads` threads (0: one for each core), spread as evenly as possible. Device i
// has index i. kInvalidArgument for fewer threads than devices, or no device.
absl::StatusOr<std::vector<v1::Device>> CutIntoDevices(const HostResources& host, int devices,
                                                       int threads, absl::string_view device_class);

// A device for each GPU, in their order, with an even part of `threads` (0: one for each core); the
// host's memory is not cut. kFailedPrecondition for GPUs of several architectures: a worker's
// devices are of one class.
absl::StatusOr<std::vector<v1::Device>> GpuDevices(const HostResources& host,
                                                   const std::vector<Gpu>& gpus, int threads);

// What the operator asked for: "cpu", "gpu", or "auto": GPUs where there are any and kernels
// for them.
struct DeviceChoice {
  std::string kind = "auto";
  int devices = 1;    // of a CPU worker: as which its cores are offered
  int threads = 0;    // 0: one for each core
  bool cuda = false;  // these programs were built with CUDA
};

struct ChosenDevices {
  std::vector<v1::Device> devices;
  std::string why;  // one sentence for the log
};

// `gpus`: what NVML lists of the visible ones, or why there is nothing.
absl::StatusOr<ChosenDevices> ChooseDevices(const HostResources& host,
                                            const absl::StatusOr<std::vector<Gpu>>& gpus,
                                            const DeviceChoice& choice,
                                            absl::string_view cpu_class);

}  // namespace weft::worker
