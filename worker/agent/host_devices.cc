#include "worker/agent/host_devices.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

// More than the fixed set of the C library holds: there are machines with more cores.
constexpr int kMaxCores = 8192;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<int64_t> ReadNumber(const std::string& path) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(ReadFile(path)), &number)) return std::nullopt;
  return number;
}

// The value behind "key : value" or "key: value kB" of the files under /proc.
std::string FieldOf(const std::string& path, absl::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::pair<absl::string_view, absl::string_view> field =
        absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (absl::StripAsciiWhitespace(field.first) == key) {
      return std::string(absl::StripAsciiWhitespace(field.second));
    }
  }
  return "";
}

// The folders of this process's cgroup (version 2) and all above it: each of them may set limits.
std::vector<std::string> CgroupFolders(const std::string& root) {
  const std::string base = absl::StrCat(root, "sys/fs/cgroup");
  std::vector<std::string> folders = {base};
  std::ifstream file(absl::StrCat(root, "proc/self/cgroup"));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    std::string folder = base;
    for (absl::string_view part : absl::StrSplit(line.substr(3), '/', absl::SkipEmpty())) {
      absl::StrAppend(&folder, "/", part);
      folders.push_back(folder);
    }
  }
  return folders;
}

// cpu.max: "200000 100000" is two cores, "max 100000" no limit.
double CoreLimitV2(const std::string& folder) {
  const std::string text = ReadFile(absl::StrCat(folder, "/cpu.max"));
  const std::vector<std::string> parts = absl::StrSplit(text, absl::ByAnyChar(" \n"));
  double quota = 0;
  double period = 0;
  if (parts.size() < 2 || !absl::SimpleAtod(parts[0], &quota) ||
      !absl::SimpleAtod(parts[1], &period) || period <= 0) {
    return std::numeric_limits<double>::infinity();
  }
  return quota / period;
}

double CoreLimitV1(const std::string& root) {
  const std::string folder = absl::StrCat(root, "sys/fs/cgroup/cpu/");
  const std::optional<int64_t> quota = ReadNumber(absl::StrCat(folder, "cpu.cfs_quota_us"));
  const std::optional<int64_t> period = ReadNumber(absl::StrCat(folder, "cpu.cfs_period_us"));
  if (!quota || !period || *quota <= 0 || *period <= 0) {
    return std::numeric_limits<double>::infinity();
  }
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

int CoresByAffinity() {
  cpu_set_t* set = CPU_ALLOC(kMaxCores);
  const size_t bytes = CPU_ALLOC_SIZE(kMaxCores);
  CPU_ZERO_S(bytes, set);
  const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 1;
  CPU_FREE(set);
  return std::max(1, count);
}

// Libraries and kernels cut their sums by the number of multiprocessors, so it decides bits too.
std::string ClassOf(const Gpu& gpu) {
  return absl::StrCat("cuda-sm", gpu.major, gpu.minor, "-", gpu.multiprocessors);
}

}  // namespace

HostResources FindHostResources(const std::string& root) {
  HostResources host;
  double cores = CoresByAffinity();
  int64_t memory = std::numeric_limits<int64_t>::max();
  int64_t kibibytes = 0;
  const std::string total = FieldOf(absl::StrCat(root, "proc/meminfo"), "MemTotal");
  if (absl::SimpleAtoi(total.substr(0, total.find(' ')), &kibibytes)) memory = kibibytes << 10;
  for (const std::string& folder : CgroupFolders(root)) {
    cores = std::min(cores, CoreLimitV2(folder));
    memory = std::min(memory, ReadNumber(absl::StrCat(folder, "/memory.max")).value_or(memory));
  }
  cores = std::min(cores, CoreLimitV1(root));
  const std::string v1 = absl::StrCat(root, "sys/fs/cgroup/memory/memory.limit_in_bytes");
  memory = std::min(memory, ReadNumber(v1).value_or(memory));
  // Half a core's worth is still a thread's; 1.5 cores carry one thread at full speed.
  host.cores = std::max(1, static_cast<int>(std::floor(cores)));
  host.memory_bytes = memory == std::numeric_limits<int64_t>::max() ? 0 : memory;
  host.cpu_model = FieldOf(absl::StrCat(root, "proc/cpuinfo"), "model name");
  return host;
}

absl::StatusOr<std::vector<v1::Device>> CutIntoDevices(const HostResources& host, int devices,
                                                       int threads,
                                                       absl::string_view device_class) {
  const int all = threads == 0 ? host.cores : threads;
  if (devices < 1 || threads < 0 || all < devices) {
    return absl::InvalidArgumentError(
        absl::StrCat(devices, " devices with ", all,
                     " threads: there must be at least one device, and a thread for each"));
  }
  std::vector<v1::Device> cut;
  for (int i = 0; i < devices; ++i) {
    v1::Device device;
    device.set_kind(v1::DEVICE_KIND_CPU);
    device.set_device_class(std::string(device_class));
    device.set_index(i);
    device.set_threads(all / devices + (i < all % devices ? 1 : 0));
    device.set_memory_bytes(host.memory_bytes / devices);
    device.set_model(host.cpu_model);
    cut.push_back(std::move(device));
  }
  return cut;
}

absl::StatusOr<std::vector<v1::Device>> GpuDevices(const HostResources& host,
                                                   const std::vector<Gpu>& gpus, int threads) {
  const int all = threads == 0 ? host.cores : threads;
  const auto count = static_cast<int>(gpus.size());
  std::vector<v1::Device> devices;
  for (int i = 0; i < count; ++i) {
    const Gpu& gpu = gpus[static_cast<size_t>(i)];
    if (ClassOf(gpu) != ClassOf(gpus[0])) {
      return absl::FailedPreconditionError(absl::StrCat(
          "GPUs whose results may differ, ", gpus[0].model, " and ", gpu.model,
          ": run a worker for each of them, with CUDA_VISIBLE_DEVICES naming its own"));
    }
    v1::Device device;
    device.set_kind(v1::DEVICE_KIND_GPU);
    device.set_device_class(ClassOf(gpu));
    device.set_index(i);
    device.set_threads(std::max(1, all / count + (i < all % count ? 1 : 0)));
    device.set_memory_bytes(gpu.memory_bytes);
    device.set_model(gpu.model);
    device.set_uuid(gpu.uuid);
    devices.push_back(std::move(device));
  }
  return devices;
}

absl::StatusOr<ChosenDevices> ChooseDevices(const HostResources& host,
                                            const absl::StatusOr<std::vector<Gpu>>& gpus,
                                            const DeviceChoice& choice,
                                            absl::string_view cpu_class) {
  std::string lacks;
  if (!choice.cuda) {
    lacks = "these programs were built without CUDA";
  } else if (!gpus.ok()) {
    lacks = std::string(gpus.status().message());
  } else if (gpus->empty()) {
    lacks = "there is no visible GPU";
  }
  if (choice.kind == "gpu" && !lacks.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("--device gpu: ", lacks));
  }
  ChosenDevices chosen;
  if (choice.kind == "cpu" || !lacks.empty()) {
    WEFT_ASSIGN_OR_RETURN(chosen.devices,
                          CutIntoDevices(host, choice.devices, choice.threads, cpu_class));
    chosen.why = absl::StrCat("offers cores: ", choice.kind == "cpu" ? "--device cpu" : lacks);
    return chosen;
  }
  WEFT_ASSIGN_OR_RETURN(chosen.devices, GpuDevices(host, *gpus, choice.threads));
  chosen.why = absl::StrCat("offers ", gpus->size(), " GPU(s): ", gpus->front().model);
  return chosen;
}

}  // namespace weft::worker
