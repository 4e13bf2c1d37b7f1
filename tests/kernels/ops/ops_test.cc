// Every op on the CPU device against the reference device, and against itself with other numbers of
// threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/ops/op_case.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels {
namespace {

using ::testing::TestWithParam;

class OpTest : public TestWithParam<OpCase> {
 protected:
  void SetUp() override {
    if (!HasTestInstructionSet()) GTEST_SKIP() << "this machine lacks the instruction set";
  }
};

double LargestMagnitude(const std::vector<double>& values) {
  double largest = 0;
  for (double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    // NaN counts as infinitely wrong.
    const double difference = std::abs(a[i] - b[i]);
    largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
  }
  return largest;
}

// The distance of fp32 numbers at the magnitude of `value`.
double UlpAt(double value) {
  const auto magnitude = static_cast<float>(value);
  return static_cast<double>(std::nextafter(magnitude, HUGE_VALF) - magnitude);
}

// At most twice as wrong as plain arithmetic in the same precision, and one ulp for rounding the
// result.
TEST_P(OpTest, CpuIsNearlyAsExactAsPlainArithmetic) {
  const OpCase& op = GetParam();
  const std::unique_ptr<Device> reference = ReferenceForTest();
  const std::unique_ptr<Device> cpu = CpuForTest(2);
  ASSERT_OK_AND_ASSIGN(const auto exact, RunOn(op, *reference));
  ASSERT_OK_AND_ASSIGN(const auto got, RunOn(op, *cpu));
  const auto plain = RunPlain(op);
  for (const size_t result : op.results) {
    const double allowed = 2 * LargestDifference(plain[result], exact[result]) +
                           UlpAt(LargestMagnitude(exact[result]));
    EXPECT_LE(LargestDifference(got[result], exact[result]), allowed) << "operand " << result;
  }
}

// The reference itself agrees with the formula written a second time, up to the rounding of fp32.
TEST_P(OpTest, ReferenceAgreesWithTheFormula) {
  const OpCase& op = GetParam();
  const std::unique_ptr<Device> reference = ReferenceForTest();
  ASSERT_OK_AND_ASSIGN(const auto exact, RunOn(op, *reference));
  const auto plain = RunPlain(op);
  for (const size_t result : op.results) {
    const double scale = std::max(1.0, LargestMagnitude(exact[result]));
    EXPECT_LE(LargestDifference(plain[result], exact[result]), 1e-4 * scale) << result;
  }
}

TEST_P(OpTest, OperandsAreLeftAlone) {
  const OpCase& op = GetParam();
  for (const std::unique_ptr<Device>& device : {ReferenceForTest(), CpuForTest(2)}) {
    ASSERT_OK_AND_ASSIGN(const auto got, RunOn(op, *device));
    for (size_t i = 0; i < op.operands.size(); ++i) {
      if (std::count(op.results.begin(), op.results.end(), i) == 0) {
        EXPECT_EQ(got[i], op.operands[i].values) << "operand " << i;
      }
    }
  }
}

TEST_P(OpTest, BitsDoNotDependOnThreads) {
  const OpCase& op = GetParam();
  ASSERT_OK_AND_ASSIGN(const auto one, RunOn(op, *CpuForTest(1)));
  for (const int threads : {1, 2, 3}) {
    const std::unique_ptr<Device> cpu = CpuForTest(threads);
    ASSERT_OK_AND_ASSIGN(const auto some, RunOn(op, *cpu));
    EXPECT_EQ(one, some) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(All, OpTest, ::testing::ValuesIn(AllOpCases()),
                         [](const ::testing::TestParamInfo<OpCase>& tested) {
                           return tested.param.name;
                         });

}  // namespace
}  // namespace weft::kernels
