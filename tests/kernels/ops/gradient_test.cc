// The backward ops of the reference device against finite differences of its forward ops.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/ops/bias/bias.h"
#include "kernels/ops/conv_norm/conv_norm.h"
#include "kernels/ops/dropout/dropout.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/geglu/geglu.h"
#include "kernels/ops/gelu/gelu.h"
#include "kernels/ops/l2_norm/l2_norm.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/linear_gelu/linear_gelu.h"
#include "kernels/ops/mean_pool/mean_pool.h"
#include "kernels/ops/pair_features/pair_features.h"
#include "kernels/ops/relu/relu.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/rotary/rotary.h"
#include "kernels/ops/short_conv/short_conv.h"
#include "kernels/ops/sigmoid/sigmoid.h"
#include "kernels/ops/silu/silu.h"
#include "kernels/ops/swiglu/swiglu.h"
#include "tests/kernels/ops/op_case.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels {
namespace {

constexpr double kStep = 1e-3;  // of finite differences

class GradientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = ReferenceForTest();
    ASSERT_OK_AND_ASSIGN(stream_, device_->NewStream());
  }

  Tensor Make(const Array& array) {
    const DType dtype = array.dtype;
    absl::StatusOr<Tensor> tensor = NewTensor(*device_, dtype, array.shape);
    EXPECT_OK(tensor);
    for (size_t i = 0; i < array.values.size(); ++i) {
      if (dtype == DType::kI32) {
        tensor->data<int32_t>()[i] = static_cast<int32_t>(array.values[i]);
      } else {
        tensor->data<double>()[i] = array.values[i];
      }
    }
    return *tensor;
  }
  Tensor Random(const Shape& shape) { return Make(Normal(next_seed_++, shape)); }
  Tensor Zero(const Shape& shape) { return Make(Zeros(shape)); }

  // sum(y * slopes): a scalar whose gradient the backward op gives when it gets `slopes` as dy.
  static double Dot(const Tensor& y, const Tensor& slopes) {
    double sum = 0;
    for (int64_t i = 0; i < y.count(); ++i) sum += y.data<double>()[i] * slopes.data<double>()[i];
    return sum;
  }

  // Five-point differences: the error is h^4 f'''''/30 + 1.5 eps |f| / h, below 1e-10 for the
  // smooth functions of order one here. `gradient` starts from `before`.
  static void ExpectGradient(const Tensor& x, const Tensor& gradient,
                             const std::function<double()>& value, double before = 0) {
    for (int64_t i = 0; i < x.count(); ++i) {
      double& element = x.data<double>()[i];
      const double saved = element;
      const auto at = [&](double steps) {
        element = saved + steps * kStep;
        return value();
      };
      const double slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * kStep);
      element = saved;
      EXPECT_NEAR(gradient.data<double>()[i] - before, slope, 1e-8) << "element " << i;
    }
  }

  Stream& stream() { return *stream_; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  uint32_t next_seed_ = 100;
};

TEST_F(GradientTest, Linear) {
  Tensor x = Random({3, 4}), w = Random({5, 4}), dy = Random({3, 5}), bias = Random({5});
  Tensor y = Zero({3, 5}), dx = Zero({3, 4}), dw = Zero({5, 4});
  ASSERT_OK(LinearBackwardInput(stream(), dy, w, dx, Accumulate::kNo));
  ASSERT_OK(LinearBackwardWeight(stream(), dy, x, dw));
  const auto value = [&] {
    EXPECT_OK(LinearForward(stream(), x, w, bias, Tensor(), y));
    return Dot(y, dy);
  };
  ExpectGradient(x, dx, value);
  ExpectGradient(w, dw, value);
}

TEST_F(GradientTest, Bias) {
  Tensor x = Random({3, 4}), bias = Random({2, 2}), dy = Random({3, 4});
  Tensor y = Zero({3, 4}), dbias = Zero({2, 2});
  ASSERT_OK(BiasBackward(stream(), dy, dbias));
  const auto value = [&] {
    EXPECT_OK(BiasForward(stream(), x, bias, y));
    return Dot(y, dy);
  };
  ExpectGradient(bias, dbias, value);
  ExpectGradient(x, dy, value);  // dx is dy itself
}

TEST_F(GradientTest, RmsNorm) {
  Tensor x = Random({3, 7}), w = Random({7}), dy = Random({3, 7});
  Tensor y = Zero({3, 7}), rstd = Zero({3}), dx = Zero({3, 7}), dw = Zero({7}), no_sums;
  const auto value = [&] {
    EXPECT_OK(RmsNormForward(stream(), x, w, 1e-2, y, rstd));
    return Dot(y, dy);
  };
  value();
  ASSERT_OK(RmsNormBackward(stream(), x, w, rstd, dy, dx, Accumulate::kNo, dw, no_sums));
  ExpectGradient(x, dx, value);
  ExpectGradient(w, dw, value);
}

TEST_F(GradientTest, LayerNorm) {
  Tensor x = Random({3, 7}), w = Random({7}), b = Random({7}), dy = Random({3, 7});
  Tensor y = Zero({3, 7}), mean = Zero({3}), rstd = Zero({3});
  Tensor dx = Zero({3, 7}), dw = Zero({7}), db = Zero({7}), no_sums;
  const auto value = [&] {
    EXPECT_OK(LayerNormForward(stream(), x, w, b, 1e-2, y, mean, rstd));
    return Dot(y, dy);
  };
  value();
  ASSERT_OK(
      LayerNormBackward(stream(), x, w, mean, rstd, dy, dx, Accumulate::kNo, dw, db, no_sums));
  ExpectGradient(x, dx, value);
  ExpectGradient(w, dw, value);
  ExpectGradient(b, db, value);
}

TEST_F(GradientTest, L2Norm) {
  Tensor x = Random({4, 6}), dy = Random({4, 6});
  Tensor y = Zero({4, 6}), inverse_norm = Zero({4}), dx = Zero({4, 6});
  const auto value = [&] {
    EXPECT_OK(L2NormForward(stream(), x, 1e-2, 0.375, y, inverse_norm));
    return Dot(y, dy);
  };
  value();
  ASSERT_OK(L2NormBackward(stream(), y, inverse_norm, 0.375, dy, dx));
  ExpectGradient(x, dx, value);
}

// What is scaled to length one does not depend on its own length: no gradient along itself. Rows of
// zeros stay zeros, and their gradients finite.
TEST_F(GradientTest, L2NormHasNoGradientAlongItsResult) {
  Tensor x = Random({4, 9}), dy = Random({4, 9});
  std::fill_n(x.data<double>() + 27, 9, 0.0);
  Tensor y = Zero({4, 9}), rnorm = Zero({4}), dx = Zero({4, 9});
  ASSERT_OK(L2NormForward(stream(), x, 1e-6, 1.0, y, rnorm));
  ASSERT_OK(L2NormBackward(stream(), y, rnorm, 1.0, dy, dx));
  for (int64_t row = 0; row < 4; ++row) {
    double along = 0, length = 0;
    for (int64_t c = 0; c < 9; ++c) {
      along += y.data<double>()[row * 9 + c] * dx.data<double>()[row * 9 + c];
      length += std::pow(dx.data<double>()[row * 9 + c], 2);
      if (row == 3) {
        EXPECT_EQ(y.data<double>()[27 + c], 0.0);
      }
    }
    EXPECT_TRUE(std::isfinite(length));
    EXPECT_GT(length, 0.0);
    EXPECT_LE(std::abs(along), 1e-4 * std::sqrt(length)) << row;
  }
}

TEST_F(GradientTest, ShortConv) {
  Tensor x = Random({2, 6, 3}), w = Random({3, 4}), history = Random({2, 3, 3});
  Tensor dy = Random({2, 6, 3}), y = Zero({2, 6, 3});
  for (const Tensor& past : {Tensor(), history}) {
    Tensor dx = Zero({2, 6, 3}), dw = Zero({3, 4}), d_history = Zero({2, 3, 3});
    ASSERT_OK(ShortConvBackward(stream(), x, w, past, dy, dx, d_history, dw));
    const auto value = [&] {
      EXPECT_OK(ShortConvForward(stream(), x, w, past, y));
      return Dot(y, dy);
    };
    ExpectGradient(x, dx, value);
    ExpectGradient(w, dw, value);
    if (past.present()) ExpectGradient(history, d_history, value);
  }
}

TEST_F(GradientTest, ShortConvOfFewerTokensThanTaps) {
  Tensor x = Random({1, 2, 3}), w = Random({3, 5}), history = Random({1, 4, 3});
  Tensor dy = Random({1, 2, 3}), y = Zero({1, 2, 3});
  Tensor dx = Zero({1, 2, 3}), dw = Zero({3, 5}), d_history = Random({1, 4, 3});
  ASSERT_OK(ShortConvBackward(stream(), x, w, history, dy, dx, d_history, dw));
  const auto value = [&] {
    EXPECT_OK(ShortConvForward(stream(), x, w, history, y));
    return Dot(y, dy);
  };
  ExpectGradient(x, dx, value);
  ExpectGradient(history, d_history, value);
}

TEST_F(GradientTest, ConvNorm) {
  Tensor x = Random({2, 6, 4}), w = Random({4, 3}), history = Random({2, 2, 4});
  Tensor dy = Random({2, 6, 2, 2}), y = Zero({2, 6, 2, 2}), inverse_norm = Zero({24});
  Tensor space = Zero({2, 6, 4});
  for (const Tensor& past : {Tensor(), history}) {
    Tensor dx = Zero({2, 6, 4}), dw = Zero({4, 3}), d_history = Zero({2, 2, 4});
    const auto value = [&] {
      EXPECT_OK(ConvNormForward(stream(), x, w, past, 1e-2, 0.375, y, inverse_norm));
      return Dot(y, dy);
    };
    value();
    ASSERT_OK(ConvNormBackward(stream(), x, w, past, 0.375, y, inverse_norm, dy, space, dx,
                               d_history, dw));
    ExpectGradient(x, dx, value);
    ExpectGradient(w, dw, value);
    if (past.present()) ExpectGradient(history, d_history, value);
  }
}

TEST_F(GradientTest, Activations) {
  Tensor x = Random({9}), up = Random({9}), dy = Random({9});
  Tensor y = Zero({9}), dx = Zero({9}), dup = Zero({9});
  ASSERT_OK(SiluBackward(stream(), x, dy, dx));
  ExpectGradient(x, dx, [&] {
    EXPECT_OK(SiluForward(stream(), x, y));
    return Dot(y, dy);
  });
  const auto relu = [&] {
    EXPECT_OK(ReluForward(stream(), x, y));
    return Dot(y, dy);
  };
  relu();
  ASSERT_OK(ReluBackward(stream(), y, dy, dx));
  ExpectGradient(x, dx, relu);  // no element is within two steps of the corner
  ASSERT_OK(SigmoidForward(stream(), x, 2, y));
  ASSERT_OK(SigmoidBackward(stream(), y, 2, dy, dx));
  ExpectGradient(x, dx, [&] {
    EXPECT_OK(SigmoidForward(stream(), x, 2, y));
    return Dot(y, dy);
  });
  ASSERT_OK(SwigluBackward(stream(), x, up, dy, dx, dup));
  const auto swiglu = [&] {
    EXPECT_OK(SwigluForward(stream(), x, up, y));
    return Dot(y, dy);
  };
  ExpectGradient(x, dx, swiglu);
  ExpectGradient(up, dup, swiglu);
}

TEST_F(GradientTest, Gelu) {
  Tensor x = Random({9}), dy = Random({9}), y = Zero({9}), dx = Zero({9});
  for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
    ASSERT_OK(GeluBackward(stream(), form, x, dy, dx));
    ExpectGradient(x, dx, [&] {
      EXPECT_OK(GeluForward(stream(), form, x, y));
      return Dot(y, dy);
    });
  }
}

TEST_F(GradientTest, Rotary) {
  Tensor x = Random({2, 3, 2, 6}), dy = Random({2, 3, 2, 6});
  Tensor y = Zero({2, 3, 2, 6}), dx = Zero({2, 3, 2, 6});
  ASSERT_OK(RotaryBackward(stream(), dy, 100, 5, dx));
  ExpectGradient(x, dx, [&] {
    EXPECT_OK(RotaryForward(stream(), x, 100, 5, y));
    return Dot(y, dy);
  });
}

TEST_F(GradientTest, Embedding) {
  Tensor tokens = Make(Integers({5}, {2, 0, 2, 1, 2}));
  Tensor table = Random({4, 3}), dy = Random({5, 3});
  Tensor y = Zero({5, 3}), dtable = Zero({4, 3});
  ASSERT_OK(EmbeddingBackward(stream(), tokens, dy, dtable));
  ExpectGradient(table, dtable, [&] {
    EXPECT_OK(EmbeddingForward(stream(), tokens, table, y));
    return Dot(y, dy);
  });
}

TEST_F(GradientTest, LinearGelu) {
  Tensor x = Random({3, 4}), up = Random({5, 4}), bias = Random({5}), down = Random({2, 5});
  Tensor before = Zero({3, 5}), product = Zero({3, 5}), d_before = Zero({3, 5});
  Tensor y = Zero({3, 2}), dy = Random({3, 2});
  const auto forward = [&] {
    EXPECT_OK(LinearGeluForward(stream(), x, up, bias, before, product));
    EXPECT_OK(LinearForward(stream(), product, down, Tensor(), Tensor(), y));
    return Dot(y, dy);
  };
  forward();
  Tensor dx = Zero({3, 4}), d_up = Zero({5, 4}), d_bias = Zero({5});
  ASSERT_OK(LinearBackwardGelu(stream(), dy, down, before, d_before, d_bias));
  ASSERT_OK(LinearBackwardInput(stream(), d_before, up, dx, Accumulate::kNo));
  ASSERT_OK(LinearBackwardWeight(stream(), d_before, x, d_up));
  ExpectGradient(x, dx, forward);
  ExpectGradient(up, d_up, forward);
  ExpectGradient(bias, d_bias, forward);
}

TEST_F(GradientTest, LinearCrossEntropy) {
  Tensor h = Random({4, 3}), w = Random({6, 3}), some_bias = Random({6});
  Tensor targets = Make(Integers({4}, {5, -1, 0, 2}));
  for (const Tensor& bias : {Tensor(), some_bias}) {
    Tensor losses = Zero({4}), right = Zero({4}), dh = Zero({4, 3}), dw = Zero({6, 3});
    Tensor dbias = bias.present() ? Zero({6}) : Tensor();
    ASSERT_OK(LinearCrossEntropyForwardBackward(stream(), h, w, bias, targets, 0.25, losses, right,
                                                dh, dw, dbias));
    const auto value = [&] {
      EXPECT_OK(LinearCrossEntropyForward(stream(), h, w, bias, targets, losses, right));
      double sum = 0;
      for (int64_t r = 0; r < 4; ++r) sum += losses.data<double>()[r];
      return 0.25 * sum;
    };
    ExpectGradient(h, dh, value);
    ExpectGradient(w, dw, value);
    if (bias.present()) ExpectGradient(bias, dbias, value);
  }
}

TEST_F(GradientTest, Geglu) {
  Tensor gate = Random({9}), up = Random({9}), dy = Random({9});
  Tensor y = Zero({9}), dgate = Zero({9}), dup = Zero({9});
  for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
    ASSERT_OK(GegluBackward(stream(), form, gate, up, dy, dgate, dup));
    const auto value = [&] {
      EXPECT_OK(GegluForward(stream(), form, gate, up, y));
      return Dot(y, dy);
    };
    ExpectGradient(gate, dgate, value);
    ExpectGradient(up, dup, value);
  }
}

TEST_F(GradientTest, MeanPool) {
  Tensor x = Random({2, 3, 2}), dy = Random({2, 2}), y = Zero({2, 2});
  const Tensor some_valid = Make(Integers({2, 3}, {1, 0, 1, 0, 0, 0}));
  for (const Tensor& valid : {Tensor(), some_valid}) {
    Tensor dx = Random({2, 3, 2});
    ASSERT_OK(MeanPoolBackward(stream(), dy, valid, dx));
    ExpectGradient(x, dx, [&] {
      EXPECT_OK(MeanPoolForward(stream(), x, valid, y));
      return Dot(y, dy);
    });
  }
}

TEST_F(GradientTest, PairFeatures) {
  Tensor x = Random({3, 4}), dy = Random({3, 8}), y = Zero({3, 8}), dx = Zero({3, 4});
  ASSERT_OK(PairFeaturesBackward(stream(), x, dy, dx));
  ExpectGradient(x, dx, [&] {
    EXPECT_OK(PairFeaturesForward(stream(), x, y));
    return Dot(y, dy);
  });
}

// What the op does to dy is the gradient of what it does to x.
TEST_F(GradientTest, Dropout) {
  const DropoutOptions options = {.probability = 0.3, .seed = 7, .step = 2, .first_sequence = 5};
  Tensor x = Random({2, 3, 6}), dy = Random({2, 3, 6}), y = Zero({2, 3, 6}), dx = Zero({2, 3, 6});
  ASSERT_OK(Dropout(stream(), options, dy, dx));
  ExpectGradient(x, dx, [&] {
    EXPECT_OK(Dropout(stream(), options, x, y));
    return Dot(y, dy);
  });
}

TEST_F(GradientTest, ParameterGradientsAreAddedTo) {
  Tensor x = Random({3, 4}), w = Random({5, 4}), dy = Random({3, 5}), dw = Zero({5, 4});
  ASSERT_OK(LinearBackwardWeight(stream(), dy, x, dw));
  ASSERT_OK(LinearBackwardWeight(stream(), dy, x, dw));
  Tensor once = Zero({5, 4});
  ASSERT_OK(LinearBackwardWeight(stream(), dy, x, once));
  for (int64_t i = 0; i < dw.count(); ++i) {
    EXPECT_DOUBLE_EQ(dw.data<double>()[i], 2 * once.data<double>()[i]);
  }
}

}  // namespace
}  // namespace weft::kernels
