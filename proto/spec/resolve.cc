#include "proto/spec/resolve.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace weft::spec {
namespace {

constexpr int64_t kMaxSequence = 1 << 20;
constexpr int32_t kMaxShards = 4096;

class Resolver {
 public:
  std::vector<Violation> Resolve(v1::JobSpec& spec) {
    ResolveTop(spec);
    if (Require(spec.has_model(), "model")) ResolveModel(*spec.mutable_model());
    if (Require(spec.has_data(), "data")) {
      ResolveSource(*spec.mutable_data(), spec.model().vocab_size());
    }
    if (Require(spec.has_training(), "training")) ResolveTraining(*spec.mutable_training());
    ResolveResources(*spec.mutable_resources(), spec.training().shards());
    ResolvePolicies(spec);
    return std::move(violations_);
  }

 private:
  void Report(absl::string_view field, absl::string_view what) {
    violations_.push_back({std::string(field), std::string(what)});
  }

  bool Require(bool present, absl::string_view field) {
    if (!present) Report(field, "is required");
    return present;
  }

  // A number in [low, high]; NaN is outside of every range.
  template <typename T>
  bool InRange(absl::string_view field, T value, T low, T high) {
    if (value >= low && value <= high) return true;
    Report(field, absl::StrCat("must be ", low, " to ", high, ", is ", value));
    return false;
  }

  template <typename T>
  bool Positive(absl::string_view field, T value) {
    if (value > 0 && std::isfinite(static_cast<double>(value))) return true;
    Report(field, value == 0 ? "is required and must be greater than 0"
                             : absl::StrCat("must be greater than 0, is ", value));
    return false;
  }

  void ResolveTop(v1::JobSpec& spec) {
    if (Require(!spec.name().empty(), "name") && !IsName(spec.name())) {
      Report("name", absl::StrCat("must be ", NameRule(), "; is '", spec.name(), "'"));
    }
    if (!spec.has_queue()) spec.set_queue("default");
    if (!IsName(spec.queue())) Report("queue", absl::StrCat("must be ", NameRule()));
    if (!spec.has_priority()) spec.set_priority(0);
    InRange("priority", spec.priority(), -1000, 1000);
  }

  void ResolveModel(v1::ModelSpec& model) {
    if (!model.has_vocab_size()) model.set_vocab_size(256);
    InRange("model.vocab_size", model.vocab_size(), 2, 1 << 20);
    const bool width = InRange("model.width", model.width(), 1, 1 << 16);
    const bool layers = InRange("model.layers", model.layers(), 1, 1024);
    if (!model.has_mlp_width() && width) {
      const int64_t raw = static_cast<int64_t>(model.width()) * 8 / 3;
      model.set_mlp_width(static_cast<int32_t>((raw + 255) / 256 * 256));
    }
    if (model.has_mlp_width()) InRange("model.mlp_width", model.mlp_width(), 1, 1 << 20);
    if (!model.has_norm_epsilon()) model.set_norm_epsilon(1e-6);
    Positive("model.norm_epsilon", model.norm_epsilon());
    if (model.mixers().empty()) Report("model.mixers", "at least one mixer is required");
    for (int i = 0; i < model.mixers_size(); ++i) {
      ResolveMixer(absl::StrCat("model.mixers[", i, "]"), *model.mutable_mixers(i), model.width());
    }
    if (layers && model.mixers_size() > model.layers()) {
      Report("model.mixers", absl::StrCat("has ", model.mixers_size(), " entries for ",
                                          model.layers(), " layers; at most one a layer is used"));
    }
    ResolveOverrides(model);
  }

  void ResolveOverrides(v1::ModelSpec& model) {
    std::set<int32_t> seen;
    for (int i = 0; i < model.overrides_size(); ++i) {
      const std::string path = absl::StrCat("model.overrides[", i, "]");
      v1::MixerOverride& entry = *model.mutable_overrides(i);
      if (entry.layers().empty()) Report(absl::StrCat(path, ".layers"), "names no layer");
      for (const int32_t layer : entry.layers()) {
        if (layer < 0 || layer >= model.layers()) {
          Report(
              absl::StrCat(path, ".layers"),
              absl::StrCat("layer ", layer, " does not exist; 0 to ", model.layers() - 1, " do"));
        } else if (!seen.insert(layer).second) {
          Report(absl::StrCat(path, ".layers"), absl::StrCat("layer ", layer, " is named twice"));
        }
      }
      if (Require(entry.has_mixer(), absl::StrCat(path, ".mixer"))) {
        ResolveMixer(absl::StrCat(path, ".mixer"), *entry.mutable_mixer(), model.width());
      }
    }
  }

  void ResolveMixer(const std::string& path, v1::MixerSpec& mixer, int32_t width) {
    switch (mixer.kind_case()) {
      case v1::MixerSpec::kDelta:
        return ResolveDelta(absl::StrCat(path, ".delta"), *mixer.mutable_delta(), width);
      case v1::MixerSpec::kSoftmax:
        return ResolveSoftmax(absl::StrCat(path, ".softmax"), *mixer.mutable_softmax(), width);
      case v1::MixerSpec::KIND_NOT_SET:
        return Report(path, "must name a mechanism: one of delta, softmax");
    }
  }

  // Heads that divide the width; false when there is nothing to derive from them.
  bool HeadsDivide(const std::string& field, int32_t heads, int32_t width) {
    if (!Positive(field, heads)) return false;
    if (width > 0 && width % heads != 0) {
      Report(field, absl::StrCat("must divide model.width (", width, "), is ", heads));
      return false;
    }
    return width > 0;
  }

  void ResolveDelta(const std::string& path, v1::DeltaSpec& delta, int32_t width) {
    HeadsDivide(absl::StrCat(path, ".heads"), delta.heads(), width);
    if (!delta.has_convolution_taps()) delta.set_convolution_taps(4);
    InRange(absl::StrCat(path, ".convolution_taps"), delta.convolution_taps(), 0, 16);
    if (!delta.has_beta_range()) delta.set_beta_range(1);
    if (delta.beta_range() != 1 && delta.beta_range() != 2) {
      Report(absl::StrCat(path, ".beta_range"),
             absl::StrCat("must be 1 or 2, is ", delta.beta_range()));
    }
    if (!delta.has_output_gate()) delta.set_output_gate(false);
  }

  void ResolveSoftmax(const std::string& path, v1::SoftmaxSpec& softmax, int32_t width) {
    if (HeadsDivide(absl::StrCat(path, ".heads"), softmax.heads(), width) &&
        width / softmax.heads() % 2 != 0) {
      Report(absl::StrCat(path, ".heads"),
             absl::StrCat("model.width / heads must be even for rotary positions, is ",
                          width / softmax.heads()));
    }
    if (!softmax.has_kv_heads()) softmax.set_kv_heads(softmax.heads());
    if (softmax.heads() > 0 && Positive(absl::StrCat(path, ".kv_heads"), softmax.kv_heads()) &&
        softmax.heads() % softmax.kv_heads() != 0) {
      Report(absl::StrCat(path, ".kv_heads"),
             absl::StrCat("must divide heads (", softmax.heads(), "), is ", softmax.kv_heads()));
    }
    if (!softmax.has_window()) softmax.set_window(0);
    InRange<int64_t>(absl::StrCat(path, ".window"), softmax.window(), 0, kMaxSequence);
    if (!softmax.has_rotary_base()) softmax.set_rotary_base(10000);
    Positive(absl::StrCat(path, ".rotary_base"), softmax.rotary_base());
  }

  void ResolveSource(v1::DataSpec& data, int32_t vocab_size) {
    switch (data.source_case()) {
      case v1::DataSpec::kText:
        RequirePaths("data.text.paths", data.text().paths());
        if (vocab_size > 0 && vocab_size < 256) {
          Report("model.vocab_size",
                 absl::StrCat("must be at least 256 for text, which is read as bytes; is ",
                              vocab_size));
        }
        break;
      case v1::DataSpec::kTokens:
        RequirePaths("data.tokens.paths", data.tokens().paths());
        break;
      case v1::DataSpec::SOURCE_NOT_SET:
        Report("data", "must name a source: one of text, tokens");
    }
    if (!data.has_validation_fraction()) data.set_validation_fraction(0.05);
    InRange("data.validation_fraction", data.validation_fraction(), 0.0, 0.5);
  }

  template <typename Paths>
  void RequirePaths(absl::string_view field, const Paths& paths) {
    if (paths.empty()) Report(field, "at least one path is required");
    for (int i = 0; i < paths.size(); ++i) {
      if (paths[i].empty()) Report(absl::StrCat(field, "[", i, "]"), "is empty");
    }
  }

  void ResolveTraining(v1::TrainingSpec& training) {
    Positive("training.steps", training.steps());
    const bool batch = Positive("training.batch_size", training.batch_size());
    InRange<int64_t>("training.sequence_length", training.sequence_length(), 1, kMaxSequence);
    if (!training.has_shards())
      training.set_shards(batch ? DefaultShards(training.batch_size()) : 1);
    if (InRange("training.shards", training.shards(), 1, kMaxShards) && batch) {
      ResolveBatch(training);
    }
    if (!training.has_seed()) training.set_seed(0);
    ResolveOptimizer(*training.mutable_optimizer());
    ResolveLearningRate(*training.mutable_learning_rate(), training.steps());
    if (!training.has_clip_norm()) training.set_clip_norm(1);
    if (!(training.clip_norm() >= 0) || !std::isfinite(training.clip_norm())) {
      Report("training.clip_norm", "must be 0 (no clipping) or greater");
    }
    if (!training.has_reproducibility()) {
      training.set_reproducibility(v1::REPRODUCIBILITY_EXACT);
    }
    if (training.reproducibility() != v1::REPRODUCIBILITY_EXACT) {
      Report("training.reproducibility", "must be exact");
    }
  }

  static int32_t DefaultShards(int32_t batch_size) {
    int32_t shards = std::min(8, batch_size);
    while (batch_size % shards != 0) --shards;
    return shards;
  }

  void ResolveBatch(v1::TrainingSpec& training) {
    if (training.batch_size() % training.shards() != 0) {
      Report("training.batch_size",
             absl::StrCat("must be divisible by training.shards (", training.shards(), "), is ",
                          training.batch_size()));
      return;
    }
    const int32_t shard = training.batch_size() / training.shards();
    if (!training.has_micro_batch_size()) training.set_micro_batch_size(shard);
    if (training.micro_batch_size() < 1 || shard % training.micro_batch_size() != 0) {
      Report("training.micro_batch_size",
             absl::StrCat("must divide the ", shard,
                          " sequences of a shard (batch_size / shards), is ",
                          training.micro_batch_size()));
    }
  }

  void ResolveOptimizer(v1::OptimizerSpec& optimizer) {
    if (!optimizer.has_beta1()) optimizer.set_beta1(0.9);
    if (!optimizer.has_beta2()) optimizer.set_beta2(0.95);
    if (!optimizer.has_epsilon()) optimizer.set_epsilon(1e-8);
    if (!optimizer.has_weight_decay()) optimizer.set_weight_decay(0.1);
    const auto beta = [this](absl::string_view field, double value) {
      if (!(value >= 0 && value < 1)) {
        Report(field, absl::StrCat("must be at least 0 and below 1, is ", value));
      }
    };
    beta("training.optimizer.beta1", optimizer.beta1());
    beta("training.optimizer.beta2", optimizer.beta2());
    Positive("training.optimizer.epsilon", optimizer.epsilon());
    InRange("training.optimizer.weight_decay", optimizer.weight_decay(), 0.0, 100.0);
  }

  void ResolveLearningRate(v1::LearningRateSpec& rate, int64_t steps) {
    if (!rate.has_peak()) rate.set_peak(3e-4);
    if (!rate.has_schedule()) rate.set_schedule(v1::LearningRateSpec::SCHEDULE_COSINE);
    if (!rate.has_warmup_steps()) rate.set_warmup_steps(0);
    if (!rate.has_final_ratio()) rate.set_final_ratio(0.1);
    Positive("training.learning_rate.peak", rate.peak());
    InRange("training.learning_rate.final_ratio", rate.final_ratio(), 0.0, 1.0);
    if (!v1::LearningRateSpec::Schedule_IsValid(rate.schedule()) ||
        rate.schedule() == v1::LearningRateSpec::SCHEDULE_UNSPECIFIED) {
      Report("training.learning_rate.schedule",
             "must be one of constant, cosine, linear, inverse_sqrt, one_cycle");
    }
    if (rate.warmup_steps() < 0 || (steps > 0 && rate.warmup_steps() >= steps)) {
      Report("training.learning_rate.warmup_steps",
             absl::StrCat("must be 0 to training.steps - 1 (", steps - 1, "), is ",
                          rate.warmup_steps()));
    }
  }

  void ResolveResources(v1::ResourcesSpec& resources, int32_t shards) {
    if (!resources.has_device()) resources.set_device(v1::DEVICE_KIND_CPU);
    if (!v1::DeviceKind_IsValid(resources.device()) ||
        resources.device() == v1::DEVICE_KIND_UNSPECIFIED) {
      Report("resources.device", "must be one of cpu");
    }
    if (!resources.has_min_workers()) resources.set_min_workers(1);
    if (!resources.has_max_workers()) {
      resources.set_max_workers(std::max(1, resources.min_workers()));
    }
    const int32_t most = std::max(1, shards);
    if (resources.min_workers() < 1 || resources.min_workers() > most) {
      Report("resources.min_workers", absl::StrCat("must be 1 to training.shards (", most, "), is ",
                                                   resources.min_workers()));
    } else if (resources.max_workers() < resources.min_workers() ||
               resources.max_workers() > most) {
      Report("resources.max_workers",
             absl::StrCat("must be resources.min_workers (", resources.min_workers(),
                          ") to training.shards (", most, "), is ", resources.max_workers()));
    }
  }

  void ResolvePolicies(v1::JobSpec& spec) {
    v1::CheckpointSpec& checkpoint = *spec.mutable_checkpoint();
    if (!checkpoint.has_every_steps()) checkpoint.set_every_steps(100);
    if (!checkpoint.has_keep()) checkpoint.set_keep(2);
    if (checkpoint.every_steps() < 0) {
      Report("checkpoint.every_steps", "must be 0 (only the last) or greater");
    }
    InRange("checkpoint.keep", checkpoint.keep(), 1, 1000);

    v1::EvaluationSpec& evaluation = *spec.mutable_evaluation();
    if (!evaluation.has_every_steps()) evaluation.set_every_steps(100);
    if (!evaluation.has_sequences()) evaluation.set_sequences(64);
    if (evaluation.every_steps() < 0) {
      Report("evaluation.every_steps", "must be 0 (only after the last step) or greater");
    }
    InRange("evaluation.sequences", evaluation.sequences(), 1, 1 << 20);

    v1::RetrySpec& retry = *spec.mutable_retry();
    if (!retry.has_max_retries()) retry.set_max_retries(3);
    if (!retry.has_initial_backoff()) retry.mutable_initial_backoff()->set_seconds(1);
    if (!retry.has_max_backoff()) retry.mutable_max_backoff()->set_seconds(60);
    InRange("retry.max_retries", retry.max_retries(), 0, 1000);
    const auto seconds = [](const google::protobuf::Duration& d) {
      return static_cast<double>(d.seconds()) + d.nanos() * 1e-9;
    };
    constexpr double kDay = 86400;
    InRange("retry.initial_backoff (seconds)", seconds(retry.initial_backoff()), 0.0, kDay);
    InRange("retry.max_backoff (seconds)", seconds(retry.max_backoff()),
            std::max(0.0, seconds(retry.initial_backoff())), kDay);
  }

  std::vector<Violation> violations_;
};

}  // namespace

std::vector<Violation> ResolveSpec(v1::JobSpec& spec) { return Resolver().Resolve(spec); }

bool IsName(absl::string_view text) {
  if (text.empty() || text.size() > 40 || !absl::ascii_islower(text.front()) ||
      text.back() == '-') {
    return false;
  }
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
  });
}

absl::string_view NameRule() {
  return "lower-case letters, digits and '-', starting with a letter, not ending with '-', at most "
         "40 "
         "characters";
}

}  // namespace weft::spec
