#include "worker/train/optimizer.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/device/reference/reference_device.h"
#include "kernels/ops/register.h"
#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using weft::testing::IsOk;

class OptimizerTest : public ::testing::Test {
 protected:
  OptimizerTest() {
    kernels::RegisterReferenceKernels();
    layout_.AddWeight("a", {2});
    layout_.AddNorm("n", 1);
    layout_.AddWeight("b", {1});
    device_ = kernels::NewReferenceDevice();
    stream_ = *device_->NewStream();
  }
  kernels::Tensor Block(const std::vector<double>& values) {
    auto block = kernels::NewTensor(*device_, kernels::DType::kF64, {layout_.block_count()});
    EXPECT_THAT(block, IsOk());
    std::vector<double> padded(static_cast<size_t>(layout_.block_count()), 0.0);
    for (size_t i = 0; i < values.size(); ++i) padded[kPlaces[i]] = values[i];
    EXPECT_OK(device_->CopyFromHost(*block, padded.data(), *stream_));
    return *block;
  }
  std::vector<double> Values(const kernels::Tensor& block) {
    std::vector<double> padded(static_cast<size_t>(layout_.block_count()));
    EXPECT_OK(device_->CopyToHost(padded.data(), block, *stream_));
    std::vector<double> values;
    for (const size_t place : kPlaces) values.push_back(padded[place]);
    return values;
  }

  // Where the four trained elements lie: parameters start at multiples of 16.
  static constexpr size_t kPlaces[] = {0, 1, 16, 32};
  ParameterLayout layout_;
  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Stream> stream_;
};

// The formulas of AdamW with decoupled decay, written out once more.
TEST_F(OptimizerTest, FollowsAdamWWithClippingAndDecaysNoNorms) {
  const AdamWConfig config = {.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.5};
  constexpr double clip_norm = 0.6;
  constexpr double rate = 0.1;
  auto optimizer = Optimizer::Create(*device_, layout_, config, clip_norm);
  ASSERT_THAT(optimizer, IsOk());
  std::vector<double> w = {1.0, -2.0, 1.0, 0.5};
  ParameterBlock weights(layout_, Block(w));
  std::vector<double> m(4, 0.0);
  std::vector<double> v(4, 0.0);
  const std::vector<std::vector<double>> gradients = {{0.3, -0.4, 1.2, 0.0},   // norm 1.3
                                                      {0.1, 0.1, 0.1, -0.1}};  // norm 0.2
  for (int step = 1; step <= 2; ++step) {
    const std::vector<double>& g = gradients[static_cast<size_t>(step - 1)];
    const auto outcome = (*optimizer)->Step(*stream_, Block(g), rate, config.beta1, weights);
    ASSERT_THAT(outcome, IsOk());
    EXPECT_TRUE(outcome->applied);
    const double norm = std::sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2] + g[3] * g[3]);
    EXPECT_NEAR(outcome->gradient_norm, norm, 1e-15);
    const double clip = std::min(1.0, clip_norm / norm);
    for (size_t i = 0; i < 4; ++i) {
      const double decay = i == 2 ? 0.0 : config.weight_decay;
      m[i] = config.beta1 * m[i] + (1 - config.beta1) * clip * g[i];
      v[i] = config.beta2 * v[i] + (1 - config.beta2) * clip * g[i] * clip * g[i];
      const double m_hat = m[i] / (1 - std::pow(config.beta1, step));
      const double v_hat = v[i] / (1 - std::pow(config.beta2, step));
      w[i] -= rate * (m_hat / (std::sqrt(v_hat) + config.epsilon) + decay * w[i]);
    }
    const std::vector<double> got = Values(weights.block());
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(got[i], w[i], 1e-14) << "element " << i;
  }
  EXPECT_EQ((*optimizer)->updates(), 2);
}

TEST_F(OptimizerTest, UpdatesItsPartAndHoldsItsStateAlone) {
  const ElementRange part = {.first = 16, .count = 16};
  auto whole = Optimizer::Create(*device_, layout_, {}, /*clip_norm=*/1.0);
  auto partial = Optimizer::Create(*device_, layout_, {}, /*clip_norm=*/1.0, part);
  ASSERT_THAT(whole, IsOk());
  ASSERT_THAT(partial, IsOk());
  const std::vector<double> before = {1, -2, 1, 0.5};
  ParameterBlock expected(layout_, Block(before));
  ParameterBlock weights(layout_, Block(before));
  const auto gradient = Block({0.3, -0.4, 1.2, 0.1});
  const auto outcome = (*whole)->Step(*stream_, gradient, 0.1, 0.9, expected);
  const auto of_part = (*partial)->Step(*stream_, gradient, 0.1, 0.9, weights);
  ASSERT_THAT(outcome, IsOk());
  ASSERT_THAT(of_part, IsOk());
  EXPECT_EQ(of_part->gradient_norm, outcome->gradient_norm) << "of the whole gradient";
  EXPECT_EQ(Values(weights.block()),
            (std::vector<double>{1, -2, Values(expected.block())[2], 0.5}));
  EXPECT_NE(Values(weights.block())[2], 1);
  EXPECT_EQ((*partial)->first_moment().count(), 16);
}

TEST_F(OptimizerTest, SkipsAGradientThatIsNotFinite) {
  auto optimizer = Optimizer::Create(*device_, layout_, {}, /*clip_norm=*/1.0);
  ASSERT_THAT(optimizer, IsOk());
  ParameterBlock weights(layout_, Block({1, 2, 3, 4}));
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const auto outcome = (*optimizer)->Step(*stream_, Block({0, bad, 0, 0}), 0.1, 0.9, weights);
    ASSERT_THAT(outcome, IsOk());
    EXPECT_FALSE(outcome->applied);
    EXPECT_FALSE(std::isfinite(outcome->gradient_norm));
  }
  EXPECT_EQ(Values(weights.block()), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(Values((*optimizer)->first_moment()), (std::vector<double>{0, 0, 0, 0}));
  EXPECT_EQ((*optimizer)->updates(), 0);
}

}  // namespace
}  // namespace weft::worker
