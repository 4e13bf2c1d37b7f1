// Scatterbrain in tiles, fp32: features, sums over tiles of keys, what those give the queries, then
// the pairs that are written out, patch by patch. Each step is a parallel loop over the tiles or
// patches of a wave of heads; every result has one owner and every sum one order, so bits do not
// depend on threads.
//
// The backward pass computes features, sums and pairs again: in memory they would take many times
// the room of their operands.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/attention/scatterbrain/cpu/features.h"
#include "kernels/attention/scatterbrain/cpu/head_space.h"
#include "kernels/attention/scatterbrain/cpu/low_rank.h"
#include "kernels/attention/scatterbrain/cpu/pairs.h"
#include "kernels/attention/scatterbrain/cpu/patches.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"

namespace weft::kernels::scatterbrain {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr float kLeastNormaliser = 1e-30F;

// Heads that are computed together take about this much memory, and are at least one.
constexpr int64_t kWaveFloats = int64_t{8} << 20;

// One call: what its heads share, and the heads of the present wave.
class Call {
 public:
  Call(CpuStream& cpu, const ScatterbrainProblem& p, const ScatterbrainOperands& in, bool backward)
      : cpu_(cpu), p_(p), in_(in), backward_(backward), tiles_(p), rounds_(p, tiles_, backward) {
    for (int64_t b = 0; b < p.batch; ++b) {
      keys_.emplace_back(in.valid.present() ? in.valid.data<int32_t>() + b * p.keys : nullptr,
                         p.keys);
    }
    Carver count(nullptr);
    static_cast<void>(HeadSpace(p, backward, count));
    head_floats_ = count.used();
    wave_ =
        std::clamp<int64_t>(kWaveFloats / std::max<int64_t>(1, head_floats_), 1, p.batch * p.heads);
    thread_local Scratch<float> scratch;
    Carver shared(nullptr);
    CarveShared(shared);
    Carver memory(scratch.Get(shared.used() + wave_ * head_floats_));
    CarveShared(memory);
    for (int64_t n = 0; n < wave_; ++n) spaces_.emplace_back(p, backward, memory);
    std::fill_n(ones_, p.features, 1.0F);
    const auto* const w = in.w.data<float>();
    for (int64_t l = 0; l < p.feature_rows(); ++l) {
      for (int64_t d = 0; d < p.key_dim; ++d) {
        transposed_w_[d * p.feature_rows() + l] = w[l * p.key_dim + d];
      }
    }
  }

  [[nodiscard]] const Tiles& tiles() const { return tiles_; }

  // Calls body() for each wave; inside, the loops below go over its heads.
  void ForWaves(absl::FunctionRef<void()> body) {
    for (first_ = 0; first_ < p_.batch * p_.heads; first_ += wave_) {
      heads_ = std::min(wave_, p_.batch * p_.heads - first_);
      lists_.assign(static_cast<size_t>(heads_), std::nullopt);
      if (std::holds_alternative<HashSupport>(p_.support)) {
        cpu_.ParallelFor(heads_, [&](int64_t n) {
          lists_[n].emplace(rounds_.NewHeadLists(in_.buckets, first_ + n));
        });
      }
      body();
    }
  }

  // Calls body(task, tile) for every head of the wave and tile < tiles.
  void ForTiles(int64_t tiles, absl::FunctionRef<void(const HeadTask&, int64_t)> body) {
    cpu_.ParallelFor(heads_ * tiles,
                     [&](int64_t index) { body(Task(index / tiles), index % tiles); });
  }

  // Calls body(task, patch) for all patches, round after round.
  void ForPatches(absl::FunctionRef<void(const HeadTask&, const Patch&)> body) {
    for (int64_t round = 0; round < rounds_.rounds(); ++round) {
      const int64_t patches = rounds_.patches(round);
      cpu_.ParallelFor(heads_ * patches, [&](int64_t index) {
        const HeadTask task = Task(index / patches);
        const std::optional<PatchRounds::HeadLists>& lists = lists_[index / patches];
        thread_local std::vector<int32_t> room;
        const Patch patch = rounds_.At(round, index % patches, task.keys,
                                       lists.has_value() ? &*lists : nullptr, room);
        body(task, patch);
      });
    }
  }

  void Features() {
    const int64_t query_tiles = TilesOf(p_.queries);
    ForTiles(query_tiles + TilesOf(p_.keys), [&](const HeadTask& task, int64_t tile) {
      if (tile < query_tiles) {
        QueryFeatures(task, tile);
      } else {
        KeyExponents(task, tile - query_tiles);
      }
    });
    ForTiles(1, [](const HeadTask& task, int64_t) { KeyScales(task); });
    ForTiles(TilesOf(p_.keys), KeyFeatures);
  }

 private:
  void CarveShared(Carver& carver) {
    transposed_w_ = carver.Take(p_.feature_rows() * p_.key_dim);
    ones_ = carver.Take(p_.features);
  }

  [[nodiscard]] HeadTask Task(int64_t n) const {
    const int64_t b = (first_ + n) / p_.heads;
    const int64_t h = (first_ + n) % p_.heads;
    return {p_, in_, tiles_, cpu_.vector(), transposed_w_, ones_, keys_[b], b, h, spaces_[n]};
  }

  CpuStream& cpu_;
  const ScatterbrainProblem& p_;
  const ScatterbrainOperands& in_;
  const bool backward_;
  const Tiles tiles_;
  const PatchRounds rounds_;
  std::vector<KeyList> keys_;  // of each sequence
  int64_t head_floats_ = 0;
  int64_t wave_ = 1;
  float* transposed_w_ = nullptr;
  float* ones_ = nullptr;
  std::vector<HeadSpace> spaces_;
  int64_t first_ = 0;
  int64_t heads_ = 0;
  std::vector<std::optional<PatchRounds::HeadLists>> lists_;
};

// A [B, H, T] tensor's row of one head.
float* HeadRow(const Tensor& tensor, const HeadTask& task) {
  return tensor.data<float>() + (task.batch * task.p.heads + task.head) * task.p.queries;
}

bool InSomeBucket(const HeadTask& task, int64_t i) {
  const auto* hash = std::get_if<HashSupport>(&task.p.support);
  if (hash == nullptr) return true;
  const int64_t head = (task.batch * task.p.heads + task.head) * hash->rounds;
  return task.in.buckets.queries.data<int32_t>()[head * task.p.queries + i] >= 0;
}

// The queries of a tile before any pair. Where the support covers all that a query sees, there is
// no low-rank part.
void StartQueries(const HeadTask& task, int64_t tile) {
  const TileRows rows(tile, task.p.queries);
  for (int64_t i = rows.first; i < rows.last; ++i) {
    float& scale = task.space.query_scale[i];
    if (task.tiles.Complete(i) && InSomeBucket(task, i)) scale = kNothing;
    const float seen = task.p.keys == 0 ? kNothing : task.SeenScale(i);
    task.space.reference[i] = seen == kNothing ? kNothing : scale + seen;
    task.space.exact_mass[i] = 0.0F;
  }
}

// The sums of a tile of queries over their normaliser. What is left of the low-rank mass when the
// exact pairs are taken out is positive but for rounding.
void Finish(const HeadTask& task, int64_t tile, const Tensor& o, ScatterbrainSaved& saved) {
  const TileRows rows(tile, task.p.queries);
  const HeadRows to(o, task.batch, task.head);
  float* const log_normaliser = HeadRow(saved.log_normaliser, task);
  float* const share = HeadRow(saved.low_rank_share, task);
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const float reference = task.space.reference[i];
    const bool blind = reference == kNothing;  // no key seen
    const float* const o1 = task.space.o1 + i * (task.p.value_dim + 1);
    const float low_rank = std::max(o1[task.p.value_dim], 0.0F);
    const float sum = std::max(task.space.exact_mass[i] + low_rank, kLeastNormaliser);
    task.vector.scale(blind ? 0.0F : 1.0F / sum, o1, to.Row(i), task.p.value_dim);
    share[i] = blind ? 0.0F : low_rank / sum;
    // In double, so that the last bit does not depend on the mathematics library.
    log_normaliser[i] = blind ? kNothing : static_cast<float>(reference + std::log(double{sum}));
  }
}

// Gradients of o with what the normaliser gets, for a tile of queries.
void LoadGradients(const HeadTask& task, int64_t tile, const Tensor& o,
                   const ScatterbrainSaved& saved, const Tensor& d_o) {
  const int64_t width = task.p.value_dim;
  const TileRows rows(tile, task.p.queries);
  const HeadRows results(o, task.batch, task.head);
  const HeadRows gradients(d_o, task.batch, task.head);
  const float* const log_normaliser = HeadRow(saved.log_normaliser, task);
  const float* const share = HeadRow(saved.low_rank_share, task);
  for (int64_t i = rows.first; i < rows.last; ++i) {
    float* const g1 = task.space.g1 + i * (width + 1);
    std::copy_n(gradients.Row(i), width, g1);
    g1[width] = -task.vector.dot(gradients.Row(i), results.Row(i), width);
    task.space.log_normaliser[i] = log_normaliser[i];
    if (share[i] == 0.0F && !task.p.drops_corrections()) task.space.query_scale[i] = kNothing;
  }
  std::fill(task.space.d_query_u + rows.first * task.p.key_dim,
            task.space.d_query_u + rows.last * task.p.key_dim, 0.0F);
}

void ClearKeyGradients(const HeadTask& task, int64_t tile) {
  const TileRows rows(tile, task.p.keys);
  std::fill(task.space.d_key_u + rows.first * task.p.key_dim,
            task.space.d_key_u + rows.last * task.p.key_dim, 0.0F);
}

// Gradients of u, times sqrt(scale), for a tile of tokens.
void StoreGradients(const HeadTask& task, int64_t tile, const float* d_u, const Tensor& d) {
  const TileRows rows(tile, d.dim(1));
  const HeadRows to(d, task.batch, task.head);
  const auto root = static_cast<float>(std::sqrt(task.p.scale));
  for (int64_t t = rows.first; t < rows.last; ++t) {
    task.vector.scale(root, d_u + t * to.width, to.Row(t), to.width);
  }
}

void Forward(Call& call, const ScatterbrainProblem& p, Tensor& o, ScatterbrainSaved& saved) {
  const int64_t query_tiles = TilesOf(p.queries);
  call.ForWaves([&] {
    call.Features();
    call.ForTiles(query_tiles, StartQueries);
    call.ForTiles(ValueParts(p), OutsideValues);
    call.ForPatches(PatchForward);
    call.ForTiles(query_tiles,
                  [&](const HeadTask& task, int64_t tile) { Finish(task, tile, o, saved); });
  });
}

void Backward(Call& call, const ScatterbrainProblem& p, const Tensor& o,
              const ScatterbrainSaved& saved, const Tensor& d_o, Tensor& d_q, Tensor& d_k,
              Tensor& d_v) {
  const int64_t query_tiles = TilesOf(p.queries);
  const int64_t key_tiles = TilesOf(p.keys);
  call.ForWaves([&] {
    call.Features();
    call.ForTiles(query_tiles, [&](const HeadTask& task, int64_t tile) {
      LoadGradients(task, tile, o, saved, d_o);
    });
    call.ForTiles(key_tiles, ClearKeyGradients);
    call.ForTiles(call.tiles().query_tiles(), ScaleGradients);
    call.ForTiles(FeatureParts(p), OutsideQueryGradients);
    call.ForTiles(FeatureParts(p), OutsideKeyGradients);
    call.ForTiles(ValueParts(p), OutsideValueGradients);
    call.ForPatches(PatchBackward);
    call.ForTiles(query_tiles + key_tiles, [&](const HeadTask& task, int64_t tile) {
      if (tile < query_tiles) {
        QueryFeaturesBackward(task, tile);
        StoreGradients(task, tile, task.space.d_query_u, d_q);
      } else {
        KeyFeaturesBackward(task, tile - query_tiles);
      }
    });
    if (p.epsilon > 0.0) {
      call.ForTiles(1, [](const HeadTask& task, int64_t) { KeyScalesBackward(task); });
    }
    call.ForTiles(key_tiles, [&](const HeadTask& task, int64_t tile) {
      StoreGradients(task, tile, task.space.d_key_u, d_k);
      const TileRows rows(tile, p.keys);
      HeadRows(d_v, task.batch, task.head)
          .Store(rows.first, rows.count(), task.space.d_v + rows.first * p.value_dim);
    });
  });
}

}  // namespace
}  // namespace weft::kernels::scatterbrain

namespace weft::kernels {

absl::Status ScatterbrainForwardCpu(Stream& stream, const ScatterbrainProblem& p,
                                    const ScatterbrainOperands& in, Tensor& o,
                                    ScatterbrainSaved& saved) {
  scatterbrain::Call call(AsCpuStream(stream), p, in, /*backward=*/false);
  scatterbrain::Forward(call, p, o, saved);
  return absl::OkStatus();
}

absl::Status ScatterbrainBackwardCpu(Stream& stream, const ScatterbrainProblem& p,
                                     const ScatterbrainOperands& in, const Tensor& o,
                                     const ScatterbrainSaved& saved, const Tensor& d_o, Tensor& d_q,
                                     Tensor& d_k, Tensor& d_v) {
  scatterbrain::Call call(AsCpuStream(stream), p, in, /*backward=*/true);
  scatterbrain::Backward(call, p, o, saved, d_o, d_q, d_k, d_v);
  return absl::OkStatus();
}

}  // namespace weft::kernels
