// Every op on the CUDA device against the reference device, in bf16 and in fp32, and against
// itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "kernels/device/host_values.h"
#include "kernels/ops/conv_norm/conv_norm.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/fixed_point/fixed_point.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/linear_gelu/linear_gelu.h"
#include "kernels/ops/register.h"
#include "tests/kernels/ops/op_case.h"
#include "tests/testing/gpu.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels {
namespace {

using ::testing::Combine;
using ::testing::DoubleNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;
using ::testing::Values;
using ::testing::ValuesIn;
using ::weft::testing::StatusIs;

double LargestMagnitude(const std::vector<double>& values) {
  double largest = 0;
  for (double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
  }
  return largest;
}

// The distance of numbers with that many binary digits at the magnitude of `value`.
double UlpAt(double value, int digits) {
  return value == 0 ? 0 : std::ldexp(1.0, std::ilogb(value) + 1 - digits);
}

// The call with its operands as the device will see them: those of the compute type rounded to it.
OpCase AsSeenBy(const Device& device, OpCase op) {
  if (device.compute_dtype() != DType::kBf16) return op;
  for (Array& array : op.operands) {
    if (array.dtype == DType::kI32 || array.is_sum || array.fixed_f64) continue;
    for (double& value : array.values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
  }
  return op;
}

class CudaOpTest : public ::testing::TestWithParam<std::tuple<OpCase, DType>> {};

// The rule of the CPU device (twice as wrong as plain fp32 arithmetic and one rounding of the
// result), for the same reason. In bf16 one rounding is 2^-8 of the largest result; it is allowed
// for results of the sum type too, because what they are summed from may have been rounded once on
// the way. The slopes of logits are, and what lies between a convolution and its norm or a product
// and the slope of its GELU, and results that are rounded themselves are
// then computed from them: these may show both roundings. In fp32, sums are added in another order
// than the plain ones and functions are the GPU's, good to 2 ulp: hence 4 ulp.
TEST_P(CudaOpTest, IsNearlyAsExactAsPlainArithmetic) {
  const auto& [made, dtype] = GetParam();
  WEFT_CUDA_OR_SKIP(cuda, dtype);
  RegisterCudaKernels();
  const OpCase op = AsSeenBy(*cuda, made);
  ASSERT_OK_AND_ASSIGN(const auto exact, RunOn(op, *ReferenceForTest()));
  ASSERT_OK_AND_ASSIGN(const auto got, RunOn(op, *cuda));
  const auto plain = RunPlain(op);
  for (const size_t result : op.results) {
    const double largest = LargestMagnitude(exact[result]);
    const bool twice = absl::StrContains(op.name, "CrossEntropyForwardBackward") ||
                       absl::StrContains(op.name, "ConvNorm") ||
                       absl::StrContains(op.name, "LinearBackwardGelu");
    const double rounding =
        dtype == DType::kBf16 ? (twice ? 2 : 1) * UlpAt(largest, 8) : 4 * UlpAt(largest, 24);
    EXPECT_LE(LargestDifference(got[result], exact[result]),
              2 * LargestDifference(plain[result], exact[result]) + rounding)
        << "operand " << result;
  }
}

TEST_P(CudaOpTest, OperandsAreLeftAloneAndBitsAreTheSameAgain) {
  const auto& [made, dtype] = GetParam();
  WEFT_CUDA_OR_SKIP(cuda, dtype);
  RegisterCudaKernels();
  const OpCase op = AsSeenBy(*cuda, made);
  ASSERT_OK_AND_ASSIGN(const auto got, RunOn(op, *cuda));
  for (size_t i = 0; i < op.operands.size(); ++i) {
    if (std::count(op.results.begin(), op.results.end(), i) == 0) {
      EXPECT_EQ(got[i], op.operands[i].values) << "operand " << i;
    }
  }
  ASSERT_OK_AND_ASSIGN(const auto again, RunOn(op, *cuda));
  EXPECT_EQ(got, again);
}

INSTANTIATE_TEST_SUITE_P(All, CudaOpTest,
                         Combine(ValuesIn(AllOpCases()), Values(DType::kBf16, DType::kF32)),
                         [](const ::testing::TestParamInfo<CudaOpTest::ParamType>& tested) {
                           return absl::StrCat(std::get<0>(tested.param).name, "_",
                                               NameOf(std::get<1>(tested.param)));
                         });

TEST(CudaStreamTest, ReportsAnIndexOutOfRangeOnceAtTheNextSynchronize) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  RegisterCudaKernels();
  ASSERT_OK_AND_ASSIGN(const auto stream, cuda->NewStream());
  Tensor tokens = NewTensor(*cuda, DType::kI32, {3}).value();
  Tensor table = NewTensor(*cuda, DType::kBf16, {2, 8}).value();
  Tensor y = NewTensor(*cuda, DType::kBf16, {3, 8}).value();
  ASSERT_OK(WriteValues(tokens, {1, 0, 2}, *stream));
  ASSERT_OK(EmbeddingForward(*stream, tokens, table, y));
  EXPECT_THAT(stream->Synchronize(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("place 2")));
  EXPECT_OK(stream->Synchronize());
}

TEST(CudaCrossEntropyTest, OfEqualLogitsTheLowestClassIsPredicted) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  RegisterCudaKernels();
  ASSERT_OK_AND_ASSIGN(const auto stream, cuda->NewStream());
  constexpr int64_t class_count = 4099;                       // more than a block has threads
  Tensor h = NewTensor(*cuda, DType::kBf16, {4, 8}).value();  // zeros: all logits are equal
  Tensor w = NewTensor(*cuda, DType::kBf16, {class_count, 8}).value();
  Tensor targets = NewTensor(*cuda, DType::kI32, {4}).value();
  Tensor losses = NewTensor(*cuda, DType::kF32, {4}).value();
  Tensor right = NewTensor(*cuda, DType::kF32, {4}).value();
  ASSERT_OK(WriteValues(targets, {0, 1, class_count - 1, -1}, *stream));
  ASSERT_OK(LinearCrossEntropyForward(*stream, h, w, Tensor(), targets, losses, right));
  ASSERT_OK_AND_ASSIGN(const std::vector<double> got, ReadValues(right, *stream));
  EXPECT_EQ(got, (std::vector<double>{1, 0, 0, 0}));
}

// More rows than their logits are kept of: the op goes through them in blocks.
TEST(CudaCrossEntropyTest, RowsInBlocksGiveTheBitsOfACallForEachBlock) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  RegisterCudaKernels();
  ASSERT_OK_AND_ASSIGN(const auto stream, cuda->NewStream());
  constexpr int64_t rows_in_all = 16384 + 100, channels = 64, class_count = 40;
  const auto made = [&](uint32_t seed, const Shape& shape) {
    Tensor tensor = NewTensor(*cuda, DType::kBf16, shape).value();
    EXPECT_OK(WriteValues(tensor, Normal(seed, shape).values, *stream));
    return tensor;
  };
  const Tensor h = made(1, {rows_in_all, channels}), w = made(2, {class_count, channels});
  Tensor targets = NewTensor(*cuda, DType::kI32, {rows_in_all}).value();
  std::vector<double> classes;
  for (int64_t row = 0; row < rows_in_all; ++row)
    classes.push_back(static_cast<double>(row % class_count));
  ASSERT_OK(WriteValues(targets, classes, *stream));
  const auto results = [&](const std::vector<int64_t>& ends) {
    Tensor losses = NewTensor(*cuda, DType::kF32, {rows_in_all}).value();
    Tensor right = NewTensor(*cuda, DType::kF32, {rows_in_all}).value();
    Tensor dh = NewTensor(*cuda, DType::kBf16, h.shape()).value();
    Tensor dw = NewTensor(*cuda, DType::kF32, w.shape()).value();
    Tensor none;
    int64_t first = 0;
    for (const int64_t end : ends) {
      const int64_t rows = end - first;
      Tensor losses_part = losses.Part(first, {rows}), right_part = right.Part(first, {rows});
      Tensor dh_part = dh.Part(first * channels, {rows, channels});
      EXPECT_OK(LinearCrossEntropyForwardBackward(
          *stream, h.Part(first * channels, {rows, channels}), w, none, targets.Part(first, {rows}),
          0.01, losses_part, right_part, dh_part, dw, none));
      first = end;
    }
    std::vector<std::vector<double>> values;
    for (const Tensor& tensor : {losses, right, dh, dw}) {
      values.push_back(ReadValues(tensor, *stream).value());
    }
    return values;
  };
  EXPECT_EQ(results({rows_in_all}), results({16384, rows_in_all}));
}

// More rows and columns than a GPU makes results of at a time: Hopper's kernels make those of one
// tile beside the product of the next.
TEST(CudaLinearGeluTest, RowsTogetherGiveTheBitsOfACallForEachPart) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  RegisterCudaKernels();
  ASSERT_OK_AND_ASSIGN(const auto stream, cuda->NewStream());
  constexpr int64_t row_count = 2500, hidden = 2048;
  const auto made = [&](uint32_t seed, const Shape& shape, double scale) {
    Tensor tensor = NewTensor(*cuda, DType::kBf16, shape).value();
    EXPECT_OK(WriteValues(tensor, Normal(seed, shape, scale).values, *stream));
    return tensor;
  };
  for (const int64_t width : {576, 640, 768}) {
    const Tensor x = made(1, {row_count, width}, 1), up = made(2, {hidden, width}, 0.05),
                 bias = made(3, {hidden}, 1), dy = made(4, {row_count, width}, 1),
                 down = made(5, {width, hidden}, 0.05);
    const auto results = [&](int64_t rows_of_part) {
      const auto space = [&] {
        return NewTensor(*cuda, DType::kBf16, {row_count, hidden}).value();
      };
      Tensor before = space(), y = space(), dx = space();
      Tensor dbias = NewTensor(*cuda, DType::kF32, {hidden}).value();
      for (int64_t first = 0; first < row_count; first += rows_of_part) {
        const int64_t rows = std::min(rows_of_part, row_count - first);
        const auto part = [&](const Tensor& whole) {
          return whole.Part(first * whole.dim(1), {rows, whole.dim(1)});
        };
        Tensor before_part = part(before), y_part = part(y), dx_part = part(dx);
        EXPECT_OK(LinearGeluForward(*stream, part(x), up, bias, before_part, y_part));
        EXPECT_OK(LinearBackwardGelu(*stream, part(dy), down, before_part, dx_part, dbias));
      }
      std::vector<std::vector<double>> values;
      for (const Tensor& tensor : {before, y, dx, dbias}) {
        values.push_back(ReadValues(tensor, *stream).value());
      }
      return values;
    };
    auto together = results(row_count), apart = results(1024);
    // Sums of columns are added in another order.
    EXPECT_THAT(together.back(), Pointwise(DoubleNear(0.01), apart.back())) << width;
    together.pop_back();
    apart.pop_back();
    EXPECT_EQ(together, apart) << width;
  }
}

TEST(CudaStreamTest, WaitsForEventsOfOtherStreams) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kF32);
  RegisterCudaKernels();
  ASSERT_OK_AND_ASSIGN(const auto first, cuda->NewStream());
  ASSERT_OK_AND_ASSIGN(const auto second, cuda->NewStream());
  constexpr int64_t count = int64_t{1} << 28;  // a gigabyte: long enough to be overtaken
  Tensor x = NewTensor(*cuda, DType::kF32, {count}).value();
  const Tensor end = x.Part(count - 1, {1});
  for (int i = 1; i <= 20; ++i) {
    ASSERT_OK(Fill(*first, x, i));
    ASSERT_OK_AND_ASSIGN(const auto event, first->Record());
    ASSERT_OK(second->WaitFor(*event));
    float last = -1;
    ASSERT_OK(cuda->CopyToHost(&last, end, *second));
    ASSERT_EQ(last, static_cast<float>(i));
  }
}

// Large calls choose other kernels, or other pieces, than their halves.
class CudaLargeCallTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cuda_ = ::weft::testing::CudaOrNull(DType::kBf16);
    if (cuda_ == nullptr) GTEST_SKIP() << "this test needs a GPU";
    RegisterCudaKernels();
    stream_ = cuda_->NewStream().value();
  }
  Tensor New(const Shape& shape, DType dtype = DType::kBf16) {
    return NewTensor(*cuda_, dtype, shape).value();
  }
  Tensor Made(uint32_t seed, const Shape& shape) {
    Tensor tensor = New(shape);
    EXPECT_OK(WriteValues(tensor, Normal(seed, shape).values, *stream_));
    return tensor;
  }
  std::vector<double> Read(const Tensor& tensor) { return ReadValues(tensor, *stream_).value(); }
  void ExpectNear(const Tensor& got, const Tensor& expected, int digits) {
    const std::vector<double> values = Read(expected);
    EXPECT_LE(LargestDifference(Read(got), values), UlpAt(LargestMagnitude(values), digits));
  }

  std::unique_ptr<Device> cuda_;
  std::unique_ptr<Stream> stream_;
};

TEST_F(CudaLargeCallTest, ProductsAreThoseOfTheirHalves) {
  constexpr int64_t rows = 16400, inputs = 264, outputs = 1032, half = rows / 2;
  const Tensor x = Made(1, {rows, inputs}), w = Made(2, {outputs, inputs}),
               bias = Made(3, {outputs});
  Tensor y = New({rows, outputs}), before = New({rows, outputs}), after = New({rows, outputs});
  Tensor y_halves = New({rows, outputs}), before_halves = New({rows, outputs}),
         after_halves = New({rows, outputs});
  ASSERT_OK(LinearForward(*stream_, x, w, bias, Tensor(), y));
  ASSERT_OK(LinearGeluForward(*stream_, x, w, bias, before, after));
  for (const int64_t first : {int64_t{0}, half}) {
    const Tensor x_half = x.Part(first * inputs, {half, inputs});
    const auto part = [&](Tensor& of) { return of.Part(first * outputs, {half, outputs}); };
    Tensor y_half = part(y_halves), before_half = part(before_halves),
           after_half = part(after_halves);
    ASSERT_OK(LinearForward(*stream_, x_half, w, bias, Tensor(), y_half));
    ASSERT_OK(LinearGeluForward(*stream_, x_half, w, bias, before_half, after_half));
  }
  ExpectNear(y, y_halves, 8);
  ExpectNear(before, before_halves, 8);
  ExpectNear(after, after_halves, 8);
}

TEST_F(CudaLargeCallTest, ConvolutionsAreThoseOfTheirHalves) {
  constexpr int64_t tokens = 8202, half = tokens / 2, heads = 16, width = 128;
  constexpr int64_t channels = heads * width, taps = 4;
  const Tensor x = Made(1, {1, tokens, channels}), w = Made(2, {channels, taps}),
               dy = Made(3, {1, tokens, heads, width});
  struct Results {
    Tensor y, inverse, dx, d_history, dw;
  };
  // Of `count` tokens from `first` on, whose results lie in those of all tokens.
  const auto run = [&](int64_t first, int64_t count, Results& all) {
    const auto part = [&](const Tensor& of) {
      return of.Part(first * channels, {1, count, channels});
    };
    const auto part_by_heads = [&](const Tensor& of) {
      return of.Part(first * channels, {1, count, heads, width});
    };
    Tensor y = part_by_heads(all.y), dx = part(all.dx), space = New({1, count, channels});
    Tensor inverse = all.inverse.Part(first * heads, {count * heads});
    Tensor d_history = first > 0 ? all.d_history : Tensor();
    const Tensor history =
        first > 0 ? x.Part((first - taps + 1) * channels, {1, taps - 1, channels}) : Tensor();
    ASSERT_OK(ConvNormForward(*stream_, part(x), w, history, 1e-6, 0.5, y, inverse));
    ASSERT_OK(ConvNormBackward(*stream_, part(x), w, history, 0.5, y, inverse, part_by_heads(dy),
                               space, dx, d_history, all.dw));
  };
  const auto made = [&] {
    return Results{New({1, tokens, heads, width}), New({tokens * heads}, DType::kF32),
                   New({1, tokens, channels}), New({1, taps - 1, channels}),
                   New({channels, taps}, DType::kF32)};
  };
  Results whole = made(), halves = made();
  run(0, tokens, whole);
  run(0, half, halves);
  run(half, half, halves);
  EXPECT_EQ(Read(whole.y), Read(halves.y));
  EXPECT_EQ(Read(whole.inverse), Read(halves.inverse));
  // The last tokens of the first half lack what the second half found for its history.
  Tensor last = halves.dx.Part((half - taps + 1) * channels, {1, taps - 1, channels});
  ASSERT_OK(Add(*stream_, last, halves.d_history, last));
  ExpectNear(whole.dx, halves.dx, 8);
  ExpectNear(whole.dw, halves.dw, 14);
}

// Exponents, integer sums and the values of these, of numbers that are hard to convert.
struct FixedPointResult {
  std::vector<double> exponents, sum, values;
  friend bool operator==(const FixedPointResult&, const FixedPointResult&) = default;
};

FixedPointResult FixedPointOn(Device& device, const std::vector<std::vector<double>>& shards,
                              int bits) {
  const auto stream = device.NewStream().value();
  const auto n = static_cast<int64_t>(shards[0].size());
  Tensor x = NewTensor(device, DType::kF32, {n}).value();
  Tensor exponents = NewTensor(device, DType::kI32, {FixedPointBlocks(n)}).value();
  Tensor sum = NewTensor(device, DType::kI32, {n}).value();
  Accumulate accumulate = Accumulate::kNo;
  for (const std::vector<double>& shard : shards) {
    EXPECT_OK(WriteValues(x, shard, *stream));
    EXPECT_OK(BlockExponents(*stream, x, accumulate, exponents));
    accumulate = Accumulate::kYes;
  }
  EXPECT_OK(Fill(*stream, sum, 77));  // what was there is replaced by the first
  accumulate = Accumulate::kNo;
  for (const std::vector<double>& shard : shards) {
    EXPECT_OK(WriteValues(x, shard, *stream));
    EXPECT_OK(Quantize(*stream, x, exponents, bits, accumulate, sum));
    accumulate = Accumulate::kYes;
  }
  EXPECT_OK(Dequantize(*stream, sum, exponents, bits, x));
  FixedPointResult result{ReadValues(exponents, *stream).value(), ReadValues(sum, *stream).value(),
                          ReadValues(x, *stream).value()};
  for (double& value : result.values) value = std::isnan(value) ? 12345 : value;
  return result;
}

TEST(CudaFixedPointTest, GivesTheBitsOfTheCpu) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  RegisterCudaKernels();
  const std::unique_ptr<Device> cpu = CpuForTest(1);
  std::vector<std::vector<double>> shards;
  for (uint32_t shard = 0; shard < 3; ++shard) {
    std::vector<double> values = Normal(shard, {5003}).values;
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t block = i / 1024;
      if (block == 0) values[i] = std::ldexp(std::round(4 * values[i]), -3);  // ties
      if (block == 1)
        values[i] = std::ldexp(values[i], static_cast<int>(i % 40) - 148);  // denormal
      if (block == 2) values[i] = std::ldexp(values[i], 124);
      if (block == 3) values[i] = shard == 1 && i == 3100 ? HUGE_VAL : values[i];
    }
    shards.push_back(std::move(values));
  }
  for (const int bits : {7, 29}) {
    EXPECT_EQ(FixedPointOn(*cuda, shards, bits), FixedPointOn(*cpu, shards, bits)) << bits;
  }
}

TEST(CudaDeviceTest, BuffersAreZeroAndTheirNumberIsKnown) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kF32);
  ASSERT_OK_AND_ASSIGN(const auto stream, cuda->NewStream());
  for (int round = 0; round < 3; ++round) {
    Tensor x = NewTensor(*cuda, DType::kF32, {1000}).value();
    ASSERT_OK_AND_ASSIGN(const auto values, ReadValues(x, *stream));
    EXPECT_EQ(LargestMagnitude(values), 0);
    ASSERT_OK(WriteValues(x, std::vector<double>(1000, 1.0), *stream));
    ASSERT_OK_AND_ASSIGN(const CudaMemory memory, CudaMemoryOf(*cuda));
    EXPECT_EQ(memory.allocated_bytes, 4000);
    EXPECT_EQ(memory.peak_bytes, 4000);
  }
  EXPECT_THAT(cuda->Allocate(int64_t{1} << 50), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(stream->Synchronize());  // that was no sticky error
}

}  // namespace
}  // namespace weft::kernels
