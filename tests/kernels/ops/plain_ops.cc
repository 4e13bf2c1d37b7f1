#include "tests/kernels/ops/plain_ops.h"

namespace weft::kernels::plain {
namespace {

size_t At(int64_t index) { return static_cast<size_t>(index); }

float InputAt(const ConvShape& s, const Row& x, const Row& history, int64_t b, int64_t t,
              int64_t c) {
  if (t >= 0) return x[At((b * s.tokens + t) * s.channels + c)];
  if (history.empty()) return 0;
  return history[At((b * (s.taps - 1) + s.taps - 1 + t) * s.channels + c)];
}

float Convolved(const ConvShape& s, const Row& x, const Row& w, const Row& history, int64_t b,
                int64_t t, int64_t c) {
  float z = 0;
  for (int64_t j = 0; j < s.taps; ++j) {
    z += w[At(c * s.taps + j)] * InputAt(s, x, history, b, t - j, c);
  }
  return z;
}

}  // namespace

float Gelu(bool exact, float x) {
  if (exact) return x * 0.5F * (1 + std::erf(x * 0.70710678F));
  return x * 0.5F * (1 + std::tanh(0.79788456F * (x + 0.044715F * x * x * x)));
}

float GeluSlope(bool exact, float x) {
  if (exact) {
    return 0.5F * (1 + std::erf(x * 0.70710678F)) + x * 0.39894228F * std::exp(-x * x / 2);
  }
  const float t = std::tanh(0.79788456F * (x + 0.044715F * x * x * x));
  return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * 0.79788456F * (1 + 0.134145F * x * x);
}

void MatMul(const Strided& a, const Strided& b, int64_t m, int64_t n, int64_t k, float beta,
            Row& c) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < k; ++l) sum += a.at(i, l) * b.at(l, j);
      c[At(i * n + j)] = sum + (beta == 0 ? 0 : beta * c[At(i * n + j)]);
    }
  }
}

void RmsNormForward(const Row& x, const Row& w, float eps, Row& y, Row& rstd) {
  const size_t channels = w.size();
  for (size_t r = 0; r < rstd.size(); ++r) {
    float sum = 0;
    for (size_t c = 0; c < channels; ++c) sum += x[r * channels + c] * x[r * channels + c];
    rstd[r] = 1 / std::sqrt(sum / static_cast<float>(channels) + eps);
    for (size_t c = 0; c < channels; ++c) {
      y[r * channels + c] = w[c] * x[r * channels + c] * rstd[r];
    }
  }
}

void AddRows(const Row& a, Row& sums) {
  Row added(sums.size());
  for (size_t i = 0; i < a.size(); ++i) added[i % added.size()] += a[i];
  for (size_t c = 0; c < sums.size(); ++c) sums[c] += added[c];
}

void RmsNormBackward(const Row& x, const Row& w, const Row& rstd, const Row& dy, bool accumulate,
                     Row& dx, Row& dw) {
  const size_t channels = w.size();
  for (size_t r = 0; r < rstd.size(); ++r) {
    float mean = 0;
    for (size_t c = 0; c < channels; ++c) {
      mean += w[c] * dy[r * channels + c] * x[r * channels + c];
    }
    mean /= static_cast<float>(channels);
    for (size_t c = 0; c < channels; ++c) {
      const size_t i = r * channels + c;
      const float value = rstd[r] * (w[c] * dy[i] - x[i] * rstd[r] * rstd[r] * mean);
      dw[c] += dy[i] * x[i] * rstd[r];
      dx[i] = accumulate ? dx[i] + value : value;
    }
  }
}

void LayerNormForward(const Row& x, const Row& w, const Row& b, float eps, Row& y, Row& mean,
                      Row& rstd) {
  const size_t channels = w.size();
  const auto count = static_cast<float>(channels);
  for (size_t r = 0; r < rstd.size(); ++r) {
    const float* row = x.data() + r * channels;
    float sum = 0;
    for (size_t c = 0; c < channels; ++c) sum += row[c];
    mean[r] = sum / count;
    float squares = 0;
    for (size_t c = 0; c < channels; ++c) squares += (row[c] - mean[r]) * (row[c] - mean[r]);
    rstd[r] = 1 / std::sqrt(squares / count + eps);
    for (size_t c = 0; c < channels; ++c) {
      y[r * channels + c] = w[c] * (row[c] - mean[r]) * rstd[r] + b[c];
    }
  }
}

void LayerNormBackward(const Row& x, const Row& w, const Row& mean, const Row& rstd, const Row& dy,
                       bool accumulate, Row& dx, Row& dw, Row& db) {
  const size_t channels = w.size();
  for (size_t r = 0; r < rstd.size(); ++r) {
    float mean_g = 0;
    float mean_gn = 0;
    for (size_t c = 0; c < channels; ++c) {
      const size_t i = r * channels + c;
      mean_g += w[c] * dy[i];
      mean_gn += w[c] * dy[i] * (x[i] - mean[r]) * rstd[r];
    }
    mean_g /= static_cast<float>(channels);
    mean_gn /= static_cast<float>(channels);
    for (size_t c = 0; c < channels; ++c) {
      const size_t i = r * channels + c;
      const float normal = (x[i] - mean[r]) * rstd[r];
      const float value = rstd[r] * (w[c] * dy[i] - mean_g - normal * mean_gn);
      dw[c] += dy[i] * normal;
      db[c] += dy[i];
      dx[i] = accumulate ? dx[i] + value : value;
    }
  }
}

void L2NormForward(const Row& x, int64_t width, float eps, float scale, Row& y, Row& inverse_norm) {
  for (size_t r = 0; r < inverse_norm.size(); ++r) {
    float sum = 0;
    const size_t first = r * At(width);
    for (size_t d = first; d < first + At(width); ++d) sum += x[d] * x[d];
    inverse_norm[r] = 1 / std::sqrt(sum + eps);
    for (size_t d = first; d < first + At(width); ++d) y[d] = scale * x[d] * inverse_norm[r];
  }
}

void L2NormBackward(const Row& y, const Row& inverse_norm, float scale, const Row& dy, Row& dx) {
  const size_t width = y.size() / inverse_norm.size();
  for (size_t r = 0; r < inverse_norm.size(); ++r) {
    float dot = 0;
    for (size_t d = r * width; d < (r + 1) * width; ++d) dot += y[d] * dy[d];
    for (size_t d = r * width; d < (r + 1) * width; ++d) {
      dx[d] = inverse_norm[r] * (scale * dy[d] - y[d] * dot / scale);
    }
  }
}

void ShortConvForward(const ConvShape& s, const Row& x, const Row& w, const Row& history, Row& y) {
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      for (int64_t c = 0; c < s.channels; ++c) {
        const float z = Convolved(s, x, w, history, b, t, c);
        y[At((b * s.tokens + t) * s.channels + c)] = z * Sigmoid(z);
      }
    }
  }
}

void ShortConvBackward(const ConvShape& s, const Row& x, const Row& w, const Row& history,
                       const Row& dy, Row& dx, Row& d_history, Row& dw) {
  std::fill(dx.begin(), dx.end(), 0.0F);
  std::fill(d_history.begin(), d_history.end(), 0.0F);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      for (int64_t c = 0; c < s.channels; ++c) {
        const int64_t row = b * s.tokens + t;
        const float dz =
            dy[At(row * s.channels + c)] * SiluSlope(Convolved(s, x, w, history, b, t, c));
        for (int64_t j = 0; j < s.taps; ++j) {
          dw[At(c * s.taps + j)] += dz * InputAt(s, x, history, b, t - j, c);
          const float slope = dz * w[At(c * s.taps + j)];
          if (t >= j) {
            dx[At((row - j) * s.channels + c)] += slope;
          } else if (!d_history.empty()) {
            d_history[At((b * (s.taps - 1) + s.taps - 1 + t - j) * s.channels + c)] += slope;
          }
        }
      }
    }
  }
}

void Rotary(const RotaryShape& s, const Row& x, double base, int64_t first_position, double sign,
            Row& y) {
  const int64_t half = s.width / 2;
  for (int64_t row = 0; row < s.batch * s.tokens * s.heads; ++row) {
    const auto position = static_cast<double>(first_position + row / s.heads % s.tokens);
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          sign * position *
          std::pow(base, -2 * static_cast<double>(i) / static_cast<double>(s.width));
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(std::sin(angle));
      const float low = x[At(row * s.width + i)];
      const float high = x[At(row * s.width + half + i)];
      y[At(row * s.width + i)] = low * cosine - high * sine;
      y[At(row * s.width + half + i)] = low * sine + high * cosine;
    }
  }
}

void CrossEntropy(const Row& h, const Row& w, const Row& bias, const Row& targets, int64_t channels,
                  float scale, CrossEntropyResults results, CrossEntropySlopes* slopes) {
  const size_t width = At(channels);
  const size_t vocabulary = w.size() / width;
  if (slopes != nullptr) std::fill(slopes->dh.begin(), slopes->dh.end(), 0.0F);
  for (size_t r = 0; r < targets.size(); ++r) {
    results.losses[r] = 0;
    results.right[r] = 0;
    if (targets[r] < 0) continue;
    Row logits = bias.empty() ? Row(vocabulary) : bias;
    for (size_t v = 0; v < vocabulary; ++v) {
      for (size_t c = 0; c < width; ++c) logits[v] += h[r * width + c] * w[v * width + c];
    }
    const auto likeliest = std::max_element(logits.begin(), logits.end());
    const float largest = *likeliest;
    float sum = 0;
    for (float logit : logits) sum += std::exp(logit - largest);
    const auto target = static_cast<size_t>(targets[r]);
    results.losses[r] = largest + std::log(sum) - logits[target];
    results.right[r] = likeliest == logits.begin() + static_cast<int64_t>(target) ? 1 : 0;
    if (slopes == nullptr) continue;
    for (size_t v = 0; v < vocabulary; ++v) {
      const float p = std::exp(logits[v] - largest) / sum;
      const float slope = scale * (v == target ? p - 1 : p);
      if (!bias.empty()) slopes->dbias[v] += slope;
      for (size_t c = 0; c < width; ++c) {
        slopes->dh[r * width + c] += slope * w[v * width + c];
        slopes->dw[v * width + c] += slope * h[r * width + c];
      }
    }
  }
}

void AdamW(float learning_rate, float beta1, float beta2, float epsilon, float weight_decay,
           int step, const Row& gradient, float clip, Row& parameter, Row& m, Row& v) {
  const float m_correction = 1 - std::pow(beta1, static_cast<float>(step));
  const float v_correction = 1 - std::pow(beta2, static_cast<float>(step));
  for (size_t i = 0; i < parameter.size(); ++i) {
    const float g = clip * gradient[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    const float direction = m[i] / m_correction / (std::sqrt(v[i] / v_correction) + epsilon);
    parameter[i] -= learning_rate * (direction + weight_decay * parameter[i]);
  }
}

}  // namespace weft::kernels::plain
