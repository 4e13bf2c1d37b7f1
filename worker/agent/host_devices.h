// What this host offers: its cores and memory, cut into devices. One rank runs on one device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "weft/v1/worker.pb.h"

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

}  // namespace weft::worker
