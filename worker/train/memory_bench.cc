// Memory that a training pass over one sequence needs beside the weights and their gradients: how
// it grows with the sequence, as a whole and in slices of 4096 tokens.
//
//   build/dev/bench/memory_bench
//
// peak_MiB: the highest resident memory of a process that makes one forward and backward pass, less
// what it had before it made room for activations. Working space of kernels counts too.
#include <benchmark/benchmark.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/register.h"
#include "worker/model/initial_weights.h"
#include "worker/model/sliced_language_model.h"

namespace weft::worker {
namespace {

constexpr int64_t kSlice = 4096;

void Must(const absl::Status& status) { WEFT_CHECK_MSG(status.ok(), status.ToString()); }
template <typename T>
T Must(absl::StatusOr<T> result) {
  WEFT_CHECK_MSG(result.ok(), result.status().ToString());
  return *std::move(result);
}

// A line of /proc/self/status, in bytes.
double OwnMemory(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kibibytes = 0;
    if (word == key && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

kernels::Tensor Ids(kernels::Device& device, kernels::Stream& stream, int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i)
    ids.push_back(static_cast<int32_t>(i * 2654435761 >> 13 & 63));
  kernels::Tensor tensor = Must(kernels::NewTensor(device, kernels::DType::kI32, {1, tokens}));
  Must(device.CopyFromHost(tensor, ids.data(), stream));
  return tensor;
}

// One pass in this process.
double PeakOfAPass(const MixerConfig& mixer, int64_t tokens, bool slices) {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  const auto device = Must(kernels::NewCpuDevice({.threads = 2}));
  const auto stream = Must(device->NewStream());
  const ModelConfig config = {
      .vocabulary = 64, .width = 32, .hidden = 64, .layers = {mixer, mixer}};
  const std::unique_ptr<const Model> model =
      slices ? Must(SlicedLanguageModel::Create(config, {.slice_length = kSlice}))
             : Must(NewModel(config));
  const auto block = [&] {
    return Must(
        kernels::NewTensor(*device, device->compute_dtype(), {model->layout().block_count()}));
  };
  ParameterBlock weights(model->layout(), block());
  const ParameterBlock gradients(model->layout(), block());
  Must(InitialiseWeights(/*seed=*/1, *stream, weights));
  const SampleBatch batch = {.tokens = Ids(*device, *stream, tokens),
                             .targets = Ids(*device, *stream, tokens),
                             .valid = {}};
  const double before = OwnMemory("VmRSS:");
  SampleResults results;
  for (kernels::Tensor* tensor : {&results.losses, &results.right}) {
    *tensor = Must(kernels::NewTensor(*device, device->compute_dtype(), {1, tokens}));
  }
  Scratch scratch(*device);
  const Pass pass{.stream = *stream, .scratch = scratch, .weights = weights};
  const auto activations = Must(model->NewActivations(*device, {.batch = 1, .tokens = tokens}));
  Must(model->LossesAndGradients(pass, batch, 1.0 / static_cast<double>(tokens), gradients,
                                 *activations, results, [](int64_t) {}));
  return OwnMemory("VmHWM:") - before;
}

// In a process of its own, so that it owes nothing to the passes before.
double PeakInAChild(const MixerConfig& mixer, int64_t tokens, bool slices) {
  int ends[2] = {};
  WEFT_CHECK(pipe(ends) == 0);
  const pid_t child = fork();
  WEFT_CHECK(child >= 0);
  if (child == 0) {
    const double peak = PeakOfAPass(mixer, tokens, slices);
    const bool told = write(ends[1], &peak, sizeof(peak)) == sizeof(peak);
    _exit(told ? 0 : 1);
  }
  double peak = 0;
  close(ends[1]);
  WEFT_CHECK(read(ends[0], &peak, sizeof(peak)) == sizeof(peak));
  close(ends[0]);
  WEFT_CHECK(waitpid(child, nullptr, 0) == child);
  return peak;
}

void Memory(benchmark::State& state, const MixerConfig& mixer, bool slices) {
  double peak = 0;
  for (auto unused : state) {
    benchmark::DoNotOptimize(unused);
    peak = PeakInAChild(mixer, state.range(0), slices);
  }
  state.counters["peak_MiB"] = peak / (1 << 20);
}

void RegisterAll() {
  const std::pair<const char*, MixerConfig> mixers[] = {
      {"slim", SlimMixerConfig{.heads = 2}},
      {"performer", PerformerMixerConfig{.heads = 2, .feature_count = 32}},
      {"polysketch", PolysketchMixerConfig{.heads = 2,
                                           .mode = PolysketchMode::kLearnedSketch,
                                           .norm = PolysketchNorm::kNone,
                                           .sketch_size = 8,
                                           .block = 128}},
      {"delta", DeltaMixerConfig{.heads = 2}}};
  for (const auto& [name, mixer] : mixers) {
    for (const bool slices : {false, true}) {
      const std::string title = std::string(name) + (slices ? "/slices" : "/whole");
      benchmark::RegisterBenchmark(title.c_str(), Memory, mixer, slices)
          ->RangeMultiplier(2)
          ->Range(4096, 1 << 18)
          ->Iterations(1)
          ->UseRealTime()
          ->Unit(benchmark::kSecond);
    }
  }
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  weft::worker::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
