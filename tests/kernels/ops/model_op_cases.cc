// More of the list of calls that are made on every device: ops of models around their mixers.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/ops/columns/columns.h"
#include "kernels/ops/dropout/dropout.h"
#include "kernels/ops/geglu/geglu.h"
#include "kernels/ops/mean_pool/mean_pool.h"
#include "kernels/ops/pair_features/pair_features.h"
#include "kernels/ops/sinusoids/sinusoids.h"
#include "kernels/random/philox.h"
#include "tests/kernels/ops/op_case.h"
#include "tests/kernels/ops/plain_ops.h"

namespace weft::kernels {
namespace {

using Rows = std::vector<std::vector<float>>;

size_t At(int64_t i) { return static_cast<size_t>(i); }

void AddGeglu(std::vector<OpCase>& cases, int64_t n) {
  const Array gate = Normal(1, {n}, 3), up = Normal(2, {n}), dy = Normal(3, {n});
  const Array result = Normal(4, {n});
  for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
    const bool exact = form == GeluForm::kExact;
    cases.push_back({absl::StrCat(exact ? "GegluForward" : "GegluTanhForward", n),
                     {gate, up, result},
                     {2},
                     [=](Stream& s, Operands t) { return GegluForward(s, form, t[0], t[1], t[2]); },
                     [=](Rows& a) {
                       for (size_t i = 0; i < a[0].size(); ++i)
                         a[2][i] = plain::Gelu(exact, a[0][i]) * a[1][i];
                     }});
    cases.push_back({absl::StrCat(exact ? "GegluBackward" : "GegluTanhBackward", n),
                     {gate, up, dy, result, result},
                     {3, 4},
                     [=](Stream& s, Operands t) {
                       return GegluBackward(s, form, t[0], t[1], t[2], t[3], t[4]);
                     },
                     [=](Rows& a) {
                       for (size_t i = 0; i < a[0].size(); ++i) {
                         a[3][i] = a[2][i] * a[1][i] * plain::GeluSlope(exact, a[0][i]);
                         a[4][i] = a[2][i] * plain::Gelu(exact, a[0][i]);
                       }
                     }});
  }
}

// The formula of the contract, written once more.
void AddDropout(std::vector<OpCase>& cases, int64_t b, int64_t t, int64_t c) {
  const DropoutOptions options = {.probability = 0.25,
                                  .seed = 0x123456789ABCDEF0U,
                                  .step = 77,
                                  .layer = 3,
                                  .site = 2,
                                  .first_sequence = 11,
                                  .first_position = 5};
  cases.push_back({absl::StrCat("Dropout", b, "x", t, "x", c),
                   {Normal(1, {b, t, c}), Normal(2, {b, t, c})},
                   {1},
                   [=](Stream& s, Operands a) { return Dropout(s, options, a[0], a[1]); },
                   [=](Rows& a) {
                     for (int64_t i = 0; i < b * t * c; ++i) {
                       const auto row = static_cast<uint32_t>(i / (t * c));
                       const auto token = static_cast<uint32_t>(i / c % t);
                       const auto block = static_cast<uint32_t>(i % c / 4);
                       const PhiloxWords words = Draw(
                           options.seed,
                           {.tag = RandomTag::kDropout, .step = 77, .layer = 3, .sample = 11 + row},
                           5 + token, (2U << 20) + block);
                       const bool kept = words[At(i % c % 4)] >= 0x40000000U;
                       a[1][At(i)] = kept ? a[0][At(i)] / 0.75F : 0;
                     }
                   }});
}

void AddMeanPool(std::vector<OpCase>& cases, int64_t b, int64_t t, int64_t c, bool padded) {
  std::vector<int32_t> valid(At(padded ? b * t : 0));
  for (size_t i = 0; i < valid.size(); ++i) valid[i] = i % 3 == 1 ? 0 : 1;
  const Array mask = Integers({b, padded ? t : 0}, valid);
  const auto optional = [](const Tensor& tensor) { return tensor.count() > 0 ? tensor : Tensor(); };
  const std::string name = absl::StrCat(b, "x", t, "x", c, padded ? "Padded" : "");
  const auto is_valid = [=](const Rows& a, int64_t token) {
    return !padded || a[1][At(token)] != 0;
  };
  cases.push_back(
      {absl::StrCat("MeanPoolForward", name),
       {Normal(1, {b, t, c}), mask, Normal(2, {b, c})},
       {2},
       [=](Stream& s, Operands a) { return MeanPoolForward(s, a[0], optional(a[1]), a[2]); },
       [=](Rows& a) {
         for (int64_t i = 0; i < b * c; ++i) {
           float sum = 0;
           for (int64_t token = i / c * t; token < (i / c + 1) * t; ++token) {
             if (is_valid(a, token)) sum += a[0][At(token * c + i % c)];
           }
           a[2][At(i)] = sum / static_cast<float>(t);
         }
       }});
  cases.push_back(
      {absl::StrCat("MeanPoolBackward", name),
       {Normal(1, {b, c}), mask, Normal(2, {b, t, c})},
       {2},
       [=](Stream& s, Operands a) { return MeanPoolBackward(s, a[0], optional(a[1]), a[2]); },
       [=](Rows& a) {
         for (int64_t i = 0; i < b * t * c; ++i) {
           const float slope = a[0][At(i / c / t * c + i % c)] / static_cast<float>(t);
           a[2][At(i)] = is_valid(a, i / c) ? slope : 0;
         }
       }});
}

void AddColumns(std::vector<OpCase>& cases, int64_t r, int64_t k, int64_t c, int64_t at) {
  const std::string name = absl::StrCat(r, "x", k, "of", c, "from", at);
  cases.push_back({absl::StrCat("PutColumns", name),
                   {Normal(1, {r, k}), Normal(2, {r, c})},
                   {1},
                   [=](Stream& s, Operands a) { return PutColumns(s, a[0], at, a[1]); },
                   [=](Rows& a) {
                     for (int64_t i = 0; i < r * k; ++i) {
                       a[1][At(i / k * c + at + i % k)] = a[0][At(i)];
                     }
                   }});
  cases.push_back({absl::StrCat("TakeColumns", name),
                   {Normal(1, {r, c}), Normal(2, {r, k})},
                   {1},
                   [=](Stream& s, Operands a) { return TakeColumns(s, a[0], at, a[1]); },
                   [=](Rows& a) {
                     for (int64_t i = 0; i < r * k; ++i) {
                       a[1][At(i)] = a[0][At(i / k * c + at + i % k)];
                     }
                   }});
}

void AddPairFeatures(std::vector<OpCase>& cases, int64_t r, int64_t c) {
  cases.push_back({absl::StrCat("PairFeaturesForward", r, "x", c),
                   {Normal(1, {r, 2 * c}), Normal(2, {r, 4 * c})},
                   {1},
                   [](Stream& s, Operands a) { return PairFeaturesForward(s, a[0], a[1]); },
                   [=](Rows& a) {
                     for (int64_t i = 0; i < r * c; ++i) {
                       const float* pair = a[0].data() + i / c * 2 * c + i % c;
                       float* features = a[1].data() + i / c * 4 * c + i % c;
                       features[0] = pair[0];
                       features[c] = pair[c];
                       features[2 * c] = pair[0] * pair[c];
                       features[3 * c] = pair[0] - pair[c];
                     }
                   }});
  cases.push_back({absl::StrCat("PairFeaturesBackward", r, "x", c),
                   {Normal(1, {r, 2 * c}), Normal(2, {r, 4 * c}), Normal(3, {r, 2 * c})},
                   {2},
                   [](Stream& s, Operands a) { return PairFeaturesBackward(s, a[0], a[1], a[2]); },
                   [=](Rows& a) {
                     for (int64_t i = 0; i < r * c; ++i) {
                       const float* pair = a[0].data() + i / c * 2 * c + i % c;
                       const float* dy = a[1].data() + i / c * 4 * c + i % c;
                       float* dx = a[2].data() + i / c * 2 * c + i % c;
                       dx[0] = dy[0] + dy[2 * c] * pair[c] + dy[3 * c];
                       dx[c] = dy[c] + dy[2 * c] * pair[0] - dy[3 * c];
                     }
                   }});
}

void AddSinusoids(std::vector<OpCase>& cases, int64_t tokens, const SinusoidOptions& options,
                  int64_t width) {
  const bool interleaved = options.order == SinusoidOrder::kInterleaved;
  cases.push_back({absl::StrCat(interleaved ? "Sinusoids" : "SinusoidHalves", tokens, "x",
                                options.columns, "of", width),
                   {Normal(1, {tokens, width})},
                   {0},
                   [=](Stream& s, Operands a) { return Sinusoids(s, options, a[0]); },
                   [=](Rows& a) {
                     const int64_t half = options.columns / 2;
                     for (int64_t i = 0; i < tokens * half; ++i) {
                       const double angle =
                           static_cast<double>(options.first_position + i / half) *
                           std::exp(-std::log(10000.0) * 2 * static_cast<double>(i % half) /
                                    static_cast<double>(options.columns));
                       float* row = a[0].data() + i / half * width + options.first_column;
                       const int64_t at = i % half;
                       row[interleaved ? 2 * at : at] = static_cast<float>(std::sin(angle));
                       row[interleaved ? 2 * at + 1 : half + at] =
                           static_cast<float>(std::cos(angle));
                     }
                   }});
}

}  // namespace

void AddModelOpCases(std::vector<OpCase>& cases) {
  for (const int64_t n : {1, 15, 8193, 20000}) AddGeglu(cases, n);
  AddDropout(cases, 1, 1, 1);
  AddDropout(cases, 2, 3, 7);
  AddDropout(cases, 3, 131, 66);
  for (const bool padded : {false, true}) {
    AddMeanPool(cases, 1, 1, 1, padded);
    AddMeanPool(cases, 3, 131, 17, padded);
  }
  AddColumns(cases, 1, 1, 1, 0);
  AddColumns(cases, 131, 70, 97, 13);
  AddPairFeatures(cases, 1, 1);
  AddPairFeatures(cases, 37, 259);
  AddSinusoids(cases, 3, {.columns = 2}, 2);
  AddSinusoids(cases, 37, {.first_position = 1000, .first_column = 3, .columns = 66}, 70);
  AddSinusoids(cases, 37, {.order = SinusoidOrder::kHalves, .first_column = 34, .columns = 34}, 68);
}

}  // namespace weft::kernels
