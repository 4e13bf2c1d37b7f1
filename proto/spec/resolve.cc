#include "proto/spec/resolve.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

void ResolveTop(Rules& rules, v1::JobSpec& spec) {
  if (rules.Require(!spec.name().empty(), "name") && !IsName(spec.name())) {
    rules.Report("name", absl::StrCat("must be ", NameRule(), "; is '", spec.name(), "'"));
  }
  if (!spec.has_queue()) spec.set_queue("default");
  if (!IsName(spec.queue())) rules.Report("queue", absl::StrCat("must be ", NameRule()));
  if (!spec.has_priority()) spec.set_priority(0);
  rules.InRange("priority", spec.priority(), -1000, 1000);
}

void ResolveResources(Rules& rules, v1::ResourcesSpec& resources, int32_t shards) {
  if (!resources.has_device()) resources.set_device(v1::DEVICE_KIND_CPU);
  if (!v1::DeviceKind_IsValid(resources.device()) ||
      resources.device() == v1::DEVICE_KIND_UNSPECIFIED) {
    rules.Report("resources.device", "must be one of cpu, gpu, any");
  }
  if (!resources.has_min_workers()) resources.set_min_workers(1);
  if (!resources.has_max_workers()) {
    resources.set_max_workers(std::max(1, resources.min_workers()));
  }
  const int32_t most = std::max(1, shards);
  if (resources.min_workers() < 1 || resources.min_workers() > most) {
    rules.Report("resources.min_workers", absl::StrCat("must be 1 to training.shards (", most,
                                                       "), is ", resources.min_workers()));
  } else if (resources.max_workers() < resources.min_workers() || resources.max_workers() > most) {
    rules.Report("resources.max_workers",
                 absl::StrCat("must be resources.min_workers (", resources.min_workers(),
                              ") to training.shards (", most, "), is ", resources.max_workers()));
  }
}

// What the device can compute in.
void ResolvePrecision(Rules& rules, v1::TrainingSpec& training, v1::DeviceKind device) {
  const bool gpu = device == v1::DEVICE_KIND_GPU;
  if (!training.has_precision()) {
    training.set_precision(gpu ? v1::PRECISION_BF16 : v1::PRECISION_FP32);
  }
  if (training.precision() != v1::PRECISION_FP32 && training.precision() != v1::PRECISION_BF16) {
    rules.Report("training.precision", "must be one of fp32, bf16");
  } else if (training.precision() == v1::PRECISION_BF16 && !gpu) {
    rules.Report("training.precision", "bf16 needs resources.device: gpu");
  }
}

void ResolveReproducibility(Rules& rules, v1::TrainingSpec& training,
                            const v1::ResourcesSpec& resources) {
  constexpr absl::string_view field = "training.reproducibility";
  if (!training.has_reproducibility()) training.set_reproducibility(v1::REPRODUCIBILITY_EXACT);
  if (training.reproducibility() == v1::REPRODUCIBILITY_EXACT) return;
  if (training.reproducibility() != v1::REPRODUCIBILITY_FIXED_GANG) {
    rules.Report(field, "must be one of exact, fixed_gang");
  } else if (resources.device() != v1::DEVICE_KIND_GPU) {
    rules.Report(field,
                 "fixed_gang needs resources.device: gpu; between cores only integers are added");
  } else if (resources.min_workers() != resources.max_workers()) {
    rules.Report(field,
                 absl::StrCat("fixed_gang needs resources.max_workers (", resources.max_workers(),
                              ") to be resources.min_workers (", resources.min_workers(), ")"));
  }
}

void ResolvePolicies(Rules& rules, v1::JobSpec& spec) {
  v1::CheckpointSpec& checkpoint = *spec.mutable_checkpoint();
  if (!checkpoint.has_every_steps()) checkpoint.set_every_steps(100);
  if (!checkpoint.has_keep()) checkpoint.set_keep(2);
  if (checkpoint.every_steps() < 0) {
    rules.Report("checkpoint.every_steps", "must be 0 (only the last) or greater");
  }
  rules.InRange("checkpoint.keep", checkpoint.keep(), 1, 1000);

  v1::EvaluationSpec& evaluation = *spec.mutable_evaluation();
  if (!evaluation.has_every_steps()) evaluation.set_every_steps(100);
  if (!evaluation.has_sequences()) evaluation.set_sequences(64);
  if (evaluation.every_steps() < 0) {
    rules.Report("evaluation.every_steps", "must be 0 (only after the last step) or greater");
  }
  rules.InRange("evaluation.sequences", evaluation.sequences(), 1, 1 << 20);

  v1::RetrySpec& retry = *spec.mutable_retry();
  if (!retry.has_max_retries()) retry.set_max_retries(3);
  if (!retry.has_initial_backoff()) retry.mutable_initial_backoff()->set_seconds(1);
  if (!retry.has_max_backoff()) retry.mutable_max_backoff()->set_seconds(60);
  rules.InRange("retry.max_retries", retry.max_retries(), 0, 1000);
  const auto seconds = [](const google::protobuf::Duration& d) {
    return static_cast<double>(d.seconds()) + d.nanos() * 1e-9;
  };
  constexpr double kDay = 86400;
  rules.InRange("retry.initial_backoff (seconds)", seconds(retry.initial_backoff()), 0.0, kDay);
  rules.InRange("retry.max_backoff (seconds)", seconds(retry.max_backoff()),
                std::max(0.0, seconds(retry.initial_backoff())), kDay);
}

}  // namespace

std::vector<Violation> ResolveSpec(v1::JobSpec& spec) {
  Rules rules;
  ResolveTop(rules, spec);
  if (rules.Require(spec.has_model(), "model")) {
    ResolveModel(rules, *spec.mutable_model(), spec.data(), spec.training().sequence_length());
  }
  if (rules.Require(spec.has_data(), "data")) {
    ResolveData(rules, *spec.mutable_data(), spec.model(), spec.training());
  }
  if (rules.Require(spec.has_training(), "training")) {
    ResolveTraining(rules, *spec.mutable_training());
  }
  ResolveResources(rules, *spec.mutable_resources(), spec.training().shards());
  if (spec.has_training()) {
    ResolvePrecision(rules, *spec.mutable_training(), spec.resources().device());
    ResolveReproducibility(rules, *spec.mutable_training(), spec.resources());
  }
  ResolvePolicies(rules, spec);
  CheckDraws(rules, spec);
  ResolveMemory(rules, *spec.mutable_memory(), spec.model());
  return rules.Take();
}

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
