// What ops and devices promise beside numbers: refusals that name the culprit, results in place of
// operands, memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/cpu/thread_pool.h"
#include "kernels/ops/columns/columns.h"
#include "kernels/ops/dropout/dropout.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/gradient_norm/gradient_norm.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/swiglu/swiglu.h"
#include "tests/kernels/ops/op_case.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::weft::testing::StatusIs;

class ContractTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasTestInstructionSet()) GTEST_SKIP() << "this machine lacks the instruction set";
    device_ = CpuForTest(2);
    ASSERT_OK_AND_ASSIGN(stream_, device_->NewStream());
  }
  Tensor Make(DType dtype, const Shape& shape) {
    absl::StatusOr<Tensor> tensor = NewTensor(*device_, dtype, shape);
    EXPECT_OK(tensor);
    return *tensor;
  }
  Tensor F32(const Shape& shape) { return Make(DType::kF32, shape); }
  Tensor I32(const std::vector<int32_t>& values) {
    Tensor tensor = Make(DType::kI32, {static_cast<int64_t>(values.size())});
    EXPECT_OK(device_->CopyFromHost(tensor, values.data(), *stream_));
    return tensor;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_F(ContractTest, WrongShapeIsRefusedWithBothShapes) {
  Tensor x = F32({3, 4}), w = F32({5, 6}), y = F32({3, 5});
  EXPECT_THAT(LinearForward(*stream_, x, w, Tensor(), Tensor(), y),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("LinearForward: w"), HasSubstr("f32[5, 6]"),
                             HasSubstr("f32[5, 4]"))));
}

TEST_F(ContractTest, WrongRowsAreRefused) {
  Tensor x = F32({3, 4}), w = F32({5, 4}), y = F32({2, 5});
  EXPECT_THAT(LinearForward(*stream_, x, w, Tensor(), Tensor(), y),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rows differ")));
}

TEST_F(ContractTest, WrongTypeIsRefused) {
  Tensor x = F32({4}), y = Make(DType::kF64, {4});
  EXPECT_THAT(Add(*stream_, x, x, y),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("out is f64[4]")));
}

TEST_F(ContractTest, AbsentOperandIsRefused) {
  Tensor x = F32({4}), y = F32({4});
  EXPECT_THAT(Add(*stream_, x, Tensor(), y),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("b is absent")));
}

TEST_F(ContractTest, TensorOfAnotherDeviceIsRefused) {
  const std::unique_ptr<Device> other = CpuForTest(1);
  ASSERT_OK_AND_ASSIGN(Tensor y, NewTensor(*other, DType::kF32, {4}));
  Tensor x = F32({4});
  EXPECT_THAT(Add(*stream_, x, x, y),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("device of the stream")));
}

TEST_F(ContractTest, TokenOutsideTheVocabularyIsRefusedByPlace) {
  Tensor table = F32({3, 2}), y = F32({2, 2});
  EXPECT_THAT(EmbeddingForward(*stream_, I32({0, 3}), table, y),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens[1] is 3")));
  EXPECT_THAT(EmbeddingBackward(*stream_, I32({-1, 0}), y, table),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens[0] is -1")));
}

TEST_F(ContractTest, TargetOutsideTheVocabularyIsRefusedByPlace) {
  Tensor h = F32({2, 4}), w = F32({3, 4}), losses = F32({2}), right = F32({2});
  EXPECT_THAT(LinearCrossEntropyForward(*stream_, h, w, Tensor(), I32({-1, 3}), losses, right),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("targets[1] is 3")));
}

TEST_F(ContractTest, OfEqualLogitsTheLowestClassIsPredicted) {
  for (const std::unique_ptr<Device>& device : {CpuForTest(1), ReferenceForTest()}) {
    ASSERT_OK_AND_ASSIGN(const auto stream, device->NewStream());
    const auto make = [&](DType dtype, const Shape& shape) {
      absl::StatusOr<Tensor> tensor = NewTensor(*device, dtype, shape);
      EXPECT_OK(tensor);
      return *tensor;
    };
    const DType dtype = device->compute_dtype();
    Tensor h = make(dtype, {4, 2}), w = make(dtype, {3, 2});  // zeros: all logits are equal
    Tensor losses = make(dtype, {4}), right = make(dtype, {4});
    Tensor targets = make(DType::kI32, {4});
    const std::vector<int32_t> classes = {0, 1, 2, -1};
    ASSERT_OK(device->CopyFromHost(targets, classes.data(), *stream));
    ASSERT_OK(LinearCrossEntropyForward(*stream, h, w, Tensor(), targets, losses, right));
    for (int64_t r = 0; r < 4; ++r) {
      const double value = dtype == DType::kF64 ? right.data<double>()[r]
                                                : static_cast<double>(right.data<float>()[r]);
      EXPECT_EQ(value, r == 0 ? 1 : 0) << r;
    }
  }
}

TEST_F(ContractTest, DropoutRefusesDrawsThatDoNotFit) {
  Tensor x = F32({2, 3, 4});
  EXPECT_THAT(Dropout(*stream_, {.probability = 1}, x, x),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("probability is 1")));
  EXPECT_THAT(Dropout(*stream_, {.probability = 0.1, .first_sequence = (1 << 20) - 1}, x, x),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("below 2^28")));
  EXPECT_THAT(Dropout(*stream_, {.probability = 0.1, .layer = 1 << 12}, x, x),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 4096")));
}

// Which elements of ones are kept.
TEST_F(ContractTest, DropoutSeesNeitherTheCutOfABatchNorOfASequence) {
  constexpr int64_t b = 4, t = 50, c = 22;
  Tensor ones = F32({b, t, c});
  ASSERT_OK(Fill(*stream_, ones, 1.0));
  const auto drop = [&](const DropoutOptions& options, const Tensor& x) {
    Tensor y = F32(x.shape());
    EXPECT_OK(Dropout(*stream_, options, x, y));
    std::vector<float> values(static_cast<size_t>(y.count()));
    EXPECT_OK(device_->CopyToHost(values.data(), y, *stream_));
    return values;
  };
  const DropoutOptions options = {.probability = 0.2, .seed = 3, .step = 1, .first_sequence = 8};
  const std::vector<float> whole = drop(options, ones);
  std::vector<float> pieces;
  for (int64_t row = 0; row < b; ++row) {
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 13}, {13, t - 13}}) {
      DropoutOptions piece = options;
      piece.first_sequence += row;
      piece.first_position = first;
      const std::vector<float> part = drop(piece, ones.Part(0, {1, count, c}));
      pieces.insert(pieces.end(), part.begin(), part.end());
    }
  }
  EXPECT_EQ(whole, pieces);
  const auto dropped = static_cast<double>(std::count(whole.begin(), whole.end(), 0.0F));
  // Five standard deviations of a binomial.
  EXPECT_NEAR(dropped / (b * t * c), 0.2, 5 * std::sqrt(0.2 * 0.8 / (b * t * c)));
  for (const auto change :
       {+[](DropoutOptions& o) { ++o.step; }, +[](DropoutOptions& o) { ++o.seed; },
        +[](DropoutOptions& o) { ++o.layer; }, +[](DropoutOptions& o) { ++o.site; }}) {
    DropoutOptions other = options;
    change(other);
    EXPECT_NE(whole, drop(other, ones));
  }
}

TEST_F(ContractTest, OnlyOfWhatANormAddsToAreThereSums) {
  Tensor x = F32({2, 4}), w = F32({4}), dx = F32({2, 4}), rstd = F32({2}), mean = F32({2});
  Tensor dw = F32({4}), db = F32({4}), sums = F32({4}), narrow = F32({3});
  for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
    const auto code =
        accumulate == Accumulate::kYes ? absl::StatusCode::kOk : absl::StatusCode::kInvalidArgument;
    EXPECT_THAT(RmsNormBackward(*stream_, x, w, rstd, x, dx, accumulate, dw, sums), StatusIs(code));
    EXPECT_THAT(LayerNormBackward(*stream_, x, w, mean, rstd, x, dx, accumulate, dw, db, sums),
                StatusIs(code));
  }
  EXPECT_THAT(RmsNormBackward(*stream_, x, w, rstd, x, dx, Accumulate::kYes, dw, narrow),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ContractTest, ColumnsMustExist) {
  Tensor wide = F32({2, 5}), narrow = F32({2, 3}), rows = F32({3, 3});
  EXPECT_OK(PutColumns(*stream_, narrow, 2, wide));
  EXPECT_THAT(PutColumns(*stream_, narrow, 3, wide), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(TakeColumns(*stream_, wide, 0, rows), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(TakeColumns(*stream_, wide, -1, narrow),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ContractTest, EmptyTensorsAreNoWork) {
  Tensor x = F32({0, 4}), w = F32({4}), y = F32({0, 4}), rstd = F32({0}), dw = F32({4}), no_sums;
  EXPECT_OK(RmsNormForward(*stream_, x, w, 1e-6, y, rstd));
  EXPECT_OK(RmsNormBackward(*stream_, x, w, rstd, y, x, Accumulate::kNo, dw, no_sums));
  Tensor matrix = F32({3, 4}), result = F32({0, 3});
  EXPECT_OK(LinearForward(*stream_, x, matrix, Tensor(), Tensor(), result));
  Tensor slopes = F32({3, 4});
  EXPECT_OK(LinearBackwardWeight(*stream_, result, x, slopes));
}

TEST_F(ContractTest, GradientsMayTakeThePlaceOfOperands) {
  const std::vector<float> gate = {1, -2, 3}, up = {4, 5, -6}, dy = {0.5F, 1, -1};
  Tensor g = F32({3}), u = F32({3}), d = F32({3}), dgate = F32({3}), dup = F32({3});
  const auto load = [&](Tensor& tensor, const std::vector<float>& values) {
    ASSERT_OK(device_->CopyFromHost(tensor, values.data(), *stream_));
  };
  const auto read = [&](const Tensor& tensor) {
    std::vector<float> values(3);
    EXPECT_OK(device_->CopyToHost(values.data(), tensor, *stream_));
    return values;
  };
  load(g, gate);
  load(u, up);
  load(d, dy);
  ASSERT_OK(SwigluBackward(*stream_, g, u, d, dgate, dup));
  const std::vector<float> want_gate = read(dgate), want_up = read(dup);
  ASSERT_OK(SwigluBackward(*stream_, g, u, d, g, u));
  EXPECT_EQ(read(g), want_gate);
  EXPECT_EQ(read(u), want_up);
}

TEST_F(ContractTest, ClippingLeavesNonFiniteNormsVisible) {
  Tensor sum = Make(DType::kF64, {1}), clip = F32({1});
  const auto clip_for = [&](double value, double max_norm) {
    EXPECT_OK(device_->CopyFromHost(sum, &value, *stream_));
    EXPECT_OK(ClipFactor(*stream_, sum, max_norm, clip));
    float result = -1;
    EXPECT_OK(device_->CopyToHost(&result, clip, *stream_));
    return result;
  };
  EXPECT_EQ(clip_for(0, 1), 1);
  EXPECT_EQ(clip_for(4, 1), 0.5F);
  EXPECT_EQ(clip_for(4, 0), 1);
  EXPECT_EQ(clip_for(HUGE_VAL, 1), 0);
  EXPECT_TRUE(std::isnan(clip_for(std::nan(""), 1)));
}

TEST_F(ContractTest, NewTensorsAreZeroAndAligned) {
  Tensor tensor = F32({1000});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data<float>()) % 64, 0);
  std::vector<float> values(1000, 1);
  ASSERT_OK(device_->CopyToHost(values.data(), tensor, *stream_));
  EXPECT_THAT(values, Each(0));
}

TEST_F(ContractTest, TooMuchMemoryIsAnError) {
  EXPECT_THAT(device_->Allocate(int64_t{1} << 60), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(ContractTest, DeviceWithoutThreadsIsRefused) {
  EXPECT_THAT(NewCpuDevice({.threads = 0}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ContractTest, OneProcessHasOneInstructionSet) {
  for (const InstructionSet set : kInstructionSets) {
    const absl::StatusOr<std::unique_ptr<Device>> other = NewCpuDevice({.isa = set});
    if (other.ok()) {
      EXPECT_EQ((*other)->device_class(), device_->device_class());
    } else {
      EXPECT_THAT(other.status().code(), set > BestInstructionSet()
                                             ? absl::StatusCode::kInvalidArgument
                                             : absl::StatusCode::kFailedPrecondition);
    }
  }
}

TEST(ThreadPoolTest, EveryTaskRunsOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      pool.ParallelFor(count, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
      for (const std::atomic<int>& times : runs) EXPECT_EQ(times.load(), 1);
    }
  }
}

TEST(ThreadPoolTest, StartedThreadsTakePart) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  // Each task waits for the other: only two threads can finish this loop.
  pool.ParallelFor(2, [&](int64_t) {
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 2);
}

TEST(ThreadPoolTest, CallersTakeTurns) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int loop = 0; loop < 50; ++loop) {
        pool.ParallelFor(10, [&](int64_t i) { sum += i; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 3 * 50 * 45);
}

}  // namespace
}  // namespace weft::kernels
