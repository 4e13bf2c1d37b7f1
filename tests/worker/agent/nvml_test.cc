// The agent's GPUs: what it takes over from the management library, and what it offers then. The
// library is played by functions of this program with the real names (it is linked with -rdynamic).
#include "worker/agent/nvml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/testing/status_matchers.h"
#include "worker/agent/host_devices.h"

namespace {

struct Board {
  const char* uuid;
  const char* name;
  int major;
  int minor;
  unsigned cores;
};
// What the "driver" has at the moment.
std::vector<Board> boards;   // NOLINT(cert-err58-cpp)
int init_result = 0;         // of nvmlInit_v2
int utilization_result = 0;  // of nvmlDeviceGetUtilizationRates
int initializations = 0;     // that were not shut down

constexpr int kNotFound = 6;
constexpr int kLost = 15;

}  // namespace

extern "C" {
int nvmlInit_v2() {
  if (init_result == 0) ++initializations;
  return init_result;
}
int nvmlShutdown() {
  --initializations;
  return 0;
}
const char* nvmlErrorString(int code) { return code == kLost ? "GPU is lost" : "Not Found"; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(boards.size());
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  *handle = &boards.at(index);
  return 0;
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  for (Board& board : boards) {
    if (std::strcmp(board.uuid, uuid) == 0) {
      *handle = &board;
      return 0;
    }
  }
  return kNotFound;
}
int nvmlDeviceGetName(void* handle, char* text, unsigned bytes) {
  std::snprintf(text, bytes, "%s", static_cast<Board*>(handle)->name);
  return 0;
}
int nvmlDeviceGetUUID(void* handle, char* text, unsigned bytes) {
  std::snprintf(text, bytes, "%s", static_cast<Board*>(handle)->uuid);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* /*handle*/, uint64_t* total_free_used) {
  total_free_used[0] = 1000;
  total_free_used[1] = 600;
  total_free_used[2] = 400;
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* /*handle*/, unsigned* gpu_memory) {
  gpu_memory[0] = 75;
  gpu_memory[1] = 10;
  return utilization_result;
}
int nvmlDeviceGetCudaComputeCapability(void* handle, int* major, int* minor) {
  *major = static_cast<Board*>(handle)->major;
  *minor = static_cast<Board*>(handle)->minor;
  return 0;
}
int nvmlDeviceGetNumGpuCores(void* handle, unsigned* cores) {
  *cores = static_cast<Board*>(handle)->cores;
  return 0;
}
}

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using weft::testing::StatusIs;

class NvmlTest : public ::testing::Test {
 protected:
  NvmlTest() {
    boards = {{"GPU-aa1", "NVIDIA H200", 9, 0, 16896}, {"GPU-bb2", "NVIDIA A100", 8, 0, 6912}};
    init_result = 0;
    utilization_result = 0;
  }
  ~NvmlTest() override { EXPECT_EQ(initializations, 0); }
};

std::vector<std::string> Uuids(const std::vector<Gpu>& gpus) {
  std::vector<std::string> uuids;
  uuids.reserve(gpus.size());
  for (const Gpu& gpu : gpus) uuids.push_back(gpu.uuid);
  return uuids;
}

TEST_F(NvmlTest, ListsWhatTheDriverHas) {
  ASSERT_OK_AND_ASSIGN(const auto nvml, Nvml::Open(""));
  ASSERT_OK_AND_ASSIGN(const std::vector<Gpu> gpus, nvml->Gpus());
  ASSERT_THAT(Uuids(gpus), ElementsAre("GPU-aa1", "GPU-bb2"));
  EXPECT_EQ(gpus[0].multiprocessors, 132);
  EXPECT_EQ(gpus[1].model, "NVIDIA A100");
  EXPECT_EQ(gpus[1].major, 8);
  EXPECT_EQ(gpus[1].multiprocessors, 108);
  EXPECT_EQ(gpus[1].memory_bytes, 1000);
}

TEST_F(NvmlTest, TellsUse) {
  ASSERT_OK_AND_ASSIGN(const auto nvml, Nvml::Open(""));
  ASSERT_OK_AND_ASSIGN(const GpuUse use, nvml->Use("GPU-bb2"));
  EXPECT_EQ(use.memory_used_bytes, 400);
  EXPECT_DOUBLE_EQ(use.busy, 0.75);
  EXPECT_THAT(nvml->Use("GPU-cc"), StatusIs(absl::StatusCode::kNotFound));
  utilization_result = kLost;
  EXPECT_THAT(nvml->Use("GPU-bb2"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("GPU is lost")));
}

TEST_F(NvmlTest, SaysWhyThereIsNone) {
  EXPECT_THAT(Nvml::Open("libno-such-driver.so.1"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("libno-such-driver.so.1")));
  init_result = kLost;
  EXPECT_THAT(Nvml::Open(""), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nvmlInit_v2")));
}

TEST(VisibleGpusTest, FollowsCuda) {
  std::vector<Gpu> gpus(3);
  gpus[0].uuid = "GPU-aa1";
  gpus[1].uuid = "GPU-bb2";
  gpus[2].uuid = "GPU-cc3";
  EXPECT_THAT(VisibleGpus(gpus, nullptr), SizeIs(3));
  EXPECT_THAT(VisibleGpus(gpus, ""), IsEmpty());
  EXPECT_THAT(Uuids(VisibleGpus(gpus, "2, 0")), ElementsAre("GPU-cc3", "GPU-aa1"));
  EXPECT_THAT(Uuids(VisibleGpus(gpus, "GPU-bb,0")), ElementsAre("GPU-bb2", "GPU-aa1"));
  EXPECT_THAT(Uuids(VisibleGpus(gpus, "1,7,0")), ElementsAre("GPU-bb2")) << "7 names none";
  EXPECT_THAT(VisibleGpus(gpus, "-1"), IsEmpty());
}

// --- what the agent offers
// ------------------------------------------------------------------------

const std::vector<Gpu> kTwo = {  // NOLINT(cert-err58-cpp)
    {.uuid = "GPU-aa1",
     .model = "NVIDIA H200",
     .major = 9,
     .multiprocessors = 132,
     .memory_bytes = 1000},
    {.uuid = "GPU-bb2",
     .model = "NVIDIA H200",
     .major = 9,
     .multiprocessors = 132,
     .memory_bytes = 1000}};
constexpr char kCpu[] = "cpu-avx2";

TEST(ChooseDevicesTest, OffersGpusWhereThereAreAny) {
  const HostResources host{9, 5000, "m"};
  ASSERT_OK_AND_ASSIGN(const ChosenDevices chosen, ChooseDevices(host, kTwo, {.cuda = true}, kCpu));
  ASSERT_THAT(chosen.devices, SizeIs(2));
  const v1::Device& second = chosen.devices[1];
  EXPECT_EQ(second.kind(), v1::DEVICE_KIND_GPU);
  EXPECT_EQ(second.device_class(), "cuda-sm90-132");
  EXPECT_EQ(second.index(), 1);
  EXPECT_EQ(second.uuid(), "GPU-bb2");
  EXPECT_EQ(second.memory_bytes(), 1000);
  EXPECT_EQ(chosen.devices[0].threads() + second.threads(), 9);
}

TEST(ChooseDevicesTest, OffersCoresWhenToldAndWhenItMust) {
  const HostResources host{4, 5000, "m"};
  const absl::Status none = absl::UnavailableError("no NVIDIA driver");
  const auto offered = [&](const absl::StatusOr<std::vector<Gpu>>& gpus,
                           const DeviceChoice& choice) {
    const auto chosen = ChooseDevices(host, gpus, choice, kCpu);
    EXPECT_OK(chosen.status());
    EXPECT_EQ(chosen->devices.at(0).device_class(), kCpu);
    return chosen->why;
  };
  EXPECT_THAT(offered(kTwo, {.kind = "cpu", .cuda = true}), HasSubstr("--device cpu"));
  EXPECT_THAT(offered(none, {.cuda = true}), HasSubstr("no NVIDIA driver"));
  EXPECT_THAT(offered(std::vector<Gpu>(), {.cuda = true}), HasSubstr("no visible GPU"));
  EXPECT_THAT(offered(kTwo, {}), HasSubstr("without CUDA"));
}

TEST(ChooseDevicesTest, RefusesGpusThatAreNotThere) {
  const HostResources host{4, 5000, "m"};
  EXPECT_THAT(ChooseDevices(host, kTwo, {.kind = "gpu"}, kCpu),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("without CUDA")));
  EXPECT_THAT(ChooseDevices(host, absl::UnavailableError("no NVIDIA driver"),
                            {.kind = "gpu", .cuda = true}, kCpu),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no NVIDIA driver")));
  const auto refuses = [&](const Gpu& other) {
    EXPECT_THAT(ChooseDevices(host, std::vector<Gpu>{kTwo[0], other}, {.cuda = true}, kCpu),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("CUDA_VISIBLE_DEVICES")));
  };
  refuses({.uuid = "GPU-cc3", .model = "NVIDIA A100", .major = 8, .multiprocessors = 108});
  refuses({.uuid = "GPU-dd4", .model = "NVIDIA H100 PCIe", .major = 9, .multiprocessors = 114});
}

}  // namespace
}  // namespace weft::worker
