// The list of calls that are made on every device.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/device/host_values.h"
#include "kernels/ops/adamw/adamw.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/conv_norm/conv_norm.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/gelu/gelu.h"
#include "kernels/ops/gradient_norm/gradient_norm.h"
#include "kernels/ops/l2_norm/l2_norm.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/linear_gelu/linear_gelu.h"
#include "kernels/ops/relu/relu.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/rotary/rotary.h"
#include "kernels/ops/short_conv/short_conv.h"
#include "kernels/ops/sigmoid/sigmoid.h"
#include "kernels/ops/silu/silu.h"
#include "kernels/ops/sum/sum.h"
#include "kernels/ops/swiglu/swiglu.h"
#include "tests/kernels/ops/op_case.h"
#include "tests/kernels/ops/plain_ops.h"

namespace weft::kernels {
namespace {

constexpr double kEps = 1e-6;
constexpr double kQueryScale = 0.3125;
constexpr float kSigmoidScale = 2;
constexpr float kLossScale = 0.0078125;  // exact in fp32

using Row = std::vector<float>;
using Rows = std::vector<Row>;

// Operands without elements stand for absent ones.
Tensor Optional(const Tensor& tensor) { return tensor.count() > 0 ? tensor : Tensor(); }

OpCase ForwardLinear(int64_t r, int64_t k, int64_t n, bool biased, bool added) {
  return {.name = absl::StrCat("LinearForward", r, "x", k, "x", n, biased ? "Biased" : "",
                               added ? "Added" : ""),
          .operands = {Normal(1, {r, k}), Normal(2, {n, k}), Normal(3, {r, n}), Normal(4, {n}),
                       Normal(5, {r, n})},
          .results = {2},
          .call =
              [=](Stream& s, Operands t) {
                return LinearForward(s, t[0], t[1], biased ? t[3] : Tensor(),
                                     added ? t[4] : Tensor(), t[2]);
              },
          .plain =
              [=](Rows& a) {
                plain::MatMul({a[0], k, 1}, {a[1], 1, k}, r, n, k, 0, a[2]);
                for (size_t i = 0; biased && i < a[2].size(); ++i) {
                  a[2][i] += a[3][i % static_cast<size_t>(n)];
                }
                for (size_t i = 0; added && i < a[2].size(); ++i) a[2][i] += a[4][i];
              }};
}

OpCase BackwardLinearInput(int64_t r, int64_t k, int64_t n, Accumulate accumulate) {
  const float beta = accumulate == Accumulate::kYes ? 1 : 0;
  return {.name = absl::StrCat("LinearBackwardInput", r, "x", k, "x", n, beta == 0 ? "" : "Added"),
          .operands = {Normal(1, {r, n}), Normal(2, {n, k}), Normal(3, {r, k})},
          .results = {2},
          .call = [=](Stream& s,
                      Operands t) { return LinearBackwardInput(s, t[0], t[1], t[2], accumulate); },
          .plain =
              [=](Rows& a) {
                plain::MatMul({a[0], n, 1}, {a[1], k, 1}, r, k, n, beta, a[2]);
              }};
}

OpCase BackwardLinearWeight(int64_t r, int64_t k, int64_t n) {
  return {.name = absl::StrCat("LinearBackwardWeight", r, "x", k, "x", n),
          .operands = {Normal(1, {r, n}), Normal(2, {r, k}), AsSum(Normal(3, {n, k}))},
          .results = {2},
          .call = [](Stream& s, Operands t) { return LinearBackwardWeight(s, t[0], t[1], t[2]); },
          .plain =
              [=](Rows& a) {
                plain::MatMul({a[0], 1, n}, {a[1], k, 1}, n, k, r, 1, a[2]);
              }};
}

void AddLinear(std::vector<OpCase>& cases) {
  const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {239, 1, 33}, {130, 129, 257}, {257, 96, 65}};
  for (const auto& [r, k, n] : shapes) {
    for (const bool added : {false, true}) {
      cases.push_back(ForwardLinear(r, k, n, false, added));
      cases.push_back(ForwardLinear(r, k, n, true, added));
    }
    cases.push_back(BackwardLinearInput(r, k, n, Accumulate::kNo));
    cases.push_back(BackwardLinearInput(r, k, n, Accumulate::kYes));
    cases.push_back(BackwardLinearWeight(r, k, n));
  }
}

void AddBias(std::vector<OpCase>& cases, int64_t r, int64_t c) {
  const auto width = static_cast<size_t>(c);
  cases.push_back({.name = absl::StrCat("BiasForward", r, "x", c),
                   .operands = {Normal(1, {r, c}), Normal(2, {c}), Normal(3, {r, c})},
                   .results = {2},
                   .call = [](Stream& s, Operands t) { return BiasForward(s, t[0], t[1], t[2]); },
                   .plain =
                       [=](Rows& a) {
                         for (size_t i = 0; i < a[0].size(); ++i)
                           a[2][i] = a[0][i] + a[1][i % width];
                       }});
  cases.push_back({.name = absl::StrCat("BiasBackward", r, "x", c),
                   .operands = {Normal(1, {r, c}), AsSum(Normal(2, {c}))},
                   .results = {1},
                   .call = [](Stream& s, Operands t) { return BiasBackward(s, t[0], t[1]); },
                   .plain = [](Rows& a) { plain::AddRows(a[0], a[1]); }});
}

// What the backward pass of a norm does with its result.
struct NormResult {
  const char* name;
  Accumulate accumulate;
  bool sums;  // of the rows that it adds to
};
constexpr NormResult kNormResults[] = {{"", Accumulate::kNo, false},
                                       {"Added", Accumulate::kYes, false},
                                       {"AddedAndSummed", Accumulate::kYes, true}};

void AddRmsNorm(std::vector<OpCase>& cases, int64_t r, int64_t c) {
  cases.push_back(
      {.name = absl::StrCat("RmsNormForward", r, "x", c),
       .operands = {Normal(1, {r, c}, 3), Normal(2, {c}), Normal(3, {r, c}), AsSum(Normal(4, {r}))},
       .results = {2, 3},
       .call = [](Stream& s,
                  Operands t) { return RmsNormForward(s, t[0], t[1], kEps, t[2], t[3]); },
       .plain =
           [](Rows& a) {
             plain::RmsNormForward(a[0], a[1], static_cast<float>(kEps), a[2], a[3]);
           }});
  Array rstd = AsSum(Normal(3, {r}));
  for (double& value : rstd.values) value = 0.125 + std::floor(std::abs(value) * 1024) / 1024;
  for (const NormResult& result : kNormResults) {
    const bool added = result.accumulate == Accumulate::kYes;
    cases.push_back(
        {.name = absl::StrCat("RmsNormBackward", r, "x", c, result.name),
         .operands = {Normal(1, {r, c}), Normal(2, {c}), rstd, Normal(4, {r, c}), Normal(5, {r, c}),
                      AsSum(Normal(6, {c})), AsSum(result.sums ? Normal(8, {c}) : Zeros({0}))},
         .results = {4, 5, 6},
         .call =
             [=](Stream& s, Operands t) {
               Tensor sums = Optional(t[6]);
               return RmsNormBackward(s, t[0], t[1], t[2], t[3], t[4], result.accumulate, t[5],
                                      sums);
             },
         .plain =
             [=](Rows& a) {
               if (result.sums) plain::AddRows(a[4], a[6]);
               plain::RmsNormBackward(a[0], a[1], a[2], a[3], added, a[4], a[5]);
             }});
  }
}

void AddLayerNorm(std::vector<OpCase>& cases, int64_t r, int64_t c) {
  Array x = Normal(1, {r, c}, 3);
  for (double& value : x.values)
    value = static_cast<float>(value + 50);  // a mean to lose digits by
  cases.push_back({.name = absl::StrCat("LayerNormForward", r, "x", c),
                   .operands = {x, Normal(2, {c}), Normal(3, {c}), Normal(4, {r, c}),
                                AsSum(Normal(5, {r})), AsSum(Normal(6, {r}))},
                   .results = {3, 4, 5},
                   .call =
                       [](Stream& s, Operands t) {
                         return LayerNormForward(s, t[0], t[1], t[2], kEps, t[3], t[4], t[5]);
                       },
                   .plain =
                       [](Rows& a) {
                         plain::LayerNormForward(a[0], a[1], a[2], static_cast<float>(kEps), a[3],
                                                 a[4], a[5]);
                       }});
  Array rstd = AsSum(Normal(3, {r}));
  for (double& value : rstd.values) value = 0.125 + std::floor(std::abs(value) * 1024) / 1024;
  for (const NormResult& result : kNormResults) {
    const bool added = result.accumulate == Accumulate::kYes;
    cases.push_back(
        {.name = absl::StrCat("LayerNormBackward", r, "x", c, result.name),
         .operands = {Normal(1, {r, c}), Normal(2, {c}), AsSum(Normal(7, {r})), rstd,
                      Normal(4, {r, c}), Normal(5, {r, c}), AsSum(Normal(6, {c})),
                      AsSum(Normal(8, {c})), AsSum(result.sums ? Normal(9, {c}) : Zeros({0}))},
         .results = {5, 6, 7, 8},
         .call =
             [=](Stream& s, Operands t) {
               Tensor sums = Optional(t[8]);
               return LayerNormBackward(s, t[0], t[1], t[2], t[3], t[4], t[5], result.accumulate,
                                        t[6], t[7], sums);
             },
         .plain =
             [=](Rows& a) {
               if (result.sums) plain::AddRows(a[5], a[8]);
               plain::LayerNormBackward(a[0], a[1], a[2], a[3], a[4], added, a[5], a[6], a[7]);
             }});
  }
}

void AddL2Norm(std::vector<OpCase>& cases, int64_t r, int64_t d) {
  cases.push_back(
      {.name = absl::StrCat("L2NormForward", r, "x", d),
       .operands = {Normal(1, {r, d}, 0.1), Normal(2, {r, d}), AsSum(Normal(3, {r}))},
       .results = {1, 2},
       .call = [](Stream& s,
                  Operands t) { return L2NormForward(s, t[0], kEps, kQueryScale, t[1], t[2]); },
       .plain =
           [=](Rows& a) {
             plain::L2NormForward(a[0], d, static_cast<float>(kEps),
                                  static_cast<float>(kQueryScale), a[1], a[2]);
           }});
  cases.push_back(
      {.name = absl::StrCat("L2NormBackward", r, "x", d),
       .operands = {Normal(1, {r, d}), AsSum(Normal(2, {r})), Normal(3, {r, d}), Normal(4, {r, d})},
       .results = {3},
       .call = [](Stream& s,
                  Operands t) { return L2NormBackward(s, t[0], t[1], kQueryScale, t[2], t[3]); },
       .plain =
           [](Rows& a) {
             plain::L2NormBackward(a[0], a[1], static_cast<float>(kQueryScale), a[2], a[3]);
           }});
}

void AddShortConv(std::vector<OpCase>& cases, const plain::ConvShape& shape, bool with_history) {
  const auto [b, t, c, w] = shape;
  const std::string name = absl::StrCat(b, "x", t, "x", c, "w", w, with_history ? "History" : "");
  // Operand 2 is a history of no tokens where there is none.
  const Array history = with_history ? Normal(3, {b, w - 1, c}) : Zeros({b, 0, c});
  cases.push_back(
      {.name = absl::StrCat("ShortConvForward", name),
       .operands = {Normal(1, {b, t, c}), Normal(2, {c, w}), history, Normal(4, {b, t, c})},
       .results = {3},
       .call = [=](Stream& s,
                   Operands a) { return ShortConvForward(s, a[0], a[1], Optional(a[2]), a[3]); },
       .plain = [=](Rows& a) { plain::ShortConvForward(shape, a[0], a[1], a[2], a[3]); }});
  cases.push_back(
      {.name = absl::StrCat("ShortConvBackward", name),
       .operands = {Normal(1, {b, t, c}), Normal(2, {c, w}), history, Normal(4, {b, t, c}),
                    Normal(5, {b, t, c}), with_history ? Normal(7, {b, w - 1, c}) : history,
                    AsSum(Normal(6, {c, w}))},
       .results = {4, 5, 6},
       .call =
           [=](Stream& s, Operands a) {
             Tensor d_history = Optional(a[5]);
             return ShortConvBackward(s, a[0], a[1], Optional(a[2]), a[3], a[4], d_history, a[6]);
           },
       .plain =
           [=](Rows& a) {
             plain::ShortConvBackward(shape, a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
           }});
}

// Numbers that no compute type rounds: results of a forward pass then belong to its operands
// everywhere.
Array Bf16Normal(uint32_t seed, const Shape& shape) {
  Array array = Normal(seed, shape);
  for (double& value : array.values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
  return array;
}

void AddConvNorm(std::vector<OpCase>& cases, const plain::ConvShape& shape, int64_t width,
                 bool with_history) {
  const auto [b, t, c, w] = shape;
  const std::string name =
      absl::StrCat(b, "x", t, "x", c, "by", width, "w", w, with_history ? "History" : "");
  const Shape heads = {b, t, c / width, width};
  const Array history = with_history ? Bf16Normal(3, {b, w - 1, c}) : Zeros({b, 0, c});
  const auto forward = [=](Rows& a) {  // x, w, history, y, inverse_norm
    Row activated(a[0].size());
    plain::ShortConvForward(shape, a[0], a[1], a[2], activated);
    plain::L2NormForward(activated, width, static_cast<float>(kEps),
                         static_cast<float>(kQueryScale), a[3], a[4]);
  };
  const std::vector<Array> operands = {Bf16Normal(1, {b, t, c}), Bf16Normal(2, {c, w}), history,
                                       Zeros(heads), AsSum(Zeros({b * t * (c / width)}))};
  cases.push_back({.name = absl::StrCat("ConvNormForward", name),
                   .operands = operands,
                   .results = {3, 4},
                   .call =
                       [=](Stream& s, Operands a) {
                         return ConvNormForward(s, a[0], a[1], Optional(a[2]), kEps, kQueryScale,
                                                a[3], a[4]);
                       },
                   .plain = forward});
  Rows computed;
  for (const Array& array : operands) {
    computed.emplace_back(array.values.begin(), array.values.end());
  }
  forward(computed);
  std::vector<Array> backward = operands;
  for (const size_t i : {3, 4}) backward[i].values.assign(computed[i].begin(), computed[i].end());
  for (const Array& more :
       {Normal(5, heads), Normal(6, {b, t, c}), with_history ? Normal(7, {b, w - 1, c}) : history,
        AsSum(Normal(8, {c, w}))}) {
    backward.push_back(more);
  }
  cases.push_back(
      {.name = absl::StrCat("ConvNormBackward", name),
       .operands = std::move(backward),
       .results = {6, 7, 8},
       .call = [=](Stream& s, Operands a) -> absl::Status {
         Tensor d_history = Optional(a[7]);
         WEFT_ASSIGN_OR_RETURN(Tensor space,
                               NewTensor(s.device(), s.device().compute_dtype(), a[0].shape()));
         return ConvNormBackward(s, a[0], a[1], Optional(a[2]), kQueryScale, a[3], a[4], a[5],
                                 space, a[6], d_history, a[8]);
       },
       .plain =
           [=](Rows& a) {
             Row d_activated(a[0].size());
             plain::L2NormBackward(a[3], a[4], static_cast<float>(kQueryScale), a[5], d_activated);
             plain::ShortConvBackward(shape, a[0], a[1], a[2], d_activated, a[6], a[7], a[8]);
           }});
}

template <typename Formula>
std::function<void(Rows&)> Each(size_t result, Formula formula) {
  return [=](Rows& a) {
    for (size_t i = 0; i < a[result].size(); ++i) a[result][i] = formula(a, i);
  };
}

void AddActivations(std::vector<OpCase>& cases, int64_t n) {
  const Array x = Normal(1, {n}, 4);
  const Array dy = Normal(2, {n});
  const Array up = Normal(3, {n});
  const Array result = Normal(4, {n});
  cases.push_back({absl::StrCat("SiluForward", n),
                   {x, result},
                   {1},
                   [](Stream& s, Operands t) { return SiluForward(s, t[0], t[1]); },
                   Each(1, [](Rows& a, size_t i) { return a[0][i] * plain::Sigmoid(a[0][i]); })});
  cases.push_back({absl::StrCat("SiluBackward", n),
                   {x, dy, result},
                   {2},
                   [](Stream& s, Operands t) { return SiluBackward(s, t[0], t[1], t[2]); },
                   Each(2, [](Rows& a, size_t i) { return a[1][i] * plain::SiluSlope(a[0][i]); })});
  cases.push_back(
      {absl::StrCat("SigmoidForward", n),
       {x, AsSum(result)},
       {1},
       [](Stream& s, Operands t) { return SigmoidForward(s, t[0], kSigmoidScale, t[1]); },
       Each(1, [](Rows& a, size_t i) { return kSigmoidScale * plain::Sigmoid(a[0][i]); })});
  cases.push_back(
      {absl::StrCat("SigmoidBackward", n),
       {AsSum(x), AsSum(dy), result},
       {2},
       [](Stream& s, Operands t) { return SigmoidBackward(s, t[0], kSigmoidScale, t[1], t[2]); },
       Each(2,
            [](Rows& a, size_t i) { return a[1][i] * a[0][i] * (1 - a[0][i] / kSigmoidScale); })});
  cases.push_back(
      {absl::StrCat("SwigluForward", n),
       {x, up, result},
       {2},
       [](Stream& s, Operands t) { return SwigluForward(s, t[0], t[1], t[2]); },
       Each(2, [](Rows& a, size_t i) { return a[0][i] * plain::Sigmoid(a[0][i]) * a[1][i]; })});
  cases.push_back(
      {absl::StrCat("SwigluBackward", n),
       {x, up, dy, result, result},
       {3, 4},
       [](Stream& s, Operands t) { return SwigluBackward(s, t[0], t[1], t[2], t[3], t[4]); },
       [](Rows& a) {
         for (size_t i = 0; i < a[0].size(); ++i) {
           a[3][i] = a[2][i] * a[1][i] * plain::SiluSlope(a[0][i]);
           a[4][i] = a[2][i] * a[0][i] * plain::Sigmoid(a[0][i]);
         }
       }});
  cases.push_back({absl::StrCat("Add", n),
                   {x, up, result},
                   {2},
                   [](Stream& s, Operands t) { return Add(s, t[0], t[1], t[2]); },
                   Each(2, [](Rows& a, size_t i) { return a[0][i] + a[1][i]; })});
  cases.push_back({absl::StrCat("Copy", n),
                   {x, result},
                   {1},
                   [](Stream& s, Operands t) { return Copy(s, t[0], t[1]); },
                   Each(1, [](Rows& a, size_t i) { return a[0][i]; })});
  cases.push_back({absl::StrCat("Fill", n),
                   {result},
                   {0},
                   [](Stream& s, Operands t) { return Fill(s, t[0], 0.375); },
                   Each(0, [](Rows&, size_t) { return 0.375F; })});
}

void AddGelu(std::vector<OpCase>& cases, int64_t n) {
  const Array x = Normal(1, {n}, 3), dy = Normal(2, {n}), result = Zeros({n});
  for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
    const bool exact = form == GeluForm::kExact;
    cases.push_back({absl::StrCat(exact ? "GeluForward" : "GeluTanhForward", n),
                     {x, result},
                     {1},
                     [=](Stream& s, Operands t) { return GeluForward(s, form, t[0], t[1]); },
                     Each(1, [=](Rows& a, size_t i) { return plain::Gelu(exact, a[0][i]); })});
    cases.push_back(
        {absl::StrCat(exact ? "GeluBackward" : "GeluTanhBackward", n),
         {x, dy, result},
         {2},
         [=](Stream& s, Operands t) { return GeluBackward(s, form, t[0], t[1], t[2]); },
         Each(2, [=](Rows& a, size_t i) { return a[1][i] * plain::GeluSlope(exact, a[0][i]); })});
  }
}

void AddLinearGelu(std::vector<OpCase>& cases, int64_t r, int64_t k, int64_t n) {
  const std::string shape = absl::StrCat(r, "x", k, "x", n);
  for (const bool biased : {false, true}) {
    cases.push_back(
        {absl::StrCat("LinearGeluForward", shape, biased ? "Biased" : ""),
         {Normal(1, {r, k}), Normal(2, {n, k}, 0.25), Normal(3, {n}), Zeros({r, n}), Zeros({r, n})},
         {3, 4},
         [=](Stream& s, Operands t) {
           return LinearGeluForward(s, t[0], t[1], biased ? t[2] : Tensor(), t[3], t[4]);
         },
         [=](Rows& a) {
           plain::MatMul({a[0], k, 1}, {a[1], 1, k}, r, n, k, 0, a[3]);
           for (size_t i = 0; i < a[3].size(); ++i) {
             if (biased) a[3][i] += a[2][i % static_cast<size_t>(n)];
             a[4][i] = plain::Gelu(/*exact=*/false, a[3][i]);
           }
         }});
  }
  cases.push_back(
      {absl::StrCat("LinearBackwardGelu", shape),
       {Normal(1, {r, n}), Normal(2, {n, k}), Normal(3, {r, k}, 2), Zeros({r, k}),
        AsSum(Normal(4, {k}))},
       {3, 4},
       [=](Stream& s, Operands t) { return LinearBackwardGelu(s, t[0], t[1], t[2], t[3], t[4]); },
       [=](Rows& a) {
         plain::MatMul({a[0], n, 1}, {a[1], k, 1}, r, k, n, 0, a[3]);
         for (size_t i = 0; i < a[3].size(); ++i) {
           a[3][i] *= plain::GeluSlope(false, a[2][i]);
           a[4][i % static_cast<size_t>(k)] += a[3][i];
         }
       }});
}

void AddRelu(std::vector<OpCase>& cases, int64_t n) {
  const Array x = Normal(1, {n});
  const Array dy = Normal(2, {n});
  const Array result = Normal(3, {n});
  cases.push_back({absl::StrCat("ReluForward", n),
                   {x, result},
                   {1},
                   [](Stream& s, Operands t) { return ReluForward(s, t[0], t[1]); },
                   Each(1, [](Rows& a, size_t i) { return std::max(a[0][i], 0.0F); })});
  cases.push_back({absl::StrCat("ReluBackward", n),
                   {x, dy, result},
                   {2},
                   [](Stream& s, Operands t) { return ReluBackward(s, t[0], t[1], t[2]); },
                   Each(2, [](Rows& a, size_t i) { return a[0][i] > 0 ? a[1][i] : 0; })});
}

void AddRotary(std::vector<OpCase>& cases, const plain::RotaryShape& shape, int64_t first) {
  const auto [b, t, h, d] = shape;
  cases.push_back(
      {absl::StrCat("RotaryForward", b, "x", t, "x", h, "x", d, "from", first),
       {Normal(1, {b, t, h, d}), Zeros({b, t, h, d})},
       {1},
       [=](Stream& s, Operands a) { return RotaryForward(s, a[0], 10000, first, a[1]); },
       [=](Rows& a) { plain::Rotary(shape, a[0], 10000, first, 1, a[1]); }});
  cases.push_back(
      {absl::StrCat("RotaryBackward", b, "x", t, "x", h, "x", d, "from", first),
       {Normal(1, {b, t, h, d}), Zeros({b, t, h, d})},
       {1},
       [=](Stream& s, Operands a) { return RotaryBackward(s, a[0], 10000, first, a[1]); },
       [=](Rows& a) { plain::Rotary(shape, a[0], 10000, first, -1, a[1]); }});
}

// Indices below `limit`; every fifth is -1 when `with_gaps`.
Array SomeIndices(int64_t count, int32_t limit, bool with_gaps) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  for (int32_t i = 0; i < static_cast<int32_t>(count); ++i) {
    values[static_cast<size_t>(i)] = with_gaps && i % 5 == 4 ? -1 : i * 7 % limit;
  }
  return Integers({count}, values);
}

void AddEmbedding(std::vector<OpCase>& cases, int64_t r, int32_t v, int64_t c) {
  const auto width = static_cast<size_t>(c);
  cases.push_back({absl::StrCat("EmbeddingForward", r, "x", v, "x", c),
                   {SomeIndices(r, v, false), Normal(1, {v, c}), Zeros({r, c})},
                   {2},
                   [](Stream& s, Operands t) { return EmbeddingForward(s, t[0], t[1], t[2]); },
                   Each(2, [=](Rows& a, size_t i) {
                     return a[1][static_cast<size_t>(a[0][i / width]) * width + i % width];
                   })});
  cases.push_back({absl::StrCat("EmbeddingBackward", r, "x", v, "x", c),
                   {SomeIndices(r, v, false), Normal(1, {r, c}), AsSum(Normal(2, {v, c}))},
                   {2},
                   [](Stream& s, Operands t) { return EmbeddingBackward(s, t[0], t[1], t[2]); },
                   [=](Rows& a) {
                     for (size_t i = 0; i < a[1].size(); ++i) {
                       a[2][static_cast<size_t>(a[0][i / width]) * width + i % width] += a[1][i];
                     }
                   }});
}

void AddCrossEntropy(std::vector<OpCase>& cases, int64_t r, int64_t c, int32_t v, bool biased) {
  const std::string shape = absl::StrCat(r, "x", c, "x", v, biased ? "Biased" : "");
  const Array h = Normal(1, {r, c});
  const Array w = Normal(2, {v, c}, 0.5);
  const Array bias = biased ? Normal(6, {v}) : Zeros({0});
  const Array targets = SomeIndices(r, v, true);
  cases.push_back(
      {absl::StrCat("LinearCrossEntropyForward", shape),
       {h, w, bias, targets, AsSum(Normal(3, {r})), AsSum(Normal(7, {r}))},
       {4, 5},
       [=](Stream& s, Operands t) {
         return LinearCrossEntropyForward(s, t[0], t[1], Optional(t[2]), t[3], t[4], t[5]);
       },
       [=](Rows& a) {
         plain::CrossEntropy(a[0], a[1], a[2], a[3], c, kLossScale, {a[4], a[5]}, nullptr);
       }});
  cases.push_back(
      {absl::StrCat("LinearCrossEntropyForwardBackward", shape),
       {h, w, bias, targets, AsSum(Normal(3, {r})), AsSum(Normal(7, {r})), Normal(4, {r, c}),
        AsSum(Normal(5, {v, c}, 0.01)), AsSum(biased ? Normal(8, {v}, 0.01) : Zeros({0}))},
       {4, 5, 6, 7, 8},
       [=](Stream& s, Operands t) {
         Tensor dbias = Optional(t[8]);
         return LinearCrossEntropyForwardBackward(s, t[0], t[1], Optional(t[2]), t[3], kLossScale,
                                                  t[4], t[5], t[6], t[7], dbias);
       },
       [=](Rows& a) {
         plain::CrossEntropySlopes slopes{a[6], a[7], a[8]};
         plain::CrossEntropy(a[0], a[1], a[2], a[3], c, kLossScale, {a[4], a[5]}, &slopes);
       }});
}

void AddOptimizer(std::vector<OpCase>& cases, int64_t n) {
  Array v = Normal(4, {n});
  for (double& value : v.values) value = value * value;
  Array clip = Zeros({1});
  clip.values[0] = 0.75;
  cases.push_back({absl::StrCat("AdamW", n),
                   {AsSum(Normal(1, {n})), AsSum(clip), AsSum(Normal(2, {n})),
                    AsSum(Normal(3, {n})), AsSum(v), Zeros({n})},
                   {2, 3, 4, 5},
                   [](Stream& s, Operands t) {
                     const AdamWOptions options = {.learning_rate = 0.01,
                                                   .beta1 = 0.9,
                                                   .beta2 = 0.95,
                                                   .epsilon = 1e-8,
                                                   .weight_decay = 0.1,
                                                   .step = 3};
                     return AdamW(s, options, t[0], t[1], t[2], t[3], t[4], t[5]);
                   },
                   [](Rows& a) {
                     plain::AdamW(0.01F, 0.9F, 0.95F, 1e-8F, 0.1F, 3, a[0], a[1][0], a[2], a[3],
                                  a[4]);
                     a[5] = a[2];
                   }});
  Array sum = Zeros({1});
  sum.fixed_f64 = true;
  cases.push_back({absl::StrCat("SumOfSquares", n),
                   {AsSum(Normal(1, {n})), sum},
                   {1},
                   [](Stream& s, Operands t) { return SumOfSquares(s, t[0], t[1]); },
                   [](Rows& a) {
                     a[1][0] = 0;
                     for (float value : a[0]) a[1][0] += value * value;
                   }});
  cases.push_back({absl::StrCat("Sum", n),
                   {AsSum(Normal(1, {n})), sum},
                   {1},
                   [](Stream& s, Operands t) { return Sum(s, t[0], t[1]); },
                   [](Rows& a) {
                     a[1][0] = 0;
                     for (float value : a[0]) a[1][0] += value;
                   }});
  sum.values[0] = static_cast<double>(n);
  cases.push_back({absl::StrCat("ClipFactor", n),
                   {sum, AsSum(Zeros({1}))},
                   {1},
                   [](Stream& s, Operands t) { return ClipFactor(s, t[0], 1.5, t[1]); },
                   [](Rows& a) { a[1][0] = std::min(1.0F, 1.5F / std::sqrt(a[0][0])); }});
}

}  // namespace

std::vector<OpCase> AllOpCases() {
  std::vector<OpCase> cases;
  AddLinear(cases);
  for (const auto& [r, c] : {std::pair{3, 2},
                             {239, 1},
                             {5, 17},
                             {70, 257},
                             {1100, 64},
                             {1600, 264},
                             {300, 400},
                             {600, 776},
                             {600, 1032},
                             {40, 2056}}) {
    AddRmsNorm(cases, r, c);
    AddLayerNorm(cases, r, c);
    AddL2Norm(cases, r, c);
  }
  for (const auto& [r, c] : {std::pair{1, 1}, {239, 3}, {5, 17}, {70, 257}, {1100, 64}}) {
    AddBias(cases, r, c);
  }
  AddShortConv(cases, {1, 1, 1, 4}, false);
  AddShortConv(cases, {2, 3, 5, 4}, true);
  AddShortConv(cases, {2, 131, 259, 4}, false);
  AddShortConv(cases, {1, 65, 33, 4}, true);
  AddShortConv(cases, {3, 7, 9, 1}, false);
  // Channels in fours, which GPUs read together; pieces of 32 tokens, which end anywhere.
  AddShortConv(cases, {2, 131, 260, 4}, true);
  AddShortConv(cases, {1, 193, 64, 3}, false);
  AddShortConv(cases, {3, 128, 516, 4}, true);
  AddShortConv(cases, {2, 66, 12, 1}, false);
  AddConvNorm(cases, {2, 3, 64, 4}, 32, true);
  AddConvNorm(cases, {2, 130, 640, 4}, 128, true);
  AddConvNorm(cases, {3, 129, 96, 4}, 32, false);
  AddConvNorm(cases, {2, 131, 256, 4}, 128, false);
  AddConvNorm(cases, {1, 67, 192, 3}, 64, true);
  AddConvNorm(cases, {2, 5, 30, 4}, 10, true);
  AddConvNorm(cases, {1, 9, 32, 6}, 32, false);
  for (const int64_t n : {1, 15, 63, 8193, 20000}) {
    AddActivations(cases, n);
    AddGelu(cases, n);
    AddRelu(cases, n);
    AddOptimizer(cases, n);
  }
  AddLinearGelu(cases, 3, 5, 7);
  AddLinearGelu(cases, 130, 72, 264);
  AddLinearGelu(cases, 300, 256, 704);  // what a kernel for Hopper takes, backward
  AddLinearGelu(cases, 300, 704, 256);  // and forward
  AddLinearGelu(cases, 77, 768, 1024);  // with fewer rows than a tile has
  AddRotary(cases, {1, 1, 1, 2}, 0);
  AddRotary(cases, {2, 37, 3, 34}, 0);
  AddRotary(cases, {1, 5, 2, 64}, 1000);
  AddEmbedding(cases, 1, 1, 1);
  AddEmbedding(cases, 300, 11, 131);
  AddCrossEntropy(cases, 1, 1, 1, false);
  for (const bool biased : {false, true}) {
    AddCrossEntropy(cases, 70, 33, 259, biased);
    AddCrossEntropy(cases, 45, 16, 40000, biased);
  }
  AddModelOpCases(cases);
  return cases;
}

}  // namespace weft::kernels
