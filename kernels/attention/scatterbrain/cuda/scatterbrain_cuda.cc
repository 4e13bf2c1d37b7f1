// Scatterbrain on a GPU: features, sums over tiles of keys, what those give the queries, then the
// pairs that are written out, in rounds. Every result has one owner and every sum one order.
//
// The backward pass computes features, sums and pairs again.
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/cuda/plain_dropout.h"
#include "kernels/attention/scatterbrain/cuda/block_groups.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"
#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"

namespace weft::kernels {
namespace scatterbrain_cuda {
namespace {

template <typename T>
T* Data(const Tensor& tensor) {
  return static_cast<T*>(tensor.address());
}

Sizes SizesOf(const ScatterbrainProblem& p) {
  Sizes s{.batch = static_cast<int>(p.batch),
          .queries = static_cast<int>(p.queries),
          .keys = static_cast<int>(p.keys),
          .heads = static_cast<int>(p.heads),
          .key_dim = static_cast<int>(p.key_dim),
          .value_dim = static_cast<int>(p.value_dim),
          .features = static_cast<int>(p.features),
          .feature_rows = static_cast<int>(p.feature_rows()),
          .causal = p.causal,
          .hyperbolic = p.hyperbolic,
          .root = static_cast<float>(std::sqrt(p.scale)),
          .offset = static_cast<float>(p.epsilon / std::sqrt(static_cast<double>(p.features)))};
  if (const auto* window = std::get_if<WindowSupport>(&p.support)) {
    const auto width =
        static_cast<int>(std::min(window->width, 2 * (p.queries + p.keys)));  // limits nothing
    s.support = Support::kWindow;
    s.before = width / 2;
    s.after = (width + 1) / 2 - 1;
  } else if (std::holds_alternative<HashSupport>(p.support)) {
    s.support = Support::kHash;
  } else if (std::holds_alternative<BlockSupport>(p.support)) {
    s.support = Support::kBlocks;
  }
  return s;
}

Space Carve(const Sizes& s, int64_t element, int rounds, int buckets, bool backward,
            CudaCarver& carver) {
  const int64_t heads = s.all_heads();
  const int64_t queries = heads * s.queries;
  const int64_t keys = heads * s.keys;
  const int64_t wide_queries = heads * s.query_tiles() * kTile;
  const int64_t wide_keys = heads * s.key_tiles() * kTile;
  const int64_t columns = s.value_columns();
  const int64_t most_tiles = heads * std::max(s.query_tiles(), s.key_tiles());
  Space space{};
  space.query_products = carver.Take<float>(queries * s.feature_rows);
  space.key_products = carver.Take<float>(keys * s.feature_rows);
  space.phi = carver.Take<uint8_t>(queries * s.features * element);
  space.psi = carver.Take<uint8_t>(keys * s.features * element);
  space.query_scale = carver.Take<float>(queries);
  space.key_scale = carver.Take<float>(keys);
  space.own_scale = carver.Take<float>(keys);
  space.query_factors = carver.Take<float>(queries);
  space.key_factors = carver.Take<float>(keys);
  space.tile_sums = carver.Take<float>(most_tiles * s.features * columns);
  space.states = carver.Take<float>(most_tiles * s.features * columns);
  if (s.support == Support::kHash) {
    space.query_lists = carver.Take<int32_t>(queries * rounds);
    space.key_lists = carver.Take<int32_t>(keys * rounds);
    space.query_starts = carver.Take<int32_t>(heads * rounds * (buckets + 1));
    space.key_starts = carver.Take<int32_t>(heads * rounds * (buckets + 1));
  }
  if (!backward) {
    space.sums = carver.Take<float>(wide_queries * columns);
    space.reference = carver.Take<float>(queries);
    space.exact_mass = carver.Take<float>(queries);
    return space;
  }
  space.mean = carver.Take<float>(queries);
  space.d_query = carver.Take<float>(wide_queries * s.key_dim);
  space.d_key = carver.Take<float>(wide_keys * s.key_dim);
  space.d_value = carver.Take<float>(wide_keys * columns);
  space.d_phi = carver.Take<float>(wide_queries * s.features);
  space.d_psi = carver.Take<float>(wide_keys * s.features);
  space.query_shares = carver.Take<float>(queries);
  space.key_shares = carver.Take<float>(keys);
  space.rests = carver.Take<float>(keys);
  space.d_query_products = carver.Take<float>(queries * s.feature_rows);
  space.d_key_products = carver.Take<float>(keys * s.feature_rows);
  return space;
}

// One call of the forward or the backward pass.
class Call {
 public:
  Call(CudaStream& cuda, const ScatterbrainProblem& p, const ScatterbrainOperands& in,
       bool backward)
      : cuda_(cuda), p_(p), in_(in), backward_(backward), sizes_(SizesOf(p)) {
    if (const auto* hash = std::get_if<HashSupport>(&p.support)) {
      rounds_ = static_cast<int>(hash->rounds);
      buckets_ = static_cast<int>((p.keys + hash->key_bucket - 1) / hash->key_bucket);
    }
  }

  absl::Status Forward(Tensor& o, ScatterbrainSaved& saved) {
    WEFT_RETURN_IF_ERROR(Prepare());
    WEFT_RETURN_IF_ERROR(Check(StartQueries(on(), sizes_, complete_, space_)));
    WEFT_RETURN_IF_ERROR(KeyStates());
    WEFT_RETURN_IF_ERROR(
        Check(FeaturesTimesStates(on(), sizes_, Queries(nullptr), space_.states, space_.sums)));
    const Outputs outputs{.o = o.address(),
                          .log_normaliser = Data<float>(saved.log_normaliser),
                          .share = Data<float>(saved.low_rank_share)};
    const bool one_pass = sizes_.fills() && sizes_.keys > 0 &&
                          (sizes_.support == Support::kNone || sizes_.support == Support::kWindow);
    WEFT_RETURN_IF_ERROR(ForPairs([&](PairArgs args) {
      if (one_pass) args.finish = outputs;
      return PairsForward(on(), args);
    }));
    return one_pass ? absl::OkStatus() : Check(Finish(on(), sizes_, space_, outputs));
  }

  absl::Status Backward(const Tensor& o, const ScatterbrainSaved& saved, const Tensor& d_o,
                        Tensor& d_q, Tensor& d_k, Tensor& d_v) {
    WEFT_RETURN_IF_ERROR(Prepare());
    const Results results{.o = o.address(),
                          .d_o = d_o.address(),
                          .log_normaliser = Data<float>(saved.log_normaliser),
                          .share = Data<float>(saved.low_rank_share)};
    WEFT_RETURN_IF_ERROR(
        Check(LoadGradients(on(), sizes_, results, p_.drops_corrections(), space_)));
    WEFT_RETURN_IF_ERROR(OutsideQueries(results));
    WEFT_RETURN_IF_ERROR(OutsideKeys(results));
    WEFT_RETURN_IF_ERROR(Clear(space_.d_query, sizes_.query_tiles()));
    WEFT_RETURN_IF_ERROR(Clear(space_.d_key, sizes_.key_tiles()));
    WEFT_RETURN_IF_ERROR(
        ForPairs([&](const PairArgs& args) { return PairsBackward(on(), args, results); }));
    return FinishGradients(d_q, d_k, d_v);
  }

 private:
  [[nodiscard]] const CudaLaunch& on() const { return cuda_.launch(); }
  [[nodiscard]] static absl::Status Check(cudaError_t error) {
    return CudaStatus(error, "Scatterbrain");
  }

  // Working space, what is the same for all heads, and features.
  absl::Status Prepare() {
    const int64_t element = SizeOf(cuda_.device().compute_dtype());
    CudaCarver count(nullptr);
    Carve(sizes_, element, rounds_, buckets_, backward_, count);
    WEFT_ASSIGN_OR_RETURN(CudaScratch memory, cuda_.Scratch(count.used()));
    CudaCarver carver(memory.data<uint8_t>());
    space_ = Carve(sizes_, element, rounds_, buckets_, backward_, carver);
    memory_.emplace(std::move(memory));
    operands_ = {.q = in_.q.address(),
                 .k = in_.k.address(),
                 .v = in_.v.address(),
                 .w = in_.w.address(),
                 .valid = Data<int32_t>(in_.valid)};
    WEFT_RETURN_IF_ERROR(UploadSupport());
    WEFT_RETURN_IF_ERROR(Project(in_.q, space_.query_products));
    WEFT_RETURN_IF_ERROR(Project(in_.k, space_.key_products));
    WEFT_RETURN_IF_ERROR(Check(QueryFeatures(on(), sizes_, operands_, space_)));
    WEFT_RETURN_IF_ERROR(Check(KeyFeatures(on(), sizes_, operands_, space_)));
    if (sizes_.support != Support::kHash) return absl::OkStatus();
    const int rows = sizes_.all_heads() * rounds_;
    WEFT_RETURN_IF_ERROR(
        Check(ListBuckets(on(), rows, sizes_.queries, buckets_, Data<int32_t>(in_.buckets.queries),
                          space_.query_lists, space_.query_starts, cuda_.bad_index())));
    return Check(ListBuckets(on(), rows, sizes_.keys, buckets_, Data<int32_t>(in_.buckets.keys),
                             space_.key_lists, space_.key_starts, cuda_.bad_index()));
  }

  // What of the support is made on the host: the layout, and which queries need no low-rank part.
  absl::Status UploadSupport() {
    std::vector<uint8_t> complete = CompleteQueries(p_);
    BlockGroups by_query, by_key;
    std::vector<uint8_t> exact;
    const auto* blocks = std::get_if<BlockSupport>(&p_.support);
    if (blocks != nullptr) {
      exact = ExactBlocks(*blocks->layout);
      by_query = GroupsByQueries(*blocks->layout, p_.queries, p_.keys, p_.causal);
      by_key = GroupsByKeys(*blocks->layout, p_.queries, p_.keys, p_.causal);
    }
    CudaCarver count(nullptr);
    const auto carve = [&](CudaCarver& carver) {
      complete_ = complete.empty() ? nullptr : carver.Take<uint8_t>(p_.queries);
      exact_ = carver.Take<uint8_t>(static_cast<int64_t>(exact.size()));
      for (auto& [from, to] : {std::pair{&by_query, &query_groups_}, {&by_key, &key_groups_}}) {
        to->groups = carver.Take<int32_t>(static_cast<int64_t>(from->groups.size()));
        to->starts = carver.Take<int32_t>(static_cast<int64_t>(from->starts.size()));
      }
    };
    carve(count);
    WEFT_ASSIGN_OR_RETURN(CudaScratch memory, cuda_.Scratch(std::max<int64_t>(count.used(), 256)));
    CudaCarver carver(memory.data<uint8_t>());
    carve(carver);
    support_memory_.emplace(std::move(memory));
    WEFT_RETURN_IF_ERROR(Upload(complete_, complete));
    WEFT_RETURN_IF_ERROR(Upload(exact_, exact));
    for (const auto& [from, to] : {std::pair{&by_query, &query_groups_}, {&by_key, &key_groups_}}) {
      WEFT_RETURN_IF_ERROR(Upload(to->groups, from->groups));
      WEFT_RETURN_IF_ERROR(Upload(to->starts, from->starts));
    }
    return absl::OkStatus();
  }
  template <typename T>
  absl::Status Upload(T* to, const std::vector<T>& from) {
    if (from.empty()) return absl::OkStatus();
    return cuda_.Upload(to, from.data(), static_cast<int64_t>(from.size() * sizeof(T)));
  }

  // products [rows, rows of W] = rows W^T
  absl::Status Project(const Tensor& rows, float* products) {
    return Run(cuda_, {.m = rows.count() / p_.key_dim,
                       .n = sizes_.feature_rows,
                       .k = p_.key_dim,
                       .a = rows.address(),
                       .a_stride = p_.key_dim,
                       .b = in_.w.address(),
                       .b_stride = p_.key_dim,
                       .b_transposed = true,
                       .d = products,
                       .d_stride = sizes_.feature_rows});
  }

  [[nodiscard]] LowRankSide Queries(const void* d_o) const {
    return {.count = sizes_.queries,
            .features = space_.phi,
            .factors = space_.query_factors,
            .values = d_o,
            .extra = space_.mean};
  }
  [[nodiscard]] LowRankSide Keys() const {
    return {.count = sizes_.keys,
            .features = space_.psi,
            .factors = space_.key_factors,
            .values = operands_.v};
  }
  absl::Status KeyStates() {
    WEFT_RETURN_IF_ERROR(Check(ScaleKeys(on(), sizes_, space_)));
    WEFT_RETURN_IF_ERROR(Check(SumTiles(on(), sizes_, Keys(), space_.tile_sums)));
    return Check(SumKeyTiles(on(), sizes_, space_));
  }

  // d_phi by the keys outside.
  absl::Status OutsideQueries(const Results& results) {
    WEFT_RETURN_IF_ERROR(KeyStates());
    WEFT_RETURN_IF_ERROR(Check(ScaleGradients(on(), sizes_, results, Units::kOfState, space_)));
    return Check(
        ValuesTimesStates(on(), sizes_, Queries(results.d_o), space_.states, space_.d_phi));
  }
  // d_psi and d_value by the queries that meet the keys outside of what they fill in.
  absl::Status OutsideKeys(const Results& results) {
    WEFT_RETURN_IF_ERROR(Check(ScaleGradients(on(), sizes_, results, Units::kOfTile, space_)));
    WEFT_RETURN_IF_ERROR(Check(SumTiles(on(), sizes_, Queries(results.d_o), space_.tile_sums)));
    WEFT_RETURN_IF_ERROR(Check(SumQueryTiles(on(), sizes_, space_)));
    WEFT_RETURN_IF_ERROR(
        Check(FeaturesTimesStates(on(), sizes_, Keys(), space_.states, space_.d_value)));
    return Check(ValuesTimesStates(on(), sizes_, Keys(), space_.states, space_.d_psi));
  }
  absl::Status Clear(float* d_u, int tiles) {
    const int64_t count = int64_t{sizes_.all_heads()} * tiles * kTile * sizes_.key_dim;
    return Check(cudaMemsetAsync(d_u, 0, static_cast<size_t>(count) * 4, on().stream));
  }

  // Calls body(args) for every pass over pairs: forward those of queries, backward of both sides.
  template <typename Body>
  absl::Status ForPairs(const Body& body) {
    PairArgs args{.sizes = sizes_,
                  .in = operands_,
                  .space = space_,
                  .rounds = rounds_,
                  .buckets = buckets_,
                  .query_buckets = Data<int32_t>(in_.buckets.queries),
                  .key_buckets = Data<int32_t>(in_.buckets.keys),
                  .exact = exact_,
                  .dropout = PlaceOf(p_.dropout, p_.heads),
                  .drops_corrections = p_.drops_corrections()};
    if (const auto* blocks = std::get_if<BlockSupport>(&p_.support)) {
      args.block = static_cast<int>(blocks->layout->block());
      args.key_blocks = static_cast<int>(blocks->layout->key_blocks());
    }
    const auto both_sides = [&](PairSet set) {
      args.set = set;
      for (const bool keys_own : {false, true}) {
        if (keys_own && !backward_) break;
        args.keys_own = keys_own;
        args.groups = keys_own ? key_groups_.groups : query_groups_.groups;
        args.group_starts = keys_own ? key_groups_.starts : query_groups_.starts;
        WEFT_RETURN_IF_ERROR(Check(body(args)));
      }
      return absl::OkStatus();
    };
    if (sizes_.queries == 0 || sizes_.keys == 0) return absl::OkStatus();
    if (sizes_.fills()) WEFT_RETURN_IF_ERROR(both_sides(PairSet::kFilled));
    if (sizes_.support == Support::kBlocks) return both_sides(PairSet::kBlocks);
    for (args.round = 0; args.round < rounds_; ++args.round) {
      WEFT_RETURN_IF_ERROR(both_sides(PairSet::kBuckets));
    }
    return absl::OkStatus();
  }

  // Through the features to u, and from there to queries and keys.
  absl::Status FinishGradients(Tensor& d_q, Tensor& d_k, Tensor& d_v) {
    WEFT_RETURN_IF_ERROR(Check(QueryFeatureGradients(on(), sizes_, space_)));
    WEFT_RETURN_IF_ERROR(Check(KeyFeatureGradients(on(), sizes_, space_)));
    WEFT_RETURN_IF_ERROR(Check(ProjectGradients(on(), sizes_,
                                                {.count = sizes_.queries,
                                                 .rows = operands_.q,
                                                 .d_u = space_.d_query,
                                                 .products = space_.d_query_products,
                                                 .shares = space_.query_shares},
                                                operands_.w, d_q.address())));
    WEFT_RETURN_IF_ERROR(Check(ProjectGradients(on(), sizes_,
                                                {.count = sizes_.keys,
                                                 .rows = operands_.k,
                                                 .d_u = space_.d_key,
                                                 .products = space_.d_key_products,
                                                 .shares = space_.key_shares},
                                                operands_.w, d_k.address())));
    return Check(StoreValueGradients(on(), sizes_, space_.d_value, d_v.address()));
  }

  struct DeviceGroups {
    int32_t* groups = nullptr;
    int32_t* starts = nullptr;
  };

  CudaStream& cuda_;
  const ScatterbrainProblem& p_;
  const ScatterbrainOperands& in_;
  const bool backward_;
  const Sizes sizes_;
  int rounds_ = 0;
  int buckets_ = 0;
  Operands operands_;
  Space space_ = {};
  uint8_t* complete_ = nullptr;
  uint8_t* exact_ = nullptr;
  DeviceGroups query_groups_, key_groups_;
  std::optional<CudaScratch> memory_, support_memory_;
};

}  // namespace
}  // namespace scatterbrain_cuda

namespace {

// What the kernels cover.
constexpr int64_t kWidest = 128;
constexpr int64_t kMostRows = 65535;  // blocks of a grid in its second and third dimension
constexpr int64_t kMostTokens = int64_t{1} << 20;

}  // namespace

absl::Status ScatterbrainSupportsCuda(const ScatterbrainProblem& p) {
  if (std::max(p.key_dim, p.value_dim) > kWidest) {
    return absl::UnimplementedError(absl::StrCat("scatterbrain on cuda: key_dim ", p.key_dim,
                                                 ", value_dim ", p.value_dim,
                                                 ": its tiles hold rows of at most ", kWidest));
  }
  const auto* hash = std::get_if<HashSupport>(&p.support);
  const int64_t rows = p.batch * p.heads * (hash == nullptr ? 1 : hash->rounds);
  if (rows > kMostRows) {
    return absl::UnimplementedError(absl::StrCat("scatterbrain on cuda: ", rows,
                                                 " heads of sequences, counted once a round of "
                                                 "hashing, are more than ",
                                                 kMostRows));
  }
  if (std::max(p.queries, p.keys) > kMostTokens) {
    return absl::UnimplementedError(
        absl::StrCat("scatterbrain on cuda: more than ", kMostTokens, " queries or keys"));
  }
  return absl::OkStatus();
}

absl::Status HashBucketsCuda(Stream& stream, const ScatterbrainProblem& p, const Tensor& q,
                             const Tensor& k, const Tensor& projections, const Tensor& valid,
                             HashBucketTensors& buckets) {
  namespace plain = scatterbrain_cuda;
  WEFT_RETURN_IF_ERROR(ScatterbrainSupportsCuda(p));
  CudaStream& cuda = AsCudaStream(stream);
  const auto& hash = std::get<HashSupport>(p.support);
  plain::HashArgs args{.sizes = plain::SizesOf(p),
                       .rounds = static_cast<int>(hash.rounds),
                       .query_bucket = static_cast<int>(hash.query_bucket),
                       .key_bucket = static_cast<int>(hash.key_bucket),
                       .q = q.address(),
                       .k = k.address(),
                       .projections = plain::Data<float>(projections),
                       .valid = plain::Data<int32_t>(valid),
                       .query_buckets = plain::Data<int32_t>(buckets.queries),
                       .key_buckets = plain::Data<int32_t>(buckets.keys)};
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch,
                        cuda.Scratch(plain::HashScratchBytes(args.sizes, args.rounds)));
  args.scratch = scratch.data<double>();
  return CudaStatus(plain::HashTokens(cuda.launch(), args), "HashBuckets");
}

absl::Status ScatterbrainForwardCuda(Stream& stream, const ScatterbrainProblem& p,
                                     const ScatterbrainOperands& in, Tensor& o,
                                     ScatterbrainSaved& saved) {
  WEFT_RETURN_IF_ERROR(ScatterbrainSupportsCuda(p));
  return scatterbrain_cuda::Call(AsCudaStream(stream), p, in, /*backward=*/false).Forward(o, saved);
}

absl::Status ScatterbrainBackwardCuda(Stream& stream, const ScatterbrainProblem& p,
                                      const ScatterbrainOperands& in, const Tensor& o,
                                      const ScatterbrainSaved& saved, const Tensor& d_o,
                                      Tensor& d_q, Tensor& d_k, Tensor& d_v) {
  WEFT_RETURN_IF_ERROR(ScatterbrainSupportsCuda(p));
  return scatterbrain_cuda::Call(AsCudaStream(stream), p, in, /*backward=*/true)
      .Backward(o, saved, d_o, d_q, d_k, d_v);
}

}  // namespace weft::kernels
