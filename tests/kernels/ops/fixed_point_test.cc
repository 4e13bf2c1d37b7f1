// The exact exchange: equal sums in any order and grouping, bounded error, flags.
#include "kernels/ops/fixed_point/fixed_point.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/ops/op_case.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels {
namespace {

using ::testing::Each;

class FixedPointTest : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (!HasTestInstructionSet()) GTEST_SKIP() << "this machine lacks the instruction set";
    device_ = GetParam() == DeviceKind::kCpu ? CpuForTest(2) : ReferenceForTest();
    ASSERT_OK_AND_ASSIGN(stream_, device_->NewStream());
  }

  Tensor Make(DType dtype, int64_t n) {
    absl::StatusOr<Tensor> tensor = NewTensor(*device_, dtype, {n});
    EXPECT_OK(tensor);
    return *tensor;
  }
  Tensor Upload(const std::vector<float>& values) {
    Tensor tensor = Make(device_->compute_dtype(), static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      if (tensor.dtype() == DType::kF64) {
        tensor.data<double>()[i] = values[i];
      } else {
        tensor.data<float>()[i] = values[i];
      }
    }
    return tensor;
  }
  static double At(const Tensor& tensor, int64_t i) {
    return tensor.dtype() == DType::kF64 ? tensor.data<double>()[i]
                                         : static_cast<double>(tensor.data<float>()[i]);
  }
  std::vector<int32_t> Exponents(const std::vector<float>& values) {
    Tensor x = Upload(values);
    Tensor exponents = Make(DType::kI32, FixedPointBlocks(x.count()));
    EXPECT_OK(BlockExponents(*stream_, x, Accumulate::kNo, exponents));
    return {exponents.data<int32_t>(), exponents.data<int32_t>() + exponents.count()};
  }
  Tensor MaxExponents(const std::vector<std::vector<float>>& shards) {
    Tensor all = Make(DType::kI32, FixedPointBlocks(static_cast<int64_t>(shards[0].size())));
    std::fill_n(all.data<int32_t>(), all.count(), kZeroExponent);
    for (const std::vector<float>& shard : shards) {
      const std::vector<int32_t> own = Exponents(shard);
      for (size_t b = 0; b < own.size(); ++b) {
        all.data<int32_t>()[b] = std::max(all.data<int32_t>()[b], own[b]);
      }
    }
    return all;
  }
  // The integer sum of some shards, each rank taking `order[first..last)`.
  std::vector<int32_t> SumOf(const std::vector<std::vector<float>>& shards,
                             const std::vector<size_t>& order, size_t ranks,
                             const Tensor& exponents) {
    const auto n = static_cast<int64_t>(shards[0].size());
    const int bits = FixedPointBits(static_cast<int64_t>(shards.size()));
    std::vector<int32_t> total(shards[0].size());
    for (size_t rank = 0; rank < ranks; ++rank) {
      Tensor sum = Make(DType::kI32, n);
      std::fill_n(sum.data<int32_t>(), n, 77);  // replaced by the first shard's
      Accumulate accumulate = Accumulate::kNo;
      for (size_t i = rank * order.size() / ranks; i < (rank + 1) * order.size() / ranks; ++i) {
        const Tensor x = Upload(shards[order[i]]);
        EXPECT_OK(Quantize(*stream_, x, exponents, bits, accumulate, sum));
        accumulate = Accumulate::kYes;
      }
      for (size_t i = 0; i < total.size(); ++i) total[i] += sum.data<int32_t>()[i];
    }
    return total;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

std::vector<std::vector<float>> SomeShards(size_t count, int64_t n) {
  std::vector<std::vector<float>> shards;
  for (uint32_t s = 0; s < count; ++s) {
    const Array values = Normal(s, {n}, std::pow(10.0, static_cast<double>(s % 5) - 3));
    shards.emplace_back(values.values.begin(), values.values.end());
  }
  return shards;
}

TEST_P(FixedPointTest, SumsAreEqualForEveryOrderAndGrouping) {
  const std::vector<std::vector<float>> shards = SomeShards(12, 2500);
  const Tensor exponents = MaxExponents(shards);
  std::vector<size_t> order(shards.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const std::vector<int32_t> want = SumOf(shards, order, 1, exponents);
  for (const size_t ranks : {2, 3, 4, 5, 12}) {
    std::rotate(order.begin(), order.begin() + 5, order.end());
    EXPECT_EQ(SumOf(shards, order, ranks, exponents), want) << ranks << " ranks";
  }
}

TEST_P(FixedPointTest, ErrorIsAtMostHalfAUnitForEachShard) {
  for (const size_t count : {1, 2, 12, 200}) {
    const std::vector<std::vector<float>> shards = SomeShards(count, 1500);
    const Tensor exponents = MaxExponents(shards);
    const int bits = FixedPointBits(static_cast<int64_t>(count));
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    const std::vector<int32_t> total = SumOf(shards, order, 1, exponents);
    Tensor sum = Make(DType::kI32, 1500);
    std::copy(total.begin(), total.end(), sum.data<int32_t>());
    Tensor x = Make(device_->compute_dtype(), 1500);
    ASSERT_OK(Dequantize(*stream_, sum, exponents, bits, x));
    for (int64_t i = 0; i < 1500; ++i) {
      double exact = 0;
      for (const std::vector<float>& shard : shards) exact += shard[static_cast<size_t>(i)];
      const double unit =
          std::ldexp(1.0, exponents.data<int32_t>()[i / kFixedPointBlock] + 1 - bits);
      // Half a unit a shard, and the rounding of the result to fp32.
      const double bound = 0.5 * unit * static_cast<double>(count) + std::abs(exact) * 0x1p-24;
      EXPECT_LE(std::abs(At(x, i) - exact), bound) << i;
    }
  }
}

TEST_P(FixedPointTest, LargestValuesOfAllShardsDoNotOverflow) {
  const float largest = std::numeric_limits<float>::max();
  for (const size_t count : {1, 2, 3, 256, 1000}) {
    for (const float value : {largest, -largest}) {
      const std::vector<std::vector<float>> shards(count, std::vector<float>{value});
      const Tensor exponents = MaxExponents(shards);
      const int bits = FixedPointBits(static_cast<int64_t>(count));
      int64_t exact = 0;
      Tensor sum = Make(DType::kI32, 1);
      for (const std::vector<float>& shard : shards) {
        Tensor one = Make(DType::kI32, 1);
        const Tensor x = Upload(shard);
        ASSERT_OK(Quantize(*stream_, x, exponents, bits, Accumulate::kNo, one));
        ASSERT_OK(Quantize(*stream_, x, exponents, bits, Accumulate::kYes, sum));
        exact += one.data<int32_t>()[0];
      }
      EXPECT_EQ(sum.data<int32_t>()[0], exact) << count;
      EXPECT_EQ(std::signbit(value), exact < 0);
    }
  }
}

TEST_P(FixedPointTest, ExponentIsThatOfTheLargestMagnitude) {
  std::vector<float> values(2049, 0);
  values[5] = -3;            // 2^1 <= 3 < 2^2
  values[6] = 0.5F;          // smaller
  values[1024] = 0x1p-149F;  // the smallest denormal
  EXPECT_EQ(Exponents(values), (std::vector<int32_t>{1, -149, kZeroExponent}));
  values[2048] = 1;
  EXPECT_EQ(Exponents(values)[2], 0);
  values[2048] = -0.0F;
  EXPECT_EQ(Exponents(values)[2], kZeroExponent);
}

TEST_P(FixedPointTest, NonFiniteValuesComeOutAsNaNInTheirBlockOnly) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<std::vector<float>> shards = SomeShards(2, 2048);
    shards[1][1030] = bad;
    const Tensor exponents = MaxExponents(shards);
    EXPECT_NE(exponents.data<int32_t>()[0], kNonFiniteExponent);
    EXPECT_EQ(exponents.data<int32_t>()[1], kNonFiniteExponent);
    Tensor sum = Make(DType::kI32, 2048), x = Make(device_->compute_dtype(), 2048);
    for (const std::vector<float>& shard : shards) {
      ASSERT_OK(Quantize(*stream_, Upload(shard), exponents, 30, Accumulate::kYes, sum));
    }
    ASSERT_OK(Dequantize(*stream_, sum, exponents, 30, x));
    for (int64_t i = 0; i < 2048; ++i) EXPECT_EQ(std::isnan(At(x, i)), i >= 1024) << i;
  }
}

TEST_P(FixedPointTest, ZerosAndDenormalsSurvive) {
  const std::vector<float> zeros(10, 0.0F);
  const std::vector<float> tiny = {0x1p-149F, -0x1p-149F, 0x1.8p-140F, 0x1p-127F, 0};
  for (const std::vector<float>& values : {zeros, tiny}) {
    const Tensor exponents = MaxExponents({values});
    const auto n = static_cast<int64_t>(values.size());
    Tensor sum = Make(DType::kI32, n), x = Make(device_->compute_dtype(), n);
    std::fill_n(sum.data<int32_t>(), n, 77);  // replaced, in blocks of zeros too
    ASSERT_OK(Quantize(*stream_, Upload(values), exponents, 31, Accumulate::kNo, sum));
    ASSERT_OK(Dequantize(*stream_, sum, exponents, 31, x));
    // 31 bits hold each of these exactly.
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(At(x, i), values[static_cast<size_t>(i)]) << i;
  }
}

TEST_P(FixedPointTest, RoundsToNearestTiesToEven) {
  // With 7 bits and a block maximum of 64 a unit is 1.
  const std::vector<float> values = {64, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 0.51F, 63.49F};
  Tensor exponents = MaxExponents({values});
  Tensor sum = Make(DType::kI32, 8);
  ASSERT_OK(Quantize(*stream_, Upload(values), exponents, 7, Accumulate::kNo, sum));
  const std::vector<int32_t> got(sum.data<int32_t>(), sum.data<int32_t>() + 8);
  EXPECT_EQ(got, (std::vector<int32_t>{64, 0, 2, 2, 0, -2, 1, 63}));
}

INSTANTIATE_TEST_SUITE_P(Devices, FixedPointTest,
                         ::testing::Values(DeviceKind::kCpu, DeviceKind::kReference),
                         [](const ::testing::TestParamInfo<DeviceKind>& tested) {
                           return tested.param == DeviceKind::kCpu ? "cpu" : "reference";
                         });

TEST(FixedPointBitsTest, LeavesRoomForEveryShard) {
  EXPECT_EQ(FixedPointBits(1), 31);
  EXPECT_EQ(FixedPointBits(2), 30);
  EXPECT_EQ(FixedPointBits(3), 29);
  EXPECT_EQ(FixedPointBits(4), 29);
  EXPECT_EQ(FixedPointBits(5), 28);
  EXPECT_EQ(FixedPointBits(1024), 21);
}

}  // namespace
}  // namespace weft::kernels
