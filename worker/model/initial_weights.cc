#include "worker/model/initial_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/device/cpu/thread_pool.h"
#include "kernels/device/host_values.h"
#include "kernels/random/philox.h"

namespace weft::worker {
namespace {

using Kind = Initialisation::Kind;

// Elements that go to the device together: what the host holds of a large model at a time.
constexpr int64_t kSpan = int64_t{1} << 22;
// Elements that a thread draws at a time.
constexpr int64_t kPiece = int64_t{1} << 14;

// Draws come in fours, so a piece begins at a multiple of four of its parameter.
static_assert(kSpan % kPiece == 0 && kPiece % 4 == 0 && ParameterLayout::kAlignment % 4 == 0);

// Elements [first, first + count) of a parameter.
struct Piece {
  const Parameter* parameter;
  uint32_t ordinal;  // of the parameter in the layout
  int64_t first;
  int64_t count;
};

// Element i comes from the draw at (i / 4, ordinal), word i % 4.
void FillUniform(uint64_t seed, const Piece& piece, double bound, absl::Span<double> into) {
  kernels::PhiloxWords words = {};
  for (int64_t i = 0; i < piece.count; ++i) {
    if (i % 4 == 0) {
      words = kernels::Draw(seed, {}, static_cast<uint32_t>((piece.first + i) / 4), piece.ordinal);
    }
    into[static_cast<size_t>(i)] =
        bound * (2.0 * kernels::U32(words[static_cast<size_t>(i % 4)]) - 1.0);
  }
}

// Normals; those beyond two deviations are drawn again, under the next step of the site.
void FillTruncatedNormal(uint64_t seed, const Piece& piece, double deviation,
                         absl::Span<double> into) {
  kernels::FillNormal(seed, {}, piece.ordinal, piece.first, into);
  for (size_t i = 0; i < into.size(); ++i) {
    for (uint32_t attempt = 1; std::abs(into[i]) > 2.0; ++attempt) {
      std::array<double, 4> again = {};
      kernels::FillNormal(seed, {.step = attempt}, piece.ordinal,
                          piece.first + static_cast<int64_t>(i / 4 * 4), absl::MakeSpan(again));
      into[i] = again[i % 4];
    }
    into[i] *= deviation;
  }
}

// Of a parameter that can only be made as a whole.
void FillGiven(uint64_t seed, const Piece& piece, absl::Span<double> into) {
  std::vector<double> whole(static_cast<size_t>(piece.parameter->shape.count()));
  piece.parameter->initialisation.given(seed, absl::MakeSpan(whole));
  std::copy_n(whole.begin() + piece.first, into.size(), into.begin());
}

void FillPiece(uint64_t seed, const Piece& piece, absl::Span<double> into) {
  const Initialisation& initialisation = piece.parameter->initialisation;
  switch (initialisation.kind) {
    case Kind::kFill:
      std::fill(into.begin(), into.end(), initialisation.scale);
      return;
    case Kind::kNormal:
      kernels::FillNormal(seed, {}, piece.ordinal, piece.first, into);
      for (double& value : into) value *= initialisation.scale;
      return;
    case Kind::kTruncatedNormal:
      return FillTruncatedNormal(seed, piece, initialisation.scale, into);
    case Kind::kUniform:
      return FillUniform(seed, piece, initialisation.scale, into);
    case Kind::kGiven:
      return FillGiven(seed, piece, into);
  }
}

// What lies in elements [first, last) of the block.
std::vector<Piece> PiecesOf(const ParameterLayout& layout, int64_t first, int64_t last) {
  std::vector<Piece> pieces;
  uint32_t ordinal = 0;
  for (const Parameter& parameter : layout.parameters()) {
    const int64_t begin = std::max<int64_t>(first - parameter.offset, 0);
    const int64_t end = std::min(last - parameter.offset, parameter.shape.count());
    const int64_t most = parameter.initialisation.kind == Kind::kGiven ? kSpan : kPiece;
    for (int64_t at = begin; at < end; at += most) {
      pieces.push_back({.parameter = &parameter,
                        .ordinal = ordinal,
                        .first = at,
                        .count = std::min(most, end - at)});
    }
    ++ordinal;
  }
  return pieces;
}

}  // namespace

absl::Status InitialiseWeights(uint64_t seed, kernels::Stream& stream, ParameterBlock& weights,
                               int threads) {
  kernels::ThreadPool pool(threads);
  const int64_t elements = weights.layout().block_count();
  std::vector<float> values;  // of a span
  for (int64_t first = 0; first < elements; first += kSpan) {
    const int64_t count = std::min(kSpan, elements - first);
    const std::vector<Piece> pieces = PiecesOf(weights.layout(), first, first + count);
    values.assign(static_cast<size_t>(count), 0.0F);
    pool.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      std::vector<double> drawn(static_cast<size_t>(piece.count));
      FillPiece(seed, piece, absl::MakeSpan(drawn));
      std::transform(drawn.begin(), drawn.end(),
                     values.begin() + (piece.parameter->offset + piece.first - first),
                     [](double value) { return static_cast<float>(value); });
    });
    kernels::Tensor target = weights.block().Part(first, {count});
    if (target.dtype() == kernels::DType::kF32) {
      WEFT_RETURN_IF_ERROR(stream.device().CopyFromHost(target, values.data(), stream));
    } else {
      const std::vector<double> widened(values.begin(), values.end());
      WEFT_RETURN_IF_ERROR(kernels::WriteValues(target, widened, stream));
    }
  }
  return absl::OkStatus();
}

int AllThreads() { return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1); }

}  // namespace weft::worker
