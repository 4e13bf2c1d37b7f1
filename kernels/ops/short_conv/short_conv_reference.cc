#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ops/short_conv/short_conv_table.h"

namespace weft::kernels::internal {
namespace {

// The input of sequence b at token t, which may lie before the first token.
double InputAt(const Tensor& x, const Tensor& history, int64_t taps, int64_t b, int64_t t,
               int64_t c) {
  const int64_t tokens = x.dim(1);
  const int64_t channels = x.dim(2);
  if (t >= 0) return x.data<double>()[(b * tokens + t) * channels + c];
  if (!history.present()) return 0;
  return history.data<double>()[(b * (taps - 1) + taps - 1 + t) * channels + c];
}

double Convolve(const Tensor& x, const Tensor& w, const Tensor& history, int64_t b, int64_t t,
                int64_t c) {
  const int64_t taps = w.dim(1);
  double sum = 0;
  for (int64_t j = 0; j < taps; ++j) {
    sum += w.data<double>()[c * taps + j] * InputAt(x, history, taps, b, t - j, c);
  }
  return sum;
}

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& w,
                              const Tensor& history, Tensor& y) {
  double* result = y.data<double>();
  for (int64_t b = 0; b < x.dim(0); ++b) {
    for (int64_t t = 0; t < x.dim(1); ++t) {
      for (int64_t c = 0; c < x.dim(2); ++c) {
        const double z = Convolve(x, w, history, b, t, c);
        *result++ = z / (1 + std::exp(-z));
      }
    }
  }
  return absl::OkStatus();
}

// One channel of one sequence.
void BackwardChannel(const Tensor& x, const Tensor& w, const Tensor& history, const Tensor& dy,
                     Tensor& dx, Tensor& d_history, Tensor& dw, int64_t b, int64_t c) {
  const int64_t tokens = x.dim(1);
  const int64_t channels = x.dim(2);
  const int64_t taps = w.dim(1);
  std::vector<double> dz(static_cast<size_t>(tokens));
  for (int64_t t = 0; t < tokens; ++t) {
    const double z = Convolve(x, w, history, b, t, c);
    const double s = 1 / (1 + std::exp(-z));
    const double slope = dy.data<double>()[(b * tokens + t) * channels + c];
    dz[static_cast<size_t>(t)] = slope * s * (1 + z * (1 - s));
    for (int64_t j = 0; j < taps; ++j) {
      dw.data<double>()[c * taps + j] +=
          dz[static_cast<size_t>(t)] * InputAt(x, history, taps, b, t - j, c);
    }
  }
  const auto input_slope = [&](int64_t t) {
    double sum = 0;
    for (int64_t j = std::max<int64_t>(0, -t); j < taps && t + j < tokens; ++j) {
      sum += w.data<double>()[c * taps + j] * dz[static_cast<size_t>(t + j)];
    }
    return sum;
  };
  for (int64_t t = 0; t < tokens; ++t) {
    dx.data<double>()[(b * tokens + t) * channels + c] = input_slope(t);
  }
  for (int64_t i = 0; d_history.present() && i < taps - 1; ++i) {
    d_history.data<double>()[(b * (taps - 1) + i) * channels + c] = input_slope(i - (taps - 1));
  }
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& w,
                               const Tensor& history, const Tensor& dy, Tensor& dx,
                               Tensor& d_history, Tensor& dw) {
  for (int64_t b = 0; b < x.dim(0); ++b) {
    for (int64_t c = 0; c < x.dim(2); ++c) {
      BackwardChannel(x, w, history, dy, dx, d_history, dw, b, c);
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceShortConv() {
  short_conv_forward.Set(DeviceKind::kReference, ForwardReference);
  short_conv_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
