// The contract of exchanges for NCCL, on the GPUs of this machine: one rank for each. Without a GPU
// nothing is tested, which the output says; WEFT_REQUIRE_GPU=1 makes that a failure.
#include "worker/comm/nccl_exchange.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/comm/exchange_contract.h"
#include "tests/worker/comm/host_tensor.h"
#include "worker/comm/in_process_exchange.h"

namespace weft::testing {
namespace {

using worker::Exchange;

int GpuCount() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// Memory of a GPU as a tensor's.
class GpuBuffer final : public kernels::Buffer {
 public:
  explicit GpuBuffer(int64_t bytes) : bytes_(bytes) {
    cudaMalloc(&memory_, static_cast<size_t>(bytes > 0 ? bytes : 1));
  }
  ~GpuBuffer() override { cudaFree(memory_); }
  void* data() override { return memory_; }
  [[nodiscard]] int64_t bytes() const override { return bytes_; }
  [[nodiscard]] kernels::Device& device() const override {
    CheckFailed(__FILE__, __LINE__, "device()", "a buffer of a test has no device");
  }

 private:
  int64_t bytes_;
  void* memory_ = nullptr;
};

// The suite's tensors lie on the host: each call takes its operand to the GPU and back.
class OverGpu final : public Exchange {
 public:
  OverGpu(std::unique_ptr<Exchange> exchange, int ordinal)
      : exchange_(std::move(exchange)), ordinal_(ordinal) {}
  absl::Status Prepare(const worker::Membership& membership, absl::Time deadline) override {
    return exchange_->Prepare(membership, deadline);
  }
  absl::Status Reduce(kernels::Tensor& bucket, worker::ReduceOp op, absl::Time deadline) override {
    return Carry(bucket,
                 [&](kernels::Tensor& there) { return exchange_->Reduce(there, op, deadline); });
  }
  absl::Status Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) override {
    return Carry(tensor, [&](kernels::Tensor& there) {
      return exchange_->Broadcast(there, root, deadline);
    });
  }
  void Abort(const absl::Status& why) override { exchange_->Abort(why); }
  [[nodiscard]] bool AddsFloatingPoint() const override { return exchange_->AddsFloatingPoint(); }

 private:
  template <typename Call>
  absl::Status Carry(kernels::Tensor& operand, const Call& call) {
    if (!operand.present()) return call(operand);
    cudaSetDevice(ordinal_);
    const auto bytes = static_cast<size_t>(operand.bytes());
    kernels::Tensor there(std::make_shared<GpuBuffer>(operand.bytes()), operand.dtype(),
                          operand.shape());
    cudaMemcpy(there.address(), operand.address(), bytes, cudaMemcpyHostToDevice);
    absl::Status done = call(there);
    cudaMemcpy(operand.address(), there.address(), bytes, cudaMemcpyDeviceToHost);
    return done;
  }

  std::unique_ptr<Exchange> exchange_;
  int ordinal_;
};

class NcclGang final : public ExchangeGang {
 public:
  NcclGang() {
    const auto hub = std::make_shared<worker::InProcessHub>();
    for (int gpu = 0; gpu < GpuCount(); ++gpu) {
      auto exchange =
          worker::NcclExchange::Create(std::make_unique<worker::InProcessExchange>(hub), gpu);
      WEFT_CHECK_MSG(exchange.ok(), exchange.status().ToString());
      exchanges_.push_back(std::make_unique<OverGpu>(*std::move(exchange), gpu));
    }
  }
  [[nodiscard]] int ranks() const override { return static_cast<int>(exchanges_.size()); }
  void StartGeneration(int64_t generation) override {
    generation_ = worker::Generation(generation);
  }
  [[nodiscard]] worker::Membership MembershipOf(int rank) const override {
    return {"contract", generation_, rank, ranks(), 0, ""};
  }
  Exchange& exchange(int rank) override { return *exchanges_[static_cast<size_t>(rank)]; }

 private:
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  worker::Generation generation_;
};

std::vector<GangKind> Gangs(int at_least) {
  if (GpuCount() < at_least) return {};
  return {{absl::StrCat("Nccl", GpuCount()), [] { return std::make_unique<NcclGang>(); }}};
}

INSTANTIATE_TEST_SUITE_P(Nccl, ExchangeContract, ::testing::ValuesIn(Gangs(1)), GangName);
INSTANTIATE_TEST_SUITE_P(Nccl, ExchangeGangContract, ::testing::ValuesIn(Gangs(2)), GangName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ExchangeContract);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ExchangeGangContract);

TEST(NcclExchange, HasAGpuToBeTestedOn) {
  if (GpuCount() > 0) return;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets any
  const char* required = std::getenv("WEFT_REQUIRE_GPU");
  if (required != nullptr && std::strcmp(required, "1") == 0) {
    FAIL() << "WEFT_REQUIRE_GPU=1, but there is no GPU";
  }
  GTEST_SKIP() << "no GPU: NCCL is NOT tested here";
}

TEST(NcclExchange, TakesOperandsOfItsGpuOnly) {
  if (GpuCount() == 0) GTEST_SKIP() << "no GPU";
  ASSERT_OK_AND_ASSIGN(auto exchange,
                       worker::NcclExchange::Create(std::make_unique<worker::InProcessExchange>(
                                                        std::make_shared<worker::InProcessHub>()),
                                                    0));
  ASSERT_OK(exchange->Prepare({"job", worker::Generation(1), 0, 1, 0, ""}, Soon()));
  kernels::Tensor host = NewHostTensor(kernels::DType::kI32, {4});
  EXPECT_THAT(exchange->Reduce(host, worker::ReduceOp::kSum, Soon()),
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("GPU 0")));
}

}  // namespace
}  // namespace weft::testing
