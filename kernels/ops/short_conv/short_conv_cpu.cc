// A tile is a block of tokens and a block of channels of one sequence: its rows stay in the nearest
// caches while every tap passes over them.
#include <algorithm>

#include "kernels/device/aligned_array.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/short_conv/short_conv_table.h"

namespace weft::kernels::internal {
namespace {

constexpr int64_t kTokenBlock = 64;
constexpr int64_t kChannelBlock = 256;

// The shapes of one call, and its taps with channels innermost.
struct Convolution {
  const VectorTable& vector;
  const Tensor& x;
  const Tensor& history;
  int64_t sequences, tokens, channels, taps;
  int64_t token_blocks, channel_blocks;
  const float* turned_taps;  // [W,C]

  [[nodiscard]] int64_t tiles() const { return sequences * token_blocks * channel_blocks; }
};

struct Tile {
  int64_t sequence;
  int64_t token, tokens;      // first and count
  int64_t channel, channels;  // first and count
};

Convolution Describe(const CpuStream& cpu, const Tensor& x, const Tensor& w, const Tensor& history,
                     Scratch<float>& scratch) {
  const int64_t channels = x.dim(2);
  const int64_t taps = w.dim(1);
  float* turned = scratch.Get(taps * channels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < taps; ++j) turned[j * channels + c] = w.data<float>()[c * taps + j];
  }
  return {.vector = cpu.vector(),
          .x = x,
          .history = history,
          .sequences = x.dim(0),
          .tokens = x.dim(1),
          .channels = channels,
          .taps = taps,
          .token_blocks = BlocksOf(x.dim(1), kTokenBlock),
          .channel_blocks = BlocksOf(channels, kChannelBlock),
          .turned_taps = turned};
}

Tile TileAt(const Convolution& conv, int64_t index) {
  const int64_t channel = index % conv.channel_blocks * kChannelBlock;
  const int64_t token = index / conv.channel_blocks % conv.token_blocks * kTokenBlock;
  return {.sequence = index / conv.channel_blocks / conv.token_blocks,
          .token = token,
          .tokens = std::min(kTokenBlock, conv.tokens - token),
          .channel = channel,
          .channels = std::min(kChannelBlock, conv.channels - channel)};
}

// The inputs of a tile's channels at token t, or null where they are zero.
const float* InputRow(const Convolution& conv, const Tile& tile, int64_t t) {
  if (t >= 0) {
    return conv.x.data<float>() + (tile.sequence * conv.tokens + t) * conv.channels + tile.channel;
  }
  if (!conv.history.present()) return nullptr;
  const int64_t row = tile.sequence * (conv.taps - 1) + conv.taps - 1 + t;
  return conv.history.data<float>() + row * conv.channels + tile.channel;
}

// z of a tile's channels at token t.
void ConvolveRow(const Convolution& conv, const Tile& tile, int64_t t, float* z) {
  const float* taps = conv.turned_taps + tile.channel;
  conv.vector.multiply(taps, InputRow(conv, tile, t), z, tile.channels);
  for (int64_t j = 1; j < conv.taps; ++j) {
    if (const float* row = InputRow(conv, tile, t - j); row != nullptr) {
      conv.vector.multiply_add(taps + j * conv.channels, row, z, tile.channels);
    }
  }
}

absl::Status ForwardCpu(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& history,
                        Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  thread_local Scratch<float> scratch;
  const Convolution conv = Describe(cpu, x, w, history, scratch);
  cpu.ParallelFor(conv.tiles(), [&](int64_t index) {
    const Tile tile = TileAt(conv, index);
    for (int64_t t = tile.token; t < tile.token + tile.tokens; ++t) {
      float* row =
          y.data<float>() + (tile.sequence * conv.tokens + t) * conv.channels + tile.channel;
      ConvolveRow(conv, tile, t, row);
      conv.vector.silu(row, row, tile.channels);
    }
  });
  return absl::OkStatus();
}

// The gradients of the inputs before the first token, from dz of the first tokens.
void HistoryGradient(const Convolution& conv, const Tile& tile, const float* dz, int64_t rows,
                     Tensor& d_history) {
  const int64_t past = conv.taps - 1;
  for (int64_t i = 0; i < past; ++i) {  // the input past - i tokens before the first
    float* const result =
        d_history.data<float>() + (tile.sequence * past + i) * conv.channels + tile.channel;
    std::fill_n(result, tile.channels, 0.0F);
    for (int64_t t = 0; t <= i && t < rows; ++t) {
      conv.vector.multiply_add(conv.turned_taps + (past - i + t) * conv.channels + tile.channel,
                               dz + t * tile.channels, result, tile.channels);
    }
  }
}

// dx of a tile, and the tile's part of the gradient of the taps into part[W, channels of the tile].
void BackwardTile(const Convolution& conv, const Tile& tile, const Tensor& dy, Tensor& dx,
                  Tensor& d_history, float* part) {
  // dx_t needs dz up to W - 1 tokens later: those rows of the next tile are computed here again.
  const int64_t rows = std::min(tile.tokens + conv.taps - 1, conv.tokens - tile.token);
  thread_local Scratch<float> scratch;
  float* dz = scratch.Get((kTokenBlock + kShortConvTaps) * kChannelBlock);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at =
        (tile.sequence * conv.tokens + tile.token + i) * conv.channels + tile.channel;
    float* row = dz + i * tile.channels;
    ConvolveRow(conv, tile, tile.token + i, row);
    conv.vector.silu_backward(row, dy.data<float>() + at, row, tile.channels);
  }
  if (tile.token == 0 && d_history.present()) HistoryGradient(conv, tile, dz, rows, d_history);
  std::fill_n(part, conv.taps * tile.channels, 0.0F);
  for (int64_t i = 0; i < tile.tokens; ++i) {
    const int64_t t = tile.token + i;
    float* result =
        dx.data<float>() + (tile.sequence * conv.tokens + t) * conv.channels + tile.channel;
    conv.vector.multiply(conv.turned_taps + tile.channel, dz + i * tile.channels, result,
                         tile.channels);
    for (int64_t j = 1; j < conv.taps && i + j < rows; ++j) {
      conv.vector.multiply_add(conv.turned_taps + j * conv.channels + tile.channel,
                               dz + (i + j) * tile.channels, result, tile.channels);
    }
    for (int64_t j = 0; j < conv.taps; ++j) {
      if (const float* row = InputRow(conv, tile, t - j); row != nullptr) {
        conv.vector.multiply_add(dz + i * tile.channels, row, part + j * tile.channels,
                                 tile.channels);
      }
    }
  }
}

absl::Status BackwardCpu(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& history,
                         const Tensor& dy, Tensor& dx, Tensor& d_history, Tensor& dw) {
  CpuStream& cpu = AsCpuStream(stream);
  thread_local Scratch<float> scratch;
  thread_local Scratch<float> part_scratch;
  const Convolution conv = Describe(cpu, x, w, history, scratch);
  const int64_t part_size = conv.taps * kChannelBlock;
  float* parts = part_scratch.Get(conv.tiles() * part_size);
  cpu.ParallelFor(conv.tiles(), [&](int64_t index) {
    BackwardTile(conv, TileAt(conv, index), dy, dx, d_history, parts + index * part_size);
  });
  // The parts of a block of channels, in the order of their tiles.
  for (int64_t index = 0; index < conv.tiles(); ++index) {
    const Tile tile = TileAt(conv, index);
    const float* part = parts + index * part_size;
    float* slopes = dw.data<float>() + tile.channel * conv.taps;
    for (int64_t c = 0; c < tile.channels; ++c) {
      for (int64_t j = 0; j < conv.taps; ++j) {
        slopes[c * conv.taps + j] += part[j * tile.channels + c];
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuShortConv() {
  short_conv_forward.Set(DeviceKind::kCpu, ForwardCpu);
  short_conv_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
