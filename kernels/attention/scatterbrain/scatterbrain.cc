#include "kernels/attention/scatterbrain/scatterbrain.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/types/span.h"
#include "common/base/status_macros.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

constinit OpTable<absl::Status(const ScatterbrainProblem&)> limits("scatterbrain limits");
constinit OpTable<HashBucketsKernel> hash_kernels("hash buckets");
constinit OpTable<ScatterbrainForwardKernel> forward_kernels("scatterbrain forward");
constinit OpTable<ScatterbrainBackwardKernel> backward_kernels("scatterbrain backward");
constinit OpTable<ScatterbrainDecodeKernel> decode_kernels("scatterbrain decode");

struct Shapes {
  explicit Shapes(const ScatterbrainProblem& p)
      : queries{p.batch, p.queries, p.heads, p.key_dim},
        keys{p.batch, p.keys, p.heads, p.key_dim},
        values{p.batch, p.keys, p.heads, p.value_dim},
        outputs{p.batch, p.queries, p.heads, p.value_dim},
        w{p.feature_rows(), p.key_dim},
        valid{p.batch, p.keys},
        rows{p.batch, p.heads, p.queries} {}

  Shape queries;
  Shape keys;
  Shape values;
  Shape outputs;
  Shape w;
  Shape valid;
  Shape rows;
};

absl::Status Invalid(const std::string& complaint) {
  return absl::InvalidArgumentError(absl::StrCat("scatterbrain: ", complaint));
}

absl::Status CheckSupport(const ScatterbrainProblem& p) {
  if (const auto* window = std::get_if<WindowSupport>(&p.support)) {
    if (window->width < 1) {
      return Invalid(absl::StrCat("window width ", window->width, " is not positive"));
    }
  } else if (const auto* hash = std::get_if<HashSupport>(&p.support)) {
    if (hash->rounds < 1 || hash->query_bucket < 1 || hash->key_bucket < 1) {
      return Invalid(absl::StrCat("rounds ", hash->rounds, ", query_bucket ", hash->query_bucket,
                                  ", key_bucket ", hash->key_bucket, ": all must be positive"));
    }
    const int64_t query_buckets = (p.queries + hash->query_bucket - 1) / hash->query_bucket;
    const int64_t key_buckets = (p.keys + hash->key_bucket - 1) / hash->key_bucket;
    if (query_buckets != key_buckets) {
      return Invalid(absl::StrCat(p.queries, " queries make ", query_buckets, " buckets of ",
                                  hash->query_bucket, ", but ", p.keys, " keys make ", key_buckets,
                                  " of ", hash->key_bucket));
    }
  } else if (const auto* blocks = std::get_if<BlockSupport>(&p.support)) {
    if (blocks->layout == nullptr) return Invalid("a block support without a layout");
    const BlockLayout& layout = *blocks->layout;
    if (layout.query_blocks() * layout.block() < p.queries ||
        layout.key_blocks() * layout.block() < p.keys) {
      return Invalid(absl::StrCat("a layout of ", layout.query_blocks(), " x ", layout.key_blocks(),
                                  " blocks of ", layout.block(), " does not cover ", p.queries,
                                  " queries and ", p.keys, " keys"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckProblem(const ScatterbrainProblem& p) {
  if (p.batch < 1 || p.queries < 0 || p.keys < 0 || p.heads < 1 || p.key_dim < 1 ||
      p.value_dim < 1) {
    return Invalid(absl::StrCat("batch ", p.batch, ", queries ", p.queries, ", keys ", p.keys,
                                ", heads ", p.heads, ", key_dim ", p.key_dim, ", value_dim ",
                                p.value_dim, ": all must be positive (queries and keys may be 0)"));
  }
  if (p.features < 1 || (p.hyperbolic && p.features % 2 != 0)) {
    return Invalid(absl::StrCat("features ", p.features, " must be positive",
                                p.hyperbolic ? ", and even when hyperbolic" : ""));
  }
  if (!(p.scale > 0.0) || !std::isfinite(p.scale)) {
    return Invalid(absl::StrCat("scale ", p.scale, " is not positive and finite"));
  }
  if (!(p.epsilon >= 0.0) || !std::isfinite(p.epsilon)) {
    return Invalid(absl::StrCat("epsilon ", p.epsilon, " is not at least 0 and finite"));
  }
  if (p.causal && p.queries != p.keys) {
    return Invalid(absl::StrCat("causal with ", p.queries, " queries and ", p.keys,
                                " keys: they must be equally many"));
  }
  WEFT_RETURN_IF_ERROR(CheckSupport(p));
  return CheckDropout("scatterbrain", p.dropout, p.batch, p.heads);
}

const HashSupport* HashOf(const ScatterbrainProblem& p) {
  return std::get_if<HashSupport>(&p.support);
}

// Shapes, and that the ids name buckets.
absl::Status CheckBuckets(absl::string_view op, Stream& stream, const ScatterbrainProblem& p,
                          const HashBucketTensors& buckets, bool filled) {
  const HashSupport* const hash = HashOf(p);
  OperandCheck check(op, stream);
  if (hash == nullptr) {
    check.Require(!buckets.queries.present() && !buckets.keys.present(),
                  "buckets are there, but the support is none of hashes");
    return check.status();
  }
  check
      .Typed("buckets.queries", buckets.queries, DType::kI32,
             {p.batch, p.heads, hash->rounds, p.queries})
      .Typed("buckets.keys", buckets.keys, DType::kI32, {p.batch, p.heads, hash->rounds, p.keys});
  WEFT_RETURN_IF_ERROR(check.status());
  // A GPU looks at them itself, and reports a bad one at the next Synchronize.
  if (!filled || stream.device().kind() == DeviceKind::kCuda) return absl::OkStatus();
  const int64_t count = (p.keys + hash->key_bucket - 1) / hash->key_bucket;
  for (const auto& [name, ids] :
       {std::pair<absl::string_view, const Tensor&>("buckets.queries", buckets.queries),
        {"buckets.keys", buckets.keys}}) {
    WEFT_RETURN_IF_ERROR(CheckIndices(op, name, static_cast<const int32_t*>(ids.address()),
                                      ids.count(), count, /*allow_negative=*/true));
  }
  return absl::OkStatus();
}

void CheckValid(OperandCheck& check, const Tensor& valid, const Shapes& shapes) {
  if (valid.present()) check.Typed("valid", valid, DType::kI32, shapes.valid);
}

void CheckOperands(OperandCheck& check, const ScatterbrainOperands& in, const Shapes& shapes) {
  check.Shaped("q", in.q, shapes.queries)
      .Shaped("k", in.k, shapes.keys)
      .Shaped("v", in.v, shapes.values)
      .Shaped("w", in.w, shapes.w);
  CheckValid(check, in.valid, shapes);
}

void CheckSaved(OperandCheck& check, const ScatterbrainSaved& saved, const Shapes& shapes) {
  check.SumShaped("saved.log_normaliser", saved.log_normaliser, shapes.rows)
      .SumShaped("saved.low_rank_share", saved.low_rank_share, shapes.rows);
}

// Rows of keys that decoding remembers.
int64_t Room(const ScatterbrainProblem& p) {
  if (std::holds_alternative<BlockSupport>(p.support)) return std::max<int64_t>(p.queries, 1);
  const auto* window = std::get_if<WindowSupport>(&p.support);
  if (window == nullptr) return 1;
  return std::min(window->width / 2 + 1, std::max<int64_t>(p.queries, 1));
}

}  // namespace

void RegisterScatterbrain(DeviceKind kind, const ScatterbrainKernels& kernels) {
  limits.Set(kind, kernels.supports);
  hash_kernels.Set(kind, kernels.hash_buckets);
  forward_kernels.Set(kind, kernels.forward);
  backward_kernels.Set(kind, kernels.backward);
  decode_kernels.Set(kind, kernels.decode);
}

int64_t DefaultFeatures(int64_t key_dim) {
  const auto dim = static_cast<double>(key_dim);
  const auto features = static_cast<int64_t>(std::floor(dim * std::log(dim)));
  return std::max<int64_t>(2, features / 2 * 2);
}

absl::Status Supports(const Device& device, const ScatterbrainProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_RETURN_IF_ERROR(hash_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(forward_kernels.Find(device.kind()));
  WEFT_RETURN_IF_ERROR(backward_kernels.Find(device.kind()));
  const auto covers = limits.Find(device.kind());
  return covers.ok() ? (*covers)(problem) : absl::OkStatus();
}

absl::StatusOr<HashBucketTensors> NewHashBuckets(Device& device,
                                                 const ScatterbrainProblem& problem) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  const HashSupport* const hash = HashOf(problem);
  if (hash == nullptr) return Invalid("buckets are asked for, but the support is none of hashes");
  HashBucketTensors buckets;
  WEFT_ASSIGN_OR_RETURN(buckets.queries,
                        NewTensor(device, DType::kI32,
                                  {problem.batch, problem.heads, hash->rounds, problem.queries}));
  WEFT_ASSIGN_OR_RETURN(
      buckets.keys,
      NewTensor(device, DType::kI32, {problem.batch, problem.heads, hash->rounds, problem.keys}));
  return buckets;
}

absl::Status DrawHashProjections(Stream& stream, const ScatterbrainProblem& problem, uint64_t seed,
                                 const DrawSite& site, Tensor& projections) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  const HashSupport* const hash = HashOf(problem);
  if (hash == nullptr) return Invalid("projections for a support that is none of hashes");
  const int64_t width = problem.key_dim + 2;
  OperandCheck check("DrawHashProjections", stream);
  check.SumShaped("projections", projections, {hash->rounds, width});
  WEFT_RETURN_IF_ERROR(check.status());
  std::vector<double> normals(hash->rounds * width);
  for (int64_t round = 0; round < hash->rounds; ++round) {
    FillNormal(seed, site, static_cast<uint32_t>(round), 0,
               absl::MakeSpan(normals).subspan(round * width, width));
  }
  const std::vector<float> rounded(normals.begin(), normals.end());
  if (projections.dtype() == DType::kF32) {
    return stream.device().CopyFromHost(projections, rounded.data(), stream);
  }
  const std::vector<double> widened(rounded.begin(), rounded.end());
  return stream.device().CopyFromHost(projections, widened.data(), stream);
}

absl::Status HashBuckets(Stream& stream, const ScatterbrainProblem& problem, const Tensor& q,
                         const Tensor& k, const Tensor& projections, const Tensor& valid,
                         HashBucketTensors& buckets) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  const HashSupport* const hash = HashOf(problem);
  if (hash == nullptr) return Invalid("HashBuckets for a support that is none of hashes");
  WEFT_ASSIGN_OR_RETURN(HashBucketsKernel* const kernel, hash_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("HashBuckets", stream);
  check.Shaped("q", q, shapes.queries)
      .Shaped("k", k, shapes.keys)
      .SumShaped("projections", projections, {hash->rounds, problem.key_dim + 2});
  CheckValid(check, valid, shapes);
  WEFT_RETURN_IF_ERROR(check.status());
  WEFT_RETURN_IF_ERROR(CheckBuckets("HashBuckets", stream, problem, buckets, /*filled=*/false));
  return kernel(stream, problem, q, k, projections, valid, buckets);
}

absl::StatusOr<ScatterbrainSaved> NewScatterbrainSaved(Device& device,
                                                       const ScatterbrainProblem& problem) {
  WEFT_RETURN_IF_ERROR(Supports(device, problem));
  const Shapes shapes(problem);
  ScatterbrainSaved saved;
  WEFT_ASSIGN_OR_RETURN(saved.log_normaliser, NewTensor(device, device.sum_dtype(), shapes.rows));
  WEFT_ASSIGN_OR_RETURN(saved.low_rank_share, NewTensor(device, device.sum_dtype(), shapes.rows));
  return saved;
}

absl::Status ScatterbrainForward(Stream& stream, const ScatterbrainProblem& problem,
                                 const ScatterbrainOperands& in, Tensor& o,
                                 ScatterbrainSaved& saved) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(ScatterbrainForwardKernel* const kernel,
                        forward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("ScatterbrainForward", stream);
  CheckOperands(check, in, shapes);
  check.Shaped("o", o, shapes.outputs);
  CheckSaved(check, saved, shapes);
  WEFT_RETURN_IF_ERROR(check.status());
  WEFT_RETURN_IF_ERROR(
      CheckBuckets("ScatterbrainForward", stream, problem, in.buckets, /*filled=*/true));
  return kernel(stream, problem, in, o, saved);
}

absl::Status ScatterbrainBackward(Stream& stream, const ScatterbrainProblem& problem,
                                  const ScatterbrainOperands& in, const Tensor& o,
                                  const ScatterbrainSaved& saved, const Tensor& d_o, Tensor& d_q,
                                  Tensor& d_k, Tensor& d_v) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  WEFT_ASSIGN_OR_RETURN(ScatterbrainBackwardKernel* const kernel,
                        backward_kernels.Find(stream.device().kind()));
  const Shapes shapes(problem);
  OperandCheck check("ScatterbrainBackward", stream);
  CheckOperands(check, in, shapes);
  check.Shaped("o", o, shapes.outputs).Shaped("d_o", d_o, shapes.outputs);
  CheckSaved(check, saved, shapes);
  check.Shaped("d_q", d_q, shapes.queries)
      .Shaped("d_k", d_k, shapes.keys)
      .Shaped("d_v", d_v, shapes.values);
  WEFT_RETURN_IF_ERROR(check.status());
  WEFT_RETURN_IF_ERROR(
      CheckBuckets("ScatterbrainBackward", stream, problem, in.buckets, /*filled=*/true));
  return kernel(stream, problem, in, o, saved, d_o, d_q, d_k, d_v);
}

absl::Status SupportsDecoding(const Device& device, const ScatterbrainProblem& problem) {
  WEFT_RETURN_IF_ERROR(CheckProblem(problem));
  if (HashOf(problem) != nullptr) {
    return absl::UnimplementedError(
        "scatterbrain: no decoding with a hash support: which pairs are exact depends on the order "
        "of all tokens, later ones included; a window or block support can be decoded");
  }
  if (!problem.causal) {
    return absl::UnimplementedError("scatterbrain: only a causal problem can be decoded");
  }
  return decode_kernels.Find(device.kind()).status();
}

absl::StatusOr<ScatterbrainState> NewScatterbrainState(Device& device,
                                                       const ScatterbrainProblem& problem) {
  WEFT_RETURN_IF_ERROR(SupportsDecoding(device, problem));
  const DType dtype = device.compute_dtype();
  const int64_t batch = problem.batch;
  const int64_t heads = problem.heads;
  const int64_t room = Room(problem);
  ScatterbrainState s;
  WEFT_ASSIGN_OR_RETURN(s.keys, NewTensor(device, dtype, {batch, room, heads, problem.key_dim}));
  WEFT_ASSIGN_OR_RETURN(s.values,
                        NewTensor(device, dtype, {batch, room, heads, problem.value_dim}));
  WEFT_ASSIGN_OR_RETURN(s.features,
                        NewTensor(device, dtype, {batch, room, heads, problem.features}));
  WEFT_ASSIGN_OR_RETURN(s.scales, NewTensor(device, dtype, {batch, room, heads}));
  WEFT_ASSIGN_OR_RETURN(
      s.sums, NewTensor(device, dtype, {batch, heads, problem.features, problem.value_dim + 1}));
  WEFT_ASSIGN_OR_RETURN(s.largest, NewTensor(device, dtype, {batch, heads}));
  return s;
}

absl::Status ScatterbrainDecode(Stream& stream, const ScatterbrainProblem& problem, const Tensor& q,
                                const Tensor& k, const Tensor& v, const Tensor& w,
                                ScatterbrainState& state, Tensor& o) {
  WEFT_RETURN_IF_ERROR(SupportsDecoding(stream.device(), problem));
  WEFT_ASSIGN_OR_RETURN(ScatterbrainDecodeKernel* const kernel,
                        decode_kernels.Find(stream.device().kind()));
  if (state.tokens >= problem.queries) {
    return absl::OutOfRangeError(absl::StrCat("the text is longer than the ", problem.queries,
                                              " tokens that its state was made for"));
  }
  const Shape row = {problem.batch, 1, problem.heads, problem.key_dim};
  const Shape value_row = {problem.batch, 1, problem.heads, problem.value_dim};
  const int64_t room = Room(problem);
  OperandCheck check("ScatterbrainDecode", stream);
  check.Shaped("q", q, row)
      .Shaped("k", k, row)
      .Shaped("v", v, value_row)
      .Shaped("w", w, {problem.feature_rows(), problem.key_dim})
      .Shaped("state.keys", state.keys, {problem.batch, room, problem.heads, problem.key_dim})
      .Shaped("state.values", state.values, {problem.batch, room, problem.heads, problem.value_dim})
      .Shaped("state.features", state.features,
              {problem.batch, room, problem.heads, problem.features})
      .Shaped("state.scales", state.scales, {problem.batch, room, problem.heads})
      .Shaped("state.sums", state.sums,
              {problem.batch, problem.heads, problem.features, problem.value_dim + 1})
      .Shaped("state.largest", state.largest, {problem.batch, problem.heads})
      .Shaped("o", o, value_row);
  WEFT_RETURN_IF_ERROR(check.status());
  return kernel(stream, problem, q, k, v, w, state, o);
}

}  // namespace weft::kernels
