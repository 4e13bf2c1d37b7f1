// weft-rank: one rank of a training job, or (`weft-rank sample`) text from a checkpoint.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include "common/base/exit_codes.h"
#include "kernels/attention/register.h"
#include "kernels/ops/register.h"
#include "worker/rank/agent_link.h"
#include "worker/rank/sample_command.h"
#include "worker/rank/train_command.h"

namespace weft::worker {
namespace {

void RegisterKernels() {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
}

ExitCode Sample(const SampleRequest& request) {
  const absl::Status status = SampleToDescriptor(request, STDOUT_FILENO);
  if (!status.ok()) {
    const std::string message(status.message());
    std::fprintf(stderr, "weft-rank: %s\n", message.c_str());
  }
  return ExitCodeOf(status.code());
}

int Main(int argc, char** argv) {
  // A reader that has gone is an error of the write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app(
      "One rank of a training job. Without a subcommand it is started by weft-worker, with "
      "descriptor 3 as the line to it.");
  SampleRequest request;
  CLI::App* sample =
      app.add_subcommand("sample", "Generate text from a checkpoint of a byte model");
  sample->add_option("--checkpoint", request.checkpoint, "The checkpoint's directory")->required();
  sample->add_option("--prompt", request.prompt, "Text to continue");
  sample->add_option("--tokens", request.options.tokens, "How many to generate")
      ->capture_default_str();
  sample->add_option("--temperature", request.options.temperature, "0: always the likeliest")
      ->capture_default_str();
  sample->add_option("--top_k", request.options.top_k, "Draw from the k likeliest; 0: all")
      ->capture_default_str();
  sample->add_option("--seed", request.options.seed, "Equal seeds give equal texts")
      ->capture_default_str();
  sample->add_option("--threads", request.threads, "Threads to compute with")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  RegisterKernels();
  if (sample->parsed()) return Sample(request);
  return TrainForAgent(FileDescriptor(AgentLink::kDescriptor));
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) { return weft::worker::Main(argc, argv); }
